from __future__ import annotations

import datetime as dt
import json
import threading
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightfit.errors import ConfigError, GapError, NightfitError
from nightfit.sources import database, latecommits, sqlreading
from nightfit.sources.sql import SqlSource
from nightfit.testing import check_source
from stress import commits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nightfit.sources.base import Chunk, Cursor

SERVER = "postgresql+psycopg://postgres@127.0.0.1/postgres"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Give the url of a database of its own."""
    name = f"nightfit_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(SERVER, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    url = SERVER.removesuffix("postgres") + name
    with writer(url) as connection, connection.begin():
        run(connection, "CREATE TYPE mood AS ENUM ('sad', 'it''s ok')")
    yield url
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def db(url: str) -> Iterator[sa.Connection]:
    """Give a connection that commits by itself, with an empty table `rows`."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        run(connection, "DROP TABLE IF EXISTS rows CASCADE")
        run(connection, "CREATE TABLE rows (id bigserial PRIMARY KEY, value int)")
        yield connection


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for transactions that no one will end."""
    monkeypatch.setattr(latecommits, "PATIENCE_S", 0.0)


@contextmanager
def writer(url: str) -> Iterator[sa.Connection]:
    """Connect to write within transactions."""
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        yield connection


def run(connection: sa.Connection, statement: str, **values: object) -> sa.CursorResult[Any]:
    """Execute a statement."""
    return connection.execute(sa.text(statement), values)


def insert(connection: sa.Connection, n: int = 1, table: str = "rows") -> None:
    """Insert rows, whose ids come from the sequence."""
    for _ in range(n):
        run(connection, f"INSERT INTO {table} (value) VALUES (1)")  # noqa: S608


def source(url: str, **options: Any) -> SqlSource:  # noqa: ANN401
    """Make a source of the table `rows`, ordered by id, unless options say otherwise."""
    if "query" not in options:
        options.setdefault("table", "rows")
    options.setdefault("cursor", ("id",))
    return SqlSource(name="new", url=url, root=Path(), **options)


def read(src: SqlSource, after: Cursor | None = None) -> tuple[list[int], Cursor | None, list[str]]:
    """Read a source to its end: ids, the cursor reached, notes."""
    notes: list[str] = []
    ids: list[int] = []
    for chunk in src.read(after, notes.append):
        ids += chunk.table["id"].to_pylist()
        after = json.loads(json.dumps(chunk.cursor_at(len(chunk.table))))
    return ids, after, notes


@pytest.fixture(params=["adbc", "psycopg"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read through ADBC, or as where it is not installed."""
    if request.param == "psycopg":
        monkeypatch.setattr(sqlreading, "find_spec", lambda _: None)
    return str(request.param)


class TestContract:
    """The contract of a source, as plug-in authors check it."""

    @pytest.mark.usefixtures("way")
    @pytest.mark.parametrize("options", [{}, {"key": ("value",)}, {"cursor": ("value",), "key": ("id",)}], ids=str)
    def test_table(self, url: str, db: sa.Connection, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
        """A table keeps the contract, through either driver."""
        monkeypatch.setattr(database, "CHUNK_ROWS", 3)
        check_source(lambda: source(url, **options), lambda n: insert(db, n))

    def test_view_and_query(self, url: str, db: sa.Connection) -> None:
        """So do a view, whose writers cannot be seen, and a query with odd characters."""
        run(db, "CREATE VIEW seen AS SELECT * FROM rows")
        check_source(lambda: source(url, table="seen"), lambda n: insert(db, n))
        odd = "select *, '%s :x ; %%' as \"a:b %\" from rows"
        check_source(lambda: source(url, query=odd), lambda n: insert(db, n))


@pytest.mark.usefixtures("impatient")
class TestOpenTransactions:
    """Rows that are committed out of order."""

    def test_interleavings(self, url: str) -> None:
        """Whatever the order of inserts, savepoints, commits, deletes and readings: no row is skipped or read twice."""
        tally = commits.stress(url, interleavings=20, seed=1)
        assert (tally.rows_skipped, tally.rows_read_twice) == (0, 0)
        assert tally.rows_read == tally.rows_committed > 200
        assert tally.readings_that_left_rows > 20

    def test_interleavings_without_a_guard(self, url: str) -> None:
        """The same kind of interleavings do lose rows where locks are not looked at."""
        assert commits.stress(url, interleavings=3, seed=1, guarded=False).rows_skipped > 0

    def test_window_where_locks_do_not_tell(self, url: str) -> None:
        """Nor does a window before the cursor lose any, where nothing else tells."""
        tally = commits.stress(url, interleavings=4, seed=2, guarded=False, overlap_rows=100)
        assert (tally.rows_skipped, tally.rows_read_twice) == (0, 0)

    @pytest.mark.usefixtures("db")
    def test_a_smaller_transaction_that_draws_later(self, url: str) -> None:
        """A visible row is not safe because its transaction is older than the open one: it may have drawn later."""
        with writer(url) as older, writer(url) as younger:
            insert(older)
            insert(younger)
            insert(older)
            older.commit()
            assert read(source(url))[0] == []
            younger.commit()
        assert read(source(url))[0] == [1, 2, 3]

    def test_rows_that_wait_are_noted(self, url: str, db: sa.Connection) -> None:
        """What is not read is counted in a note, and read once the transaction has ended, or was rolled back."""
        with writer(url) as late:
            insert(late)
            insert(db, 2)
            ids, cursor, notes = read(source(url))
            assert (ids, len(notes)) == ([], 1)
            assert "before 2 newer ones; those wait for the next night" in notes[0]
            late.rollback()
        assert read(source(url), cursor)[0] == [2, 3]

    def test_a_writer_each_night(self, url: str, db: sa.Connection) -> None:
        """Where some transaction writes at every reading, rows are read up to where the last reading stood."""
        with writer(url) as first, writer(url) as second:
            insert(db, 2)
            insert(first)
            _, cursor, _ = read(source(url))
            first.commit()
            insert(second)
            insert(db)
            ids, cursor, _ = read(source(url), cursor)
            assert ids == [1, 2]
            second.commit()
        assert read(source(url), cursor)[0] == [3, 4, 5]

    def test_frozen_rows(self, url: str, db: sa.Connection) -> None:
        """Rows whose transactions are forgotten are read like others."""
        insert(db, 3)
        run(db, "VACUUM FREEZE rows")
        insert(db)
        assert read(source(url))[0] == [1, 2, 3, 4]

    @pytest.mark.parametrize("table", ["parts", "part_1"])
    @pytest.mark.parametrize("into", ["parts", "part_1"])
    def test_partitions(self, url: str, db: sa.Connection, table: str, into: str) -> None:
        """Writers of a partitioned table are seen, whether they name the table or a partition of it."""
        run(db, "DROP TABLE IF EXISTS parts")
        run(db, "CREATE TABLE parts (id bigserial, value int) PARTITION BY LIST (value)")
        run(db, "CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1)")
        with writer(url) as late:
            insert(late, table=into)
            insert(db, table=into)
            ids, cursor, _ = read(source(url, table=table))
            assert ids == []
            late.commit()
        assert read(source(url, table=table), cursor)[0] == [1, 2]

    def test_a_time_that_an_application_took(self, url: str, db: sa.Connection) -> None:
        """Rows of a clock that was read long before are found in the window, on guarded tables too."""
        run(db, "ALTER TABLE rows ADD COLUMN at timestamptz")
        add = "INSERT INTO rows (at) VALUES (timestamptz '2026-01-01 00:00 UTC' + :n * interval '1 minute')"
        run(db, add, n=2)
        run(db, add, n=3)
        _, cursor, _ = read(source(url, cursor=("at",), key=("id",)))
        run(db, add, n=1)
        run(db, "SET TIME ZONE 'Asia/Kathmandu'")
        ids, cursor, _ = read(source(url, cursor=("at",), key=("id",)), cursor)
        assert ids == [3]
        assert read(source(url, cursor=("at",), key=("id",)), cursor)[0] == []


def test_inserts_while_reading(url: str, db: sa.Connection) -> None:
    """A writer that has drawn an id, and has no transaction id yet, is known by its lock: nothing is lost."""
    n_each, n_threads, done = 250, 3, threading.Event()

    def write() -> None:
        with writer(url) as connection:
            for _ in range(n_each):
                insert(connection)
                connection.commit()

    threads = [threading.Thread(target=write) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    src, seen, cursor = source(url), list[int](), None
    while not done.is_set():
        if not any(thread.is_alive() for thread in threads):
            done.set()
        ids, cursor, _ = read(src, cursor)
        seen += ids
    assert sorted(seen) == list(range(1, n_each * n_threads + 1))
    assert len(run(db, "SELECT id FROM rows").all()) == len(seen)


class TestRollback:
    """A database that was restored from an older backup."""

    @pytest.mark.parametrize("options", [{}, {"cursor": ("value",), "key": ("id",)}], ids=str)
    def test_a_table_that_ends_before_the_cursor(self, url: str, db: sa.Connection, options: dict[str, Any]) -> None:
        """It stops the night, or is stepped over, and later rows are read, once, numbered on."""
        insert(db, 5)
        _, cursor, _ = read(source(url, **options))
        run(db, "DELETE FROM rows WHERE id > 3")
        with pytest.raises(GapError, match=r"must reach up to .*5, up to which .*, however they end at .*3; find"):
            read(source(url, **options), cursor)
        ids, cursor, notes = read(source(url, on_gap="skip", **options), cursor)
        assert (ids, len(notes)) == ([], 2)
        run(db, "SELECT setval('rows_id_seq', 3)")
        insert(db, 2)
        (chunk,) = source(url, **options).read(cursor, print)
        assert chunk.table["id"].to_pylist() == [4, 5]
        assert chunk.rows.tolist() == [5, 6]

    def test_what_is_no_gap(self, url: str, db: sa.Connection) -> None:
        """An empty table is none, nor is it one where the last row read is gone and there are newer ones."""
        insert(db, 3)
        _, cursor, _ = read(source(url))
        insert(db)
        run(db, "DELETE FROM rows WHERE id <= 3")
        assert read(source(url), cursor)[0] == [4]
        run(db, "DELETE FROM rows")
        assert read(source(url), cursor)[0] == []


class TestLookUp:
    """Rows by their key."""

    @pytest.mark.parametrize(
        ("kind", "held", "key", "absent"),
        [
            ("int", "5", "5", "x"),
            ("bigint", "-9000000000", "-9000000000", "5.5"),
            ("smallint", "5", "5", str(2**70)),
            ("text", "'a'", "a", "A"),
            ("text", "'5.0'", "5", "50"),
            ("text", "'TRUE'", "true", "false"),
            ("varchar(9)", "'%s'", "%s", ""),
            ("uuid", "'00000000-0000-0000-0000-000000000007'", "00000000-0000-0000-0000-000000000007", "7"),
            ("numeric(9, 2)", "5.10", "5.1", "NaN"),
            ("double precision", "0.1", "0.1", "inf"),
            ("boolean", "true", "true", "t"),
            ("date", "'2026-11-03'", "2026-11-03", "11/3"),
            ("timestamp", "'2026-11-03 04:05:06.7'", "2026-11-03 04:05:06.700000", "now"),
            ("timestamptz", "'2026-11-03 04:05:06+02'", "2026-11-03 02:05:06Z", "now"),
        ],
    )
    def test_kinds_of_keys(  # noqa: PLR0917 - parameters of a test
        self, url: str, db: sa.Connection, kind: str, held: str, key: str, absent: str
    ) -> None:
        """A key's text becomes what the column holds; what cannot is not there, nor are rows without a target."""
        run(db, f"ALTER TABLE rows ADD COLUMN k {kind}")
        run(db, "INSERT INTO rows (k, value) VALUES (%s, 1), (%s, NULL)".replace("%s", held))
        src = source(url, key=("k",), target="value")
        assert [table["value"].to_pylist() for table in src.look_up([(absent,), (key,), (key,)])] == [[1]]
        assert list(src.look_up([(absent,)])) == []

    def test_many_keys_of_two_columns(self, url: str, db: sa.Connection) -> None:
        """Keys of several columns are looked up as well, any number of them, and so are rows without a cursor."""
        run(db, "ALTER TABLE rows ADD COLUMN at timestamp")
        insert(db, 1200)
        keys = [(str(i), "1") for i in range(1, 1300)]
        src = source(url, cursor=("at",), key=("id", "value"), target="value")
        assert sorted(i for table in src.look_up(keys) for i in table["id"].to_pylist()) == list(range(1, 1201))

    def test_nothing_to_look_up(self, url: str, db: sa.Connection) -> None:
        """A table without the key's columns, without the target, or without rows has nothing."""
        assert list(source(url, key=("id",), target="value").look_up([("1",)])) == []
        insert(db)
        assert list(source(url, key=("id",), target="bought").look_up([("1",)])) == []
        assert list(source(url, key=("nr",), target="value").look_up([("1",)])) == []


MOMENTS = st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29))  # noqa: DTZ001
COLUMNS: dict[str, tuple[str, st.SearchStrategy[str]]] = {
    "flag": ("boolean", st.sampled_from(["true", "false"])),
    "small": ("smallint", st.integers(-(2**15), 2**15 - 1).map(str)),
    "whole": ("int", st.integers(-(2**31), 2**31 - 1).map(str)),
    "big": ("bigint", st.integers(-(2**63), 2**63 - 1).map(str)),
    "single": ("real", st.floats(width=32).map(repr)),
    "double": ("double precision", st.floats().map(repr)),
    "exact": ("numeric", st.one_of(st.decimals(allow_nan=False, allow_infinity=False).map(str), st.just("NaN"))),
    "words": ("text", st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)),
    "padded": ("char(4)", st.text("ab ", max_size=4)),
    "day": (
        "date",
        st.one_of(MOMENTS.map(lambda t: t.date().isoformat()), st.sampled_from(["infinity", "0044-03-15 BC"])),
    ),
    "moment": ("timestamp", st.one_of(MOMENTS.map(dt.datetime.isoformat), st.just("-infinity"))),
    "instant": ("timestamptz", st.one_of(MOMENTS.map(lambda t: f"{t.isoformat()}+05:30"), st.just("infinity"))),
    "clock": ("time", st.one_of(st.times().map(dt.time.isoformat), st.just("24:00:00"))),
    "thing": ("uuid", st.uuids().map(str)),
    "raw": ("bytea", st.binary(max_size=4).map(lambda b: "\\x" + b.hex())),
    "mood": ("mood", st.sampled_from(["sad", "it's ok"])),
    "doc": ("jsonb", st.sampled_from(["{}", '{"a": [1, null]}', '"x"'])),
    "list": ("int[]", st.sampled_from(["{}", "{1,NULL}"])),
    "span": ("interval", st.sampled_from(["1 day", "-00:00:01"])),
}


def test_a_cursor_must_be_exact(url: str, db: sa.Connection) -> None:
    """A 4-byte float equals none of the values that were read of it: it can be no cursor and no key."""
    run(db, "DROP TABLE IF EXISTS rows CASCADE")
    run(db, "CREATE TABLE rows (at real, id int)")
    for cursor, key in ((("at",), ("id",)), (("id",), ("at",))):
        with pytest.raises(ConfigError, match="'at' is a float of 4 bytes"):
            list(source(url, cursor=cursor, key=key).read(None, lambda _: None))


class TestBothWays:
    """Rows that ADBC reads are the rows that psycopg reads."""

    @settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=25)
    @given(data=st.data())
    def test_any_values(self, url: str, db: sa.Connection, data: st.DataObject) -> None:
        """Tables, cursors and errors are equal, whatever the types and the values, nulls included.

        Where a value cannot be read the night ends, and nothing of it counts: either may have read more rows by then.
        """
        names = data.draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=4, unique=True))
        n = data.draw(st.integers(1, 5))
        run(db, "DROP TABLE IF EXISTS rows CASCADE")
        types = {name: COLUMNS[name][0] for name in names}
        run(db, f"CREATE TABLE rows ({', '.join(f'{name}_ {kind}' for name, kind in types.items())}, id bigserial)")
        columns = ", ".join(f"{name}_" for name in names)
        places = ", ".join(f"CAST(:{name} AS {kind})" for name, kind in types.items())
        for _ in range(n):
            values = {name: data.draw(st.one_of(st.none(), COLUMNS[name][1])) for name in names}
            run(db, f"INSERT INTO rows ({columns}) VALUES ({places})", **values)  # noqa: S608
        ordered = [name for name in names if name not in {"doc", "list", "span", "clock", "mood", "flag"}]
        cursor = data.draw(st.sampled_from([*(f"{name}_" for name in ordered), "id"]))
        src = source(url, cursor=(cursor,), key=("id",))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(database, "CHUNK_ROWS", data.draw(st.integers(1, 3)))
            fast = seen(src, None)
            slow = seen_by_psycopg(src, None)
            assert fast[2] == slow[2]
            if fast[2]:
                assert all(ours == theirs for ours, theirs in zip(fast[0], slow[0], strict=False))
            else:
                assert fast == slow
            for after in slow[1][:3]:
                ours, theirs = seen(src, after), seen_by_psycopg(src, after)
                assert ours == theirs or ours[2] == theirs[2] != ""

    def test_a_padded_cursor(self, url: str, db: sa.Connection) -> None:
        """A char(n) is compared in full, not cut to its first character."""
        run(db, "DROP TABLE IF EXISTS rows CASCADE")
        run(db, "CREATE TABLE rows (code char(4), id bigserial)")
        run(db, "INSERT INTO rows (code) VALUES ('aa'), ('ab'), ('b')")
        src = source(url, cursor=("code",), key=("id",))
        fast, cursors, error = seen(src, None)
        assert (fast, cursors, error) == seen_by_psycopg(src, None)
        assert sum(len(rows) for _, _, rows in fast) == 3
        assert seen(src, cursors[0]) == seen_by_psycopg(src, cursors[0])

    def test_it_is_used(self, url: str, db: sa.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        """The faster way is taken where the types allow it, and left where they do not."""
        monkeypatch.setattr(sqlreading, "stream", None)  # the slower way
        insert(db, 2)
        assert read(source(url))[0] == [1, 2]
        run(db, "ALTER TABLE rows ADD COLUMN doc jsonb")
        with pytest.raises(TypeError):
            read(source(url))


def seen(src: SqlSource, after: Cursor | None) -> tuple[list[Any], list[Cursor], str]:
    """Read on, and return what came: tables with their types, the cursors within, and the error if there was one."""
    tables: list[Any] = []
    cursors: list[Cursor] = []
    try:
        for chunk in src.read(after, lambda _: None):
            tables.append((chunk.table.schema, repr(chunk.table.to_pylist()), chunk.rows.tolist()))
            cursors += cursors_of(chunk)
    except NightfitError as error:
        return tables, cursors, str(error)
    return tables, cursors, ""


def cursors_of(chunk: Chunk) -> list[Cursor]:
    """List the cursors at every row, as they are kept."""
    return [json.loads(json.dumps(chunk.cursor_at(i))) for i in range(len(chunk.table) + 1)]


def seen_by_psycopg(src: SqlSource, after: Cursor | None) -> tuple[list[Any], list[Cursor], str]:
    """Read on without ADBC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlreading, "find_spec", lambda _: None)
        return seen(src, after)

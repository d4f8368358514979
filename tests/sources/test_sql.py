from __future__ import annotations

import datetime as dt
import json
import sqlite3
import uuid
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import exc

from nightfit.errors import ConfigError, DataError, GapError, NightfitError, TryAgainError
from nightfit.sources import database as database_module
from nightfit.sources import sqliteblocks
from nightfit.sources.database import parse_url
from nightfit.sources.sql import SqlSource, read_table
from nightfit.sources.sqlblocks import block_of
from nightfit.sources.sqlvalues import from_json, to_array, to_json
from nightfit.testing import check_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nightfit.sources.base import Cursor

ODD_NAMES = ["select", "two words", 'with "quotes"', "a.b", "x; drop table rows; --", "%s", "a:b", "名"]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Give a database new.db in the folder of the test."""
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        yield connection


def quoted(name: str) -> str:
    """Quote a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def fill(db: sqlite3.Connection, rows: list[tuple[Any, ...]], table: str = "rows") -> None:
    """Append (ID, key, value) rows to a table, which is made if need be."""
    db.execute(f"create table if not exists {quoted(table)} (ID, key, value)")
    db.executemany(f"insert into {quoted(table)} values (?, ?, ?)", rows)  # noqa: S608
    db.commit()


def source(root: Path, **options: Any) -> SqlSource:  # noqa: ANN401
    """Make a source of the table `rows`, ordered by ID, unless options say otherwise."""
    if "query" not in options:
        options.setdefault("table", "rows")
    options.setdefault("url", "sqlite:///new.db")
    options.setdefault("cursor", ("ID",))
    return SqlSource(name="new", root=root, **options)


def read(src: SqlSource, after: Cursor | None = None) -> tuple[list[dict[str, Any]], Cursor | None, list[str]]:
    """Read a source to its end: rows, the cursor reached, notes."""
    notes: list[str] = []
    rows: list[dict[str, Any]] = []
    for chunk in src.read(after, notes.append):
        rows += chunk.table.to_pylist()
        after = json.loads(json.dumps(chunk.cursor_at(len(chunk.table))))
    return rows, after, notes


class TestContract:
    """The contract of a source, as plug-in authors check it."""

    @pytest.mark.parametrize("chunk_rows", [1, 3, 1000])
    @pytest.mark.parametrize(
        ("step", "key"), [(1, ()), (3, ("key",)), (3, ("key", "value"))], ids=["unique", "ties", "composite"]
    )
    def test_table(
        self,
        tmp_path: Path,
        db: sqlite3.Connection,
        monkeypatch: pytest.MonkeyPatch,
        *,
        chunk_rows: int,
        step: int,
        key: tuple[str, ...],
    ) -> None:
        """A table keeps the contract, whether cursor values are unique, tied or ordered by keys."""
        monkeypatch.setattr(database_module, "CHUNK_ROWS", chunk_rows)
        check_source(lambda: source(tmp_path, key=key), grower(db, step))

    @pytest.mark.parametrize("value", [1.5, "text", b"bytes", -7, 2**60])
    def test_kinds_of_cursor(self, tmp_path: Path, db: sqlite3.Connection, value: Any) -> None:  # noqa: ANN401
        """Cursors of every type that SQLite has keep the contract, ties included."""
        n = 0

        def grow(more: int) -> None:
            nonlocal n
            fill(db, [(value, i, "x") for i in range(n, n + more)])
            n += more

        check_source(lambda: source(tmp_path, key=("key",)), grow)

    def test_rows_that_agree_in_cursor_and_key(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """Rows that share cursor and key, such as a record that was delivered twice, are all read, once."""
        check_source(lambda: source(tmp_path, key=("ID",)), grower(db, 4))

    @pytest.mark.parametrize("query", ["select * from rows", "select *, '12:30 :x %s' as t from rows; ", "rows --"])
    def test_query(self, tmp_path: Path, db: sqlite3.Connection, query: str) -> None:
        """A query keeps the contract; colons, percent signs, semicolons and comments are left alone."""
        query = query.replace("rows --", "select ID, key from rows where '1' <> '2' -- a comment")
        check_source(lambda: source(tmp_path, query=query), grower(db, 1))

    @pytest.mark.parametrize("table", ODD_NAMES)
    def test_odd_table_names(self, tmp_path: Path, db: sqlite3.Connection, table: str) -> None:
        """A table may be called anything, with its schema before it or not."""
        check_source(lambda: source(tmp_path, table=table), grower(db, 1, table))
        check_source(lambda: source(tmp_path, table=f"main.{table}"), grower(db, 1, table))

    @pytest.mark.parametrize("column", ODD_NAMES)
    def test_odd_column_names(self, tmp_path: Path, db: sqlite3.Connection, column: str) -> None:
        """A column may be called anything; what looks like SQL in a name is a name."""
        db.execute(f"create table rows ({quoted(column)}, key, value)")
        grow = grower(db, 1)
        for options in ({"table": "rows"}, {"query": "select * from rows"}):
            check_source(lambda options=options: source(tmp_path, cursor=(column,), **options), grow)  # type: ignore[misc]


def grower(db: sqlite3.Connection, step: int, table: str = "rows") -> Callable[[int], None]:
    """Give what appends n rows; `step` rows share one ID each, and two of them one key."""
    n = db.execute("select count(*) from sqlite_master").fetchone()[0] * 1000
    fill(db, [], table)

    def grow(more: int) -> None:
        nonlocal n
        fill(db, [(i // step, i // 2, i) for i in range(n, n + more)], table)
        n += more

    return grow


class TestOrder:
    """The order of rows, and what has none."""

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(
        rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), unique=True, max_size=12),
        data=st.data(),
    )
    def test_every_cut_point(self, tmp_path: Path, rows: list[tuple[int, int]], data: st.DataObject) -> None:
        """Whatever the ties, following the cursor of any row reads the rest in order."""
        with closing(sqlite3.connect(tmp_path / "new.db")) as db:
            db.execute("drop table if exists rows")
            fill(db, [(*row, "x") for row in rows])
        src = source(tmp_path, key=("key",))
        chunks = list(src.read(None, print))
        if not rows:
            assert chunks == []
            return
        cut = data.draw(st.integers(0, len(rows)))
        rest, _, _ = read(src, chunks[0].cursor_at(cut))
        assert [(row["ID"], row["key"]) for row in rest] == sorted(rows)[cut:]

    def test_ties_without_a_key(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """Two rows with one cursor value are an error without a key, and it says what to do."""
        fill(db, [(1, 1, 1), (2, 2, 2), (2, 3, 3)])
        with pytest.raises(DataError, match=r"source 'new' must differ in 'ID', however two have 2; say key"):
            read(source(tmp_path))

    def test_a_late_row_of_a_day_is_read(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """Rows that come with the last cursor value and a smaller key are read, with all of that value's."""
        fill(db, [(1, 1, 0), (2, 20, 0), (2, 30, 0)])
        _, cursor, _ = read(source(tmp_path, key=("key",)))
        fill(db, [(2, 10, 1), (2, 40, 1)])
        rows, cursor, notes = read(source(tmp_path, key=("key",)), cursor)
        assert sorted(row["key"] for row in rows) == [10, 20, 30, 40]
        assert "1 rows" in notes[0]
        rows, _, notes = read(source(tmp_path, key=("key",)), cursor)
        assert (rows, notes) == ([], [])

    def test_a_cursor_of_mixed_types(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """A text among a cursor's numbers, behind which no number is ever read, is an error that names it."""
        fill(db, [(1, 1, 0), ("TEST", 5, 0)])
        with pytest.raises(DataError, match="has both 1 and 'TEST'"):
            read(source(tmp_path))

    def test_tie_that_arrives_later(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """A row with the cursor value that was reached last night is an error as well, and never lost."""
        fill(db, [(1, 1, 1)])
        _, cursor, _ = read(source(tmp_path))
        fill(db, [(1, 2, 2)])
        with pytest.raises(DataError, match="say key"):
            read(source(tmp_path), cursor)
        _, cursor, _ = read(source(tmp_path, key=("key",)))
        fill(db, [(1, 3, 3)])
        rows, _, _ = read(source(tmp_path, key=("key",)), cursor)
        assert [row["key"] for row in rows] == [3]

    def test_rows_without_a_cursor_value(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """Rows that cannot be ordered are not read, and a note counts them at every reading."""
        fill(db, [(None, 1, 1), (1, 2, 2), (None, 3, 3)])
        rows, cursor, notes = read(source(tmp_path))
        assert [row["key"] for row in rows] == [2]
        assert "however 2 have not; they are not read" in notes[0]
        assert read(source(tmp_path), cursor) == ([], cursor, notes)

    def test_rows_without_a_key_are_told_once(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """Of rows that lack another value than the cursor's, those are counted that lie beyond the cursor."""
        fill(db, [(1, 1, 1), (1, None, 2), (2, 2, 2)])
        _, cursor, notes = read(source(tmp_path, key=("key",)))
        assert "however 1 have not; they are not read" in notes[0]
        assert read(source(tmp_path, key=("key",)), cursor) == ([], cursor, [])

    def test_what_was_read_is_not_looked_at_again(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """With an index of the cursor no statement of a later reading goes through the whole table."""
        fill(db, [(i, i, i) for i in range(1, 9)])
        db.execute("create index by_id on rows (ID)")
        _, cursor, _ = read(source(tmp_path, key=("key",)))
        said: list[tuple[str, Any]] = []

        def listen(*of: Any) -> None:  # noqa: ANN401 - connection, cursor, statement, parameters, context, many
            said.append((of[2], of[3]))

        sa.event.listen(sa.Engine, "before_cursor_execute", listen)
        try:
            read(source(tmp_path, key=("key",)), cursor)
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", listen)
        selects = [(statement, values) for statement, values in said if statement.startswith("SELECT")]
        selects = [(statement, values) for statement, values in selects if "0 = 1" not in statement]
        plans = [str(db.execute(f"explain query plan {statement}", values).fetchall()) for statement, values in selects]
        assert len(plans) >= 3
        assert [plan for plan in plans if "SCAN" in plan] == []

    def test_rows_are_numbered_on(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """Row numbers continue from the cursor."""
        fill(db, [(1, 1, 1), (2, 2, 2)])
        _, cursor, _ = read(source(tmp_path))
        fill(db, [(3, 3, 3)])
        (chunk,) = source(tmp_path).read(cursor, print)
        assert chunk.rows.tolist() == [2]

    def test_one_snapshot(self, tmp_path: Path, db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        """Rows that are committed while a reading goes on are left for the next."""
        monkeypatch.setattr(database_module, "CHUNK_ROWS", 1)
        db.execute("pragma journal_mode = wal")
        fill(db, [(1, 1, 1), (2, 2, 2)])
        reading = source(tmp_path).read(None, print)
        first = next(reading)
        fill(db, [(3, 3, 3)])
        assert [len(chunk.table) for chunk in (first, *reading)] == [1, 1]


class TestFaults:
    """What cannot be read."""

    def test_missing_database(self, tmp_path: Path) -> None:
        """A database file that is not there is an error, or a note if optional, and is never made."""
        with pytest.raises(DataError, match=r"source 'new' must exist, however .*new\.db is not there"):
            read(source(tmp_path))
        rows, cursor, notes = read(source(tmp_path, optional=True))
        assert (rows, cursor, len(notes)) == ([], None, 1)
        assert list(tmp_path.iterdir()) == []

    def test_locked_database(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """A locked database is worth another try."""
        fill(db, [(1, 1, 1)])
        db.execute("begin exclusive")
        with pytest.raises(TryAgainError, match="database is locked"):
            read(source(tmp_path, url="sqlite:///new.db?timeout=0.1"))
        db.rollback()

    def test_missing_table(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """A table that is not there is an error of the config that names the nearest one."""
        fill(db, [])
        with pytest.raises(ConfigError, match=r"\('rows'\), however 'row' is not; did you mean 'rows'\?"):
            read(source(tmp_path, table="row"))

    @pytest.mark.parametrize("options", [{"table": "rows"}, {"query": "select * from rows"}])
    def test_missing_column(self, tmp_path: Path, db: sqlite3.Connection, options: dict[str, str]) -> None:
        """A column that is not there is an error that names the nearest one and those there are."""
        fill(db, [(1, 1, 1)])
        with pytest.raises(ConfigError, match=r"'ID', 'key', 'value'.*'IDD' is not; did you mean 'ID'"):
            read(source(tmp_path, cursor=("IDD",), **options))
        with pytest.raises(ConfigError, match=r"the key of .* however 'kye' is not"):
            read(source(tmp_path, key=("kye",), **options))

    def test_query_that_is_wrong(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """A query that the database refuses is an error of the config."""
        fill(db, [(1, 1, 1)])
        with pytest.raises(ConfigError, match="syntax error"):
            read(source(tmp_path, query="selec * from rows"))

    def test_query_that_writes(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """A query cannot change the database."""
        fill(db, [(1, 1, 1)])
        with pytest.raises(NightfitError):
            read(source(tmp_path, query="delete from rows returning *"))
        assert db.execute("select count(*) from rows").fetchone() == (1,)

    def test_corrupt_database(self, tmp_path: Path) -> None:
        """A file that is no database is an error of the data."""
        (tmp_path / "new.db").write_bytes(5000 * b"x")
        with pytest.raises(DataError, match="file is not a database"):
            read(source(tmp_path))

    def test_text_that_is_not_utf8(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """Text that cannot be decoded is an error of the data."""
        fill(db, [(1, 1, 1)])
        db.execute("insert into rows values (2, 2, cast(x'ff' as text))")
        db.commit()
        with pytest.raises(DataError, match="Could not decode"):
            read(source(tmp_path))

    @pytest.mark.parametrize(
        "options",
        [
            {"cursor": ()},
            {"query": "select 1", "table": "rows"},
            {"table": None},
            {"url": "sqlite://"},
            {"url": "x"},
        ],
    )
    def test_options_that_make_no_sense(self, tmp_path: Path, options: dict[str, Any]) -> None:
        """What no database could read is refused at once."""
        with pytest.raises(ConfigError, match="however"):
            source(tmp_path, **options)

    def test_driver_that_is_not_there(self, tmp_path: Path) -> None:
        """A kind of database that is unknown is an error of the config."""
        with pytest.raises(ConfigError, match="nosuch"):
            read(source(tmp_path, url="nosuch://u:geheim@host/db"))

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            (exc.OperationalError, TryAgainError),
            (exc.InterfaceError, TryAgainError),
            (exc.ProgrammingError, ConfigError),
            (exc.DataError, DataError),
        ],
    )
    def test_errors_of_other_databases(self, kind: type[exc.DBAPIError], expected: type[NightfitError]) -> None:
        """Errors of other drivers become ours, in one line and without the password."""
        url = sa.make_url("postgresql+psycopg://u:geheim@host/db?password=geheim")
        error = kind("select", {}, Exception("user u with geheim\nwas refused"))
        ours = database_module._translated(error, "source 'new'", url, "readable")
        assert type(ours) is expected
        assert "geheim" not in str(ours)
        assert "\n" not in str(ours)
        assert "postgresql+psycopg://u:***@host/db" in str(ours)

    def test_relative_paths(self, tmp_path: Path) -> None:
        """A relative SQLite path starts at the root, an absolute one is itself, and both are read-only."""
        for url in ("sqlite:///a b/x?.db".replace("?", "%3F"), f"sqlite:///{tmp_path}/a b/x.db"):
            assert str(parse_url(url, tmp_path).database).startswith(f"file:{tmp_path}/a%20b/x")
            assert parse_url(url, tmp_path).query["mode"] == "ro"


class TestValues:
    """Values in cursors and in columns."""

    @pytest.mark.parametrize(
        "value",
        [
            True,
            2**62,
            0.1,
            float("inf"),
            "text",
            b"\0bytes",
            Decimal("1.10"),
            dt.date(2026, 11, 3),
            dt.datetime(2026, 11, 3, 4, 5, 6, 7, tzinfo=dt.UTC),
            dt.datetime(2026, 11, 3),  # noqa: DTZ001 - databases have such
            uuid.UUID(int=7),
        ],
        ids=str,
    )
    def test_cursor_values_come_back(self, value: object) -> None:
        """A cursor value comes back from JSON with its value and its type."""
        back = from_json(json.loads(json.dumps(to_json(value), allow_nan=False)))
        assert (back, type(back)) == (value, type(value))

    def test_cursor_value_that_cannot_be_kept(self) -> None:
        """A value that cannot be written is an error that says which."""
        with pytest.raises(ConfigError, match=r"timedelta.*; name another"):
            to_json(dt.timedelta(1))

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([1, None, 2], pa.array([1, None, 2])),
            ([1, 2.5], pa.array([1.0, 2.5])),
            ([1, "a", None, 2.5], pa.array(["1", "a", None, "2.5"])),
            ([2**70, 1], pa.array([str(2**70), "1"])),
            ([b"\1", memoryview(b"x")], pa.array(["b'\\x01'", "b'x'"])),
            ([True, None], pa.array([True, None])),
            ([dt.date(2026, 11, 3)], pa.array([dt.date(2026, 11, 3)])),
            ([Decimal("1.10"), None], pa.array([1.1, None])),
            ([{"a": 1}], pa.array(["{'a': 1}"])),
        ],
    )
    def test_columns(self, values: list[object], expected: pa.Array) -> None:
        """A column is typed where its values agree, and text where they do not."""
        assert to_array(values, exact=False).equals(expected)

    def test_exact_decimals(self) -> None:
        """Decimals of a key stay as exact as they were."""
        assert to_array([Decimal("1.10"), None], exact=True).to_pylist() == ["1.10", None]

    def test_mixed_types_of_sqlite(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """A column of SQLite that mixes types is text, with nothing lost."""
        fill(db, [(1, 1, 5), (2, 2, "n/a"), (3, 3, None), (4, 4, 0.5)])
        rows, _, _ = read(source(tmp_path))
        assert [row["value"] for row in rows] == ["5", "n/a", None, "0.5"]


class TestBlocks:
    """The columns that SQLite's rows are taken apart into."""

    @settings(deadline=None, max_examples=60)
    @given(
        data=st.data(),
        kinds=st.lists(st.sampled_from(["int", "float", "text", "bytes", "any"]), min_size=1, max_size=3),
        n_at_once=st.integers(1, 4),
    )
    def test_they_are_those_of_all_rows_at_once(self, data: st.DataObject, kinds: list[str], n_at_once: int) -> None:
        """Blocks hold what `block_of` makes of the same rows, whatever the types and wherever they change."""
        of: dict[str, st.SearchStrategy[Any]] = {
            "int": st.integers(-(2**63), 2**63 - 1),
            "float": st.floats(allow_nan=False),
            "text": st.text(st.characters(exclude_categories=["Cs"])),
            "bytes": st.binary(max_size=3),
        }
        of["any"] = st.one_of(*of.values())
        row = st.tuples(*(st.one_of(st.none(), of[kind]) for kind in kinds))
        rows = data.draw(st.lists(row, max_size=9))
        names = [f"c{i}" for i in range(len(kinds))]
        with closing(sqlite3.connect(":memory:")) as db, pytest.MonkeyPatch.context() as patch:
            db.execute(f"create table t (n, {', '.join(names)})")
            db.executemany(f"insert into t values (?{', ?' * len(kinds)})", [(i, *r) for i, r in enumerate(rows)])  # noqa: S608
            patch.setattr(sqliteblocks, "N_AT_ONCE", n_at_once)
            patch.setattr(database_module, "CHUNK_ROWS", 5)
            blocks = list(sqliteblocks.blocks(db.execute("select * from t order by n"), ["n", *names], ["n"]))
        expected = [list(enumerate(rows))[i : i + 5] for i in range(0, len(rows), 5)]
        assert [block.order[0][0] for block in blocks] == [part[0][0] for part in expected]
        for block, part in zip(blocks, expected, strict=True):
            whole: list[Any] = [(i, *values) for i, values in part]
            assert block.table.equals(block_of(["n", *names], ["n"], whole).table)


class TestRollback:
    """A database that was restored from an older backup."""

    def test_a_table_that_ends_before_the_cursor(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """It stops the night, or is stepped over; rows that come then are read."""
        fill(db, [(1, 1, 1), (2, 2, 2)])
        _, cursor, _ = read(source(tmp_path))
        db.execute("delete from rows where ID = 2")
        db.commit()
        with pytest.raises(GapError, match="must reach up to 2, up to which they were read, however they end at 1"):
            read(source(tmp_path), cursor)
        _, cursor, notes = read(source(tmp_path, on_gap="skip"), cursor)
        assert "they are skipped" in notes[0]
        fill(db, [(2, 3, 3)])
        (chunk,) = source(tmp_path).read(cursor, print)
        assert (chunk.table["key"].to_pylist(), chunk.rows.tolist()) == ([3], [2])
        db.execute("delete from rows")
        db.commit()
        assert read(source(tmp_path), cursor)[0] == []


class TestLookUp:
    """Rows by their key."""

    def test_untyped_columns(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """Keys are found whatever type each row has them in, if they have a target by now, cursor or not."""
        fill(db, [(1, 5, "a"), (2, "6", "b"), (3, 7.5, "c"), (None, "x y", "d"), (5, 5, None), (6, 8, "e")])
        src = source(tmp_path, key=("key",), target="value")
        found = src.look_up([("5",), ("6",), ("7.5",), ("x y",), ("9",)])
        assert sorted(value for table in found for value in table["value"].to_pylist()) == ["a", "b", "c", "d"]

    def test_nothing_to_look_up(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """An optional file that is not there, no keys, no target: nothing."""
        fill(db, [(1, 1, 1)])
        assert list(source(tmp_path, key=("key",), target="no").look_up([("1",)])) == []
        assert list(source(tmp_path, key=("key",), target="value").look_up([])) == []
        gone = source(tmp_path, key=("key",), target="value", url="sqlite:///gone.db", optional=True)
        assert list(gone.look_up([("1",)])) == []


class TestReadTable:
    """A table that is read whole."""

    def test_all_rows(self, tmp_path: Path, db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        """All rows are read, those without a cursor value too, in chunks that are numbered on."""
        monkeypatch.setattr(database_module, "CHUNK_ROWS", 2)
        fill(db, [(None, 1, 1), (1, 2, 2), (1, 3, 3)])
        chunks = list(read_table("sqlite:///new.db", table="rows", root=tmp_path))
        assert [chunk.rows.tolist() for chunk in chunks] == [[0, 1], [2]]
        assert chunks[1].cursor_at(1)["rows"] == 3

    def test_no_rows(self, tmp_path: Path, db: sqlite3.Connection) -> None:
        """A query without rows gives its columns."""
        fill(db, [])
        (chunk,) = read_table("sqlite:///new.db", query="select ID, key from rows", root=tmp_path)
        assert chunk.table.column_names == ["ID", "key"]

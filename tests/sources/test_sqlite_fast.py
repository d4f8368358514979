from __future__ import annotations

import io
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightfit.errors import NightfitError
from nightfit.sources import database, sqlitearrow, sqlreading
from nightfit.sources.sql import SqlSource
from nightfit.sources.sqlitechild import answer
from nightfit.testing import check_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nightfit.sources.base import Chunk, Cursor
    from nightfit.sources.sqlblocks import Block

N = 40
DECLARED = ("integer", "real", "text", "numeric", "", "double precision", "varchar(9)")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    """Let few rows be many; give the blocks that came through ADBC."""
    monkeypatch.setattr(database, "CHUNK_ROWS", 5)
    monkeypatch.setattr(sqlitearrow, "MANY_ROWS", 5)
    blocks: list[Block] = []
    others = sqlitearrow.Reader.others

    def seen(reader: sqlitearrow.Reader, after: Any) -> Iterator[Block]:  # noqa: ANN401
        for block in others(reader, after):
            blocks.append(block)
            yield block

    monkeypatch.setattr(sqlitearrow.Reader, "others", seen)
    return blocks


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Give a database new.db in the folder of the test."""
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        yield connection


def fill(db: sqlite3.Connection, n_rows: int = N, *, first: int = 0) -> None:
    """Append rows to a table that ADBC can read."""
    db.execute("create table if not exists rows (id integer primary key, x real, word text)")
    db.executemany("insert into rows values (?, ?, ?)", [(i, i / 7, f"w{i}") for i in range(first, first + n_rows)])
    db.commit()


def source(root: Path, **options: Any) -> SqlSource:  # noqa: ANN401
    """Make a source of the table `rows`, ordered by id, unless options say otherwise."""
    options = {"url": "sqlite:///new.db", "table": "rows", "cursor": ("id",), **options}
    return SqlSource(name="new", root=root, **options)


def ids(chunks: list[Chunk]) -> list[int]:
    """Return the ids that were read."""
    return [value for chunk in chunks for value in chunk.table["id"].to_pylist()]


def outcome(src: SqlSource, after: Cursor | None, mixed: frozenset[str] = frozenset()) -> tuple[list[Any], list[str]]:
    """Read to the end or an error: each row's number, cursor and exact values, then the notes and the error.

    What a column of mixed types becomes depends on where chunks end, hence its values are made alike.
    """
    rows: list[Any] = []
    notes: list[str] = []
    try:
        for chunk in src.read(after, notes.append):
            for i, row in enumerate(chunk.table.to_pylist()):
                values = [alike(value) if name in mixed else repr(value) for name, value in row.items()]
                rows.append((int(chunk.rows[i]), chunk.cursor_at(i + 1), [*row], values))
    except NightfitError as error:
        notes.append(repr(error))
    return rows, notes


def alike(value: Any) -> object:  # noqa: ANN401
    """Take numbers for what they are worth, be they texts."""
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        return value


@contextmanager
def plain() -> Iterator[None]:
    """Read as where ADBC is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlreading, "find_spec", lambda _: None)
        yield


@contextmanager
def child_within(request: dict[str, Any]) -> Iterator[Any]:
    """Do what the process does without its start; nobody writes meanwhile, so that locks do not matter."""
    out, failed = io.BytesIO(), False
    try:
        answer(request, out)
    except Exception:  # noqa: BLE001 - any error ends the process
        failed = True

    class Child:
        stdout = io.BytesIO(out.getvalue())

        def wait(self) -> bool:
            return failed

    yield Child()


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Draw the declared types of columns, and rows whose columns hold mostly one type and now and then another."""
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
    of = [
        st.integers(-(2**63), 2**63 - 1),
        st.integers(-3, 3) | st.sampled_from([2**53 + 1, -(2**53) - 1]),
        st.floats(allow_nan=False),
        texts | st.sampled_from(["\0", "a\0b", "1", "2.50", ""]),
    ]
    odd = st.one_of(st.binary(max_size=2), *of)
    declared = draw(st.lists(st.sampled_from(DECLARED), min_size=1, max_size=4))
    n_rows = draw(st.integers(0, 30))
    columns = []
    for _ in declared:
        values = draw(st.lists(draw(st.sampled_from(of)), min_size=n_rows, max_size=n_rows))
        nulls = draw(st.sampled_from([set(), set(range(8)), set(range(0, 30, 3)), set(range(30))]))
        column: list[Any] = [None if i in nulls else value for i, value in enumerate(values)]
        if n_rows and draw(st.integers(0, 3)) == 0:
            column[draw(st.integers(0, n_rows - 1))] = draw(odd)
        columns.append(column)
    return declared, list(zip(*columns, strict=True))


class TestTheSame:
    """Rows that ADBC reads are the rows that sqlite3 reads."""

    @settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(table=tables(), order=st.sampled_from(["integer", "real", "text", ""]), ties=st.integers(1, 7))
    def test_property(
        self, tmp_path_factory: pytest.TempPathFactory, table: tuple[Any, Any], order: str, ties: int
    ) -> None:
        """Tables, cursors at each row, notes and errors are equal for any values, from the start and resumed."""
        declared, rows = table
        root = tmp_path_factory.mktemp("property")
        with closing(sqlite3.connect(root / "new.db")) as db:
            columns = "".join(f', "c {i}" {kind}' for i, kind in enumerate(declared))
            db.execute(f"create table rows (id {order}, key integer{columns})")
            holes = ", ?" * len(declared)
            values = [(f"{i // ties:03}" if order == "text" else i // ties, i // 2, *row) for i, row in enumerate(rows)]
            db.executemany(f"insert into rows values (?, ?{holes})", values)  # noqa: S608
            db.commit()
            kinds = {f"c {i}": f'select distinct typeof("c {i}") from rows' for i in range(len(declared))}  # noqa: S608
            mixed = frozenset(
                name for name, query in kinds.items() if len({kind for (kind,) in db.execute(query)} - {"null"}) > 1
            )
        src = source(root, key=("key",))
        with plain():
            expected = outcome(src, None, mixed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlitearrow, "_child", child_within)
            assert outcome(src, None, mixed) == expected
            for _, cursor, *_ in expected[0][2::6]:
                with plain():
                    resumed = outcome(src, cursor, mixed)
                assert outcome(src, cursor, mixed) == resumed

    def test_it_is_used(self, tmp_path: Path, db: sqlite3.Connection, fast: list[Block]) -> None:
        """All but the first rows come through a process; values and types are the stored ones."""
        fill(db)
        chunks = list(source(tmp_path).read(None, print))
        table = pa.concat_tables([chunk.table for chunk in chunks])
        assert table.schema == pa.schema([("id", pa.int64()), ("x", pa.float64()), ("word", pa.string())])
        assert [tuple(row.values()) for row in table.to_pylist()] == [(i, i / 7, f"w{i}") for i in range(N)]
        assert sum(map(len, fast)) == N - 4  # the last row before the process starts is read again

    def test_contract(self, tmp_path: Path, db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        """The source's contract is kept."""
        monkeypatch.setattr(sqlitearrow, "_child", child_within)
        n = 0

        def grow(more: int) -> None:
            nonlocal n
            fill(db, more, first=n)
            n += more

        check_source(lambda: source(tmp_path), grow)

    def test_a_column_that_was_added_later(self, tmp_path: Path, db: sqlite3.Connection, fast: list[Block]) -> None:
        """A column that is empty at first stops one process, and not the next."""
        db.execute("create table rows (id integer primary key, x real)")
        db.executemany("insert into rows values (?, ?)", [(i, None if i < 12 else i / 7) for i in range(N)])
        db.commit()
        assert ids(list(source(tmp_path).read(None, print))) == list(range(N))
        assert fast[-1].table["id"].to_pylist()[-1] == N - 1
        assert sum(map(len, fast)) > N // 2

    @pytest.mark.parametrize("value", ["cast(x'ff' as text)", "cast(x'eda080' as text)", "x'61'"])
    def test_odd_text(self, tmp_path: Path, db: sqlite3.Connection, fast: list[Block], value: str) -> None:
        """Text that is not UTF-8 is the error that it always was, bytes are shown as they were, be it after blocks."""
        fill(db)
        db.execute(f"insert into rows values (50, 1, {value})")  # noqa: S608
        db.commit()
        src = source(tmp_path)
        with plain():
            expected = outcome(src, None, frozenset({"word"}))
        assert fast == []
        rows, notes = outcome(src, None, frozenset({"word"}))
        assert fast
        assert notes == expected[1]
        assert all(row == same for row, same in zip(rows, expected[0], strict=False))

    def test_a_whole_number_among_floats(self, tmp_path: Path, db: sqlite3.Connection, fast: list[Block]) -> None:
        """A whole number that no float can hold keeps all its digits."""
        db.execute("create table rows (id integer primary key, x numeric)")
        db.executemany("insert into rows values (?, 0.5)", [(i,) for i in range(N)])
        db.execute(f"insert into rows values ({N}, {2**53 + 1})")  # noqa: S608
        db.commit()
        *_, last = source(tmp_path).read(None, print)
        assert fast
        assert last.table["x"].to_pylist()[-1] == str(2**53 + 1)

    def test_a_process_that_dies(
        self, tmp_path: Path, db: sqlite3.Connection, fast: list[Block], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that ends early, even where the stream looks whole, loses no rows."""
        fill(db)
        dying = tmp_path / "dying.py"
        code = "from nightfit.sources import sqlitechild as c; import json, sys, os"
        lines = [code, "r = json.load(sys.stdin)", "r['statement'] += ' limit 7'"]
        dying.write_text("\n".join([*lines, "c.answer(r, sys.stdout.buffer)", "sys.stdout.flush()", "os._exit(9)"]))
        monkeypatch.setattr(sqlitearrow, "_CHILD", dying)
        assert ids(list(source(tmp_path).read(None, print))) == list(range(N))
        assert sum(map(len, fast)) == 7 * sqlitearrow.N_TRIES

    @pytest.mark.parametrize(
        "options",
        [
            {"table": "seen"},
            {"table": "computed"},
            {"table": None, "query": "select * from rows"},
            {"url": "sqlite:///new.db?detect_types=1"},
            {"url": "sqlite:///new.db?immutable=1"},
        ],
    )
    def test_others(self, tmp_path: Path, db: sqlite3.Connection, fast: list[Block], options: dict[str, Any]) -> None:
        """What a version of SQLite computes, and files that are opened in another way, are read by sqlite3 alone."""
        fill(db)
        db.execute("create view seen as select * from rows")
        db.execute("create table computed (id integer primary key, twice integer generated always as (2 * id))")
        db.executemany("insert into computed (id) values (?)", [(i,) for i in range(N)])
        db.commit()
        assert ids(list(source(tmp_path, **options).read(None, print))) == list(range(N))
        assert fast == []

    def test_utf16(self, tmp_path: Path, db: sqlite3.Connection, fast: list[Block]) -> None:
        """A database in UTF-16 is read by sqlite3 alone."""
        db.execute("pragma encoding = 'UTF-16'")
        fill(db)
        assert ids(list(source(tmp_path).read(None, print))) == list(range(N))
        assert fast == []


WRITE = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=0)
try:
    db.execute("update rows set x = -1")
    db.commit()
except sqlite3.OperationalError as error:
    sys.exit(str(error))
"""


def write(path: Path) -> str:
    """Let another process write to each row; return what stopped it."""
    result = subprocess.run([sys.executable, "-c", WRITE, str(path)], capture_output=True, text=True, check=False)
    return result.stderr.strip()


class TestLocks:
    """Who writes while rows are read."""

    def test_no_lock_is_dropped(self, tmp_path: Path, db: sqlite3.Connection, fast: list[Block]) -> None:
        """With a rollback journal nobody commits before the reading is over, the other SQLite come and gone or not."""
        fill(db)
        reading = source(tmp_path).read(None, print)
        n_read, stopped = 0, []
        for chunk in reading:
            n_read += len(chunk.table)
            if n_read in {5, 9, N}:
                stopped.append((bool(fast), write(tmp_path / "new.db")))
            assert -1 not in chunk.table["x"].to_pylist()
        assert stopped == [(False, "database is locked"), (True, "database is locked"), (True, "database is locked")]
        assert n_read == N
        assert not write(tmp_path / "new.db")

    def test_the_process_ends_with_the_reading(
        self, tmp_path: Path, db: sqlite3.Connection, fast: list[Block], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A reading that is left early leaves neither a process nor a lock."""
        monkeypatch.setattr(sqlitearrow, "_PIPE_BYTES", 4096)
        fill(db, 20_000)
        children: list[subprocess.Popen[bytes]] = []
        popen = subprocess.Popen

        def kept(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401
            children.append(popen(*arguments, **options))
            return children[-1]

        monkeypatch.setattr(subprocess, "Popen", kept)
        reading = source(tmp_path).read(None, print)
        while not fast:
            next(reading)
        (child,) = children
        assert child.poll() is None
        reading.close()  # type: ignore[attr-defined]
        assert child.returncode is not None
        monkeypatch.undo()
        assert not write(tmp_path / "new.db")

    def test_commits_in_between(self, tmp_path: Path, db: sqlite3.Connection, fast: list[Block]) -> None:
        """With a WAL, rows that are committed while the process starts are read once, by this night or the next."""
        db.execute("pragma journal_mode = wal")
        fill(db)
        reading = source(tmp_path).read(None, print)
        chunks = [next(reading)]
        fill(db, 10, first=N)
        chunks += reading
        assert fast
        fill(db, 10, first=N + 10)
        chunks += source(tmp_path).read(chunks[-1].cursor_at(len(chunks[-1].table)), print)
        assert ids(chunks) == list(range(N + 20))
        assert [row for chunk in chunks for row in chunk.rows.tolist()] == list(range(N + 20))

    def test_another_schema(self, tmp_path: Path, db: sqlite3.Connection, fast: list[Block]) -> None:
        """With a WAL, a table that is declared otherwise since its first rows were read is read as it was."""
        db.execute("pragma journal_mode = wal")
        fill(db)
        reading = source(tmp_path).read(None, print)
        chunks = [next(reading)]
        db.execute("drop table rows")
        db.execute("create table rows (id integer primary key, x numeric, word text)")
        values = [(i, 0.5 if i < N / 2 else 2**53 + 1, "w") for i in range(N)]
        db.executemany("insert into rows values (?, ?, ?)", values)
        db.commit()
        chunks += reading
        assert [value for chunk in chunks for value in chunk.table["x"].to_pylist()] == [i / 7 for i in range(N)]
        assert fast == []

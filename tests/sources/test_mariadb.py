from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from nightfit.errors import ConfigError, GapError, TryAgainError
from nightfit.sources import database
from nightfit.sources.sql import SqlSource
from nightfit.testing import check_source
from stress import commits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nightfit.sources.base import Cursor

SERVER = "mysql+pymysql://root@127.0.0.1:3306/"
PASSWORD = "geheim"  # noqa: S105


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Give the url of a database of its own."""
    name = f"nightfit_{uuid.uuid4().hex[:12]}"
    with sa.create_engine(SERVER, poolclass=sa.NullPool).connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
        yield SERVER + name
        connection.execute(sa.text(f"DROP DATABASE {name}"))


@pytest.fixture
def db(url: str) -> Iterator[sa.Connection]:
    """Give a connection that commits by itself, with an empty table `rows`."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE OR REPLACE TABLE `rows` (id int PRIMARY KEY, value varchar(200))"))
        yield connection


def insert(db: sa.Connection, *ids: int) -> None:
    """Insert rows."""
    db.execute(sa.text("INSERT INTO `rows` VALUES (:id, repeat('x', 100))"), [{"id": i} for i in ids])


def source(url: str, **options: Any) -> SqlSource:  # noqa: ANN401
    """Make a source of the table `rows`, ordered by id."""
    return SqlSource(name="new", url=url, table="rows", cursor=("id",), root=Path(), **options)


def read(src: SqlSource, after: Cursor | None = None) -> tuple[list[int], list[int], Cursor | None]:
    """Read a source to its end: ids, row numbers, the cursor reached."""
    ids: list[int] = []
    rows: list[int] = []
    for chunk in src.read(after, lambda _: None):
        ids += chunk.table["id"].to_pylist()
        rows += chunk.rows.tolist()
        after = json.loads(json.dumps(chunk.cursor_at(len(chunk.table))))
    return ids, rows, after


def test_contract(url: str, db: sa.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table keeps the contract."""
    monkeypatch.setattr(database, "CHUNK_ROWS", 3)
    ids = iter(range(1000))
    check_source(lambda: source(url), lambda n: insert(db, *(next(ids) for _ in range(n))))
    check_source(lambda: source(url, overlap_rows=2), lambda n: insert(db, *(next(ids) for _ in range(n))))


def test_interleavings(url: str) -> None:
    """Whatever the order of commits within the window: no row is skipped or read twice; without it, some are."""
    stress = commits.stress
    tally = stress(url, interleavings=15, seed=3, overlap_rows=100)
    assert (tally.rows_skipped, tally.rows_read_twice) == (0, 0)
    assert tally.rows_read == tally.rows_committed > 150
    assert stress(url, interleavings=4, seed=3).rows_skipped > 0


def test_late_rows(url: str, db: sa.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late rows come first, numbered on, and once, wherever a reading is broken off; deleted rows do not matter."""
    monkeypatch.setattr(database, "CHUNK_ROWS", 2)
    insert(db, 10, 20, 30, 40)
    _, _, cursor = read(source(url))
    insert(db, 5, 15, 25, 35, 50)
    db.execute(sa.text("DELETE FROM `rows` WHERE id = 20"))
    expected = [5, 15, 25, 35, 50]
    assert read(source(url), cursor)[:2] == (expected, [4, 5, 6, 7, 8])
    n_before = 0
    for chunk in source(url).read(cursor, print):
        for i in range(len(chunk.table) + 1):
            kept = json.loads(json.dumps(chunk.cursor_at(i)))
            rest = read(source(url), kept)
            assert rest[0] == expected[n_before + i :]
            assert read(source(url), rest[2])[0] == []
        n_before += len(chunk.table)


def test_the_windows_size(url: str, db: sa.Connection) -> None:
    """The window holds `overlap_rows` rows before the mark; 0 turns it off, and the cursor does not mention it."""
    insert(db, 10, 20, 30, 40)
    cursors = {n: read(source(url, overlap_rows=n))[2] for n in (0, 1, 2, 9)}
    assert "window" not in (cursors[0] or {})
    insert(db, 5, 15, 25, 35)
    found = {n: read(source(url, overlap_rows=n), cursor)[0] for n, cursor in cursors.items()}
    assert found == {0: [], 1: [25, 35], 2: [15, 25, 35], 9: [5, 15, 25, 35]}


def test_cursors_of_earlier_versions(url: str, db: sa.Connection) -> None:
    """A cursor without a window is read on from, and what is there before it counts as read."""
    insert(db, 1, 2, 3)
    ids, _, cursor = read(source(url), {"after": [2], "rows": 2, "ties": 1, "level": 1})
    assert ids == [3]
    insert(db, 0)
    assert read(source(url), cursor)[0] == [0]


def test_a_table_that_ends_before_the_cursor(url: str, db: sa.Connection) -> None:
    """A database that was restored from an older backup stops the night, or is stepped over."""
    insert(db, 1, 2, 3)
    _, _, cursor = read(source(url))
    db.execute(sa.text("DELETE FROM `rows` WHERE id > 1"))
    with pytest.raises(GapError, match=r"must reach up to 3, .*, however they end at 1"):
        read(source(url), cursor)
    _, _, cursor = read(source(url, on_gap="skip"), cursor)
    insert(db, 2)
    assert read(source(url, on_gap="skip"), cursor)[0] == [2]


def test_look_up(url: str, db: sa.Connection) -> None:
    """Rows are found by their key."""
    insert(db, 1, 2, 3)
    (found,) = source(url, key=("id",), target="value").look_up([("1",), ("3",), ("x",)])
    assert found["id"].to_pylist() == [1, 3]


class Proxy(threading.Thread):
    """Passes a connection on to the server, until `cut`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []

    def run(self) -> None:
        """Accept connections."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", 3306))
            self._open += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def cut(self) -> None:
        """Break all connections off, and accept no more."""
        for each in (self._listener, *self._open):
            with closing(each):
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            return


def test_a_server_that_goes_away(url: str, db: sa.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a reading, and before one, it is worth another try, and no message has the password."""
    monkeypatch.setattr(database, "CHUNK_ROWS", 100)
    name = url.rpartition("/")[2]
    db.execute(sa.text("INSERT INTO `rows` SELECT seq, repeat('x', 200) FROM seq_1_to_50000"))
    proxy = Proxy()
    proxy.start()
    user = f"nf_{uuid.uuid4().hex[:8]}"
    db.execute(sa.text(f"CREATE USER {user}@'%' IDENTIFIED BY '{PASSWORD}'"))
    db.execute(sa.text(f"GRANT SELECT ON {name}.* TO {user}@'%'"))
    src = source(f"mysql+pymysql://{user}:{PASSWORD}@127.0.0.1:{proxy.port}/{name}")
    try:
        reading = src.read(None, print)
        next(reading)
        proxy.cut()
        for again in (reading, src.read(None, print)):
            with pytest.raises(TryAgainError) as caught:
                list(again)
            assert PASSWORD not in str(caught.value)
            assert "\n" not in str(caught.value)
    finally:
        db.execute(sa.text(f"DROP USER {user}@'%'"))


def test_a_server_that_never_greets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What accepts a connection and says nothing is given up after the time for connecting, not that for a query."""
    monkeypatch.setitem(database._PATIENCE["pymysql"], "connect_timeout", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        started_at = time.monotonic()
        with pytest.raises(TryAgainError, match=r"timed out\)'\); see that it is up, and that host, port"):
            list(source(f"mysql+pymysql://root@127.0.0.1:{port}/x").read(None, print))
    assert time.monotonic() - started_at < 30


def test_a_query_may_take_longer_than_connecting(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once connected the server has the time of a query for each answer."""
    monkeypatch.setitem(database._PATIENCE["pymysql"], "connect_timeout", 1)
    with database.connected(sa.make_url(url), "x", "readable") as connection:
        assert connection.execute(sa.text("SELECT SLEEP(1.5)")).scalar() == 0


def test_a_user_without_rights(url: str, db: sa.Connection) -> None:
    """Who may connect and not read is told what to grant."""
    user = f"nf_{uuid.uuid4().hex[:8]}"
    name = url.rpartition("/")[2]
    db.execute(sa.text(f"CREATE USER {user}@'%'"))
    db.execute(sa.text(f"GRANT INSERT ON {name}.* TO {user}@'%'"))
    try:
        with pytest.raises(ConfigError, match=r"let the url's user read it \(GRANT SELECT\)"):
            list(source(f"mysql+pymysql://{user}@127.0.0.1/{name}").read(None, print))
    finally:
        db.execute(sa.text(f"DROP USER {user}@'%'"))

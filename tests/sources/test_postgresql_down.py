from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from nightfit.errors import TryAgainError
from nightfit.sources import database, latecommits, sqlreading
from nightfit.sources.sql import SqlSource

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "geh eim'%40"  # noqa: S105 - with all that needs quoting
BIN = max(Path("/usr/lib/postgresql").glob("*/bin"))


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL server of its own."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """The url, with the password."""
        made = sa.URL.create("postgresql+psycopg", "postgres", PASSWORD, "127.0.0.1", self.port, "postgres")
        return made.render_as_string(hide_password=False)

    def control(self, *arguments: str) -> None:
        """Start or stop it, and wait until that is done."""
        as_postgres(BIN / "pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "log", *arguments)


def as_postgres(*command: object) -> None:
    """Run a command as the user `postgres`: the server refuses to run as root."""
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    subprocess.run([*prefix, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd="/")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Start a server that asks for a password, with a table `rows` of 20,000."""
    folder = Path(tempfile.mkdtemp(prefix="nightfit-pg-"))
    password_file = folder / "password"
    password_file.write_text(PASSWORD)
    if os.getuid() == 0:
        for path in (folder, password_file):
            shutil.chown(path, "postgres")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = Cluster(folder, port)
    options = ["-A", "scram-sha-256", "-U", "postgres", f"--pwfile={password_file}", "--no-sync"]
    as_postgres(BIN / "initdb", "-D", folder / "data", *options)
    settings = f"port = {port}\nunix_socket_directories = '{folder}'\nfsync = off\nmax_prepared_transactions = 5\n"
    with (folder / "data" / "postgresql.conf").open("a") as config:
        config.write(settings)
    made.control("start")
    try:
        execute(made, "CREATE TABLE rows (id bigserial PRIMARY KEY, value text)")
        execute(made, "INSERT INTO rows (value) SELECT repeat('x', 500) FROM generate_series(1, 20000)")
        yield made
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            made.control("stop", "-m", "immediate")
        shutil.rmtree(folder)


@pytest.fixture
def up(cluster: Cluster) -> Cluster:
    """Give the server, running."""
    if not (cluster.folder / "data" / "postmaster.pid").exists():
        cluster.control("start")
    return cluster


def execute(cluster: Cluster, statement: str) -> None:
    """Execute one statement."""
    engine = sa.create_engine(cluster.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(statement))


def source(cluster: Cluster, **options: Any) -> SqlSource:  # noqa: ANN401
    """Make a source of the table `rows`."""
    url = options.pop("url", cluster.url)
    return SqlSource(name="new", url=url, table="rows", cursor=("id",), key=("id",), root=Path(), **options)


def failure(reading: Any) -> str:  # noqa: ANN401
    """Read on until it fails as what may be back later, and return the message."""
    started = time.monotonic()
    with pytest.raises(TryAgainError) as caught:
        list(reading)
    assert time.monotonic() - started < 20, "a server that is down must not hold up a night"
    message = str(caught.value)
    assert PASSWORD not in message
    assert "geh" not in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("has_adbc", [True, False])
def test_down_during_a_reading(up: Cluster, monkeypatch: pytest.MonkeyPatch, *, has_adbc: bool) -> None:
    """A server that dies in the middle of a reading is worth another try; what was read is read on from."""
    monkeypatch.setattr(database, "CHUNK_ROWS", 100)
    if not has_adbc:
        monkeypatch.setattr(sqlreading, "find_spec", lambda _: None)
    reading = source(up).read(None, print)
    cursor = next(reading).cursor_at(100)
    up.control("stop", "-m", "immediate")
    assert "source 'new' must be readable at postgresql+psycopg://postgres:***@127.0.0.1" in failure(reading)
    assert "see that it is up, and that host, port" in failure(source(up).read(cursor, print))
    assert "see that it is up, and that host, port" in failure(source(up, target="value").look_up([("1",)]))
    up.control("start")
    assert sum(len(chunk.table) for chunk in source(up).read(cursor, print)) == 19_900


def test_a_wrong_password(up: Cluster) -> None:
    """A password that the server refuses is in no message."""
    wrong = up.url.replace("geh", "gehx")
    assert "authentication failed" in failure(source(up, url=wrong).read(None, print))


def test_a_server_that_never_answers(up: Cluster) -> None:
    """A connection that is accepted and never answered is given up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = up.url.replace(str(up.port), str(silent.getsockname()[1])) + "?connect_timeout=2"
        failure(source(up, url=url).read(None, print))


def test_prepared_transactions(up: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prepared transaction, which a restart gives another name, may still commit: rows wait for it."""
    monkeypatch.setattr(latecommits, "PATIENCE_S", 0.0)
    src = source(up)
    cursor = None
    for chunk in src.read(None, print):
        cursor = chunk.cursor_at(len(chunk.table))
    with sa.create_engine(up.url, poolclass=sa.NullPool).connect() as late:
        late.execute(sa.text("INSERT INTO rows (value) VALUES ('late')"))
        execute(up, "INSERT INTO rows (value) VALUES ('new')")
        (moved,) = src.read(cursor, print)
        late.execute(sa.text("PREPARE TRANSACTION 'nightfit'"))
        late.invalidate()
    assert len(moved.table) == 0
    up.control("restart", "-m", "fast")
    assert sum(len(chunk.table) for chunk in src.read(moved.cursor_at(0), print)) == 0
    execute(up, "COMMIT PREPARED 'nightfit'")
    (chunk,) = src.read(moved.cursor_at(0), print)
    assert chunk.table["value"].to_pylist() == ["late", "new"]

"""Let writers interleave at random, commits out of order, with readings in between, and count what a reading misses.

Two to four connections insert rows within transactions, with savepoints and rollbacks; rows that were read are deleted
now and then. Readings go on from the cursor that the last one left. In the end every committed row must have been
read, once.

Needs servers: PostgreSQL and MariaDB (or MySQL) on this machine, with a database `test` each.
"""

from __future__ import annotations

import json
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from unittest import mock

import sqlalchemy as sa

from nightfit.sources import latecommits, sql
from nightfit.sources.base import Cursor
from nightfit.sources.sql import SqlSource
from stress.table import Dose, Result

POSTGRESQL = "postgresql+psycopg://postgres@127.0.0.1/test"
MARIADB = "mysql+pymysql://root@127.0.0.1/test"
COLUMNS = {
    "postgresql": "id bigserial PRIMARY KEY, tick int NOT NULL, at timestamp NOT NULL",
    "mysql": "id bigint PRIMARY KEY AUTO_INCREMENT, tick int NOT NULL, at datetime NOT NULL, INDEX (tick), INDEX (at)",
}
TIME = {
    "postgresql": "timestamp '2026-01-01' + :tick * interval '1 minute'",
    "mysql": "timestamp '2026-01-01 00:00:00' + interval :tick minute",
}


@dataclass
class Tally:
    """What interleavings came to."""

    interleavings: int = 0
    readings: int = 0
    readings_that_left_rows: int = 0
    rows_deleted: int = 0
    rows_committed: int = 0
    rows_read: int = 0
    rows_skipped: int = 0
    rows_read_twice: int = 0

    def __str__(self) -> str:
        names = [each.name for each in fields(self)]
        return "\n".join(f"{name.replace('_', ' '):<24}{getattr(self, name):>8,}" for name in names)


class Interleaving:
    """One table, written and read in a random order of steps."""

    def __init__(self, engine: sa.Engine, table: str, rng: random.Random, tally: Tally, overlap_rows: int) -> None:
        self._rng, self._tally, self._table = rng, tally, table
        self._time = TIME[engine.dialect.name]
        self._writers = [engine.connect() for _ in range(rng.randint(2, 4))]
        cursor = rng.choice(["tick", "at", "id"])
        self._source = SqlSource(
            name="rows",
            url=engine.url.render_as_string(hide_password=False),
            table=table,
            cursor=(cursor,),
            key=("id",),
            root=Path(),
            overlap_rows=overlap_rows,
        )
        self._engine = engine
        self._tick = 0
        self._savepoints: dict[sa.Connection, int] = dict.fromkeys(self._writers, 0)
        self._read: list[int] = []
        self._cursor: Cursor | None = None

    def run(self, n_steps: int) -> None:
        """Write and read, end all transactions, read the rest, and count."""
        with ExitStack() as stack:
            for writer in self._writers:
                stack.enter_context(writer)
            steps = [self._insert, self._insert, self._insert, self._end, self._savepoint, self._read_on, self._delete]
            for _ in range(n_steps):
                self._rng.choice(steps)()
            for writer in self._rng.sample(self._writers, len(self._writers)):
                self._rng.choice([writer.commit, writer.rollback])()
                self._read_on()
            self._read_on(whole=True)
            times = Counter(self._read)
            there = set(self._writers[0].execute(sa.text(f"SELECT id FROM {self._table}")).scalars())  # noqa: S608
        self._tally.interleavings += 1
        self._tally.rows_committed += len(there) + self._n_deleted(there)
        self._tally.rows_read += len(times)
        self._tally.rows_skipped += len(there - set(times))
        self._tally.rows_read_twice += sum(n - 1 for n in times.values())

    def _n_deleted(self, there: set[int]) -> int:
        n = len(set(self._read) - there)
        self._tally.rows_deleted += n
        return n

    def _insert(self) -> None:
        writer = self._rng.choice(self._writers)
        self._tick += self._rng.random() < 0.2  # noqa: PLR2004
        for _ in range(self._rng.randint(1, 3)):
            statement = f"INSERT INTO {self._table} (tick, at) VALUES (:tick, {self._time})"  # noqa: S608
            writer.execute(sa.text(statement), {"tick": self._tick})

    def _savepoint(self) -> None:
        writer = self._rng.choice(self._writers)
        if self._savepoints[writer] and self._rng.random() < 0.5:  # noqa: PLR2004
            writer.execute(sa.text(f"ROLLBACK TO SAVEPOINT s{self._savepoints[writer]}"))
        else:
            self._savepoints[writer] += 1
            writer.execute(sa.text(f"SAVEPOINT s{self._savepoints[writer]}"))

    def _end(self) -> None:
        writer = self._rng.choice(self._writers)
        self._savepoints[writer] = 0
        writer.rollback() if self._rng.random() < 0.25 else writer.commit()  # noqa: PLR2004

    def _delete(self) -> None:
        """Delete a row that was read, though not the last one: that would be a table that ends before the cursor."""
        old = sorted(set(self._read))[:-3]
        if old:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                statement = sa.text(f"DELETE FROM {self._table} WHERE id = :id")  # noqa: S608
                connection.execute(statement, {"id": self._rng.choice(old)})

    def _read_on(self, *, whole: bool = False) -> None:
        """Read on, to the end or to any row of the first chunk, and keep the cursor as JSON."""
        notes: list[str] = []
        for chunk in self._source.read(self._cursor, notes.append):
            n = len(chunk.table) if whole or self._rng.random() < 0.7 else self._rng.randint(0, len(chunk.table))  # noqa: PLR2004
            self._read += chunk.table["id"].to_pylist()[:n]
            self._cursor = json.loads(json.dumps(chunk.cursor_at(n)))
            if n < len(chunk.table):
                break
        self._tally.readings += 1
        self._tally.readings_that_left_rows += any("wait for the next night" in note for note in notes)


@contextmanager
def table_of(engine: sa.Engine) -> Iterator[str]:
    """Make a table with a name of its own, and drop it in the end."""
    name = f"stress_{uuid.uuid4().hex[:12]}"
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE TABLE {name} ({COLUMNS[engine.dialect.name]})"))
    try:
        yield name
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text(f"DROP TABLE {name}"))


def stress(url: str, *, interleavings: int, seed: int, guarded: bool = True, overlap_rows: int = 0) -> Tally:
    """Run interleavings of about 40 steps each; without the guard, locks are not looked at."""
    tally = Tally()
    engine = sa.create_engine(url, isolation_level="READ COMMITTED")
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(latecommits, "PATIENCE_S", 0.0))  # nobody else would end transactions
        if not guarded:
            stack.enter_context(mock.patch.object(sql, "tables_to_watch", return_value=None))
        for i in range(interleavings):
            with table_of(engine) as table:
                Interleaving(engine, table, random.Random(f"{seed}/{i}"), tally, overlap_rows).run(40)  # noqa: S311
    engine.dispose()
    return tally


def run(seed: int, dose: Dose) -> list[Result]:
    """Interleave on PostgreSQL, whose locks are looked at, and on MariaDB with a window; neither may lose a row."""
    n = 1000 if dose == "full" else 10
    tallies = {
        "PostgreSQL, by its locks": stress(POSTGRESQL, interleavings=n, seed=seed),
        "MariaDB, by a window of 1,000 rows": stress(MARIADB, interleavings=n, seed=seed, overlap_rows=1000),
    }
    found = [
        Result(
            f"{tally.interleavings:,} interleavings of commits on {where}",
            "0 rows skipped, 0 read twice",
            f"{tally.rows_skipped} skipped, {tally.rows_read_twice} twice, of {tally.rows_committed:,}",
            ok=not (tally.rows_skipped or tally.rows_read_twice),
        )
        for where, tally in tallies.items()
    ]
    lost = stress(POSTGRESQL, interleavings=max(n // 10, 3), seed=seed, guarded=False)
    return [
        *found,
        Result(
            f"{lost.interleavings:,} of them without looking at locks",
            "some are skipped",
            f"{lost.rows_skipped} of {lost.rows_committed:,}",
            ok=lost.rows_skipped > 0,
        ),
    ]

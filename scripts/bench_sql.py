"""How fast rows are read, against `pandas.read_sql` on the same table in the same run.

Each round reads a table of 1 million rows and 20 columns in two fresh processes, one after the other: through
`SqlSource` into staged Arrow files, as a night does, and through pandas into a data frame.

    python scripts/bench_sql.py --rounds 3
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import sqlalchemy as sa

POSTGRESQL = "postgresql+psycopg://postgres@127.0.0.1/test"
N_FLOATS = 15
WORDS = ("red", "green", "blue", "of no colour")


def frame(n_rows: int) -> pd.DataFrame:
    """Make rows: an id, 15 floats, 3 short texts, a time."""
    rng = np.random.default_rng(0)
    columns: dict[str, object] = {"id": np.arange(n_rows)}
    columns |= {f"x{i}": rng.normal(size=n_rows) for i in range(N_FLOATS)}
    columns |= {f"c{i}": rng.choice(WORDS, n_rows) for i in range(3)}
    columns["at"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(n_rows), unit="s")
    return pd.DataFrame(columns)


@contextmanager
def table_in(url: str, n_rows: int) -> Iterator[str]:
    """Make a table with a name of its own, and drop it in the end."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(url)
    floats = ", ".join(f"x{i} double precision" for i in range(N_FLOATS))
    is_sqlite = engine.dialect.name == "sqlite"
    time_type = "text" if is_sqlite else "timestamp"
    with engine.begin() as connection:
        create = f"CREATE TABLE {name} (id integer PRIMARY KEY, {floats}, c0 text, c1 text, c2 text, at {time_type})"
        connection.execute(sa.text(create))
        rows = frame(n_rows)
        if is_sqlite:
            rows["at"] = rows["at"].astype(str)
            values = ", ".join("?" * len(rows.columns))
            cursor = connection.connection.cursor()
            cursor.executemany(f"INSERT INTO {name} VALUES ({values})", rows.itertuples(index=False))  # noqa: S608
        else:
            cursor = connection.connection.cursor()
            with cursor.copy(f"COPY {name} FROM STDIN (FORMAT csv)") as copy:
                copy.write(rows.to_csv(index=False, header=False))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE" if is_sqlite else f"VACUUM ANALYZE {name}"))
    try:
        yield name
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text(f"DROP TABLE {name}"))
        engine.dispose()


def read_with_nightfit(url: str, table: str) -> float:
    """Read and stage all rows; return seconds."""
    from nightfit.sources.increment import read_increment
    from nightfit.sources.sql import SqlSource

    source = SqlSource(name="rows", url=url, table=table, cursor=("id",), root=Path("/"))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        read_increment([source], {}, Path(folder) / "staged")
        return time.perf_counter() - started


def read_with_pandas(url: str, table: str) -> float:
    """Read all rows into a data frame; return seconds."""
    engine = sa.create_engine(url)
    started = time.perf_counter()
    pd.read_sql(table, engine)
    return time.perf_counter() - started


def seconds(who: str, url: str, table: str) -> float:
    """Let a process of its own read once."""
    command = [sys.executable, __file__, "--read", who, url, table]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(url: str, n_rows: int, rounds: int) -> None:
    """Print the medians and their ratio."""
    with table_in(url, n_rows) as table:
        pairs = [(seconds("nightfit", url, table), seconds("pandas", url, table)) for _ in range(rounds)]
    ours, theirs = (median(times) for times in zip(*pairs, strict=True))
    name = url.partition(":")[0]
    rates = f"nightfit {ours:6.2f} s ({n_rows / ours:>9,.0f} rows/s)   pandas.read_sql {theirs:6.2f} s"
    print(f"{name:<20}  {rates}   ratio of medians {theirs / ours:.2f}")
    print(f"{'':<20}  each round: {', '.join(f'{b:.2f}/{a:.2f}' for a, b in pairs)}")


def main() -> None:
    """Compare on PostgreSQL and on SQLite."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgresql", default=POSTGRESQL, metavar="URL")
    parser.add_argument("--read", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        who, url, table = arguments.read
        print(read_with_nightfit(url, table) if who == "nightfit" else read_with_pandas(url, table))
        return
    compare(arguments.postgresql, arguments.rows, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        compare(f"sqlite:///{folder}/bench.db", arguments.rows, arguments.rounds)


if __name__ == "__main__":
    main()

"""Outputs of predict: files and tables that are replaced when they are whole, and runs that go on after a kill."""

from __future__ import annotations

import csv
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from nightfit.lock import writer_lock

N_ROWS = 400_000
EAGER = (
    "import sys, nightfit.outputs.pieces as pieces\npieces.PIECE_S = 0\nsys.argv[0] = 'nightfit'\n"
    "from nightfit.cli import main\nmain()\n"
)
"""The command line, with a piece for every chunk."""

POSTGRES = "postgresql+psycopg://postgres@127.0.0.1/test"
MARIADB = "mysql+pymysql://root@127.0.0.1/test"


@pytest.fixture
def big(home: Path) -> Path:
    """Give an input of several chunks, as a CSV file and as a table with a primary key."""
    rows = [(i, i % 7, "red", "2026-01-01") for i in range(N_ROWS)]
    with (home / "big.csv").open("w") as file:
        file.write("id,price,colour,day\n")
        file.writelines(f"{a},{b},{c},{d}\n" for a, b, c, d in rows)
    with closing(sqlite3.connect("big.db")) as db:
        db.execute("create table t (id integer primary key, price real, colour text, day text)")
        db.executemany("insert into t values (?, ?, ?, ?)", rows)
        db.commit()
    pq.write_table(pacsv.read_csv(home / "big.csv"), home / "big.parquet", row_group_size=50_000)
    return home


def predicting(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a run that makes every chunk durable."""
    return subprocess.Popen(
        [sys.executable, "-c", EAGER, "predict", *arguments], stderr=subprocess.PIPE, text=True, cwd=home
    )


def killed(home: Path, progress: Path, n_pieces: int, number: signal.Signals, *arguments: str) -> int:
    """Kill a run once it has so many pieces; return what it ended with."""
    process, deadline = predicting(home, *arguments), time.monotonic() + 60
    while not (progress.exists() and len(json.loads(progress.read_text())["sizes"]) >= n_pieces):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    process.communicate()
    return process.returncode


def ids(path: Path) -> list[int]:
    """Read the ids of a file of predictions."""
    if path.suffix == ".parquet":
        return [int(i) for i in pq.read_table(path, columns=["id"])["id"].to_pylist()]
    with path.open(newline="") as file:
        return [int(row["id"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(
    ("data", "output"),
    [("big.csv", "out.csv"), ("big.csv", "out.parquet"), ("big.parquet", "out.csv"), ("sqlite:///big.db", "out.csv")],
)
def test_a_killed_run_goes_on(big: Path, data: str, output: str, number: signal.Signals) -> None:
    """Killed half-way there is no output, an older one stays; the same command goes on, and no row is twice."""
    (big / output).write_text("older")
    parts = big / f".{output}.parts"
    arguments = [data, "-o", output, *(["--table", "t"] if "://" in data else [])]
    assert killed(big, parts / "progress.json", 2, number, *arguments) == (-9 if number == signal.SIGKILL else 143)
    assert (big / output).read_text() == "older"
    process = predicting(big, *arguments)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "going on after the" in said
    assert ids(big / output) == list(range(N_ROWS))
    assert not parts.exists()


def test_killed_again_and_again(big: Path) -> None:
    """Whatever moment the kills hit, joining and renaming among them, all rows are there once at the end."""
    chance, code = random.Random(4), -1  # noqa: S311 - when to kill
    for i in range(60):
        process = predicting(big, "big.csv", "-o", "out.parquet")
        try:
            process.communicate(timeout=chance.uniform(0.6, 1.6) * (1 + i / 15))  # slow machines get there, too
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        code = process.returncode
        if code == 0:
            break
    assert code == 0
    assert ids(big / "out.parquet") == list(range(N_ROWS))


@pytest.mark.parametrize("change", ["input", "version", "table"])
def test_another_input_or_version_starts_anew(
    big: Path, nightfit: Callable[..., Any], make_rows: Callable[..., str], change: str
) -> None:
    """What an earlier run scored is of no use where the input, or the version, is another by now."""
    arguments = ["sqlite:///big.db", "--table", "t"] if change == "table" else ["big.csv"]
    killed(big, big / ".out.csv.parts" / "progress.json", 1, signal.SIGKILL, *arguments, "-o", "out.csv")
    n_rows = N_ROWS
    if change == "input":
        with (big / "big.csv").open("a") as file:
            file.write(f"{N_ROWS},1,red,2026-01-01\n")
        n_rows += 1
    elif change == "table":
        with closing(sqlite3.connect("big.db")) as db:
            db.execute("delete from t where id = 3")
            db.commit()
        n_rows -= 1
    else:
        with (big / "data.csv").open("a") as file:
            file.write(make_rows(200, 600, header=False))
        assert nightfit("train", "--model", "deep").code == 0
    done = nightfit("predict", *arguments, "-o", "out.csv")
    assert done.code == 0
    assert "scored again" in done.err
    assert len(ids(big / "out.csv")) == n_rows


def test_one_writer_at_a_time(big: Path, nightfit: Callable[..., Any]) -> None:
    """A second run for the same output ends at once, with 75."""
    with writer_lock(big / ".out.csv.parts"):
        done = nightfit("predict", "big.csv", "-o", "out.csv")
    assert done.code == 75
    assert "one run at a time" in done.err


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def url(home: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a database in which there is no table of predictions."""
    url = {"sqlite": f"sqlite:///{home}/out.db", "postgres": POSTGRES, "mariadb": MARIADB}[request.param]
    engine = sa.create_engine(url)
    drop = sa.text("drop table if exists nightfit_predictions")
    with engine.begin() as connection:
        connection.execute(drop)
    yield url
    with engine.begin() as connection:
        connection.execute(drop)
    engine.dispose()


def stored(url: str) -> list[dict[str, Any]]:
    """Read the table of predictions."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("select * from nightfit_predictions order by id")).mappings().all()
    engine.dispose()
    return [{k: str(v) if isinstance(v, date) else v for k, v in row.items()} for row in rows]


def test_a_table_is_made_and_replaced(
    home: Path, url: str, nightfit: Callable[..., Any], make_rows: Callable[..., str]
) -> None:
    """The rows go into a table with the columns of the file; a second run replaces them, and keeps its columns."""
    (home / "new.csv").write_text(make_rows(50, 700))
    table = pacsv.read_csv(home / "new.csv")
    pq.write_table(table, home / "new.parquet")
    for _ in range(2):
        done = nightfit("predict", "new.parquet", "-o", url, "--output-table", "nightfit_predictions", "--json")
        assert done.code == 0, done.err
    assert json.loads(done.out)["output"] == "nightfit_predictions"
    nightfit("predict", "new.parquet", "-o", "out.parquet")
    expected = pq.read_table("out.parquet").to_pylist()
    assert [
        {k: pytest.approx(v) if isinstance(v, float) else str(v) if isinstance(v, date) else v for k, v in row.items()}
        for row in sorted(expected, key=lambda row: row["id"])
    ] == stored(url)
    assert not list(home.glob(".*.parts"))


def test_only_predictions_are_replaced(
    home: Path, url: str, nightfit: Callable[..., Any], make_rows: Callable[..., str]
) -> None:
    """A table that holds something else is not touched, and told before anything is scored."""
    (home / "new.csv").write_text(make_rows(50, 700))
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("create table nightfit_predictions (id integer)"))
        connection.execute(sa.text("insert into nightfit_predictions values (7)"))
    engine.dispose()
    done = nightfit("predict", "new.csv", "-o", url, "--output-table", "nightfit_predictions")
    assert done.code == 65
    assert "has no 'prediction', 'model_version'" in done.err
    assert stored(url) == [{"id": 7}]


@pytest.mark.parametrize("arguments", [("-o", "sqlite:///x.db"), ("-o", "x.csv", "--output-table", "t")])
def test_a_database_and_its_table_go_together(home: Path, nightfit: Callable[..., Any], arguments: list[str]) -> None:
    """A database without a table, or a table without one, is a usage error."""
    (home / "new.csv").write_text("id,price,colour,day\n1,2,red,2026-01-01\n")
    done = nightfit("predict", "new.csv", *arguments)
    assert done.code == 2
    assert "--output-table go together" in done.err


def test_a_database_that_is_down(home: Path, nightfit: Callable[..., Any]) -> None:
    """A database that cannot be reached is tried again later, and the password is not shown."""
    (home / "new.csv").write_text("id,price,colour,day\n1,2,red,2026-01-01\n")
    url = "postgresql+psycopg://u:geheim@127.0.0.1:9/x"
    done = nightfit("predict", "new.csv", "-o", url, "--output-table", "t")
    assert done.code == 75
    assert "the output must be writable" in done.err
    assert "geheim" not in done.err


@pytest.mark.usefixtures("home")
def test_types_of_a_column_may_change(nightfit: Callable[..., Any]) -> None:
    """SQLite lets a column hold anything: what has no common type becomes text, and nothing is lost."""
    with closing(sqlite3.connect("odd.db")) as db:
        db.execute("create table t (id integer primary key, price, colour, day, note)")
        rows = [(i, 1.5, "red", "2026-01-01", i if i < 100_000 else f"n{i}") for i in range(150_000)]
        db.executemany("insert into t values (?, ?, ?, ?, ?)", rows)
        db.commit()
    done = nightfit("predict", "sqlite:///odd.db", "--table", "t", "-o", "out.parquet")
    assert done.code == 0, done.err
    assert pq.read_table("out.parquet")["note"].to_pylist() == [str(row[4]) for row in rows]

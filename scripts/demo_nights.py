"""The demo: thirty nights of hotel bookings through nightfit's command line, then what one does with the result.

Each night a thousand bookings arrive, half of them appended to a CSV file and half to a SQLite table, and
`nightfit train` runs as cron would run it. It needs nothing but nightfit's environment.
"""

import argparse
import csv
import gzip
import json
import math
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
DEMO = PROJECT / "demo"
SAMPLE = Path("scripts/samples/hotel_bookings.csv.gz")
CONFIG = Path("configs/demo.toml")
TARGET = "is_canceled"
REFUSED = 3

Row = dict[str, str]


def main() -> int:
    """Run the demo; return the exit code."""
    options = arguments()
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir()
    rows = bookings()
    n_learned = options.nights * options.night_rows
    n_refused = learn_nights(rows[:n_learned], options.night_rows)
    if n_refused:
        print(
            f"\n{n_refused} nights had a model refused by the gate (exit code 3): the version before it stayed in "
            "service, and the next night read the refused rows again together with its own."
        )
    show("log", "--model", "deep")
    show("show", str(head_version()))
    predict_next(rows[n_learned : n_learned + 2 * options.night_rows])
    show("verify")
    show(
        "compare", str(SAMPLE), "--target", TARGET, "--night-rows", str(options.night_rows), "--key", "booking_id",
        "--categorical", "agent,company,is_repeated_guest", "--drop", "arrival_date", "--report", "demo/report.html",
        with_config=False,
    )  # fmt: skip
    print(f"\nall of it is in {DEMO}; open {DEMO / 'report.html'} in a browser")
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line; a shorter demo is for tests."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Thirty nights of hotel bookings.")
    parser.add_argument("--nights", type=int, default=30, help="how many nights (30)")
    parser.add_argument("--night-rows", type=int, default=1000, help="bookings of a night (1000)")
    return parser.parse_args()


def bookings() -> list[Row]:
    """Return the bookings of the sample, in order of arrival."""
    with gzip.open(PROJECT / SAMPLE, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def learn_nights(rows: Sequence[Row], night_rows: int) -> int:
    """Deliver the bookings night by night, and train after each delivery; return how many nights had a refusal."""
    print(f"$ nightfit train --config {CONFIG}    # once a night, as cron would\n")
    print("             |        before learning: log loss (accuracy)       |")
    print("night   rows |                  deep                   linear    | versions, seconds")
    n_refused = 0
    for night, start in enumerate(range(0, len(rows), night_rows), 1):
        tonight = rows[start : start + night_rows]
        append_to_csv(tonight[0::2])
        append_to_table(tonight[1::2])
        started = time.monotonic()
        models = train()
        n_refused += any(model["status"] == "refused" for model in models.values())
        print(night_line(night, len(tonight), models, time.monotonic() - started), flush=True)
    return n_refused


def append_to_csv(rows: Sequence[Row]) -> None:
    """Append bookings to the file that a booking system exports to."""
    path = DEMO / "new_data.csv"
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def append_to_table(rows: Sequence[Row]) -> None:
    """Insert bookings into the table that another one keeps."""
    columns = list(rows[0])
    types = ", ".join(f'"{c}" {"INTEGER PRIMARY KEY" if c == "booking_id" else "TEXT"}' for c in columns)
    marks = ", ".join("?" * len(columns))
    connection = sqlite3.connect(DEMO / "new_data.db")
    with connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS new_records ({types})")
        connection.executemany(
            f"INSERT INTO new_records VALUES ({marks})",  # noqa: S608 - marks are question marks
            [list(row.values()) for row in rows],
        )
    connection.close()


def train() -> dict[str, Any]:
    """Run tonight's training; return what came of each model."""
    done = nightfit("train", "--config", str(CONFIG), "--json")
    if done.returncode not in {0, REFUSED}:
        sys.exit(f"nightfit train ended with {done.returncode}: {done.stderr.strip()}")
    models: dict[str, Any] = json.loads(done.stdout)["models"]
    return models


def night_line(night: int, n_rows: int, models: dict[str, Any], seconds: float) -> str:
    """Say what the night came to: the scores of the versions in service on rows that they had not seen."""
    cells = []
    for model in models.values():
        scores = model["prequential"]
        score = f"{scores['log_loss']:.4f} ({scores['accuracy']:.1%})" if scores else "no version to score yet"
        cells.append("refused by the gate" if model["status"] == "refused" else score)
    versions = ", ".join(f"{name} {model['version']}" for name, model in models.items())
    return f"{night:5} {n_rows:6} | {cells[0]:>23} {cells[1]:>24} | {versions}, {seconds:.1f} s"


def show(command: str, *options: str, with_config: bool = True) -> None:
    """Run a command and print it with its output; anything but success ends the demo."""
    typed = [command, *options, *(["--config", str(CONFIG)] if with_config else [])]
    print(f"\n$ nightfit {shlex.join(typed)}", flush=True)
    done = nightfit(*typed)
    print(done.stdout + done.stderr, end="", flush=True)
    if done.returncode:
        sys.exit(f"nightfit {command} ended with {done.returncode}")


def nightfit(*typed: str) -> subprocess.CompletedProcess[str]:
    """Run the real command line, from the project's folder."""
    program = Path(sys.executable).with_name("nightfit")
    return subprocess.run([program, *typed], cwd=PROJECT, capture_output=True, text=True, check=False)


def head_version() -> int:
    """Return the version of the first model that is in service."""
    listed = json.loads(nightfit("log", "--config", str(CONFIG), "--json").stdout)["models"]
    entries = next(iter(listed.values()))
    return max(int(entry["version"]) for entry in entries if entry["status"] == "accepted")


def predict_next(rows: Sequence[Row]) -> None:
    """Predict bookings that came after everything that was learned, and score the answers with what is known now."""
    path = DEMO / "next_bookings.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [c for c in rows[0] if c != TARGET], lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    show("predict", "demo/next_bookings.csv", "-o", "demo/predictions.csv")
    answers = list(read_predictions(DEMO / "predictions.csv"))
    truths = [row[TARGET] for row in rows]
    accuracy = sum(a["prediction"] == truth for a, truth in zip(answers, truths, strict=True)) / len(rows)
    losses = [-math.log(max(float(a[f"probability_{truth}"]), 1e-6)) for a, truth in zip(answers, truths, strict=True)]
    shares = {truth: truths.count(truth) / len(truths) for truth in set(truths)}
    print(f"of the next {len(rows):,} bookings, which it never saw and whose outcome the file does not hold:")
    print(
        f"    accuracy {accuracy:.1%}, log loss {sum(losses) / len(losses):.4f} "
        f"(the commonest answer alone: {max(shares.values()):.1%}; "
        f"the shares alone: {-sum(s * math.log(s) for s in shares.values()):.4f})"
    )


def read_predictions(path: Path) -> Iterator[Row]:
    """Yield the rows that `nightfit predict` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


if __name__ == "__main__":
    sys.exit(main())

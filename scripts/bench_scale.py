"""How much faster several ranks are than one process: the learning alone, and a whole night by the command line.

Rows are those of `bench_gpu`: 16 numbers, 4 categories, two classes. Every process computes on one thread. Rounds are
interleaved, medians are printed, with the smallest and the largest:

- learning: `Model.learn` of `--rows` staged rows after a first night, without start-up (what `bench_gpu` times), and
  the CPU seconds of the process that leads, which tell more on a busy machine;
- a night: `nightfit train` of as many rows from Parquet onto version 1, the seconds that its version records, and the
  wall time of the command with everything: torchrun, imports, sending.

    python scripts/bench_scale.py                    # two ranks, batch_size 8192, three rounds
    python scripts/bench_scale.py --ranks 4 --rows 2000000
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench_gpu import N_CAT, N_NUM, batches, model_on, schema
from nightfit.batch import Array, Batch, concat, stage
from nightfit.following import follow
from nightfit.metrics import row_losses
from nightfit.ranks import Together, join

FIRST_ROWS = 50_000
CONFIG = """
name = "scale"
target = "y"
key = "id"
root = "."
[[sources]]
url = "rows/*.parquet"
[models.deep]
batch_size = {}
"""


def learn(n_rows: int, batch_size: int) -> None:
    """Be one rank of a night's learning; the first prints its seconds, and the log loss on rows of another seed."""
    is_first = os.environ.get("RANK", "0") == "0"
    with tempfile.TemporaryDirectory() as folder, join("cpu") as ranks:
        if not is_first and isinstance(ranks, Together):
            follow(ranks, "cpu")
            return
        model = Rest(batch_size)
        rows = stage(batches(schema(), n_rows, 0), Path(folder))
        started, of_cpu = time.perf_counter(), time.process_time()
        model.model.learn(rows, seed=0)
        spent = {"seconds": time.perf_counter() - started, "CPU s of the first rank": time.process_time() - of_cpu}
        found = {**spent, "log_loss": model.log_loss()}
    print(json.dumps(found))


class Rest:
    """A model after its first night, and rows that it never learns."""

    def __init__(self, batch_size: int) -> None:
        self.model = model_on("cpu", batch_size)
        self._test: Batch = concat(batches(schema(), 50_000, 99))

    def log_loss(self) -> float:
        """Return what it scores on them."""
        return float(row_losses(self.model.predict(self._test), self._test.y).mean())


def write_rows(folder: Path, n_rows: int) -> None:
    """Write two nights of rows as Parquet: a small one, then a large one."""
    (folder / "rows").mkdir()
    start = 0
    for night, n in enumerate((FIRST_ROWS, n_rows)):
        batch = concat(batches(schema(), n, night))
        columns: dict[str, Array] = {"id": np.arange(start, start + n)} | {
            f"n{i}": batch.x_num[:, i] for i in range(N_NUM)
        }
        columns |= {f"c{i}": np.char.add("w", batch.x_cat[:, i].astype(str)) for i in range(N_CAT)}
        columns["y"] = np.where(batch.y, "yes", "no")
        pq.write_table(pa.table(columns), folder / f"night{night}.parquet")
        start += n


def started(command: Sequence[str], folder: Path, n_ranks: int) -> tuple[float, str]:
    """Run a script or a module on so many ranks; return the seconds and what it printed."""
    run = ["-m", "torch.distributed.run", "--nproc-per-node", str(n_ranks)] if n_ranks > 1 else []
    before = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *run, *command], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - before, done.stdout


def night(prepared: Path, folder: Path, n_ranks: int) -> dict[str, float]:
    """Let version 2 be learned in a copy of what version 1 left."""
    shutil.copytree(prepared, folder, copy_function=os.link)
    (folder / "rows" / "night1.parquet").hardlink_to(folder / "night1.parquet")
    wall, out = started(["-m", "nightfit", "train", "--config", "scale.toml", "--json"], folder, n_ranks)
    (done,) = json.loads(out)["nights"]
    shown = subprocess.run(
        [sys.executable, "-m", "nightfit", "show", "2", "--config", "scale.toml", "--json"],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    gate = json.loads(shown.stdout)["night"]["gate"]
    shutil.rmtree(folder)
    return {"wall": wall, "seconds": done["deep"]["seconds"], "log_loss": gate["scores"]["log_loss"]}


def compared(what: str, unit: str, one: list[float], many: list[float]) -> None:
    """Print the medians of two lists of seconds and their ratio."""
    spans = [f"{median(s):7.2f} ({min(s):.2f} to {max(s):.2f})" for s in (one, many)]
    print(
        f"{what}, {unit}: one process {spans[0]}, ranks {spans[1]}: {median(one) / median(many):.2f} times", flush=True
    )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8_192)
    parser.add_argument("--no-night", action="store_true", help="the learning alone")
    parser.add_argument("--learn", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.learn:
        learn(options.rows, options.batch_size)
        return
    numbers = (1, options.ranks)
    with tempfile.TemporaryDirectory() as root:
        measure(Path(root), numbers, options)


def measure(root: Path, numbers: Sequence[int], options: argparse.Namespace) -> None:
    """Print all figures."""
    command = [__file__, "--learn", "--rows", str(options.rows), "--batch-size", str(options.batch_size)]
    learned: dict[int, list[dict[str, float]]] = {n: [] for n in numbers}
    for _ in range(options.rounds):
        for n in numbers:
            learned[n].append(json.loads(started(command, root, n)[1]))
    report("learning", ("seconds", "CPU s of the first rank"), learned, options)
    if options.no_night:
        return
    prepared = root / "prepared"
    prepared.mkdir()
    write_rows(prepared, options.rows)
    (prepared / "rows" / "night0.parquet").hardlink_to(prepared / "night0.parquet")
    (prepared / "scale.toml").write_text(CONFIG.format(options.batch_size))
    started(["-m", "nightfit", "train", "--config", "scale.toml"], prepared, 1)
    nights: dict[int, list[dict[str, float]]] = {n: [] for n in numbers}
    for _ in range(options.rounds):
        for n in numbers:
            nights[n].append(night(prepared, root / "night", n))
    report("night", ("seconds", "wall"), nights, options)


def report(
    what: str, units: Sequence[str], found: dict[int, list[dict[str, float]]], options: argparse.Namespace
) -> None:
    """Print seconds and log losses of one process and of several."""
    one, many = found.values()
    for unit in units:
        compared(f"{what} of {options.rows:,} rows", unit, [f[unit] for f in one], [f[unit] for f in many])
    losses = [median(f["log_loss"] for f in each) for each in (one, many)]
    print(f"  log loss {losses[0]:.4f} and {losses[1]:.4f}: {losses[1] / losses[0] - 1:+.2%}", flush=True)


if __name__ == "__main__":
    main()

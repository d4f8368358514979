"""How fast `nightfit predict` scores a file, beside the bare forward pass of the same version, and in how much memory.

The file is CSV with 20 columns: 17 numbers, two categories and a key, of `--rows` rows; a tenth of them shows whether
memory grows with the file. The bare forward pass takes random rows that are encoded and standardised already, on all
cores, in whatever block size is fastest. Rounds are interleaved, and medians compared.

    python scripts/bench_predict.py             # 5 million rows
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from nightfit.checkpoint import WEIGHTS, unpack
from nightfit.learners.base import part
from nightfit.scorer import Forward, mlp_raw
from nightfit.store import Store

N_NUMBERS, N_HISTORY, CHUNK = 17, 20_000, 500_000
SIZES = {"shop": 12, "product": 40}
BLOCKS = (512, 1_024, 2_048, 4_096, 8_192, 65_536)
CONFIG = 'name = "b"\ntarget = "bought"\nkey = "id"\n[[sources]]\nurl = "history.csv"\n[models.deep]\n'


def write_rows(path: Path, n: int, seed: int, *, first: int = 0) -> None:
    """Write n rows whose class depends on products of numbers and on a category; ids count from `first`."""
    random, writer = np.random.default_rng(seed), None
    for start in range(0, n, CHUNK):
        m = min(CHUNK, n - start)
        x, ids = random.normal(size=(m, N_NUMBERS)).round(4), {k: random.integers(0, s, m) for k, s in SIZES.items()}
        odds = x[:, 0] + x[:, 1] * x[:, 2] / 2 + ids["shop"] % 3 - 1 + 0.3 * random.normal(size=m)
        columns: dict[str, Any] = {"id": first + np.arange(start, start + m)}
        columns |= {f"x{i}": x[:, i] for i in range(N_NUMBERS)}
        columns |= {name: np.char.add(name[0], values.astype(str)) for name, values in ids.items()}
        columns |= {"bought": np.where(odds > 0, "yes", "no")}
        table = pa.table(columns)
        writer = writer or pacsv.CSVWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def nightfit(folder: Path, *arguments: str) -> tuple[float, float]:
    """Run a command; return its seconds, and its peak of memory in MiB."""
    command = [sys.executable, "-m", "nightfit", *arguments, "--config", "nightfit.toml"]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, code, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise SystemExit(f"nightfit {arguments[0]} ended with {process.returncode}")
    return time.perf_counter() - start, used.ru_maxrss / 1024


def forward_of(folder: Path) -> tuple[Forward, int]:
    """Return the bare forward pass of the version that was trained, and the ids that it knows."""
    lineage = Store(folder / "checkpoints").pipeline("b").lineage("deep")
    manifest = lineage.manifest(1)
    arrays = part(unpack(lineage.load(manifest, [WEIGHTS])[WEIGHTS], name=WEIGHTS), "learner")
    return mlp_raw(arrays), len(arrays["net.embedding"])


def bare_rate(forward: Forward, n_ids: int) -> float:
    """Return rows a second in the fastest block size."""
    random, rates = np.random.default_rng(0), []
    for n in BLOCKS:
        z = random.normal(size=(n, N_NUMBERS)).astype(np.float32)
        ids = random.integers(0, n_ids, (n, len(SIZES))).astype(np.int32)
        forward(z, ids)
        start, n_times = time.perf_counter(), max(1, 4 * BLOCKS[-1] // n)
        for _ in range(n_times):
            forward(z, ids)
        rates.append(n_times * n / (time.perf_counter() - start))
    return max(rates)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nightfit-") as name:
        folder = Path(name)
        (folder / "nightfit.toml").write_text(CONFIG)
        write_rows(folder / "history.csv", N_HISTORY, 1)
        write_rows(folder / "new.csv", options.rows, 2)
        write_rows(folder / "few.csv", options.rows // 10, 3)
        nightfit(folder, "train")
        forward, n_ids = forward_of(folder)
        bare, runs = [], []
        for i in range(options.rounds):
            bare.append(bare_rate(forward, n_ids))
            runs.append(nightfit(folder, "predict", "new.csv", "-o", "out.csv"))
            print(
                f"round {i + 1}: bare {bare[-1]:,.0f} rows/s, predict {options.rows / runs[-1][0]:,.0f}",
                file=sys.stderr,
            )
        few = nightfit(folder, "predict", "few.csv", "-o", "out.csv")
    rate, peak = options.rows / median(s for s, _ in runs), median(mib for _, mib in runs)
    print(f"{options.rows:,} rows x 20 columns: {rate:,.0f} rows/s, {rate / median(bare):.0%} of the bare forward pass")
    print(f"peak of memory: {peak:,.0f} MiB; {few[1]:,.0f} MiB for a tenth of the rows")


if __name__ == "__main__":
    main()

"""How fast CSV becomes staged arrays, beside pandas' C reader, and how much memory a large night takes.

Speed: from a CSV file of n rows x 20 columns (a key, 18 numbers, a label) to the encoded arrays that learners take,
staging, duplicate check and rejects included, against `pandas.read_csv` to floats (from 3.1 on in threads, as nightfit,
so that it is measured with one as well); all in processes of their own, in turns, medians of the rounds, and of their
CPU seconds, which tell more on a busy machine. Memory: the peak RSS of `nightfit train`, deep and linear, on first
nights of each size.

    python scripts/bench_ingest.py --rows 1000000 --rounds 5
    python scripts/bench_ingest.py --memory 10000 1000000 10000000
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

N_NUMBERS = 18
WRITE_ROWS = 1_000_000
CONFIG = 'name = "p"\ntarget = "y"\nkey = "id"\n[[sources]]\nurl = "rows.csv"\n'


@dataclass(frozen=True)
class Clock:
    """Seconds by the wall and of the CPU; running from its making on, until it is stopped."""

    wall_s: float = field(default_factory=time.perf_counter)
    cpu_s: float = field(default_factory=time.process_time)

    def stopped(self) -> Clock:
        """Return what went by."""
        return Clock(time.perf_counter() - self.wall_s, time.process_time() - self.cpu_s)


def write(path: Path, n: int) -> None:
    """Write n rows whose label follows from three of the numbers."""
    random = np.random.default_rng(0)
    with pa.OSFile(str(path), "wb") as file:
        for start in range(0, n, WRITE_ROWS):
            m = min(WRITE_ROWS, n - start)
            x = random.normal(size=(m, N_NUMBERS)).round(6)
            y = (x[:, :3].sum(1) + random.normal(size=m) > 0).astype(int)
            columns = {"id": np.arange(start, start + m), **{f"x{i}": x[:, i] for i in range(N_NUMBERS)}, "y": y}
            pacsv.write_csv(pa.table(columns), file, pacsv.WriteOptions(include_header=start == 0))


def pandas_reads(path: Path) -> Clock:
    """Return the seconds of pandas."""
    import pandas as pd

    clock = Clock()
    pd.read_csv(path, dtype=float)
    return clock.stopped()


def pandas_reads_in_one_thread(path: Path) -> Clock:
    """Return the seconds of pandas without its threads, which versions before 3.1 do not have."""
    import pandas as pd

    with suppress(KeyError):
        pd.set_option("mode.max_threads", 1)
    return pandas_reads(path)


def nightfit_reads(path: Path) -> Clock:
    """Return the seconds from the file to staged arrays, of a night whose columns are known; imports left out."""
    import pandas as pd  # noqa: F401 - which hashes text, and is imported when it first does

    from nightfit.batch import stage
    from nightfit.cleaning import adopt, clean
    from nightfit.fates import Fate
    from nightfit.known import Known
    from nightfit.schema import Rules, Schema
    from nightfit.sources.base import Numbers
    from nightfit.sources.files import FileSource
    from nightfit.sources.increment import read_increment

    rules = Rules(target="y", key=("id",))
    columns = {f"x{i}": "numeric" for i in range(N_NUMBERS)}
    schema = Schema().with_columns(columns)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory(prefix="nightfit-bench-") as name:
        folder = Path(name)
        clock = Clock()
        source, numbers = FileSource(name="a", path=path, root=folder), Numbers(frozenset(columns), ("",))
        increment = read_increment([source], {}, folder / "raw", numbers=numbers)
        schema = adopt(schema, (part.table for part in increment.parts), rules)
        nothing = np.zeros(0, np.uint64)
        night = clean(
            increment, schema, rules, known=Known([]), excluded=nothing, delivered={}, folder=folder / "clean"
        )
        schema = night.grown(schema)
        rows = stage(night.encode(schema, Fate.LEARNED, Fate.HELD_OUT), folder / "staged")
        clock = clock.stopped()
        assert len(rows) == increment.n_rows
    return clock


READERS = {
    "pandas": pandas_reads,
    "pandas, one thread": pandas_reads_in_one_thread,
    "nightfit": nightfit_reads,
}


def speed(n: int, rounds: int) -> None:
    """Print the readers' seconds, and the ratios of their medians."""
    with tempfile.TemporaryDirectory(prefix="nightfit-bench-") as folder:
        path = Path(folder) / "rows.csv"
        write(path, n)
        found: dict[str, list[Clock]] = {name: [] for name in READERS}
        for _ in range(rounds):
            for name, taken in found.items():
                said = subprocess.run(
                    [sys.executable, __file__, "--only", name, str(path)], check=True, capture_output=True, text=True
                )
                taken.append(Clock(*map(float, said.stdout.split())))
    wall = {name: statistics.median(clock.wall_s for clock in taken) for name, taken in found.items()}
    cpu = {name: statistics.median(clock.cpu_s for clock in taken) for name, taken in found.items()}
    for name, taken in found.items():
        each = ", ".join(f"{clock.wall_s:.2f}" for clock in taken)
        print(f"{name:<20}{wall[name]:>6.2f} s   {cpu[name]:>5.2f} CPU s   ({each})")
    for name in (name for name in READERS if name != "nightfit"):
        speeds = [seconds[name] / seconds["nightfit"] for seconds in (wall, cpu)]
        print(f"nightfit reads at {speeds[0]:.2f}x the speed of {name} ({speeds[1]:.2f}x by CPU seconds)")


def memory(n: int) -> None:
    """Print the peak RSS of a first night of n rows."""
    with tempfile.TemporaryDirectory(prefix="nightfit-bench-") as folder:
        # A child's peak starts at its parent's, so that this process must stay small: another writes the rows.
        subprocess.run([sys.executable, __file__, "--write", str(n), f"{folder}/rows.csv"], check=True)
        (Path(folder) / "n.toml").write_text(CONFIG)
        started = time.perf_counter()
        command = [sys.executable, "-m", "nightfit", "train", "--config", "n.toml", "--device", "cpu"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        seconds = time.perf_counter() - started
    print(f"{n:>12,} rows  {seconds:>8.1f} s")


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, nargs="*", metavar="N", help="measure nights of these sizes instead")
    parser.add_argument("--only", nargs=2, metavar=("READER", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, metavar=("N", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--one-night", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        clock = READERS[asked.only[0]](Path(asked.only[1]))
        print(clock.wall_s, clock.cpu_s)
    elif asked.write:
        write(Path(asked.write[1]), int(asked.write[0]))
    elif asked.one_night:
        memory(asked.one_night)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"{'':>12} peak  {peak:>8.0f} MiB")
    elif asked.memory:
        for n in asked.memory:  # each in a process of its own, whose only child is the night
            subprocess.run([sys.executable, __file__, "--one-night", str(n)], check=True)
    else:
        speed(asked.rows, asked.rounds)


if __name__ == "__main__":
    main()

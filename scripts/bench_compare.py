"""Measure `compare` itself: how often its verdicts are right, and what it costs beside the models that it compares.

usage: bench_compare.py verdicts [--pairs 1000]
       bench_compare.py costs DATA --target T --night-rows N [--categorical A,B] [--drop C]

`verdicts` generates pairs of models over 100 nights of 500 rows: losses of equal expectation (how many are called
different, of hundred), and such that the first one's is 2 % larger (how many are called worse). A row's losses have a
mean of 0.5, and their difference a standard deviation of 0.25; nights move the difference besides (`night`, as a share
of the loss), independently, with variances that differ from night to night, or in a series whose neighbours are
correlated.

`costs` compares five models (linear, deep, and three of other options) on one core and on two: the CPU seconds of the
whole command beside the models' own for learning and predicting, and how much faster two cores are. It pins itself by
`os.sched_setaffinity`, so nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from nightfit.batch import Array
from nightfit.compare.statistics import MARGIN, difference

N_NIGHTS, N_ROWS, LOSS, ROW_SD, WORSE = 100, 500, 0.5, 0.25, 0.02

NIGHTS = {"rows alone": (0.0, 0.0, 0.0)} | {
    f"{kind}, night {night:.0%}": (night, spread, correlation)
    for night in (0.02, 0.04)
    for kind, spread, correlation in (
        ("independent", 0.0, 0.0),
        ("of unequal variance", 1.0, 0.0),
        ("correlated 0.3", 0.0, 0.3),
        ("correlated 0.5", 0.0, 0.5),
        ("correlated 0.7", 0.0, 0.7),
    )
}
"""What nights do: the standard deviation of their effect, that of its logarithm, and how neighbours correlate."""

MODELS = """
[models.linear]
[models.deep]
[models.no_replay]
kind = "mlp"
memory_rows = 0
[models.narrow]
kind = "mlp"
d_hidden = 32
[models.one_layer]
kind = "mlp"
n_blocks = 1
"""


def pair(random: np.random.Generator, night: float, spread: float, correlation: float, worse: float) -> Any:  # noqa: ANN401 - a Difference
    """Generate a pair, and compare it."""
    effects = np.empty(N_NIGHTS)
    for i, step in enumerate(random.normal(size=N_NIGHTS)):
        effects[i] = step if not i else correlation * effects[i - 1] + np.sqrt(1 - correlation**2) * step
    effects *= night * LOSS * random.lognormal(-(spread**2), spread, N_NIGHTS)
    rows = random.normal(0, ROW_SD / np.sqrt(N_ROWS), N_NIGHTS)
    theirs: Array = np.full(N_NIGHTS, LOSS)
    return difference(theirs * (1 + worse) + effects + rows, theirs, np.full(N_NIGHTS, N_ROWS))


def verdicts(n_pairs: int) -> None:
    """Print, for each kind of nights, how often the verdict says what."""
    print("| nights | equal: called different | equal: outside the interval | 2 % worse: called worse | interval |")
    print("|---|---:|---:|---:|---:|")
    for name, (night, spread, correlation) in NIGHTS.items():
        random = np.random.default_rng(7)
        equal = [pair(random, night, spread, correlation, 0.0) for _ in range(n_pairs)]
        worse = [pair(random, night, spread, correlation, WORSE) for _ in range(n_pairs)]
        different = np.mean([found.verdict(MARGIN * LOSS) in {"better", "worse"} for found in equal])
        outside = np.mean([not found.low <= 0 <= found.high for found in equal])
        found_worse = np.mean([found.verdict(MARGIN * LOSS) == "worse" for found in worse])
        half = np.mean([(found.high - found.low) / 2 / LOSS for found in equal])
        print(f"| {name} | {different:.1%} | {outside:.1%} | {found_worse:.1%} | ± {half:.1%} |")


def costs(data: Path, target: str, night_rows: int, categorical: str, drop: str) -> None:
    """Print what comparing five models costs, on one core and on two."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nightfit.toml"
        config.write_text(f'name = "bench"\ntarget = "{target}"\n[[sources]]\nurl = "{data.resolve()}"\n{MODELS}')
        options = ["--config", str(config), "--night-rows", str(night_rows), "--device", "cpu", "--json"]
        options += ["--categorical", categorical] if categorical else []
        options += ["--drop", drop] if drop else []
        walls = []
        for n_cores in (1, 2):
            cores = sorted(os.sched_getaffinity(0))[:n_cores]
            wall, cpu, result = timed(options, cores)
            walls.append(wall)
            own = sum(
                s["learn_cpu_s"] + s["predict_cpu_s"] - result["staging_cpu_s"] for s in result["models"].values()
            )
            print(
                f"{len(cores)} core{'s' * (n_cores > 1)}: {wall:.1f} s by the clock, {cpu:.1f} CPU s; the models' own "
                f"{own:.1f} CPU s: {cpu / own:.2f} times that; reading apart, preparing {result['staging_cpu_s']:.1f} s"
            )
            print({name: round(s["learn_cpu_s"] + s["predict_cpu_s"], 1) for name, s in result["models"].items()})
        print(f"two cores are {walls[0] / walls[1]:.2f} times as fast")


def timed(options: list[str], cores: list[int]) -> tuple[float, float, Any]:
    """Run a comparison on some cores; return its seconds by the clock, of the processor, and its result."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "nightfit", "compare", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, json.loads(done.stdout)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("verdicts").add_argument("--pairs", type=int, default=1000)
    of_costs = commands.add_parser("costs")
    of_costs.add_argument("data", type=Path)
    of_costs.add_argument("--target", required=True)
    of_costs.add_argument("--night-rows", type=int, required=True)
    of_costs.add_argument("--categorical", default="")
    of_costs.add_argument("--drop", default="")
    asked = vars(parser.parse_args())
    verdicts(asked["pairs"]) if asked.pop("command") == "verdicts" else costs(**asked)


if __name__ == "__main__":
    main()

"""What a night costs after ten nights and after a thousand, with the same rows: a lineage may grow old, not slow.

The rows come from a table, so that what is read does not grow with what was read before. Two things grow for a while by
design, and are kept apart here: identities are those of the last 32 nights, and the holdout memory fills (none is held
out).
"""

from __future__ import annotations

import random
import resource
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from nightfit.known import N_NIGHTS
from stress.pipeline import Copies, Pipeline, Row
from stress.table import Dose, Result, chance

CONFIG = """name = "p"
target = "y"
key = "id"
holdout = 0.0001
[[sources]]
url = "sqlite:///b.db"
table = "t"
cursor = "n"
[gate]
min_rows = 1000000
[models.linear]
"""
MARK = 1.1
N_ROWS = 200
REPEATS = 5


class Cost(NamedTuple):
    """What a night took: seconds of a processor (of the command, and of the night alone), and bytes that it read."""

    seconds: float
    alone_s: float
    n_bytes: int
    n_identities: int
    """How many of the bytes are those of known rows."""


def rows(draw: random.Random, night: int) -> list[Row]:
    """Make a night's rows."""
    made: list[Row] = []
    for i in range(N_ROWS):
        x = round(draw.gauss(0, 1), 3)
        made.append((night * N_ROWS + i, x, draw.choice("abc"), int(x > 0)))
    return made


def cost(copies: Copies) -> Cost:
    """Have the night as a command, and once more in this process, where what it reads can be counted."""
    pipeline = copies.pipeline
    copies.restore()
    before = _of_children()
    _, said = pipeline.train().communicate()
    assert not said, said
    seconds = _of_children() - before
    copies.restore()
    (lineage,) = pipeline.lineages()
    head = lineage.head()
    n_identities = sum(lineage.segments.file(sha).stat().st_size for sha in head.segments[:N_NIGHTS]) if head else 0
    started, read = time.process_time(), _n_read()
    pipeline.train_here()
    return Cost(seconds, time.process_time() - started, _n_read() - read, n_identities)


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _n_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def least(costs: list[Cost]) -> Cost:
    """Return the least of each: what else happens on the machine only adds."""
    return Cost(*map(min, zip(*costs, strict=True)))


def grown(folder: Path, draw: random.Random, nights: list[int]) -> list[Copies]:
    """Have as many nights as the last number says, and keep a copy of the pipeline before each of the others, too."""
    pipeline, kept = Pipeline(folder / "p", CONFIG), list[Copies]()
    pipeline.start()
    for night in range(1, nights[-1] + 1):
        made = rows(draw, night)
        pipeline.insert(made if night not in nights else rows(random.Random(0), night))  # noqa: S311 - the same each time
        if night in nights:
            kept.append(Copies(pipeline, folder / f"{night}"))
        pipeline.train_here()
    return kept


def run(seed: int, dose: Dose) -> list[Result]:
    """Compare the tenth night, the one after which identities are forgotten, and a late one."""
    nights = [10, N_NIGHTS + 8, 1000 if dose == "full" else 80]
    with tempfile.TemporaryDirectory(prefix="nightfit-history-") as folder:
        kept, costs = grown(Path(folder), chance(seed, "history"), nights), [list[Cost]() for _ in nights]
        for _ in range(REPEATS if dose == "full" else 3):
            for copies, measured in zip(kept, costs, strict=True):
                measured.append(cost(copies))
    early, full, late = map(least, costs)
    return [
        Result(
            f"night {nights[-1]:,} against night {nights[1]}, same rows; beside it: against night {nights[0]}",
            f"at most {MARK} x time and bytes read",
            f"{told(full, late)}; {told(early, late)}, {late.n_identities - early.n_identities:,} of them identities",
            ok=late.n_bytes <= MARK * full.n_bytes and (late.seconds <= MARK * full.seconds or dose == "small"),
        )
    ]


def told(first: Cost, late: Cost) -> str:
    """Put two costs in a ratio."""
    time_, n_bytes = late.seconds / first.seconds, late.n_bytes / first.n_bytes
    return (
        f"{time_:.2f} x {first.seconds:.2f} s ({late.alone_s * 1000:.0f} ms without imports, after "
        f"{first.alone_s * 1000:.0f}), {n_bytes:.2f} x {first.n_bytes:,} bytes"
    )

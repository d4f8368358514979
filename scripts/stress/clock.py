"""Set the clock back, forth and to the days on which it jumps: versions and cursors are numbers, so that nothing minds.

Rows that wait for their label are measured by the clock: back, none may expire, and each that does was due.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nightfit.config import load
from nightfit.device import Device
from nightfit.night import Request
from nightfit.nightly import run as night
from stress.pipeline import CONFIG, Pipeline, Truth, unreadable
from stress.table import Dose, Result, chance

BEGIN = datetime(2026, 3, 29, 2, 30, tzinfo=UTC)
WAIT = timedelta(days=60)


def shifts(seed: int, n: int) -> list[timedelta]:
    """List when each night is, from the first: jumps of seconds to years, mostly back, and never 60 days on."""
    draw, now, found = chance(seed, "clock"), timedelta(), [timedelta()]
    while len(found) < n:
        now += draw.choice([1, -1, -1]) * timedelta(seconds=draw.choice([1, 3600, 86400, 86400 * 30, 86400 * 3650]))
        now = min(now, WAIT / 2)
        found.append(now)
    return found


def run(seed: int, dose: Dose) -> list[Result]:
    """Have nights by a clock that jumps, with a row that waits from the first to the last, and then let it expire."""
    n, wrong, truth, draw = 200 if dose == "full" else 12, list[str](), Truth(), chance(seed, "rows")
    with tempfile.TemporaryDirectory(prefix="nightfit-clock-") as folder:
        config = CONFIG.replace("[[sources]]", f'label_wait = "{WAIT.days}d"\n[[sources]]', 1)
        pipeline = Pipeline(Path(folder) / "p", config.replace("[models.deep]\n", ""))
        pipeline.start()

        def at(shift: timedelta, n_waiting: int, version: int) -> None:
            request = Request(Device("cpu", "as asked"), lambda: BEGIN + shift)
            (result,) = night(load(pipeline.root / "n.toml"), ["linear"], request)
            if (result.status, result.version, result.rows.pending) != ("accepted", version, n_waiting):
                wrong.append(f"night {version}, {shift} after the first: {result}")

        pipeline.append([(9_000_000, 0.5, "a", None)])
        for i, shift in enumerate(shifts(seed, n)):
            pipeline.append(truth.make(draw, 10))
            at(shift, 1, i + 1)
        at(WAIT - timedelta(seconds=1) + timedelta(days=1), 0, n + 1)
        heads = [lineage.head() for lineage in pipeline.lineages()]
        wrong += unreadable(pipeline)
        if not all(head and head.version == n + 1 and head.rows.rejected for head in heads):
            wrong.append(f"the last night must be the head and reject the row that waited, however {heads}")
    return [
        Result(
            f"{n} nights by a clock that jumps, mostly back",
            "numbers go on by one, nothing expires early",
            "; ".join(wrong[:2]) or "all so",
            ok=not wrong,
        )
    ]

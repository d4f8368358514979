"""Kill `nightfit train` at random moments, night after night, and count whether anything was lost or told twice.

Each night appends rows to a CSV file and to an SQLite table, some of them doubled, some unreadable. Processes are
killed (SIGKILL) until the night's share of kills is made or one of them got through; then one run must just work. A
twin pipeline with the same rows is never disturbed: in the end its weights must be the same bits.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from stress.pipeline import TRAIN, Pipeline, Truth, check_accounts, unreadable
from stress.table import Dose, Result, chance
from stress.zygote import Zygote, zygote

IMPORTS_S = 2.0
"""How long a process on its own may be at its imports."""


@dataclass
class Report:
    """What the kills did, and what was found wrong."""

    kills: Counter[str] = field(default_factory=Counter)
    nights: int = 0
    rows: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Stress:
    """Kills, checks, and runs on, until all kills are made and all nights are over."""

    def __init__(self, folder: Path, zygote: Zygote, *, seed: int, n_rows: int, share_imports: float) -> None:
        self.random, self.n_rows, self.share_imports = chance(seed, "kills"), n_rows, share_imports
        self.truth, self.report, self._zygote = Truth(), Report(), zygote
        self.killed, self.twin = Pipeline(folder / "killed"), Pipeline(folder / "twin")
        for pipeline in (self.killed, self.twin):
            pipeline.start()
        self.night_s = 1.0

    def run(self, n_kills: int, n_nights: int) -> Report:
        """Go through the nights; more follow if kills are left after the last one."""
        started = time.monotonic()
        while self.report.nights < n_nights or self.report.kills.total() < n_kills:
            self.report.nights += 1
            rows = self.truth.make(self.random, self.n_rows)
            for pipeline in (self.killed, self.twin):
                pipeline.append(rows)
            self._night(self.twin, "the twin's run")
            for _ in range(self._share(n_kills, n_nights)):
                if not self._kill():
                    break
            self._night(self.killed, "the run after the kills")
            self.report.wrong += check_accounts(self.killed, self.truth)
        if self.killed.weights() != self.twin.weights():
            self.report.wrong.append("the weights are not those of the pipeline that nobody disturbed")
        self.report.rows, self.report.seconds = len(self.truth.rows), time.monotonic() - started
        return self.report

    def _share(self, n_kills: int, n_nights: int) -> int:
        """Return how many of the kills that are left are tonight's; what a night does not use is the others'."""
        left = n_kills - self.report.kills.total()
        return -(-left // max(n_nights - self.report.nights + 1, 1))

    def _night(self, pipeline: Pipeline, what: str) -> None:
        """Have a night that must succeed."""
        begun = time.monotonic()
        ended = self._zygote.run(pipeline.root, *TRAIN)
        self.night_s = ended.at_s - begun
        if ended.code:
            self.report.wrong.append(f"{what} of night {self.report.nights} ended with {ended.code}: {ended.said}")

    def _kill(self) -> bool:
        """Start a night and kill it; return whether the kill came before the end."""
        before = self.killed.versions()
        in_imports = self.random.random() < self.share_imports
        code = self._killed_in_imports() if in_imports else self._killed_at_work()
        self.report.wrong += [f"after a kill in night {self.report.nights}: {said}" for said in unreadable(self.killed)]
        if code != -signal.SIGKILL:
            return False
        committed = sum(b - a for a, b in zip(before, self.killed.versions(), strict=True))
        self.report.kills["while importing" if in_imports else f"at work, after {committed} of its commits"] += 1
        return True

    def _killed_at_work(self) -> int:
        pid = self._zygote.start(self.killed.root, *TRAIN)
        self._zygote.go(pid)
        time.sleep(self.random.uniform(0, self.night_s))
        os.kill(pid, signal.SIGKILL)  # a process that has ended is still there until it is waited for
        return self._zygote.wait(pid).code

    def _killed_in_imports(self) -> int:
        process = self.killed.train()
        time.sleep(self.random.uniform(0, IMPORTS_S))
        process.kill()
        process.communicate()
        return process.returncode


def run(seed: int, dose: Dose) -> list[Result]:
    """Kill at random moments, nearly all of them after the imports."""
    kills, nights = (500, 60) if dose == "full" else (5, 2)
    ready = zygote()
    with tempfile.TemporaryDirectory(prefix="nightfit-kills-") as folder:
        report = Stress(Path(folder), ready, seed=seed, n_rows=40, share_imports=0.02).run(kills, nights)
    moments = ", ".join(f"{n} {moment}" for moment, n in sorted(report.kills.items()))
    return [
        Result(
            f"{report.kills.total()} random SIGKILLs in {report.nights} nights, {report.rows:,} rows",
            "every row once, 0 unreadable, one rerun, weights of the undisturbed",
            "; ".join(report.wrong) or f"all so: {moments}, in {report.seconds:.0f} s",
            ok=not report.wrong,
        )
    ]

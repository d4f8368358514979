"""Kill `nightfit train` at random moments, night after night, and count whether anything was lost or told twice.

Each night appends rows to a CSV file and to an SQLite table, some of them doubled, some unreadable. Processes are
killed (SIGKILL) until the night's share of kills is made or one of them got through; then one run must just work. A
twin pipeline with the same rows is never disturbed: in the end its weights must be the same bits.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from stress.pipeline import Pipeline, Truth, check_accounts, unreadable
from stress.table import Dose, Result, chance


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

    def __init__(self, folder: Path, *, seed: int, n_rows: int, share_imports: float) -> None:
        self.random, self.n_rows, self.share_imports = chance(seed, "kills"), n_rows, share_imports
        self.truth, self.report = Truth(), Report()
        self.killed, self.twin = Pipeline(folder / "killed"), Pipeline(folder / "twin")
        for pipeline in (self.killed, self.twin):
            pipeline.start()
        self.imports_s = self.work_s = 1.0

    def run(self, n_kills: int, n_nights: int) -> Report:
        """Go through the nights; more follow if kills are left after the last one."""
        started = time.monotonic()
        while self.report.nights < n_nights or sum(self.report.kills.values()) < n_kills:
            self.report.nights += 1
            rows = self.truth.make(self.random, self.n_rows)
            for pipeline in (self.killed, self.twin):
                pipeline.append(rows)
            if self.report.nights == 1:
                self._measure()
            else:
                self.twin.train_here()
            for _ in range(self._share(n_kills, n_nights)):
                if not self._kill():
                    break
            self._runs_on(self.killed)
            self.report.wrong += check_accounts(self.killed, self.truth)
        if self.killed.weights() != self.twin.weights():
            self.report.wrong.append("the weights are not those of the pipeline that nobody disturbed")
        self.report.rows, self.report.seconds = len(self.truth.rows), time.monotonic() - started
        return self.report

    def _share(self, n_kills: int, n_nights: int) -> int:
        """Return how many of the kills that are left are tonight's; what a night does not use is the others'."""
        left = n_kills - sum(self.report.kills.values())
        return -(-left // max(n_nights - self.report.nights + 1, 1))

    def _measure(self) -> None:
        """Run the twin's first night, and measure how long imports and work take."""
        started = time.monotonic()
        process = self.twin.train()
        while not self.twin.has_begun() and process.poll() is None:
            time.sleep(0.002)
        begun = time.monotonic()
        self._must_succeed(process, "the twin's night")
        self.imports_s, self.work_s = begun - started, time.monotonic() - begun

    def _runs_on(self, pipeline: Pipeline) -> None:
        self._must_succeed(pipeline.train(), f"the run after the kills of night {self.report.nights}")

    def _must_succeed(self, process: subprocess.Popen[bytes], what: str) -> None:
        said = process.communicate()[1].decode(errors="replace").strip()
        if process.returncode:
            self.report.wrong.append(f"{what} ended with {process.returncode}: {said[-300:]}")

    def _kill(self) -> bool:
        """Start a night and kill it; return whether the kill came before the end."""
        before, leftovers = self.killed.versions(), set(self._staged())
        process = self.killed.train()
        in_imports = self.random.random() < self.share_imports
        if in_imports:
            time.sleep(self.random.uniform(0, self.imports_s))
        else:
            while set(self._staged()) <= leftovers and process.poll() is None:
                time.sleep(0.001)
            time.sleep(self.random.uniform(0, self.work_s))
        process.kill()
        process.communicate()
        self.report.wrong += [f"after a kill in night {self.report.nights}: {said}" for said in unreadable(self.killed)]
        if process.returncode != -signal.SIGKILL:
            return False
        committed = sum(b - a for a, b in zip(before, self.killed.versions(), strict=True))
        moment = "while importing" if in_imports else f"at work, after {committed} of its commits"
        self.report.kills[moment] += 1
        return True

    def _staged(self) -> list[Path]:
        return list((self.killed.folder / ".staging").glob("*"))


def run(seed: int, dose: Dose) -> list[Result]:
    """Kill at random moments, nearly all of them after the imports."""
    kills, nights = (500, 60) if dose == "full" else (8, 2)
    with tempfile.TemporaryDirectory(prefix="nightfit-kills-") as folder:
        report = Stress(Path(folder), seed=seed, n_rows=40, share_imports=0.02).run(kills, nights)
    moments = ", ".join(f"{n} {moment}" for moment, n in sorted(report.kills.items()))
    return [
        Result(
            f"{report.kills.total()} random SIGKILLs in {report.nights} nights, {report.rows:,} rows",
            "every row once, 0 unreadable, one rerun, weights of the undisturbed",
            "; ".join(report.wrong) or f"all so: {moments}, in {report.seconds:.0f} s",
            ok=not report.wrong,
        )
    ]

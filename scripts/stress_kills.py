"""Kill `nightfit train` at random moments, night after night, and count whether anything was lost or told twice.

Each night appends rows to a CSV file and to an SQLite table, some of them doubled, some unreadable. Processes are
killed (SIGKILL) until the night's share of kills is made or one of them got through; then one run must just work. A
twin pipeline with the same rows is never disturbed: in the end its weights must be the same bits.

    python scripts/stress_kills.py --kills 200 --nights 30 --seed 0
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from nightfit.config import load
from nightfit.identity import hash_word, mix
from nightfit.known import N_NIGHTS, Segment
from nightfit.store import Lineage, Store
from nightfit.verify import verify

MODELS = ("deep", "linear")
COLUMNS = ("id", "x", "c", "y")
CONFIG = """name = "p"
target = "y"
key = "id"
[[sources]]
url = "a.csv"
[[sources]]
url = "sqlite:///b.db"
table = "t"
cursor = "n"
[gate]
min_rows = 1000000
[models.deep]
[models.linear]
"""
"""The gate is kept out: a night that it refuses is rightly not accounted for yet, and here kills are on trial."""

Row = tuple[object, ...]


@dataclass
class Truth:
    """What was delivered: each night's rows, good and bad."""

    nights: list[list[Row]] = field(default_factory=list)

    def make(self, random_: random.Random, n: int) -> list[Row]:
        """Make a night of n new rows, one of them unreadable, and two that came before, within memory of nightfit."""
        recent = self.nights[1 - N_NIGHTS :]
        start, old = 1000 * len(self.nights), [row for night in recent for row in night if row[1] != "n/a"]
        rows: list[Row] = []
        for i in range(n):
            x = round(random_.gauss(0, 1), 3)
            rows.append((start + i, x, random_.choice("abc"), int(x + random_.gauss(0, 0.5) > 0)))
        rows[n // 2] = (start + n // 2, "n/a", "a", 0)
        rows += [rows[0], random_.choice(old or rows[:1])]
        self.nights.append(rows)
        return rows

    @property
    def rows(self) -> list[Row]:
        """Everything delivered so far."""
        return [row for night in self.nights for row in night]

    def counts(self) -> dict[str, int]:
        """Say how many rows must have each fate; "used" are those that were learned or held out."""
        bad = sum(row[1] == "n/a" for row in self.rows)
        used = len({row[0] for row in self.rows if row[1] != "n/a"})
        return {"read": len(self.rows), "rejected": bad, "used": used, "duplicate": len(self.rows) - bad - used}

    def keys(self) -> Counter[int]:
        """Count in how many nights' segments each key must be."""
        nights = ({row[0] for row in night if row[1] != "n/a"} for night in self.nights)
        return Counter(int(mix(np.array([hash_word(str(key))]))[0]) for night in nights for key in night)


@dataclass
class Pipeline:
    """A folder with a config, two sources and a store."""

    root: Path

    def start(self) -> None:
        """Write the config and two sources without rows."""
        self.root.mkdir(parents=True)
        (self.root / "n.toml").write_text(CONFIG)
        (self.root / "a.csv").write_text(",".join(COLUMNS) + "\n")
        with sqlite3.connect(self.root / "b.db") as connection:
            connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, id INTEGER, x, c TEXT, y INTEGER)")
        connection.close()

    def append(self, rows: Sequence[Row]) -> None:
        """Append the first half to the file, and the rest to the table."""
        half = len(rows) // 2
        with (self.root / "a.csv").open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows[:half])
        with sqlite3.connect(self.root / "b.db") as connection:
            connection.executemany("INSERT INTO t (id, x, c, y) VALUES (?, ?, ?, ?)", rows[half:])
        connection.close()

    def train(self) -> subprocess.Popen[bytes]:
        """Start a night, as cron would."""
        command = [sys.executable, "-m", "nightfit", "train", "--config", "n.toml", "--device", "cpu"]
        return subprocess.Popen(command, cwd=self.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def train_here(self) -> None:
        """Run a night in this process, which has imported everything already."""
        from nightfit.device import Device
        from nightfit.night import Request
        from nightfit.nightly import run

        now = datetime(2026, 11, 1, 2, tzinfo=UTC)
        run(load(self.root / "n.toml"), MODELS, Request(Device("cpu", "as asked"), lambda: now))

    def lineages(self) -> list[Lineage]:
        """Return the lineages of both models."""
        config = load(self.root / "n.toml")
        return [Store(config.store).pipeline(config.name).lineage(name) for name in MODELS]

    def has_begun(self) -> bool:
        """Say whether a run has left its imports behind: its staging folder is there."""
        return any((self.root / "checkpoints" / "p" / ".staging").glob("*"))

    def versions(self) -> list[int]:
        """Return each model's newest version."""
        return [max((entry.version for entry in lineage.entries()), default=0) for lineage in self.lineages()]

    def weights(self) -> list[list[str]]:
        """Return the hash of what predicts, of every version of the head's ancestry."""
        return [
            [m.files["model.safetensors"].sha256 for m in lineage.ancestry(head)] if (head := lineage.head()) else []
            for lineage in self.lineages()
        ]


@dataclass
class Report:
    """What the kills did, and what was found wrong."""

    kills: Counter[str] = field(default_factory=Counter)
    nights: int = 0
    rows: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def table(self) -> str:
        """Spell the report out."""
        figures = {"kills": sum(self.kills.values()), **{f"  {what}": n for what, n in sorted(self.kills.items())}}
        figures |= {"nights": self.nights, "rows delivered": self.rows, "seconds": round(self.seconds)}
        figures |= {"found wrong": len(self.wrong)}
        return "\n".join([*(f"{what:<44}{n:>8}" for what, n in figures.items()), *self.wrong])


def check_accounts(pipeline: Pipeline, truth: Truth) -> list[str]:
    """Return what is wrong with the accounts of the heads' ancestries: their counts, their keys, their rejects."""
    wrong = []
    for lineage in pipeline.lineages():
        head = lineage.head()
        ancestry = lineage.ancestry(head) if head else []
        if not all(manifest.rows.conserved(pending_before=0) for manifest in ancestry):
            wrong.append(f"{lineage.name}: a night does not conserve its rows")
        sums = Counter[str]()
        for manifest in ancestry:
            sums.update(asdict(manifest.rows))
        found = {name: sums[name] for name in ("read", "rejected", "duplicate")}
        found["used"] = sums["learned"] + sums["held_out"]
        if found != truth.counts():
            wrong.append(f"{lineage.name}: accounts for {found}, however {truth.counts()} were delivered")
        segments = (Segment.open(lineage.segments.file(m.segments[0])) for m in ancestry)
        if Counter(int(key) for segment in segments for key in segment.keys) != truth.keys():
            wrong.append(f"{lineage.name}: keys are not those that were delivered")
        if _rejects(lineage) != Counter(str(row[0]) for row in truth.rows if row[1] == "n/a"):
            wrong.append(f"{lineage.name}: rejects are not those that were delivered")
    return wrong


def _rejects(lineage: Lineage) -> Counter[str]:
    head, keys = lineage.head(), Counter[str]()
    for manifest in lineage.ancestry(head) if head else []:
        for line in lineage.load(manifest, [n for n in manifest.files if n.endswith(".jsonl")]).values():
            keys.update(str(json.loads(text)["key"]) for text in line.splitlines())
    return keys


def unreadable(pipeline: Pipeline) -> list[str]:
    """Return what `verify` calls an error."""
    findings = [finding for lineage in pipeline.lineages() for finding in verify(lineage)]
    return [finding.message for finding in findings if finding.level == "error"]


class Stress:
    """Kills, checks, and runs on, until all kills are made and all nights are over."""

    def __init__(self, folder: Path, *, seed: int, n_rows: int, share_imports: float) -> None:
        self.random, self.n_rows, self.share_imports = random.Random(seed), n_rows, share_imports  # noqa: S311
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
        return list((self.killed.root / "checkpoints" / "p" / ".staging").glob("*"))


def main() -> int:
    """Run the stress; return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=40, help="new rows a night")
    parser.add_argument("--imports", type=float, default=0.1, help="share of the kills while libraries are imported")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nightfit-kills-") as folder:
        stress = Stress(Path(folder), seed=asked.seed, n_rows=asked.rows, share_imports=asked.imports)
        report = stress.run(asked.kills, asked.nights)
    print(report.table())
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main())

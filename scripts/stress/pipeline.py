"""A pipeline on disk for the stresses: rows whose fates are known, and `nightfit train` in a process or in this one."""

from __future__ import annotations

import csv
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nightfit.checkpoint import PENDING
from nightfit.config import load
from nightfit.identity import hash_word, mix
from nightfit.known import N_NIGHTS, Segment
from nightfit.store import Lineage, Store
from nightfit.verify import verify
from stress.table import chance

if TYPE_CHECKING:
    from nightfit.nightly import NightResult

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

TENSORS = ("model.safetensors", "learning.safetensors", "memory.safetensors", "drift.safetensors")
TRAIN = ("train", "--config", "n.toml", "--device", "cpu")

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
    config: str = CONFIG

    def start(self) -> None:
        """Write the config and two sources without rows."""
        self.root.mkdir(parents=True)
        (self.root / "n.toml").write_text(self.config)
        (self.root / "a.csv").write_text(",".join(COLUMNS) + "\n")
        with sqlite3.connect(self.root / "b.db") as connection:
            connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, id INTEGER, x, c TEXT, y INTEGER)")
        connection.close()

    def append(self, rows: Sequence[Row]) -> None:
        """Append the first half to the file, and the rest to the table."""
        half = len(rows) // 2
        with (self.root / "a.csv").open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows[:half])
        self.insert(rows[half:])

    def insert(self, rows: Sequence[Row]) -> None:
        """Append rows to the table."""
        with sqlite3.connect(self.root / "b.db") as connection:
            connection.executemany("INSERT INTO t (id, x, c, y) VALUES (?, ?, ?, ?)", rows)
        connection.close()

    def train(self) -> subprocess.Popen[bytes]:
        """Start a night, as cron would."""
        return subprocess.Popen(
            [sys.executable, "-m", "nightfit", *TRAIN], cwd=self.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def train_here(self, **asked: Any) -> list[NightResult]:  # noqa: ANN401 - any field of a request
        """Run a night in this process, which has imported everything already."""
        from nightfit.device import Device
        from nightfit.night import Request
        from nightfit.nightly import run

        now = datetime(2026, 11, 1, 2, tzinfo=UTC)
        config = load(self.root / "n.toml")
        return run(config, list(config.models), Request(Device("cpu", "as asked"), lambda: now, **asked))

    @property
    def folder(self) -> Path:
        """Where the pipeline's versions lie."""
        return self.root / "checkpoints" / "p"

    def lineages(self) -> list[Lineage]:
        """Return the lineages of all models."""
        config = load(self.root / "n.toml")
        return [Store(config.store).pipeline(config.name).lineage(name) for name in config.models]

    def state(self) -> dict[str, object]:
        """Return what the versions come to, but for times: nights that come to one state cannot be told apart later.

        Each file counts by its hash; rows that wait say since when, so that those count by their number.
        """
        return {
            f"{lineage.name} {m.version}": (
                (m.status, m.parent, m.cursors, m.rows, m.segments, m.excluded),
                {name: file.sha256 for name, file in m.files.items() if name != PENDING},
            )
            for lineage in self.lineages()
            for m in lineage.newest_first()
        }

    def versions(self) -> list[int]:
        """Return each model's newest version."""
        return [max((entry.version for entry in lineage.entries()), default=0) for lineage in self.lineages()]

    def weights(self) -> list[list[str]]:
        """Return the hash of what predicts, of every version of the head's ancestry."""
        return [
            [m.files["model.safetensors"].sha256 for m in lineage.ancestry(head)] if (head := lineage.head()) else []
            for lineage in self.lineages()
        ]


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


def eventful(folder: Path, models: str) -> Pipeline:
    """Make a pipeline before a night with everything in it: new rows and old, rejects, late labels, rows that wait."""
    config = CONFIG.replace("[[sources]]", 'label_wait = "60d"\n[[sources]]', 1)
    pipeline, truth, random_ = Pipeline(folder, config[: config.index("[models")] + models), Truth(), chance(0, models)
    pipeline.start()
    waiting = [(9000 + i, 0.5, "a", None) for i in range(4)]
    pipeline.append([*truth.make(random_, 40), *waiting])
    pipeline.train_here()
    pipeline.append([(9000, None, None, 1), *truth.make(random_, 40), (9010, 0.1, "new", None), (9001, None, None, 0)])
    return pipeline


def with_every_file(folder: Path) -> Pipeline:
    """Make a pipeline of two accepted versions, a refused one, and a head that has a file of every kind there is."""
    head, _, models = CONFIG.partition("[gate]\nmin_rows = 1000000\n[models.deep]\n")
    pipeline, draw = (
        Pipeline(folder, head.replace("[[sources]]", 'label_wait = "60d"\n[[sources]]', 1) + models),
        chance(0),
    )

    def night(n: int, *, start: int, exclude: int | None = None, flipped: bool = False) -> str:
        rows: list[Row] = []
        for i in range(start, start + n):
            x = round(draw.gauss(0, 1), 3)
            rows.append((i, x, draw.choice("abc"), int((x + draw.gauss(0, 0.3) > 0) != flipped)))
        pipeline.append([*rows, (start + n, 0.5, "a", None), (start + n + 1, "n/a", "a", 0)])
        return pipeline.train_here(exclude=exclude)[0].status

    pipeline.start()
    said = night(1500, start=0), night(1500, start=10_000), night(1500, start=20_000, flipped=True)
    assert (*said, night(500, start=30_000, exclude=3)) == ("accepted", "accepted", "refused", "accepted")
    (lineage,) = pipeline.lineages()
    head_files = {*lineage.manifest(4).files}
    assert head_files == {*TENSORS, "excluded.safetensors", "rejects.jsonl", PENDING}, head_files
    return pipeline


class Copies:
    """A pipeline that goes back to what it was, as often as it is asked to."""

    def __init__(self, pipeline: Pipeline, spare: Path) -> None:
        self.pipeline, self._spare = pipeline, spare
        shutil.copytree(pipeline.root, spare)

    def restore(self) -> None:
        """Put everything back, at the same place."""
        shutil.rmtree(self.pipeline.root)
        shutil.copytree(self._spare, self.pipeline.root)

"""A small pipeline on disk for the tests of a night: real CSV files and SQLite tables, run as the command line does."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from nightfit.checkpoint import Manifest
from nightfit.config import Config, load
from nightfit.device import Device
from nightfit.known import Segment
from nightfit.night import Request
from nightfit.nightly import NightResult, backfill, run
from nightfit.sources.increment import Cut
from nightfit.store import Lineage, Store

Row = dict[str, Any]

CONFIG = 'name = "p"\ntarget = "y"\nkey = "id"\n[[sources]]\nurl = "a.csv"\n[models.linear]\n'


IMPATIENT = CONFIG.replace("[[sources]]", 'label_wait = "0d"\n[[sources]]')
"""The config of a pipeline in which no row waits for its target."""


def make_rows(n: int, *, start: int = 0, seed: int = 0, flipped: bool = False, **more: object) -> list[Row]:
    """Make rows whose class is mostly the sign of `x1 + x2`, or (flipped) its opposite."""
    random = np.random.default_rng((seed, start))
    x = random.normal(size=(n, 2)).round(4)
    y = (x.sum(1) + 0.5 * random.normal(size=n) > 0) ^ flipped
    c = random.choice(["red", "green", "blue"], n)
    return [
        {"id": start + i, "x1": float(x[i, 0]), "x2": float(x[i, 1]), "c": str(c[i]), "y": int(y[i]), **more}
        for i in range(n)
    ]


@dataclass
class Pipe:
    """A folder with a config, its data, and the store that nights make."""

    root: Path
    config: str = CONFIG
    n_runs: int = field(default=0, init=False)

    def append(self, rows: Iterable[Row], name: str = "a.csv") -> None:
        """Append rows to a CSV file, whose header is that of its first row."""
        rows, path = list(rows), self.root / name
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerows(rows)

    def write(self, text: str, name: str = "a.csv") -> None:
        """Write a file as it is."""
        (self.root / name).write_text(text)

    def insert(self, rows: Iterable[Row], table: str = "t") -> None:
        """Append rows to a table of `b.db`."""
        rows = list(rows)
        columns = ", ".join(rows[0])
        with sqlite3.connect(self.root / "b.db") as connection:
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
            marks = ", ".join("?" * len(rows[0]))
            statement = f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608 - our own names
            connection.executemany(statement, [tuple(row.values()) for row in rows])
        connection.close()

    def load(self) -> Config:
        """Read the config."""
        self.write(self.config, "n.toml")
        return load(self.root / "n.toml")

    def request(self, **asked: Any) -> Request:  # noqa: ANN401 - any field of a request
        """Return what is asked of a night, at a time that is known."""
        self.n_runs += 1
        now = datetime(2026, 11, 1, 2, tzinfo=UTC) + timedelta(days=self.n_runs - 1)
        return Request(device=Device("cpu", "as asked"), now=lambda: now, **asked)

    def nights(self, **asked: Any) -> dict[str, NightResult]:  # noqa: ANN401
        """Run one night for every model."""
        config = self.load()
        return {result.model: result for result in run(config, list(config.models), self.request(**asked))}

    def train(self, name: str) -> NightResult:
        """Run one night for one model alone."""
        return run(self.load(), [name], self.request())[0]

    def night(self, **asked: Any) -> NightResult:  # noqa: ANN401
        """Run one night, and return the result of the first model."""
        return next(iter(self.nights(**asked).values()))

    def backfill(self, cut: Cut | None, names: Sequence[str] = ("linear",)) -> list[NightResult]:
        """Learn a long history, and return the results of the first model."""
        return [results[0] for results in backfill(self.load(), names, self.request(cut=cut))]

    def lineage(self, name: str = "linear") -> Lineage:
        """Return a model's lineage."""
        config = self.load()
        return Store(config.store).pipeline(config.name).lineage(name)

    def head(self, name: str = "linear") -> Manifest:
        """Return the newest accepted version."""
        head = self.lineage(name).head()
        assert head is not None
        return head

    def counts(self, name: str = "linear") -> dict[str, int]:
        """Add up the fates along the head's ancestry, and check that each night conserves its rows."""
        ancestry = self.lineage(name).ancestry(self.head(name))
        before = {manifest.version: manifest.rows.pending for manifest in ancestry}
        assert all(m.rows.conserved(pending_before=before.get(m.parent or 0, 0)) for m in ancestry)
        return {what: sum(asdict(m.rows)[what] for m in ancestry) for what in asdict(ancestry[0].rows)}

    def keys(self, name: str = "linear") -> list[int]:
        """List the hashes of the keys that the head's ancestry has learned or held out, one for each night."""
        lineage = self.lineage(name)
        paths = [lineage.segments.file(m.segments[0]) for m in lineage.ancestry(self.head(name)) if m.act == "night"]
        return [int(key) for path in paths for key in Segment.open(path).keys]

    def known_keys(self, name: str = "linear") -> set[int]:
        """Return the hashes of the keys that the head's ancestry has learned or held out."""
        return set(self.keys(name))

    def rejects(self, version: int | None = None, name: str = "linear") -> list[Row]:
        """Read the rejects that a version (the head, if none is named) keeps."""
        manifest = self.lineage(name).manifest(version) if version else self.head(name)
        data = self.lineage(name).load(manifest, ["rejects.jsonl"])["rejects.jsonl"]
        return [json.loads(line) for line in data.decode().splitlines()]

    def weights(self, version: int | None = None, name: str = "linear") -> str:
        """Return the hash of what predicts."""
        manifest = self.lineage(name).manifest(version) if version else self.head(name)
        return manifest.files["model.safetensors"].sha256

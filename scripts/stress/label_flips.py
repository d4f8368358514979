"""Exchange the classes of a part of a night: the gate must keep it out, let clean nights in, and real changes pass.

Through the real nightly path: a store and a CSV file. Each model gets one lineage of clean nights, until its holdout
memory is full; every trial goes on from a copy of it. A flipped night has the classes of a share of its rows exchanged,
held-out rows included. A candidate that was accepted is harmful if on clean test rows it is worse than the champion was
by more than the forgetting margin plus the width of the gate's own interval.

The generated stream is one of the stresses; any file with two classes and rows enough can be tried as well:

    PYTHONPATH=scripts python -m stress.label_flips --data bookings.csv --target is_canceled --column market_segment
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from nightfit.checkpoint import Manifest
from nightfit.cleaning import parse_features
from nightfit.config import Config, load
from nightfit.device import Device
from nightfit.metrics import row_losses
from nightfit.night import Request
from nightfit.nightly import NightResult
from nightfit.nightly import run as run_night
from nightfit.store import Lineage, Store
from nightfit.version import load_version
from stress.streams import Generated, OfFile, Stream, exchanged
from stress.table import Dose, Result, show

MODELS = ("deep", "linear")
SHARES = (0.2, 0.35, 0.5)
NIGHT_ROWS = 5_000
MAX_REFUSED = 0.05
CONFIG = """name = "p"
target = "{target}"
key = "row_id"
[[sources]]
url = "rows.csv"
[schema]
categorical = {categorical}
[models.{model}]
"""


@dataclass
class Pipe:
    """A folder with a config, a CSV file and a store of one model."""

    root: Path
    model: str
    n_rows: int = 0
    n_runs: int = 0

    def night(self, rows: pd.DataFrame) -> NightResult:
        """Append rows, and run a night at a time that is known."""
        path, ids = self.root / "rows.csv", range(self.n_rows, self.n_rows + len(rows))
        rows.assign(row_id=ids).to_csv(path, mode="a", header=not self.n_rows, index=False)
        self.n_rows, self.n_runs = self.n_rows + len(rows), self.n_runs + 1
        now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=self.n_runs)
        return run_night(self.config, [self.model], Request(device=Device("cpu", "as asked"), now=lambda: now))[0]

    @property
    def config(self) -> Config:
        """The config, read again."""
        return load(self.root / "n.toml")

    @property
    def lineage(self) -> Lineage:
        """The model's lineage."""
        return Store(self.config.store).pipeline("p").lineage(self.model)

    def head(self) -> Manifest:
        """Return the version in service."""
        head = self.lineage.head()
        assert head
        return head

    def copy(self, root: Path) -> Pipe:
        """Return another pipeline at the same point; versions never change, so that links do for them."""
        shutil.copytree(self.root, root, copy_function=_link_versions)
        return Pipe(root, self.model, self.n_rows, self.n_runs)

    def loss(self, version: int, rows: pd.DataFrame, target: str) -> float:
        """Return a version's mean log loss on rows."""
        manifest = self.lineage.manifest(version)
        scorer = load_version(manifest, self.lineage.load(manifest))
        table = pa.Table.from_pandas(rows.astype(str), preserve_index=False)
        features, _ = parse_features(table.drop_columns([target]), scorer.schema, ("",))
        batch = scorer.schema.encode(features, np.zeros(len(rows), np.uint64), table[target])
        return float(row_losses(scorer.predictor.predict(batch), batch.y).mean())


def _link_versions(source: str, target: str) -> None:
    if source.endswith((".csv", ".toml")):
        shutil.copy(source, target)
    else:
        os.link(source, target)


@dataclass
class Outcome:
    """What one night of a trial came to. `excess`: by how much an accepted one exceeds what the mark allows."""

    status: str
    reason: str
    change: float
    """The candidate's loss on clean rows against the champion's, as a share of it."""
    excess: float


@dataclass
class Trials:
    """A model's lineage of clean nights, and what its trials came to: nights by the name of the trial."""

    stream: Stream
    folder: Path
    model: str
    base: Pipe = field(init=False)
    clean: list[bool] = field(default_factory=list)
    """Whether each of the clean nights was accepted."""
    nights: dict[str, list[list[Outcome]]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Learn clean nights until the holdout memory is full."""
        root = self.folder / self.model
        root.mkdir()
        text = CONFIG.format(target=self.stream.target, categorical=list(self.stream.categorical), model=self.model)
        (root / "n.toml").write_text(text)
        self.base = Pipe(root, self.model)
        for start in range(0, self.stream.n_history, NIGHT_ROWS):
            result = self.base.night(self.stream.history(start, NIGHT_ROWS))
            self.clean.append(result.status == "accepted")

    def trial(self, name: str, nights: list[pd.DataFrame], test: pd.DataFrame) -> None:
        """Run nights on a copy of the lineage, and judge each on the test rows."""
        root = self.folder / "trial"
        pipe = self.base.copy(root)
        outcomes = [self._judged(pipe, rows, test) for rows in nights]
        self.nights.setdefault(name, []).append(outcomes)
        shutil.rmtree(root)

    def _judged(self, pipe: Pipe, rows: pd.DataFrame, test: pd.DataFrame) -> Outcome:
        champion = pipe.head().version
        result = pipe.night(rows)
        assert result.version
        gate: Any = pipe.lineage.manifest(result.version).night["gate"]
        before, after = (pipe.loss(version, test, self.stream.target) for version in (champion, result.version))
        width = gate["pooled"]["high"] - gate["pooled"]["low"] if "pooled" in gate else np.inf
        allowed = pipe.config.gate.forgetting_margin * before + width
        return Outcome(result.status, gate["reason"], after / before - 1, after - before - allowed)


def run_trials(stream: Stream, folder: Path, model: str, seeds: range) -> Trials:
    """Prepare a lineage, and run every trial for each seed: a night that is clean, flipped or changed, and later ones.

    After a flipped night come clean ones, which are read with its rows as long as these are refused.
    """
    trials = Trials(stream, folder, model)
    trials.prepare()
    for seed in seeds:
        first, *later = (stream.night(seed, i, NIGHT_ROWS) for i in range(stream.n_nights))
        trials.trial("clean", [first], stream.test())
        for share in SHARES:
            flipped = np.random.default_rng((seed, int(100 * share))).random(len(first)) < share
            poisoned = first.assign(**{stream.target: exchanged(first[stream.target], pd.Series(flipped, first.index))})
            trials.trial(f"{share:.0%} flipped", [poisoned, *later], stream.test())
        changed = [stream.night(seed, i, NIGHT_ROWS, concept=1) for i in range(stream.n_nights)]
        trials.trial("concept changed", changed, stream.test(concept=1))
    return trials


def results(trials: Trials) -> list[Result]:
    """Return the table's lines."""
    model, lines = trials.model, []
    for name, runs in trials.nights.items():
        if not name.endswith("flipped"):
            continue
        n_bad = sum(o.status == "accepted" and o.excess > 0 for nights in runs for o in nights)
        said = f"{n_bad} harmful of {len(runs)}, {_said(runs)}"
        lines.append(Result(f"{model}: {name}", "0 harmful candidates accepted", said, ok=n_bad == 0))
    clean = [*trials.clean, *(nights[0].status == "accepted" for nights in trials.nights["clean"])]
    share = 1 - sum(clean) / len(clean)
    said = f"{share:.1%} of {len(clean)}"
    lines.append(Result(f"{model}: clean nights", "<= 5 % refused", said, ok=share <= MAX_REFUSED))
    runs = trials.nights["concept changed"]
    n_in_time = sum(any(o.status == "accepted" for o in nights[:2]) for nights in runs)
    said = f"{n_in_time} of {len(runs)}, {_said(runs)}"
    lines.append(Result(f"{model}: concept changed", "accepted by the second night", said, ok=n_in_time == len(runs)))
    return lines


def _said(runs: list[list[Outcome]]) -> str:
    """Say by night how many were accepted, and the mean change of the loss on clean rows."""
    nights = []
    for i, outcomes in enumerate(zip(*runs, strict=True)):
        accepted = [o.change for o in outcomes if o.status == "accepted"]
        refused = [o.change for o in outcomes if o.status != "accepted"]
        told = [f"{len(c)} {word} ({np.mean(c):+.1%})" for c, word in ((accepted, "in"), (refused, "out")) if c]
        nights.append(f"night {i + 1}: {', '.join(told)}")
    return "; ".join(nights)


def run(seed: int, dose: Dose) -> list[Result]:
    """Run the trials on the generated stream: ten seeds of both models, or for a small dose one of the linear one."""
    n_seeds, models = (10, MODELS) if dose == "full" else (1, MODELS[1:])
    return _run(Generated(), range(seed, seed + n_seeds), models)


def _run(stream: Stream, seeds: range, models: tuple[str, ...]) -> list[Result]:
    found = []
    for model in models:
        with tempfile.TemporaryDirectory(prefix="label_flips") as folder:
            found += results(run_trials(stream, Path(folder), model, seeds))
    return found


def main() -> int:
    """Try a file; 1 if a mark is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a CSV file")
    parser.add_argument("--target", required=True, help="its column of two classes")
    parser.add_argument("--column", required=True, help="the categories by which its concept changes")
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    found = _run(OfFile(asked.data, asked.target, asked.column), range(asked.seeds), MODELS)
    show(found)
    return 0 if all(result.ok for result in found) else 1


if __name__ == "__main__":
    sys.exit(main())

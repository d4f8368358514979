"""Score nightfit's models over a catalog of streams, beside peers that were scored under the same protocol.

usage: bench_quality.py CATALOG.json [--peers peers.json] [--rerun peers.py] [--streams A,B] [--seeds 0,1,2]
                        [--keep results.json] [--write docs/quality.md]

The protocol is that of `nightfit compare`: the first night is learned, every later one predicted whole, then learned;
scores pool all predicted rows; classes are declared. The catalog lists `datasets`: name, file, task, target,
night_rows and kinds (time, categorical). Beside `deep` and `linear` runs `new`, the deep learner without memory
(`memory_rows = 0`). Streams whose classes appear over the nights are run once more with classes observed.

CPU seconds are this machine's. `--rerun` runs the peers' script for sk_mlp in the same run (as `peers.py CATALOG
STREAM sk_mlp OUT.json`); other peers' stored seconds are scaled by what sk_mlp took then and takes now. `--keep` keeps
each run's result in a file, and does not run again what is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from nightfit.batch import Array, Batch
from nightfit.compare.bench import Bench
from nightfit.compare.protocol import Protocol
from nightfit.compare.replay import compare
from nightfit.config import parse
from nightfit.sources.base import Chunk, Cursor
from nightfit.sources.files import read_whole
from nightfit.sources.increment import Cut

INCREMENTAL = ("seed", "sgd", "gnb", "sk_mlp", "skorch", "lgb_continue", "arf")
RETRAINED = ("lgb_all", "lgb_window")
MODELS = {"deep": {}, "linear": {}, "new": {"kind": "mlp", "memory_rows": 0}}

Scores: TypeAlias = dict[str, dict[str, float]]
"""Scores by model."""


@dataclass(frozen=True)
class WholeFile:
    """A stream's file, read once from its start."""

    name: str
    path: Path

    def read(self, after: Cursor | None, note: Callable[[str], None]) -> Iterator[Chunk]:  # noqa: ARG002 - once
        """Yield all rows."""
        return read_whole(self.path, note=note)


@dataclass
class LateClasses:
    """Follows classes that nobody has declared: the share that is recognised the night after their first."""

    new: dict[str, set[int]] = field(default_factory=dict)
    recalls: dict[str, list[float]] = field(default_factory=dict)

    def watch(self, model: str, proba: Array, rows: Batch) -> None:
        """See what a model answered to a night."""
        if proba.ndim == 1:
            return
        y, predicted = rows.y, proba.argmax(1)
        self.recalls.setdefault(model, []).extend(
            float((predicted[y == c] == c).mean()) for c in self.new.get(model, ()) if (y == c).any()
        )
        self.new[model] = {c for c in np.unique(y).tolist() if proba[:, c].max() == 0}  # never learned: no share


def score(stream: Mapping[str, Any], folder: Path, seed: int, classes: str) -> Scores:
    """Return each model's scores over one stream."""
    config = parse(
        {
            "name": "bench",
            "target": stream["target"],
            "task": "regression" if stream["task"] == "regression" else "classification",
            "sources": [{"url": stream["file"]}],
            "schema": {"categorical": stream["kinds"]["categorical"], "drop": stream["kinds"]["time"]},
            "models": MODELS,
        },
        folder,
    )
    bench = Bench(config.models, config.rules, Cut(n_rows=stream["night_rows"]), Protocol(classes), seeds=(seed,))
    late = LateClasses()
    with tempfile.TemporaryDirectory() as staging:
        sources = [WholeFile(stream["name"], folder / stream["file"])]
        result: Any = compare(bench, sources, Path(staging) / "raw", watch=late.watch)
    scores: Scores = result["models"]
    for model, recalls in late.recalls.items():
        if recalls:
            scores[model]["late_recall"] = statistics.fmean(recalls)
    return scores


def rerun(script: Path, catalog: Path, stream: str) -> Scores:
    """Run the peers' script for sk_mlp."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        subprocess.run([sys.executable, script, catalog, stream, "sk_mlp", out], check=True, stdout=subprocess.DEVNULL)
        scores: Scores = json.loads(out.read_text())[stream]
    return scores


@dataclass
class Kept:
    """Results by what was run, in a file if there is one."""

    path: Path | None
    results: dict[str, Scores] = field(default_factory=dict)

    def run(self, what: str, make: Callable[[], Scores]) -> Scores:
        """Return a result: the kept one, or a new one."""
        if what not in self.results:
            self.results[what] = make()
            print(what, json.dumps(self.results[what]), file=sys.stderr, flush=True)
            if self.path:
                self.path.write_text(json.dumps(self.results, indent=1))
        return self.results[what]


def mean(scores: list[Scores]) -> Scores:
    """Return the mean of every score over the seeds."""
    return {
        model: {metric: statistics.fmean(s[model][metric] for s in scores) for metric in first}
        for model, first in scores[0].items()
    }


HEAD = (
    "stream", "deep", "linear", "new rows only", "best incremental peer", "best nightly retrain", "accuracy",
    "macro F1", "calibration error", "CPU s", "of sk_mlp's", "of lgb_all's",
)  # fmt: skip


def row(name: str, ours: Scores, peers: Mapping[str, Any], beside: Scores) -> list[str]:
    """Return a stream's row: losses (R² of a quantity), the best peers', other scores, and learning CPU seconds."""
    metric = "r2" if "r2" in ours["deep"] else "log_loss"
    choose = max if metric == "r2" else min
    first = [ours[model][metric] for model in MODELS]
    seconds = [ours[model]["learn_cpu_s"] for model in ("deep", "linear")]
    now = beside.get("sk_mlp", {}).get("learn_cpu_s")
    then = peers.get("sk_mlp", {}).get("learn_cpu_s")
    retrained = peers.get("lgb_all", {})
    scaled = retrained["learn_cpu_s"] * now / then if now and then and retrained.get("complete") else None
    return [
        name + (" (R²)" if metric == "r2" else ""),
        *(f"**{value:.3f}**" if value == choose(first) else f"{value:.3f}" for value in first),
        *(best(peers, names, metric) for names in (INCREMENTAL, RETRAINED)),
        *(" / ".join(f"{ours[m][s]:.3f}" for m in ("deep", "linear") if s in ours[m]) or "-"
          for s in ("accuracy", "macro_f1", "calibration_error")),
        " / ".join(f"{s:.1f}" for s in seconds),
        f"{seconds[0] / now:.1f}x" if now else "-",
        f"{seconds[0] / scaled:.0%} of {scaled:.0f}" if scaled else "-",
    ]  # fmt: skip


def best(peers: Mapping[str, Any], names: tuple[str, ...], metric: str) -> str:
    """Name the best peer of those that finished."""
    finished = {n: peers[n][metric] for n in names if n in peers and peers[n].get("complete", True)}
    if not finished:
        return "-"
    name = (max if metric == "r2" else min)(finished, key=lambda n: finished[n])
    return f"{finished[name]:.3f} ({name})"


def table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


OBSERVED = ("stream", "deep", "linear", "new rows only", "macro F1", "recall of late classes")


def observed_row(name: str, ours: Scores) -> list[str]:
    """Return a stream's row where classes are met as they come."""
    return [
        name,
        *(f"{ours[model]['log_loss']:.3f}" for model in MODELS),
        *(" / ".join(f"{ours[m][s]:.3f}" for m in ("deep", "linear")) for s in ("macro_f1", "late_recall")),
    ]


def write(path: Path, text: str, bench: str) -> None:
    """Put a bench's tables between its marks in a page."""
    start, end = f"<!-- {bench} starts -->", f"<!-- {bench} ends -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(start)
    path.write_text(f"{before}{start}\n{text}{end}{rest.partition(end)[2]}", encoding="utf-8")


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--rerun", type=Path)
    parser.add_argument("--streams", default="")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--write", type=Path)
    typed = parser.parse_args()
    streams = json.loads(typed.catalog.read_text())["datasets"]
    wanted = {name for name in typed.streams.split(",") if name} or {stream["name"] for stream in streams}
    peers = json.loads(typed.peers.read_text()) if typed.peers else {}
    kept = Kept(typed.keep, json.loads(typed.keep.read_text()) if typed.keep and typed.keep.exists() else {})
    folder, rows, observed = typed.catalog.parent, [], []
    for stream in (s for s in streams if s["name"] in wanted):
        name = stream["name"]
        found: dict[str, Scores] = {}
        for classes in ("declared", "observed") if stream.get("classes_first_seen_night") else ("declared",):
            found[classes] = mean([
                kept.run(f"{name} {classes} {seed}", partial(score, stream, folder, int(seed), classes))
                for seed in typed.seeds.split(",")
            ])  # fmt: skip
        beside = kept.run(f"{name} sk_mlp", partial(rerun, typed.rerun, typed.catalog, name)) if typed.rerun else {}
        rows.append(row(name, found["declared"], peers.get(name, {}), beside))
        if "late_recall" in found.get("observed", {}).get("deep", {}):
            observed.append(observed_row(name, found["observed"]))
    text = table(HEAD, rows) + ("\nClasses observed, not declared:\n\n" + table(OBSERVED, observed) if observed else "")
    print(text, end="")
    if typed.write:
        write(typed.write, text, "bench_quality")


if __name__ == "__main__":
    main()

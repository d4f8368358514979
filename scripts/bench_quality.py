"""Score nightfit's models over a catalog of streams, beside peers that were scored under the same protocol.

usage: bench_quality.py CATALOG.json [--peers peers.json] [--streams A,B] [--seeds 0,1,2] [--write docs/quality.md]

The protocol is that of `nightfit compare`: the first night is learned, every later one predicted whole, then learned;
scores pool all predicted rows; classes are declared. The catalog lists `datasets`: name, file, task, target,
night_rows and kinds (time, categorical). CPU seconds are this machine's; the peers' stored scores bring their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightfit.compare import Bench, compare
from nightfit.config import parse
from nightfit.sources.base import Chunk, Cursor
from nightfit.sources.files import read_whole
from nightfit.sources.increment import Cut

INCREMENTAL = ("seed", "sgd", "gnb", "sk_mlp", "skorch", "lgb_continue", "arf")
RETRAINED = ("lgb_all", "lgb_window")
START, END = "<!-- bench_quality starts -->", "<!-- bench_quality ends -->"


@dataclass(frozen=True)
class WholeFile:
    """A stream's file, read once from its start."""

    name: str
    path: Path

    def read(self, after: Cursor | None, note: Callable[[str], None]) -> Iterator[Chunk]:  # noqa: ARG002 - once
        """Yield all rows."""
        return read_whole(self.path, note=note)


def score(stream: Mapping[str, Any], folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Return each model's scores over one stream."""
    config = parse(
        {
            "name": "bench",
            "target": stream["target"],
            "sources": [{"url": stream["file"]}],
            "schema": {"categorical": stream["kinds"]["categorical"], "drop": stream["kinds"]["time"]},
        },
        folder,
    )
    bench = Bench(config.models, config.rules, Cut(n_rows=stream["night_rows"]), seed=seed)
    with tempfile.TemporaryDirectory() as staging:
        result: Any = compare(bench, [WholeFile(stream["name"], folder / stream["file"])], Path(staging) / "raw")
    scores: dict[str, dict[str, float]] = result["models"]
    return scores


def mean(scores: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the mean of every score over the seeds."""
    return {
        model: {metric: statistics.fmean(s[model][metric] for s in scores) for metric in first}
        for model, first in scores[0].items()
    }


def row(name: str, ours: Mapping[str, Mapping[str, float]], peers: Mapping[str, Any]) -> list[str]:
    """Return a stream's row: our log losses, the best peers', accuracy, macro F1 and learning CPU seconds."""
    deep, linear = ours["deep"], ours["linear"]
    losses = [deep["log_loss"], linear["log_loss"]]
    return [
        name,
        *(f"**{loss:.3f}**" if loss == min(losses) else f"{loss:.3f}" for loss in losses),
        *(best(peers, names) for names in (INCREMENTAL, RETRAINED)),
        f"{deep['accuracy']:.3f} / {linear['accuracy']:.3f}",
        f"{deep['macro_f1']:.3f} / {linear['macro_f1']:.3f}",
        f"{deep['learn_cpu_s']:.0f} / {linear['learn_cpu_s']:.0f}",
    ]


def best(peers: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Name the peer with the lowest log loss of those that finished."""
    finished = {n: peers[n]["log_loss"] for n in names if n in peers and peers[n].get("complete", True)}
    if not finished:
        return "-"
    name = min(finished, key=lambda n: finished[n])
    return f"{finished[name]:.3f} ({name})"


HEAD = ("stream", "deep", "linear", "best incremental peer", "best nightly retrain", "accuracy", "macro F1", "CPU s")


def table(rows: list[list[str]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def write(path: Path, text: str) -> None:
    """Put the table between its marks in a page."""
    page = path.read_text(encoding="utf-8")
    before, _, rest = page.partition(START)
    path.write_text(f"{before}{START}\n{text}{END}{rest.partition(END)[2]}", encoding="utf-8")


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--streams", default="")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--write", type=Path)
    typed = parser.parse_args()
    streams = json.loads(typed.catalog.read_text())["datasets"]
    wanted = {name for name in typed.streams.split(",") if name} or {stream["name"] for stream in streams}
    peers = json.loads(typed.peers.read_text()) if typed.peers else {}
    rows = []
    for stream in streams:
        if stream["name"] not in wanted:
            continue
        if stream["task"] == "regression":
            print(f"{stream['name']}: left out, nightfit does not learn quantities yet", file=sys.stderr)
            continue
        scores = [score(stream, typed.catalog.parent, int(seed)) for seed in typed.seeds.split(",")]
        rows.append(row(stream["name"], mean(scores), peers.get(stream["name"], {})))
        print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    print(table(rows), end="")
    if typed.write:
        write(typed.write, table(rows))


if __name__ == "__main__":
    main()

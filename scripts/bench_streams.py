"""Run `nightfit compare` over a catalog of streams with all of its models, and write what came of it as one page.

usage: bench_streams.py CATALOG.json --results DIR [--streams A,B] [--models A,B] [--peers peers.json]
                        [--write docs/benchmark.md] [--no-run]

It is the command that users run, in a process of its own for each stream: nights of the catalog's `night_rows` rows,
every night but the first predicted whole before it is learned, classes declared. The catalog lists `datasets`: name,
file, task, target, night_rows, nights and kinds (time, categorical), source and licence. What is trained anew every
night sees the nights of the last 30,000 rows. Results are kept in DIR: a run that was killed goes on where it was, and
a model that is added runs alone. `--peers` are scores of other libraries under the same protocol. The page is of all
streams whose results are in DIR, `--no-run` writes it of those that are there; its figures lie beside it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from streams_page import page

Stream: TypeAlias = Mapping[str, Any]
Result: TypeAlias = Mapping[str, Any]

WINDOW_ROWS = 30_000
INCREMENTAL = (
    "deep", "linear", "sk_mlp", "pa", "gnb", "multinomial_nb", "bernoulli_nb", "kmeans", "pca+sgd", "dictionary+sgd",
    "kmeans+sgd",
)  # fmt: skip
OF_CLASSES = {"gnb", "multinomial_nb", "bernoulli_nb"}
RETRAINED = ("hgb", "lightgbm")
CONSTANT = ("no_change", "prior")


def models_of(stream: Stream) -> list[str]:
    """Return the models that a stream is learned by; the first is the one that the others are held against."""
    window = max(WINDOW_ROWS // stream["night_rows"], 1)
    learn = [name for name in INCREMENTAL if stream["task"] != "regression" or name not in OF_CLASSES]
    return [*learn, *(f"{name}:{window}" for name in RETRAINED), *CONSTANT]


def command_of(stream: Stream, folder: Path, models: Sequence[str], results: Path) -> list[str]:
    """Spell the comparison of a stream."""
    task = "regression" if stream["task"] == "regression" else "classification"
    typed = ["compare", folder / stream["file"], "--target", stream["target"], "--task", task]
    typed += ["--night-rows", stream["night_rows"], "--models", ",".join(models), "--device", "cpu", "--json"]
    for option, kind in (("--categorical", "categorical"), ("--drop", "time")):
        if columns := stream["kinds"].get(kind):
            typed += [option, ",".join(columns)]
    return [*map(str, typed), "--results", str(results)]


def run(stream: Stream, folder: Path, models: Sequence[str], results: Path) -> Result:
    """Compare the models over a stream; a model that fails is told in the result."""
    command = command_of(stream, folder, models, results)
    done = subprocess.run([sys.executable, "-m", "nightfit", *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in {0, 1}:
        raise SystemExit(f"{stream['name']}: `nightfit compare` ended with {done.returncode}")
    found: Result = json.loads(done.stdout)
    return found


def write(path: Path, catalog: Sequence[Stream], results: Path, peers: Mapping[str, Any]) -> None:
    """Write the page of all streams that have a result, and its figures beside it."""
    kept = {stream["name"]: results / f"{stream['name']}.json" for stream in catalog}
    found = {name: json.loads(file.read_text()) for name, file in kept.items() if file.exists()}
    streams = [
        {
            **stream,
            "command": shlex.join(
                ["nightfit", *command_of(stream, Path("DATA"), list(found[name]["models"]), Path("DIR"))]
            ),
        }
        for stream in catalog
        if (name := stream["name"]) in found
    ]
    missing = [stream["name"] for stream in catalog if stream["name"] not in found]
    text, figures = page(streams, found, peers, missing)
    path.write_text(text, encoding="utf-8")
    for name, svg in figures.items():
        (path.parent / name).write_text(svg, encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--streams", default="")
    parser.add_argument("--models", default="")
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--no-run", action="store_true")
    asked = parser.parse_args()
    catalog = json.loads(asked.catalog.read_text())["datasets"]
    wanted = asked.streams.split(",") if asked.streams else [stream["name"] for stream in catalog]
    asked.results.mkdir(parents=True, exist_ok=True)
    for stream in (s for s in catalog if s["name"] in wanted and not asked.no_run):
        models = asked.models.split(",") if asked.models else models_of(stream)
        print(stream["name"], *models, file=sys.stderr, flush=True)
        result = run(stream, asked.catalog.parent, models, asked.results / stream["name"])
        (asked.results / f"{stream['name']}.json").write_text(json.dumps(result))
    if asked.write:
        peers = json.loads(asked.peers.read_text()) if asked.peers else {}
        write(asked.write, catalog, asked.results, peers)


if __name__ == "__main__":
    main()

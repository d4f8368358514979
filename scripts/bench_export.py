"""Hold an exported graph against nightfit on every row of a CSV file, and measure both.

The file is read by pandas, as somebody would who has the graph and no nightfit; nightfit reads it by itself. Usage:
python scripts/bench_export.py DATA --config FILE [--model M] [--rounds R]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nightfit.batch import Array
from nightfit.checkpoint import WEIGHTS
from nightfit.cleaning import parse_features
from nightfit.config import Config, load
from nightfit.export.run import export
from nightfit.history import lineages, pick
from nightfit.inputs import Typed
from nightfit.moments import scale
from nightfit.quantity import TargetScale
from nightfit.scorer import calibration_in
from nightfit.version import Version, find_version, load_version, parts_of

BATCH = 1_000


def feeds(data: Path, columns: dict[str, str], missing: tuple[str, ...]) -> dict[str, Array]:
    """Return a file's columns, [n, 1] each, as the graph's metadata says that it reads them."""
    table = pd.read_csv(data, dtype=str, na_values=list(missing), keep_default_na=False)
    return {name: _column(table[name], kind)[:, None] for name, kind in columns.items()}


def _column(text: Any, kind: str) -> Array:  # noqa: ANN401 - pandas ships no types
    if kind == "categorical":
        return np.asarray(text.fillna("").str.strip().to_numpy(object))
    if kind == "datetime":
        times = pd.to_datetime(text, utc=True, format="ISO8601")
        return np.asarray((times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1), np.float64)
    if kind == "boolean":
        text = text.str.lower().replace({"true": "1", "false": "0"})
    return np.asarray(pd.to_numeric(text), np.float64)


def batches(version: Version, data: Path, config: Config) -> list[Any]:
    """Return a file's rows as nightfit reads them, encoded."""
    read = []
    for chunk in Typed(str(data)).read(None, print):
        features, bad = parse_features(chunk.table, version.schema, config.rules.schema.missing)
        assert not any(mask.any() for mask in bad.values()), "every value must be of its column's kind"
        n = chunk.table.num_rows
        labels: Any = chunk.table[config.rules.target].cast("float64" if not version.schema.classes else "string")
        read.append(version.schema.encode(features, np.zeros(n, np.uint64), labels))
    return read


def rows_per_second(run: Callable[[int], object], n: int, rounds: int) -> float:
    """Return the median rate of rounds over batches, `run(start)` each."""
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        for at in range(0, n, BATCH):
            run(at)
        rates.append(n / (time.perf_counter() - start))
    return float(np.median(rates))


def measure(data: Path, config: Config, model: str, rounds: int) -> dict[str, Any]:
    """Export a model's head, and return how far it differs and how fast both are."""
    import onnxruntime

    lineage = lineages(config, model)[model]
    manifest, files = find_version(lineage, None, WEIGHTS.__eq__, lambda _, why: print(why))
    version = load_version(manifest, files)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = export(lineage, None, config.rules.schema, Path(folder) / "m.onnx", lambda _, why: print(why))
        seconds = time.perf_counter() - start
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(done.output, options, providers=["CPUExecutionProvider"])
    given = feeds(data, json.loads(session.get_modelmeta().custom_metadata_map["columns"]), config.rules.schema.missing)
    encoded = batches(version, data, config)
    x_num, x_cat = (np.concatenate([getattr(batch, name) for batch in encoded]) for name in ("x_num", "x_cat"))
    n = len(x_num)

    def graph(at: int) -> list[Array]:
        answers: list[Array] = session.run(None, {name: x[at : at + BATCH] for name, x in given.items()})
        return answers

    def scorer(at: int) -> Array:
        answers: Array = version.predictor.score(x_num[at : at + BATCH], x_cat[at : at + BATCH])  # type: ignore[attr-defined]
        return answers

    calibration = calibration_in(parts_of(files)[1])
    unit = float(scale(calibration.moments)[0]) if isinstance(calibration, TargetScale) else 1.0
    worst, labels = 0.0, 0
    for at in range(0, n, BATCH):
        (prediction, *proba), wanted = graph(at), scorer(at)
        worst = max(worst, float(np.abs((proba or [prediction[:, 0]])[0] - wanted).max() / unit))
        if proba:
            labels += int((prediction[:, 0] != np.array(version.schema.classes, object)[wanted.argmax(1)]).sum())
    return {
        "model": model, "version": done.model_version, "rows": n, "max_difference": worst, "other_labels": labels,
        "bytes": done.bytes, "export_s": round(seconds, 2), "checked_rows": done.rows_checked,
        "onnxruntime_rows_s": round(rows_per_second(graph, n, rounds)),
        "scorer_rows_s": round(rows_per_second(scorer, n, rounds)),
    }  # fmt: skip


def main() -> None:
    """Print one JSON object a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--rounds", type=int, default=3)
    typed = parser.parse_args()
    config = load(typed.config)
    for model in config.models if typed.model is None else [pick(config, typed.model)]:
        print(json.dumps(measure(typed.data, config, model, typed.rounds)), flush=True)


if __name__ == "__main__":
    main()

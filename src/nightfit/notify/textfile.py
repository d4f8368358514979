"""Gauges of the last night in the text format, for the textfile collector of Prometheus' node_exporter."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from nightfit.notify.told import ModelTold, Told

STATUSES = ("accepted", "refused", "nothing")


def write(path: Path, told: Told) -> None:
    """Replace the file in one step; raises `OSError` where it cannot be written."""
    registry = CollectorRegistry()
    night = _Gauges(registry, told.pipeline)
    night.set("exit_code", "What the last night ended with.", told.exit_code)
    night.set("timestamp_seconds", "When it ended.", told.at.timestamp())
    for each in told.models:
        _model(night, each)
    write_to_textfile(str(path), registry)


class _Gauges:
    """Gauges of one pipeline, each made when it is first set."""

    def __init__(self, registry: CollectorRegistry, pipeline: str) -> None:
        self._registry, self._pipeline = registry, pipeline
        self._made: dict[str, Gauge] = {}

    def set(self, name: str, about: str, value: float, **labels: str) -> None:
        """Set a gauge of the night."""
        if name not in self._made:
            self._made[name] = Gauge(f"nightfit_night_{name}", about, ["pipeline", *labels], registry=self._registry)
        self._made[name].labels(self._pipeline, *labels.values()).set(value)


def _model(night: _Gauges, each: ModelTold) -> None:
    model = each.model
    for status in STATUSES:
        night.set("status", "1: how it ended for the model.", each.status == status, model=model, status=status)
    if each.version is not None:
        night.set("version", "The entry that tells of it.", each.version, model=model)
    for score, value in each.scores.items():
        night.set("score", "Of the version before, on rows not learned yet.", value, model=model, score=score)
    for fate, n in asdict(each.rows).items():
        night.set("rows", "Where its rows went.", n, model=model, fate=fate)
    night.set("seconds", "How long it took.", each.seconds, model=model)
    night.set("columns_moved", "Columns that drifted, as it told.", len(each.moved), model=model)
    night.set("drift_effect", "PSI beyond noise of the column that moved most.", each.effect, model=model)

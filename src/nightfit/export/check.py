"""A graph is held against the scorer before it is written: what it answers elsewhere is what nightfit answers here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nightfit.errors import DataError
from nightfit.export.answers import PREDICTION, PROBABILITY
from nightfit.export.rows import edges, remembered
from nightfit.moments import scale
from nightfit.quantity import TargetScale
from nightfit.scorer import Scorer, calibration_in
from nightfit.serving.features import MAX_ROWS, Features
from nightfit.version import parts_of, usable_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nightfit.batch import Array
    from nightfit.checkpoint import Manifest
    from nightfit.export.rows import Raw
    from nightfit.schema import Schema, SchemaConfig

TOLERANCE = 1e-5
"""How far answers may differ: in probability, or in standard deviations of the target."""


@dataclass(frozen=True)
class Agreement:
    """How far a graph and the scorer differ at most, and on how many rows this was found."""

    rows: int
    difference: float


def check(graph: bytes, manifest: Manifest, files: Mapping[str, bytes], config: SchemaConfig) -> Agreement:
    """Run a graph on the rows that a version remembers, and on edges; raises `DataError` unless it answers the same."""
    schema = usable_schema(manifest)
    moments, arrays = parts_of(files)
    scorer = Scorer(str(manifest.state["kind"]), moments, arrays)
    calibration = calibration_in(arrays)
    unit = float(scale(calibration.moments)[0]) if isinstance(calibration, TargetScale) else 1.0
    session = opened(graph)
    n, worst = 0, 0.0
    for raw in (remembered(schema, files), edges(schema, config, moments)):
        for block in _blocks(raw):
            wanted = scorer.score(*encoded(schema, config, block))
            worst = max(worst, _difference(answers(session, block), wanted, schema) / unit)
            n += len(wanted)
    if not worst <= TOLERANCE:
        raise DataError(
            f"a graph must answer as nightfit does to {TOLERANCE:g}, however that of version {manifest.version} of "
            f"{manifest.model} differs by {worst:.3g} on {n:,} rows; nothing was written: use `nightfit predict` or "
            "`serve`, and report it"
        )
    return Agreement(n, worst)


def opened(graph: bytes) -> Any:  # noqa: ANN401 - an InferenceSession
    """Return a session of onnxruntime on the CPU."""
    import onnxruntime

    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def answers(session: Any, raw: Raw) -> dict[str, Array]:  # noqa: ANN401
    """Run a graph on raw columns; return its outputs by name."""
    fed = {given.name: raw[given.name][:, None] for given in session.get_inputs()}
    names = [given.name for given in session.get_outputs()]
    return dict(zip(names, session.run(names, fed), strict=True))


def encoded(schema: Schema, config: SchemaConfig, raw: Raw) -> tuple[Array, Array]:
    """Return raw columns as the server makes arrays of them: `x_num` and `x_cat`. Dropped columns are missing."""
    columns = {
        name: [None if value != value else value for value in values.tolist()]  # noqa: PLR0124 - NaN
        for name, values in raw.items()
        if name not in config.drop
    }
    return Features(schema, config).by_column(columns)


def _blocks(raw: Raw) -> Iterator[Raw]:
    n = len(next(iter(raw.values())))
    for start in range(0, n, MAX_ROWS):
        yield {name: values[start : start + MAX_ROWS] for name, values in raw.items()}


def _difference(found: Mapping[str, Array], wanted: Array, schema: Schema) -> float:
    """Return the greatest difference, in probability or in the target's unit.

    A label counts by how much less probable it is than the one that it should be: two may be as good as equal.
    """
    if wanted.ndim == 1:
        return _greatest(found[PREDICTION][:, 0] - wanted)
    places = {label: i for i, label in enumerate(schema.classes)}
    chosen = np.array([places[label] for label in found[PREDICTION][:, 0]])
    lost = wanted.max(1) - wanted[np.arange(len(wanted)), chosen]
    return max(_greatest(found[PROBABILITY] - wanted), _greatest(lost))


def _greatest(difference: Array) -> float:
    return float(np.abs(difference).max(initial=0.0)) if np.isfinite(difference).all() else np.inf

"""A version as one ONNX model: preprocessing, members, mixture, calibration and labels, and what it says of itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nightfit import __version__
from nightfit.calibration import Calibration
from nightfit.checkpoint import WEIGHTS
from nightfit.errors import DataError
from nightfit.export.answers import PREDICTION, PROBABILITY, classes, quantity
from nightfit.export.graph import Graph, Value
from nightfit.export.members import linear, mlp
from nightfit.export.preprocessing import features
from nightfit.scorer import calibration_in
from nightfit.version import has_graph, parts_of, usable_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nightfit.checkpoint import Manifest
    from nightfit.export.preprocessing import Features
    from nightfit.schema import Schema, SchemaConfig
    from nightfit.scorer import Arrays

MEMBERS = {"mlp": mlp, "partial_fit": linear}


def onnx_model(manifest: Manifest, files: Mapping[str, bytes], config: SchemaConfig) -> Any:  # noqa: ANN401 - a ModelProto
    """Return a version as a ModelProto.

    Raises `DataError` for a version that has learned nothing, and for columns that cannot be inputs.
    """
    schema = usable_schema(manifest)
    if not has_graph(manifest):
        raise DataError(
            f"a graph can be made of deep and linear models, however version {manifest.version} of {manifest.model} is "
            "neither; score it by `nightfit predict` or `nightfit serve`"
        )
    names = input_names(schema, config)
    moments, arrays = parts_of(files)
    g = Graph(names)
    x = features(g, schema, config, moments)
    calibration = calibration_in(arrays)
    raw = _raw(g, str(manifest.state["kind"]), x, arrays)
    if isinstance(calibration, Calibration):
        classes(g, raw, calibration, schema.classes)
    else:
        quantity(g, raw, calibration)
    title = f"version {manifest.version} of {manifest.pipeline}/{manifest.model}"
    return g.model(
        name=f"{manifest.pipeline}/{manifest.model}",
        version=manifest.version,
        producer_version=__version__,
        doc=f"{title}, as nightfit serves it: raw columns in, answers out",
        about=about(manifest, schema, names),
    )


def input_names(schema: Schema, config: SchemaConfig) -> list[str]:
    """Return the columns that the graph reads; raises `DataError` for those that cannot be its inputs."""
    names = [column.name for column in schema.columns if column.name not in config.drop]
    if not names:
        raise DataError(
            "a graph needs an input, however the version reads no column; its answer is always the same: ask "
            "`nightfit predict` for it"
        )
    for name in {"", PREDICTION, PROBABILITY} & set(names):
        raise DataError(
            f"a graph's inputs must have names that are not its outputs', however a column is called '{name}'; rename "
            "it in the source, or leave it out (schema.drop)"
        )
    return names


def _raw(g: Graph, kind: str, x: Features, arrays: Arrays) -> Value:
    """Return the learner's raw answers, float64 [n, K] or [n, 1]; before the first row was learned the prior's."""
    if arrays["seen"].any():
        return MEMBERS[kind](g, x, arrays)
    return g.rows_of(calibration_in(arrays).prior_rows(1).reshape(1, -1), name="prior")


def about(manifest: Manifest, schema: Schema, names: list[str]) -> dict[str, str]:
    """Return what the graph carries as metadata: texts, of which `classes` and `columns` are JSON."""
    kinds = {column.name: column.kind for column in schema.columns if column.name in names}
    return {
        "pipeline": manifest.pipeline,
        "model": manifest.model,
        "model_version": str(manifest.version),
        "task": schema.task,
        "classes": json.dumps(schema.classes, ensure_ascii=False),
        "columns": json.dumps(kinds, ensure_ascii=False),
        "created_at": manifest.created_at,
        "weights_sha256": manifest.files[WEIGHTS].sha256,
        "nightfit": __version__,
    }

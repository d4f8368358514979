"""From raw columns to what a learner reads: the graph's counterpart of `schema`, `moments` and `serving.features`."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nightfit.export.graph import ML, Graph, Value
from nightfit.moments import CLAMP, scale
from nightfit.schema import DAY_S, TIME_FEATURES, YEAR_S
from nightfit.values import as_category, as_number

if TYPE_CHECKING:
    from nightfit.batch import Array
    from nightfit.moments import Moments
    from nightfit.schema import Column, Schema, SchemaConfig

_DOCS = {
    "numeric": "a number; NaN: missing",
    "boolean": "1 for true, 0 for false; NaN: missing",
    "datetime": "seconds since 1970-01-01 UTC; NaN: missing",
    "categorical": "text without spaces around it; empty: missing; what was never seen is legal",
}

_WHOLE = re.compile(r"-?\d+", re.ASCII)


class Features(NamedTuple):
    """What the members read; None where there is no such column.

    `value`: float32 [n, d_num], standardised, 0 where missing. `missing`: float32 [n, d_num], flags.
    `ids`: int64 [n, d_cat].
    """

    value: Value | None
    missing: Value | None
    ids: Value | None


def features(g: Graph, schema: Schema, config: SchemaConfig, moments: Moments) -> Features:
    """Declare an input for each column and encode them all; columns that are dropped by now are missing, as ever."""
    raw = {c.name: g.input(c.name, _dtype(c), _DOCS[c.kind]) for c in schema.columns if c.name not in config.drop}
    value, missing = _standardised(g, _numbers(g, schema, config, raw), moments) if schema.numeric else (None, None)
    ids = [_ids(g, column, config, raw.get(column.name)) for column in schema.categorical]
    return Features(value, missing, g.side_by_side(ids, name="ids") if ids else None)


def _dtype(column: Column) -> type:
    return str if column.kind == "categorical" else np.float64


def _numbers(g: Graph, schema: Schema, config: SchemaConfig, raw: dict[str, Value]) -> Value:
    """Return `x_num`, float64 [n, d_num], NaN where missing."""
    nothing = [] if all(c.name in raw for c in schema.numeric) else [g.rows_of(np.full((1, 1), np.nan), name="dropped")]
    columns = [raw[c.name] if c.name in raw else nothing[0] for c in schema.numeric]
    x = g.side_by_side(columns, name="numbers")
    for i, number in enumerate(sorted({x for x in map(as_number, config.missing) if not math.isnan(x)})):
        x = g("Where", g("Equal", x, number, name=f"is_no_value_{i}"), np.nan, x, name=f"no_value_{i}")
    is_time = np.array([c.kind == "datetime" for c in schema.numeric])
    if not is_time.any():
        return x
    plain = [g.columns(x, np.flatnonzero(~is_time), len(is_time), name="plain_numbers")] if not is_time.all() else []
    times = g.columns(x, np.flatnonzero(is_time), len(is_time), name="times")
    joined = g.side_by_side([*plain, *_circles(g, times)], name="numbers_and_circles")
    return g.columns(joined, _places(is_time), len(schema.feature_names), name="x_num")


def _circles(g: Graph, seconds: Value) -> list[Value]:
    """Return `TIME_FEATURES` of t times, [n, t] each, as `schema.time_features` computes them.

    A cosine is a sine a quarter of a turn ahead: onnxruntime had none of float64 for long (1.20 has none).
    """
    turn = 2 * math.pi
    radians, days = g("Mul", seconds, turn, name="radians"), g("Div", seconds, DAY_S, name="days")
    weeks = g("Mul", g("Sub", days, 4.0, name="days_since_monday"), turn, name="week_radians")
    angles = {
        "year": g("Div", radians, YEAR_S, name="year"),
        "week": g("Div", weeks, 7.0, name="week"),
        "day": g("Div", radians, DAY_S, name="day"),
    }
    ahead = {f"{name}_cos": g("Add", angle, turn / 4, name=f"{name}_ahead") for name, angle in angles.items()}
    of_sine = {f"{name}_sin": angle for name, angle in angles.items()} | ahead
    return [g("Sin", of_sine[feature], name=feature) for feature in TIME_FEATURES]


def _places(is_time: Array) -> Array:
    """Return for each column of `x_num` its place in plain numbers followed by each circle of all times."""
    n_plain, n_times = int((~is_time).sum()), int(is_time.sum())
    circles = n_plain + np.arange(len(TIME_FEATURES)) * n_times
    ranks = np.where(is_time, is_time.cumsum(), (~is_time).cumsum()) - 1
    places = [circles + rank if time else [rank] for time, rank in zip(is_time, ranks, strict=True)]
    return np.concatenate(places)


def _standardised(g: Graph, x: Value, moments: Moments) -> tuple[Value, Value]:
    """Return values and missing flags; the arithmetic is float64 until the result is small, as in `moments`."""
    z = g("Sub", x, moments["origin"], name="from_origin")
    z = g("Div", g("Sub", z, moments["mean"], name="from_mean"), scale(moments), name="in_deviations")
    z = g("Clip", z, -CLAMP, CLAMP, name="clamped")
    known = moments["count"] > 0
    if not known.all():
        z = g("Where", known, z, 0.0, name="of_known_columns")
    missing = g("IsNaN", x, name="is_missing")
    value = g("Where", missing, np.float32(0), g.cast(z, np.float32, name="standardised"), name="value")
    return value, g.cast(missing, np.float32, name="missing")


def _ids(g: Graph, column: Column, config: SchemaConfig, raw: Value | None) -> Value:
    """Return a column's ids, int64 [n, 1]."""
    if raw is None:
        return g.rows_of(np.array([[column.missing_id]]), name=f"dropped/{column.missing_id}")
    ids = ids_of(column, config)
    return g(
        "LabelEncoder", raw, name=f"ids/{column.name}", domain=ML,
        keys_strings=list(ids), values_int64s=list(ids.values()), default_int64=column.unseen_id,
    )  # fmt: skip


def ids_of(column: Column, config: SchemaConfig) -> dict[str, int]:
    """Return the id of every text that is no unseen category; the empty one is missing, as tensors know no null."""
    missing = frozenset(config.missing)
    texts = [*config.missing, *(text for category in column.categories for text in spellings(category))]
    said = {text: as_category(text, missing) for text in texts}
    known = {
        text: column.missing_id if category is None else column.categories.get(category, column.unseen_id)
        for text, category in said.items()
    }
    return {"": column.missing_id} | known


def spellings(category: str) -> list[str]:
    """Return a category as nightfit spells it, and as pandas spells the same number or truth value."""
    if _WHOLE.fullmatch(category):
        return [category, f"{category}.0"]
    return [category, category.title(), category.upper()] if category in {"true", "false"} else [category]

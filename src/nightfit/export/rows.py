"""The raw rows on which a graph is held against the scorer: those that the version remembers, and ones at the edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nightfit.batch import Array
from nightfit.checkpoint import MEMORY, unpack
from nightfit.moments import CLAMP, scale
from nightfit.schema import TIME_FEATURES, YEAR_S
from nightfit.values import LIMIT, as_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nightfit.moments import Moments
    from nightfit.schema import Column, Schema, SchemaConfig

Raw: TypeAlias = dict[str, Array]
"""Columns by name, [n] each: float64, NaN where missing; or text (object), empty where missing."""

N_EDGES = 1_000
"""Rows that mix the edges of all columns, at least: as many as a column has categories, so that each comes once."""

TIMES = (0.0, 951_782_400.0, 1.7e9, 4e9, -6.2e10, 2.5e11, 86_399.999999)
"""Epoch, a leap day, now, the year 2096, the years 5 and 9892, and a microsecond before midnight."""

UNSEEN = "a category that no row has brought"


def remembered(schema: Schema, files: Mapping[str, bytes]) -> Raw:
    """Return the rows of a version's memories, for replay and for testing; none where it keeps none.

    Of a time they hold only the circles: it comes back as one of 1970 at the same point of the year.
    """
    arrays = unpack(files[MEMORY], name=MEMORY) if MEMORY in files else {}
    x_num, x_cat = (
        np.concatenate([a for name, a in arrays.items() if name.endswith(f".{of}")] or [np.zeros((0, width))])
        for of, width in (("x_num", schema.sizes.d_num), ("x_cat", schema.sizes.d_cat))
    )
    raw, numbers, ids = Raw(), iter(x_num.T), iter(x_cat.T)
    for column in schema.columns:
        if column.kind == "categorical":
            raw[column.name] = _texts(column, next(ids))
        elif column.kind == "datetime":
            sine, cosine, *_ = (next(numbers) for _ in TIME_FEATURES)
            raw[column.name] = np.arctan2(sine, cosine) / (2 * np.pi) * YEAR_S
        else:
            raw[column.name] = next(numbers)
    return raw


def _texts(column: Column, ids: Array) -> Array:
    known = column.values | {column.missing_id: "", column.unseen_id: UNSEEN}
    return np.array([known[i] for i in ids.tolist()], object)


def edges(schema: Schema, config: SchemaConfig, moments: Moments) -> Raw:
    """Return rows whose every column is missing, unseen, or huge; then mixtures of all that a column may hold."""
    deviations = dict(zip(schema.feature_names, zip(*_range(moments), strict=True), strict=True))
    choices = {column.name: _choices(column, config, deviations) for column in schema.columns}
    n = max([N_EDGES, *map(len, choices.values())])
    random = np.random.default_rng(0)
    return {name: np.concatenate([held[:3], random.permutation(np.resize(held, n))]) for name, held in choices.items()}


def _range(moments: Moments) -> tuple[Array, Array]:
    return moments["origin"] + moments["mean"], scale(moments)


def _choices(column: Column, config: SchemaConfig, deviations: Mapping[str, tuple[float, float]]) -> Array:
    """Return what a column may hold: first missing; then unseen, or the largest values of either sign."""
    if column.kind == "categorical":
        return np.array(["", UNSEEN, UNSEEN.title(), *config.missing, *column.categories], object)
    if column.kind == "boolean":
        return np.array([np.nan, 0.0, 1.0])
    if column.kind == "datetime":
        return np.array([np.nan, max(TIMES), min(TIMES), *TIMES])
    mean, deviation = deviations[column.name]
    steps = (0, 0.5, -1, 2, -3, CLAMP - 0.01, CLAMP + 0.01, -CLAMP - 0.01)
    no_value = [number for number in map(as_number, config.missing) if not np.isnan(number)]
    return np.array([np.nan, LIMIT, -LIMIT, 0.0, 1e9, -1e-9, *no_value, *(mean + step * deviation for step in steps)])

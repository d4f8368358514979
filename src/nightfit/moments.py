"""Running moments and standardising by them, in numpy: what the normalisation layer and serving share.

Moments are exact over all rows they were given, whatever the nights these came in: they merge in float64 (Chan, Golub
& LeVeque 1983) and ignore NaN. Each column is measured from its own `origin`, the first value it ever had: one of
1e9 ± 1 would otherwise lose, in the difference of two means near 1e9, the digits that its variance consists of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from nightfit.batch import Array

Moments: TypeAlias = Mapping[str, Array]
"""`STATISTICS` of d columns, float64 [d] each."""

STATISTICS = ("origin", "count", "mean", "m2")
"""The first value; how many there were; their mean, from the origin; the sum of squared deviations from that mean."""

CLAMP = 10.0
"""Standardised values are clamped here: an outlier of a thousand deviations must not drown a night."""


def no_moments(d: int) -> dict[str, Array]:
    """Return the moments of d columns that had no value yet."""
    return {name: np.zeros(d) for name in STATISTICS}


def merged(moments: Moments, x: Array) -> dict[str, Array]:
    """Return the moments with the rows x [n, d] taken in."""
    if not len(x):
        return dict(moments)
    valid = ~np.isnan(x)
    count = valid.sum(0).astype(np.float64)
    first = x[valid.argmax(0), np.arange(x.shape[1])]
    origin = np.where((moments["count"] == 0) & (count > 0), first, moments["origin"])
    shifted = np.where(valid, x - origin, 0.0)
    mean = shifted.sum(0) / np.maximum(count, 1)
    m2 = np.square(np.where(valid, shifted - mean, 0.0)).sum(0)
    return joined({**moments, "origin": origin}, {"origin": origin, "count": count, "mean": mean, "m2": m2})


def joined(a: Moments, b: Moments) -> dict[str, Array]:
    """Return the moments of two sets of rows together; a column's origin is that of the first which has values."""
    origin = np.where(a["count"] == 0, b["origin"], a["origin"])
    total = a["count"] + b["count"]
    delta = b["mean"] + (b["origin"] - origin) - a["mean"]
    return {
        "origin": origin,
        "count": total,
        "mean": a["mean"] + delta * b["count"] / np.maximum(total, 1),
        "m2": a["m2"] + b["m2"] + np.square(delta) * a["count"] * b["count"] / np.maximum(total, 1),
    }


def scale(moments: Moments) -> Array:
    """Return the standard deviation of each column, float64 [d]; 1 where there is none."""
    variance = moments["m2"] / np.maximum(moments["count"], 1)
    return np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), 1.0)


class Standardiser:
    """Standardise rows by moments that do not change any more; what they alone decide is computed once."""

    def __init__(self, moments: Moments) -> None:
        self._origin, self._mean, self._scale = moments["origin"], moments["mean"], scale(moments)
        self._known = moments["count"] > 0
        self._all_known = bool(self._known.all())

    def __call__(self, x: Array) -> Array:
        """Standardise x [n, d], clamped at ± `CLAMP`; float32 out, NaN stays NaN, a column without values becomes 0."""
        z = np.minimum(np.maximum(((x - self._origin) - self._mean) / self._scale, -CLAMP), CLAMP)
        if not self._all_known:
            z = np.where(self._known | np.isnan(x), z, 0.0)
        return z.astype(np.float32)


def standardise(moments: Moments, x: Array) -> Array:
    """Standardise x [n, d] as a `Standardiser` does."""
    return Standardiser(moments)(x)

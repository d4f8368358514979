"""Standardising by running moments, in numpy: the arithmetic that the normalisation layer and serving share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nightfit.batch import Array

CLAMP = 10.0
"""Standardised values are clamped here: an outlier of a thousand deviations must not drown a night."""


def standardise(moments: Mapping[str, Array], x: Array) -> Array:
    """Standardise x [n, d] by the statistics of `normaliser.Normaliser`; float32 out, NaN stays NaN."""
    variance = moments["m2"] / np.maximum(moments["count"], 1)
    scale = np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), 1.0)
    z = np.clip(((x - moments["origin"]) - moments["mean"]) / scale, -CLAMP, CLAMP)
    return np.asarray(np.where((moments["count"] > 0) | np.isnan(x), z, 0.0), np.float32)

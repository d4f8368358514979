"""The forward pass in numpy: what `predict` and `serve` run, from a checkpoint's arrays and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from nightfit.batch import Array, Batch
from nightfit.calibration import Calibration
from nightfit.moments import standardise

Arrays: TypeAlias = Mapping[str, Array]


class Scorer:
    """Predicts as the learner that left these arrays would, to within float32's rounding.

    `kind` is the learner's ("mlp" or "partial_fit"); `moments` and `arrays` are the normaliser's and the learner's.
    """

    def __init__(self, kind: str, moments: Arrays, arrays: Arrays) -> None:
        self._forward = {"mlp": mlp_proba, "partial_fit": linear_proba}[kind]
        self._moments, self._arrays = moments, arrays
        self._calibration = Calibration.from_arrays(arrays)

    def predict_proba(self, batch: Batch) -> Array:
        """Return calibrated probabilities, float64 [n, K]."""
        z = standardise(self._moments, batch.x_num)
        return self._calibration.apply(self._forward(self._arrays, z, batch.x_cat, self._calibration.prior))


def mlp_proba(arrays: Arrays, z: Array, x_cat: Array, prior: Array) -> Array:
    """Return the MLP's raw probabilities, float64 [n, K], as `learners.mlp.Mlp` computes its logits."""
    if not arrays["seen"].any():
        return np.tile(prior, (len(z), 1))
    missing = np.isnan(z)
    x = np.where(missing, np.float32(0), z) @ arrays["net.w_num"] + arrays["net.b_in"]
    if missing.any():
        x = x + missing.astype(np.float32) @ arrays["net.w_missing"]
    for embedded, w in zip(arrays["net.embedding"][x_cat].swapaxes(0, 1), arrays["net.w_cat"], strict=True):
        x = x + embedded @ w
    for i in range(sum(name.startswith("net.w_hidden.") for name in arrays)):
        x = np.maximum(x, 0) @ arrays[f"net.w_hidden.{i}"] + arrays[f"net.b_hidden.{i}"]
    logits = (np.maximum(x, 0) @ arrays["net.w_out"] + arrays["net.b_out"]).astype(np.float64)
    logits[:, ~arrays["seen"]] = -np.inf
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(odds / odds.sum(1, keepdims=True))


def linear_proba(arrays: Arrays, z: Array, x_cat: Array, prior: Array) -> Array:
    """Return the linear model's raw probabilities, float64 [n, K]: logistic, one against the rest, renormalised.

    With two classes one weight vector tells them apart. Classes that were never learned have no share.
    """
    seen = arrays["seen"]
    if not seen.any():
        return np.tile(prior, (len(z), 1))
    missing = np.isnan(z)
    scores = np.where(missing, 0, z) @ arrays["w_num"].T + missing @ arrays["w_missing"].T + arrays["bias"][:, 0]
    for ids in x_cat.T:
        scores = scores + arrays["w_cat"][:, ids].T
    p = 0.5 * (1 + np.tanh(scores / 2))  # the logistic function, without overflow
    if len(seen) == 2:  # noqa: PLR2004 - two classes
        p = np.concatenate([1 - p, p], 1)
    p = np.where(seen, np.maximum(p, 1e-12), 0.0) if len(seen) > 1 else np.ones((len(z), 1))
    return np.asarray(p / p.sum(1, keepdims=True))

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
    """Return the ensemble's raw probabilities, float64 [n, K], as `learners.deep` computes them."""
    if not arrays["seen"].any():
        return np.tile(prior, (len(z), 1))
    logits = _mlp_logits(arrays, z, x_cat).astype(np.float64)
    logits[..., ~arrays["seen"]] = -np.inf
    odds = np.exp(logits - logits.max(2, keepdims=True))
    return np.asarray(np.tensordot(arrays["mixture"], odds / odds.sum(2, keepdims=True), 1))


def _mlp_logits(arrays: Arrays, z: Array, x_cat: Array) -> Array:
    """Return the members' logits, float32 [M + 1, n, K], as `learners.mlp.Mlp.forward` does."""
    w = {name.removeprefix("net."): a for name, a in arrays.items() if name.startswith("net.")}
    n, (n_members, h, _) = len(z), w["w_out"].shape
    missing = np.isnan(z)
    value = np.where(missing, np.float32(0), z)
    dense = np.stack([value, missing.astype(np.float32)], 2).reshape(n, len(w["w_dense"]))
    angles = value[:, :, None] * arrays["frequencies"]
    waves = np.concatenate([np.sin(angles), np.cos(angles)], 2) * ~missing[:, :, None]
    first = w["b_in"] + dense @ w["w_dense"] + w["embedding"][x_cat].reshape(n, len(w["w_cat"])) @ w["w_cat"]
    first[:, : w["w_waves"].shape[1]] += waves.reshape(n, len(w["w_waves"])) @ w["w_waves"]
    x = np.maximum(first, 0).reshape(n, n_members, h).swapaxes(0, 1)
    for weight, bias in zip(w["w_hidden"], w["b_hidden"], strict=True):
        x = np.maximum(x @ weight + bias, 0)
    linear = w["l_out"] + dense @ w["l_dense"] + w["l_cat"][x_cat].sum(1)
    return np.concatenate([x @ w["w_out"] + w["b_out"], linear[None]])


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

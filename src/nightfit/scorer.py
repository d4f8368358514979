"""The forward pass in numpy: what `predict` and `serve` run, from a checkpoint's arrays and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from nightfit.batch import Array, Batch
from nightfit.calibration import Calibration
from nightfit.moments import standardise
from nightfit.quantity import TargetScale

Arrays: TypeAlias = Mapping[str, Array]

GROUPS = (range(3), range(3, 5), range(5, 7))
"""The MLPs of the ensemble, in groups that learn the same rows. The linear member, after them, learns with the first.

The first of each group reads the sines and cosines too: the others stay smooth where rows are few.
"""


class Scorer:
    """Predicts as the learner that left these arrays would, to within float32's rounding.

    `kind` is the learner's ("mlp" or "partial_fit"); `moments` and `arrays` are the normaliser's and the learner's.
    """

    def __init__(self, kind: str, moments: Arrays, arrays: Arrays) -> None:
        self._forward = {"mlp": mlp_raw, "partial_fit": linear_raw}[kind]
        self._moments, self._arrays = moments, arrays
        self._calibration = calibration_in(arrays)
        self._has_learned = bool(arrays["seen"].any())

    def predict(self, batch: Batch) -> Array:
        """Return calibrated probabilities, float64 [n, K], or the values of a quantity, float64 [n]."""
        return self.score(batch.x_num, batch.x_cat)

    def score(self, x_num: Array, x_cat: Array) -> Array:
        """Do the same for bare features, float64 [n, d_num] and int32 [n, d_cat]."""
        if not self._has_learned:
            return self._calibration.apply(self._calibration.prior_rows(len(x_num)))
        z = standardise(self._moments, x_num)
        return self._calibration.apply(self._forward(self._arrays, z, x_cat))


def calibration_in(arrays: Arrays) -> Calibration | TargetScale:
    """Return the calibration whose state is among a learner's arrays."""
    return (TargetScale if TargetScale.is_in(arrays) else Calibration).from_arrays(arrays)


def mlp_raw(arrays: Arrays, z: Array, x_cat: Array) -> Array:
    """Return the ensemble's raw answers, [n, K] or [n], as `learners.deep` computes them."""
    outputs = _mlp_outputs(arrays, z, x_cat).astype(np.float64)
    if TargetScale.is_in(arrays):
        return np.asarray(np.tensordot(arrays["mixture"], outputs[..., 0], 1))
    outputs[..., ~arrays["seen"]] = -np.inf
    odds = np.exp(outputs - outputs.max(2, keepdims=True))
    return np.asarray(np.tensordot(arrays["mixture"], odds / odds.sum(2, keepdims=True), 1))


def _mlp_outputs(arrays: Arrays, z: Array, x_cat: Array) -> Array:
    """Return the members' outputs, float32 [M + 1, n, K], as `learners.mlp.Mlp.forward` does."""
    w = {name.removeprefix("net."): a for name, a in arrays.items() if name.startswith("net.")}
    n, (n_members, h, _) = len(z), w["w_out"].shape
    missing = np.isnan(z)
    value = np.where(missing, np.float32(0), z)
    angles = value[:, :, None] * arrays["frequencies"]
    waves = np.concatenate([np.sin(angles), np.cos(angles)], 2) * ~missing[:, :, None]
    first = w["b_in"] + value @ w["w_value"] + w["embedding"][x_cat].reshape(n, len(w["w_cat"])) @ w["w_cat"]
    linear = w["l_out"] + value @ w["l_value"] + w["l_cat"][x_cat].sum(1)
    if missing.any():
        flags = missing.astype(np.float32)
        first, linear = first + flags @ w["w_missing"], linear + flags @ w["l_missing"]
    periodic = (waves.reshape(n, len(w["w_waves"])) @ w["w_waves"]).reshape(n, len(GROUPS), h)
    first.reshape(n, n_members, h)[:, [members.start for members in GROUPS]] += periodic
    x = np.maximum(first, 0).reshape(n, n_members, h).swapaxes(0, 1)
    for weight, bias in zip(w["w_hidden"], w["b_hidden"], strict=True):
        x = np.maximum(x @ weight + bias, 0)
    return np.concatenate([x @ w["w_out"] + w["b_out"], linear[None]])


def linear_raw(arrays: Arrays, z: Array, x_cat: Array) -> Array:
    """Return the linear model's raw answers: probabilities, float64 [n, K], or standardised values, float64 [n].

    Probabilities are logistic, one against the rest, renormalised; with two classes one weight vector tells them
    apart. Classes that were never learned have no share.
    """
    seen = arrays["seen"]
    missing = np.isnan(z)
    scores = np.where(missing, 0, z) @ arrays["w_num"].T + missing @ arrays["w_missing"].T + arrays["bias"][:, 0]
    for ids in x_cat.T:
        scores = scores + arrays["w_cat"][:, ids].T
    if TargetScale.is_in(arrays):
        return np.asarray(scores[:, 0])
    p = 0.5 * (1 + np.tanh(scores / 2))  # the logistic function, without overflow
    if len(seen) == 2:  # noqa: PLR2004 - two classes
        p = np.concatenate([1 - p, p], 1)
    p = np.where(seen, np.maximum(p, 1e-12), 0.0) if len(seen) > 1 else np.ones((len(z), 1))
    return np.asarray(p / p.sum(1, keepdims=True))

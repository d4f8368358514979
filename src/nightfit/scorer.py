"""The forward pass in numpy: what `predict` and `serve` run, from a checkpoint's arrays and without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise
from typing import TypeAlias

import numpy as np

from nightfit.batch import Array, Batch
from nightfit.calibration import Calibration
from nightfit.moments import Standardiser
from nightfit.quantity import TargetScale

Arrays: TypeAlias = Mapping[str, Array]

Forward: TypeAlias = Callable[[Array, Array], Array]
"""Standardised numbers, float32 [n, d_num], and ids, int32 [n, d_cat], in; raw answers out."""

BLOCK = 4096
"""Rows that go through a forward pass at a time: their activations stay in the processor's cache."""


def group_sizes(n_members: int) -> tuple[int, int, int]:
    """Return how many of an ensemble's MLPs learn old rows too, new ones alone, and the latest ones too."""
    return math.ceil(n_members / 3), n_members // 3, math.ceil((n_members - 1) / 3)


def groups(n_members: int) -> tuple[range, ...]:
    """Return an ensemble's MLPs in groups that learn the same rows, those that have any.

    The linear member, after them, learns with the first. The first of each group reads the sines and cosines too: the
    others stay smooth where rows are few.
    """
    ends = [0, *accumulate(group_sizes(n_members))]
    return tuple(range(start, end) for start, end in pairwise(ends) if start < end)


class Scorer:
    """Predicts as the learner that left these arrays would, to within float32's rounding.

    `kind` is the learner's ("mlp" or "partial_fit"); `moments` and `arrays` are the normaliser's and the learner's.
    `raw`: what computes the raw answers of a learner that is not nightfit's own; `votes`: they are left as votes.
    """

    def __init__(
        self, kind: str, moments: Arrays, arrays: Arrays, *, raw: Forward | None = None, votes: bool = False
    ) -> None:
        calibration = calibration_in(arrays)
        self._has_learned = bool(arrays["seen"].any())
        self._prior_rows, self._calibrate = calibration.prior_rows, voted if votes else calibration.fixed()
        self._standardise = Standardiser(moments)
        self._raw = raw or {"mlp": mlp_raw, "partial_fit": linear_raw}[kind](arrays)

    def predict(self, batch: Batch) -> Array:
        """Return calibrated probabilities, float64 [n, K], or the values of a quantity, float64 [n]."""
        return self.score(batch.x_num, batch.x_cat)

    def score(self, x_num: Array, x_cat: Array) -> Array:
        """Do the same for bare features, float64 [n, d_num] and int32 [n, d_cat]."""
        if not self._has_learned:
            return self._calibrate(self._prior_rows(len(x_num)))
        if len(x_num) <= BLOCK:
            return self._calibrate(self._raw(self._standardise(x_num), x_cat))
        blocks = (slice(i, i + BLOCK) for i in range(0, len(x_num), BLOCK))
        return np.concatenate([self.score(x_num[block], x_cat[block]) for block in blocks])


def voted(p: Array) -> Array:
    """Return 1 for each row's first largest share [n, K], 0 for the others."""
    votes = np.zeros(p.shape)
    if p.shape[1]:
        votes[np.arange(len(p)), p.argmax(1)] = 1
    return votes


def calibration_in(arrays: Arrays) -> Calibration | TargetScale:
    """Return the calibration whose state is among a learner's arrays."""
    return (TargetScale if TargetScale.is_in(arrays) else Calibration).from_arrays(arrays)


def mlp_raw(arrays: Arrays) -> Forward:
    """Return what computes the ensemble's raw answers, [n, K] or [n], as `learners.deep` does."""
    outputs, mixture, unseen = _mlp_outputs(arrays), arrays["mixture"], ~arrays["seen"]
    is_quantity, all_seen = TargetScale.is_in(arrays), not unseen.any()

    def raw(z: Array, x_cat: Array) -> Array:
        members = outputs(z, x_cat).astype(np.float64)
        if is_quantity:
            return np.asarray(np.tensordot(mixture, members[..., 0], 1))
        if not all_seen:
            members[..., unseen] = -np.inf
        odds = np.exp(members - members.max(2, keepdims=True))
        odds /= odds.sum(2, keepdims=True)
        return np.asarray((mixture @ odds.reshape(len(mixture), -1)).reshape(odds.shape[1:]))

    return raw


def _mlp_outputs(arrays: Arrays) -> Forward:
    """Return what computes the members' outputs, float32 [M + 1, n, K], as `learners.mlp.Mlp.forward` does."""
    w = {name.removeprefix("net."): a for name, a in arrays.items() if name.startswith("net.")}
    n_members, h, _ = w["w_out"].shape
    frequencies, firsts = arrays["frequencies"], [members.start for members in groups(n_members)]
    hidden = list(zip(w["w_hidden"], w["b_hidden"], strict=True))

    def outputs(z: Array, x_cat: Array) -> Array:
        n = len(z)
        missing = np.isnan(z)
        any_missing = missing.any()
        value = np.where(missing, np.float32(0), z) if any_missing else z
        angles = value[:, :, None] * frequencies
        waves = np.concatenate([np.sin(angles), np.cos(angles)], 2)
        first, linear = w["b_in"] + value @ w["w_value"], w["l_out"] + value @ w["l_value"]
        if x_cat.shape[1]:
            first += w["embedding"][x_cat].reshape(n, len(w["w_cat"])) @ w["w_cat"]
            linear += w["l_cat"][x_cat].sum(1)
        if any_missing:
            flags = missing.astype(np.float32)
            waves *= ~missing[:, :, None]
            first += flags @ w["w_missing"]
            linear += flags @ w["l_missing"]
        periodic = (waves.reshape(n, len(w["w_waves"])) @ w["w_waves"]).reshape(n, len(firsts), h)
        first.reshape(n, n_members, h)[:, firsts] += periodic
        x = np.maximum(first, 0, out=first).reshape(n, n_members, h).swapaxes(0, 1)
        for weight, bias in hidden:
            x = x @ weight
            x += bias
            np.maximum(x, 0, out=x)
        return np.concatenate([x @ w["w_out"] + w["b_out"], linear[None]])

    return outputs


def linear_raw(arrays: Arrays) -> Forward:
    """Return what computes the linear model's raw answers: probabilities, float64 [n, K], or standardised values [n].

    Probabilities are logistic, one against the rest, renormalised; with two classes one weight vector tells them
    apart. Classes that were never learned have no share.
    """
    seen, bias = arrays["seen"], arrays["bias"][:, 0]
    w_num, w_missing, w_cat = arrays["w_num"].T, arrays["w_missing"].T, arrays["w_cat"]
    is_quantity = TargetScale.is_in(arrays)

    def raw(z: Array, x_cat: Array) -> Array:
        missing = np.isnan(z)
        scores = (np.where(missing, 0, z) @ w_num + missing @ w_missing if missing.any() else z @ w_num) + bias
        for ids in x_cat.T:
            scores = scores + w_cat[:, ids].T
        if is_quantity:
            return np.asarray(scores[:, 0])
        p = 0.5 * (1 + np.tanh(scores / 2))  # the logistic function, without overflow
        if len(seen) == 2:  # noqa: PLR2004 - two classes
            p = np.concatenate([1 - p, p], 1)
        p = np.where(seen, np.maximum(p, 1e-12), 0.0) if len(seen) > 1 else np.ones((len(z), 1))
        return np.asarray(p / p.sum(1, keepdims=True))

    return raw

"""From a learner's standardised answers to a quantity: the target's persisted moments, and how far to trust answers.

What `calibration` is for probabilities. Learners work in standard deviations of the target from its mean; both follow
all rows learned so far, as those of the features do. A grid picks by how much answers are shrunk to the mean, by the
squared errors of the past nights' rows before they were learned. Numpy only: serving runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from nightfit.batch import Array
from nightfit.calibration import FADE, FULL_ROWS, LIMIT, MAX_ROWS, PRIOR_SHARES
from nightfit.moments import CLAMP, STATISTICS, Moments, merged, no_moments, scale

CAUTION = 1e-4 * (np.arange(len(PRIOR_SHARES)) - 3.0) ** 2
"""The losses that the grid starts with: before there is evidence a tenth of the mean.

Small, in variances of the target: a few nights of a learner that is right to one part in a thousand outweigh them."""

MARGIN = 0.1
"""Answers stay within the range of the learned targets, widened by this share of it at both ends: an outlier among
the features must not be answered by a value that the target never comes near."""

_PREFIX = "target."


class TargetScale:
    """The target's moments (float64 [1] each), its learned range (float64 [2], or [0]), and the grid's faded losses."""

    def __init__(self, moments: Moments | None = None, limits: Array | None = None, losses: Array = CAUTION) -> None:
        self.moments = no_moments(1) if moments is None else moments
        self.limits, self.losses = np.zeros(0) if limits is None else limits, losses

    @property
    def is_blank(self) -> bool:
        """Say whether nothing was observed yet."""
        return np.array_equal(self.losses, CAUTION)

    @property
    def share(self) -> float:
        """The share of the mean in what is answered."""
        return float(PRIOR_SHARES[self.losses.argmin()])

    @property
    def factor(self) -> Array:
        """By what a standardised answer is multiplied, float64 [1]: the target's deviation, less what is shrunk."""
        return scale(self.moments) * (1 - self.share)

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value that is answered."""
        if not len(self.limits):
            return -math.inf, math.inf
        low, high = map(float, self.limits)
        margin = MARGIN * (high - low)
        return low - margin, high + margin

    def prior_rows(self, n: int) -> Array:
        """Return the standardised answers to n rows before anything was learned: the mean."""
        return np.zeros(n)

    def standard(self, y: Array) -> Array:
        """Return targets [n] in standard deviations from the mean, float64 [n], clamped as features are."""
        z = ((y - self.moments["origin"]) - self.moments["mean"]) / scale(self.moments)
        return np.clip(z, -CLAMP, CLAMP)

    def apply(self, z: Array) -> Array:
        """Return standardised answers [n] in the target's units, shrunk, and within its range."""
        return self.fixed()(z)

    def fixed(self) -> Callable[[Array], Array]:
        """Return `apply` as it is now; what is learned later does not change it."""
        factor, bounds = self.factor, self.bounds
        mean, origin = self.moments["mean"], self.moments["origin"]
        return lambda z: np.clip(factor * z + mean + origin, *bounds)

    def observe(self, z: Array, y: Array, row_weight: Array | None = None) -> None:
        """Learn from the standardised answers [n] to rows, and their targets; `row_weight`: how much each counts."""
        step = math.ceil(len(y) / MAX_ROWS) or 1
        z, wanted, counting = z[::step], self.standard(y[::step]), None if row_weight is None else row_weight[::step]
        if not len(wanted):
            return
        losses = np.average(np.square(np.outer(1 - PRIOR_SHARES, z) - wanted), 1, counting)
        weight = min(len(wanted) / FULL_ROWS, 1.0)
        self.losses = FADE**weight * self.losses + weight * np.minimum(losses - losses.min(), LIMIT)

    def count(self, outcomes: Iterable[Array], _weights: object = None) -> tuple[float, float]:
        """Take learned targets, float64 [n] each, into the moments and the range; a unit has no weights.

        Return by what a standardised answer from before must be multiplied, and what added, to mean the same value. An
        answer from when all targets were the same means that one: it is multiplied by 0.
        """
        before = self.moments
        for y in outcomes:
            self.moments = merged(self.moments, y[:, None])
            self.limits = np.array([min([y.min(), *self.limits]), max([y.max(), *self.limits])])
        was, now = float(scale(before)[0]), float(scale(self.moments)[0])
        moved = before["origin"] - self.moments["origin"] + before["mean"] - self.moments["mean"]
        return (was / now if before["m2"][0] > 0 else 0.0), float(moved[0]) / now

    def declare(self, n_outputs: int) -> None:
        """Do nothing: a quantity has no classes to declare."""

    def grow(self, n_outputs: int) -> None:
        """Do nothing: a quantity stays one number."""

    def arrays(self) -> dict[str, Array]:
        """Return the state as named arrays."""
        named = {**self.moments, "limits": self.limits, "losses": self.losses}
        return {f"{_PREFIX}{name}": a for name, a in named.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> TargetScale:
        """Read what `arrays` returned, among other arrays."""
        moments = {name: arrays[_PREFIX + name] for name in STATISTICS}
        return cls(moments, arrays[f"{_PREFIX}limits"], arrays[f"{_PREFIX}losses"])

    @staticmethod
    def is_in(arrays: Mapping[str, Array]) -> bool:
        """Say whether arrays hold the state of one."""
        return f"{_PREFIX}mean" in arrays

"""From a learner's raw probabilities to ones that can be believed: a temperature and a share of the class prior.

Two devices. A grid picks temperature and share by how well every pair would have predicted the past nights' rows
before they were learned (a sum that fades): after a night or two it knows a learner that is overconfident. A guard,
the Bayesian weight of "the prior alone is better", adds to the share what no evidence of the past can promise: summed
over the nights, the mean log loss never exceeds the prior's by more than ln(1 / `GUARD`) = 3 nats in all, whatever
the learner says and however the data were chosen (`Calibration.observe` has the proof). Numpy only: serving runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat

import numpy as np

from nightfit.batch import Array
from nightfit.metrics import CLIP, clipped

TEMPERATURES = 2.0 ** np.arange(-1.0, 4.01, 0.25)
PRIOR_SHARES = np.array([0.0, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0])

CAUTION = 0.01 * np.add.outer((np.log2(TEMPERATURES) - 1) ** 2, (np.arange(len(PRIOR_SHARES)) - 3) ** 2)
"""The losses that the grid starts with: before there is evidence a temperature of 2 and a tenth of the prior."""

DECLARED = 0.5
"""What a class that is declared counts for in the prior; learned ones count more."""

FADE = 0.8
"""What a night's evidence is still worth a night later."""

LIMIT = 0.3
"""Nats by which a night can speak against a pair, at most: one on which everything changed must not rule for weeks."""

FULL_ROWS = 200
"""Rows of a full night; a night of fewer counts, and fades the others, in proportion."""

MAX_ROWS = 10_000
"""Rows of a night that are looked at, evenly spread: enough for two numbers, whatever the size of the night."""

GUARD, GUARD_LOW, GUARD_HIGH = 0.05, 0.001, 0.99
"""The guard's first weight and its limits: what a perfect learner pays, and that a poor one can come back."""


class Calibration:
    """A class prior (counts, float64 [K]), the grid's faded losses, and the guard's weight (float64 [1])."""

    def __init__(self, counts: Array | None = None, losses: Array = CAUTION, guard: float = GUARD) -> None:
        self.counts = np.zeros(0) if counts is None else counts
        self.losses, self.guard = losses, guard

    @property
    def is_blank(self) -> bool:
        """Say whether nothing was observed yet."""
        return np.array_equal(self.losses, CAUTION)

    @property
    def chosen(self) -> tuple[float, float]:
        """The temperature, and the prior's share without the guard's."""
        t, s = np.unravel_index(int(self.losses.argmin()), self.losses.shape)
        return float(TEMPERATURES[t]), float(PRIOR_SHARES[s])

    @property
    def prior(self) -> Array:
        """The share of each class among the rows learned so far, float64 [K]; equal shares before the first."""
        total = self.counts.sum()
        return np.asarray(self.counts / total) if total else np.full(len(self.counts), 1 / max(len(self.counts), 1))

    @property
    def kept(self) -> float:
        """The share of the tempered answer in what is served: what grid and guard leave of it beside the prior."""
        return (1 - self.chosen[1]) * (1 - self.guard)

    @property
    def fresh(self) -> Array:
        """The classes (bool [K]) that are declared and were never learned; none, if that is so of all."""
        new = self.counts == DECLARED
        return np.asarray(new & ~new.all())

    def prior_rows(self, n: int) -> Array:
        """Return the probabilities of n rows before anything was learned: the prior."""
        return np.tile(self.prior, (n, 1))

    def apply(self, proba: Array) -> Array:
        """Temper probabilities [n, K] and mix them with the prior."""
        return self.fixed()(proba)

    def fixed(self) -> Callable[[Array], Array]:
        """Return `apply` as it is now; what is learned later does not change it."""
        temperature, _ = self.chosen
        kept, prior, new = self.kept, self.prior, self.fresh
        rest = (1 - kept) * prior
        some_are_new = bool(new.any())

        def apply(proba: Array) -> Array:
            mixed = np.asarray(kept * tempered(proba, temperature) + rest)
            if some_are_new:  # no learner can tell them yet: they keep all of the prior's share
                mixed[:, new] = 0
                mixed *= (1 - prior[new].sum()) / mixed.sum(1, keepdims=True)
                mixed[:, new] = prior[new]
            return mixed

        return apply

    def observe(self, proba: Array, y: Array, row_weight: Array | None = None) -> None:
        """Learn from raw probabilities [n, K] of rows and their classes; rows of unknown classes say nothing.

        `row_weight`: float64 [n], how much each row counts.

        The guard w is the posterior weight of the prior beside the grid's choice, with mean losses P and Q: what is
        served loses at most -ln(w e^-P + (1 - w) e^-Q) = P + ln(w' / w), as a geometric mean is superadditive
        (Hardy, Littlewood & Polya 1934, no. 24). Over the nights the logarithms telescope to ln(1 / `GUARD`); the
        lower limit only lowers the sum, the upper one adds 0.01 a night while the prior wins by far.
        """
        known = np.flatnonzero(y >= 0)
        known = known[:: math.ceil(len(known) / MAX_ROWS) or 1]
        if not len(known) or not len(self.counts):
            return
        raw, y, counting = proba[known], y[known], None if row_weight is None else row_weight[known]
        prior, rows = self.prior[y][:, None], np.arange(len(y))
        losses = np.stack([_losses(tempered(raw, t)[rows, y][:, None], prior, counting) for t in TEMPERATURES])
        excess = float(losses.flat[self.losses.argmin()] - losses[0, -1])
        odds = math.log(self.guard / (1 - self.guard)) + excess
        self.guard = min(max(1 / (1 + math.exp(-odds)), GUARD_LOW), GUARD_HIGH)
        weight = min(len(y) / FULL_ROWS, 1.0)
        self.losses = FADE**weight * self.losses + weight * np.minimum(losses - losses.min(), LIMIT)

    def count(self, outcomes: Iterable[Array], weights: Iterable[Array | None] = repeat(None)) -> None:
        """Count the classes of learned rows, int [n] each, by the weights that they have."""
        for y, weight in zip(outcomes, weights, strict=False):
            known = y >= 0
            counts = np.bincount(y[known], None if weight is None else weight[known], len(self.counts))
            self.counts = self.counts + counts

    def declare(self, n_classes: int) -> None:
        """Give each of the first classes half a count (Krichevsky & Trofimov 1981): known, but never learned."""
        self.counts = self.counts + DECLARED * (np.arange(len(self.counts)) < n_classes)

    def grow(self, n_classes: int) -> None:
        """Append classes that were never seen."""
        self.counts = np.concatenate([self.counts, np.zeros(n_classes - len(self.counts))])

    def arrays(self) -> dict[str, Array]:
        """Return the state as named arrays."""
        return {"counts": self.counts, "losses": self.losses, "guard": np.array([self.guard])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Calibration:
        """Read what `arrays` returned, among other arrays."""
        return cls(arrays["counts"], arrays["losses"], float(arrays["guard"][0]))


def tempered(proba: Array, temperature: float) -> Array:
    """Return p^(1/T), renormalised: softmax of the log-probabilities divided by the temperature."""
    if temperature == 1.0:
        return proba
    power = clipped(proba) ** (1 / temperature) * (proba > 0)
    return np.asarray(power / power.sum(1, keepdims=True))


def _losses(p: Array, prior: Array, weight: Array | None) -> Array:
    """Return the mean log loss at each of `PRIOR_SHARES`, from the probabilities [n, 1] of the true classes."""
    losses = -np.log(np.maximum((1 - PRIOR_SHARES) * p + PRIOR_SHARES * prior, CLIP))
    return np.asarray(np.average(losses, 0, weight))

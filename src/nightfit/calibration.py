"""From a learner's raw probabilities to ones that can be believed: a temperature and a share of the class prior.

Each night both are chosen anew, from a grid, by how well every pair would have predicted the past nights' rows before
they were learned (a sum of nightly mean losses that fades). The pure prior is in the grid, so a learner that is
lost is soon worth what the prior is worth, and no less. Numpy only: serving runs this too.
"""

from __future__ import annotations

import numpy as np

from nightfit.batch import Array
from nightfit.metrics import CLIP, clipped

TEMPERATURES = 2.0 ** np.arange(-1.0, 4.01, 0.25)
PRIOR_SHARES = np.array([0.0, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0])

FADE = 0.8
"""What a night's evidence is still worth a night later."""

MAX_ROWS = 10_000
"""Rows of a night that are looked at: enough for two numbers, whatever the size of the night."""


class Calibration:
    """A class prior (counts), and the grid of faded losses that temperature and prior share are read from."""

    def __init__(self, counts: Array | None = None, losses: Array | None = None) -> None:
        self.counts = np.zeros(0) if counts is None else counts
        self.losses = np.zeros((len(TEMPERATURES), len(PRIOR_SHARES))) if losses is None else losses

    @property
    def chosen(self) -> tuple[float, float]:
        """The temperature and the prior's share in use; (1, 0.01) before anything was observed."""
        if not self.losses.any():
            return 1.0, 0.01
        t, s = np.unravel_index(int(self.losses.argmin()), self.losses.shape)
        return float(TEMPERATURES[t]), float(PRIOR_SHARES[s])

    @property
    def prior(self) -> Array:
        """The share of each class among the rows learned so far, float64 [K]; equal shares before the first."""
        total = self.counts.sum()
        return np.asarray(self.counts / total) if total else np.full(len(self.counts), 1 / max(len(self.counts), 1))

    def apply(self, proba: Array) -> Array:
        """Temper probabilities [n, K] and mix them with the prior."""
        temperature, share = self.chosen
        return (1 - share) * tempered(proba, temperature) + share * self.prior

    def observe(self, proba: Array, y: Array) -> None:
        """Learn from raw probabilities [n, K] of rows and their classes; rows of unknown classes say nothing."""
        known = np.flatnonzero(y >= 0)[-MAX_ROWS:]
        if not len(known) or not len(self.counts):
            return
        y = y[known]
        prior = self.prior[y]
        for i, temperature in enumerate(TEMPERATURES):
            p = tempered(proba[known], temperature)[np.arange(len(y)), y]
            for j, share in enumerate(PRIOR_SHARES):
                loss = -np.log(np.maximum((1 - share) * p + share * prior, CLIP)).mean()
                self.losses[i, j] = FADE * self.losses[i, j] + loss

    def count(self, y: Array) -> None:
        """Count the classes of learned rows."""
        self.counts = self.counts + np.bincount(y[y >= 0], minlength=len(self.counts))

    def grow(self, n_classes: int) -> None:
        """Append classes that were never seen."""
        self.counts = np.concatenate([self.counts, np.zeros(n_classes - len(self.counts))])


def tempered(proba: Array, temperature: float) -> Array:
    """Return p^(1/T), renormalised: softmax of the log-probabilities divided by the temperature."""
    if temperature == 1.0:
        return proba
    power = clipped(proba) ** (1 / temperature) * (proba > 0)
    return np.asarray(power / power.sum(1, keepdims=True))

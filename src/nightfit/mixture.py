"""Mixing weights of an ensemble's members: who predicted the past nights best counts most tomorrow.

Fixed share (Herbster & Warmuth, Machine Learning 1998): once a night each weight is multiplied by exp(-rate x loss),
and a share of all is spread evenly, so that a member that was no use for long is back within a few nights.
"""

from __future__ import annotations

import numpy as np

from nightfit.batch import Array

RATE = 0.02
"""Per row: with `MAX_ROWS` rows a night, a member whose loss is 0.03 lower gains a factor of 1.8 a night."""

SHARE = 0.2
MAX_ROWS = 1_000

LIMIT = 2.0
"""A member loses at most a factor of exp(2) to the best one in a night: one on which all changes, and every member is
confidently wrong by nats that differ by chance, says little about tomorrow."""


class Mixture:
    """Weights (float64 [M], summing to 1) of members."""

    def __init__(self, weights: Array) -> None:
        self.weights = weights

    @classmethod
    def even(cls, n_members: int) -> Mixture:
        """Start without a preference."""
        return cls(np.full(n_members, 1 / n_members))

    def apply(self, proba: Array) -> Array:
        """Average members' probabilities [M, n, K] to [n, K], or values [M, n] to [n]."""
        return np.asarray(np.tensordot(self.weights, proba, 1))

    def observe(self, losses: Array, n_rows: int) -> None:
        """Learn from the members' mean losses, float64 [M], on rows that they had not learned."""
        evidence = RATE * min(n_rows, MAX_ROWS) * (losses - losses.min())
        scores = np.log(self.weights) - np.minimum(evidence, LIMIT)
        weights = np.exp(scores - scores.max())
        self.weights = (1 - SHARE) * weights / weights.sum() + SHARE / len(weights)

"""Scores of predictions against outcomes, and the paired interval that the gate decides by.

Predictions are probabilities, float [n, K], of classes, int [n] (`UNKNOWN_CLASS` is scored at the clip); or values,
float [n], of a quantity, float [n]. Their number of axes tells which.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from nightfit.batch import Array
from nightfit.moments import joined, merged, no_moments

CLIP = 1e-6
"""Smallest probability that a score sees: what a class that nobody predicted costs, -log(1e-6) = 13.8."""


SCORES = {
    "classification": {
        "log_loss": "log loss",
        "accuracy": "accuracy",
        "macro_f1": "macro F1",
        "calibration_error": "calibration error",
    },
    "regression": {"rmse": "RMSE", "mae": "MAE", "r2": "R²"},
}
"""The scores of each task, and what people call them; of each the first is the loss that is learned."""

OF_PROBABILITIES = frozenset({"log_loss", "calibration_error"})
"""Scores that votes do not have."""

HIGHER_IS_BETTER = frozenset({"accuracy", "macro_f1", "r2"})


def clipped(proba: Array) -> Array:
    """Clip probabilities at `CLIP` and renormalise each row."""
    safe = np.maximum(np.asarray(proba, np.float64), CLIP)
    return np.asarray(safe / safe.sum(1, keepdims=True))


def row_losses(predicted: Array, y: Array) -> Array:
    """Return each row's loss, float64 [n]: squared error, or log loss (a class not in `predicted` costs the clip)."""
    return np.square(predicted - y) if predicted.ndim == 1 else _log_losses(predicted, y)


def _log_losses(proba: Array, y: Array) -> Array:
    if proba.shape[1] == 0:
        return np.full(len(y), -math.log(CLIP))
    known = (y >= 0) & (y < proba.shape[1])
    p = clipped(proba)[np.arange(len(y)), np.where(known, y, 0)]
    return np.asarray(-np.log(np.where(known, p, CLIP)))


def row_hits(predicted: Array, y: Array) -> Array:
    """Return of which rows (bool [n]) the likeliest class is right; of a quantity, which has no right, bool [0]."""
    return np.zeros(0, bool) if predicted.ndim == 1 else np.asarray(_guesses(predicted)[0] == y)


def constant_loss(outcomes: Iterable[Array]) -> float:
    """Return the mean loss of the best constant answer to n >= 1 rows: shares of classes, or a quantity's mean.

    `outcomes` are classes int [m] or values float [m], block by block.
    """
    moments, counts = no_moments(1), np.zeros(0, np.int64)
    for y in outcomes:
        if y.dtype.kind == "f":
            moments = merged(moments, y[:, None])
        else:
            counts = _added(counts, np.bincount(y))
    if not len(counts):
        return float(moments["m2"][0] / moments["count"][0])
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def spread(y: Array) -> float:
    """Return the variance of a quantity; where it hardly varies, that of a thousandth of its size; 0 of no rows."""
    return max(float(np.var(y)), float(np.square(1e-3 * y).mean())) if len(y) else 0.0


def scores(predicted: Array, y: Array) -> dict[str, float]:
    """Return the scores of n >= 1 rows, as `Tally` has them."""
    tally = Tally()
    tally.add(predicted, y)
    return tally.scores()


_NO_CLASS = -2
"""What is guessed where there is no class yet: neither a class, nor `UNKNOWN_CLASS`."""


class Tally:
    """Scores of any number of rows in the memory of a few numbers for each class.

    >>> tally = Tally()
    >>> tally.add(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    >>> tally.scores()["mae"]
    1.0
    """

    def __init__(self, *, votes: bool = False) -> None:
        self.votes, self.n = votes, 0
        self._loss = self._absolute = 0.0
        self._moments = no_moments(1)
        self._classes = np.zeros((3, 0), np.int64)
        """By class: rows that are of it, guesses of it, and hits; the first two columns are the negative numbers."""
        self.bins = np.zeros((3, _N_BINS))
        """By bin: the sum of the confidences, the hits, and the rows."""

    def add(self, predicted: Array, y: Array) -> None:
        """Take in rows: probabilities [n, K] and classes int [n], or values float [n] of a quantity."""
        if not len(y):
            return
        self.n += len(y)
        self._loss += float(row_losses(predicted, y).sum())
        if predicted.ndim == 1:
            self._absolute += float(np.abs(predicted - y).sum())
            self._moments = merged(self._moments, y[:, None])
        else:
            self._add_guesses(*_guesses(predicted), y)

    def _add_guesses(self, guess: Array, confidence: Array, y: Array) -> None:
        hit = guess == y
        n_classes = max(int(y.max()), int(guess.max())) - _NO_CLASS + 1
        counts = [np.bincount(of - _NO_CLASS, minlength=n_classes) for of in (y, guess, guess[hit])]
        self._classes = np.stack([_added(*pair) for pair in zip(self._classes, counts, strict=True)])
        bins = np.minimum((np.nan_to_num(confidence) * _N_BINS).astype(int), _N_BINS - 1)  # a NaN shows in the loss
        self.bins += [np.bincount(bins, of, _N_BINS) for of in (confidence, hit, np.ones(len(y)))]

    def join(self, other: Tally) -> None:
        """Take in what another one counted."""
        self.n += other.n
        self._loss += other._loss
        self._absolute += other._absolute
        self._moments = joined(self._moments, other._moments)
        self._classes = np.stack([_added(*pair) for pair in zip(self._classes, other._classes, strict=True)])
        self.bins = self.bins + other.bins

    @property
    def mean_loss(self) -> float:
        """The mean of `row_losses` over n >= 1 rows."""
        return self._loss / self.n

    def scores(self) -> dict[str, float]:
        """Return the scores of n >= 1 rows.

        Of classes: log loss, accuracy, macro F1 (the mean over the classes that occur or are guessed), and the expected
        calibration error, the mean gap between confidence (the probability of the guess) and accuracy over bins
        weighted by their rows (Guo et al., ICML 2017). Of a quantity: root mean squared and mean absolute error in its
        unit, and R^2, which is left out where all outcomes are equal: it has no value there. Votes have neither log
        loss nor calibration.
        """
        if self._moments["count"][0]:
            mse, variance = self._loss / self.n, float(self._moments["m2"][0]) / self.n
            found = {"rmse": math.sqrt(mse), "mae": self._absolute / self.n}
            return found | {"r2": 1 - mse / variance} if variance else found
        there, guessed, hits = self._classes[:, self._classes[:2].any(0)]
        found = {
            "log_loss": self._loss / self.n,
            "accuracy": float(hits.sum()) / self.n,
            "macro_f1": float(np.mean(2 * hits / (there + guessed))),
            "calibration_error": float(np.abs(self.bins[0] - self.bins[1]).sum()) / self.n,
        }
        return {name: score for name, score in found.items() if not (self.votes and name in OF_PROBABILITIES)}

    def arrays(self) -> dict[str, Array]:
        """Return what was counted as named arrays."""
        sums = np.array([self.n, self._loss, self._absolute])
        moments = {f"moments.{name}": a for name, a in self._moments.items()}
        return {"sums": sums, "classes": self._classes, "bins": self.bins, **moments}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], *, votes: bool = False) -> Tally:
        """Read what `arrays` returned."""
        tally = cls(votes=votes)
        n, tally._loss, tally._absolute = arrays["sums"].tolist()
        tally.n, tally._classes, tally.bins = int(n), arrays["classes"], arrays["bins"]
        tally._moments = {name: arrays[f"moments.{name}"] for name in tally._moments}
        return tally


_N_BINS = 15


def reliability(bins: Array) -> list[dict[str, float]]:
    """Return, of a tally's bins, those that have rows: their mean confidence, the share that is right, and their rows.

    A quantity has none.
    """
    there = bins[:, bins[2] > 0]
    return [{"confidence": c / n, "accuracy": h / n, "rows": int(n)} for c, h, n in there.T.tolist()]


def _guesses(proba: Array) -> tuple[Array, Array]:
    """Return each row's likeliest class, int [n], and its probability, float [n]."""
    if not proba.shape[1]:
        return np.full(len(proba), _NO_CLASS), np.zeros(len(proba))
    return proba.argmax(1), proba.max(1)


def _added(a: Array, b: Array) -> Array:
    """Add counts of different lengths."""
    total = np.zeros(max(len(a), len(b)), np.int64)
    total[: len(a)] += a
    total[: len(b)] += b
    return total


ERROR = 0.05
"""How often a one-sided bound may be wrong."""


@dataclass(frozen=True)
class Interval:
    """A mean and its one-sided 95 % bounds: with 95 % confidence it lies above `low` (and below `high`)."""

    mean: float
    low: float
    high: float
    n: int


def paired_interval(difference: Array, *, n_looks: int = 1) -> Interval:
    """Return the mean of paired differences, float [n], with its one-sided 95 % bounds.

    The normal interval, mean ± 1.645 s / sqrt(n): the gate asks from 200 rows on, where it and the bootstrap agree,
    and it is exact to replay and costs one pass over a night of any size. Fewer than two rows say nothing. Of several
    looks the bounds are wider, so that 95 % holds for all of them together (Bonferroni).
    """
    n = len(difference)
    if n < 2:  # noqa: PLR2004 - a spread needs two
        return Interval(float(difference.mean()) if n else 0.0, -math.inf, math.inf, n)
    z = NormalDist().inv_cdf(1 - ERROR / n_looks)
    mean, half = float(difference.mean()), z * float(difference.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)

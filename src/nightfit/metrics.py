"""Scores of predictions against outcomes, and the paired interval that the gate decides by.

Predictions are probabilities, float [n, K], of classes, int [n] (`UNKNOWN_CLASS` is scored at the clip); or values,
float [n], of a quantity, float [n]. Their number of axes tells which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nightfit.batch import Array

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

HIGHER_IS_BETTER = frozenset({"accuracy", "macro_f1", "r2"})


def clipped(proba: Array) -> Array:
    """Clip probabilities at `CLIP` and renormalise each row."""
    safe = np.clip(np.asarray(proba, np.float64), CLIP, None)
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


def constant_loss(y: Array) -> float:
    """Return the mean loss of the best constant answer to n >= 1 rows: shares of classes, or a quantity's mean."""
    if y.dtype.kind == "f":
        return float(np.var(y))
    shares = np.bincount(y) / len(y)
    return float(-np.log(shares[y]).mean())


def spread(y: Array) -> float:
    """Return the variance of a quantity; where it hardly varies, that of a thousandth of its size; 0 of no rows."""
    return max(float(np.var(y)), float(np.square(1e-3 * y).mean())) if len(y) else 0.0


def macro_f1(predicted: Array, y: Array) -> float:
    """Return the mean F1 over the classes that occur in `y` or are predicted."""
    classes, codes = np.unique(np.concatenate([predicted, y]), return_inverse=True)
    hits = np.bincount(codes[len(y) :][predicted == y], minlength=len(classes))
    return float(np.mean(2 * hits / np.bincount(codes)))


def expected_calibration_error(confidence: Array, hit: Array, *, n_bins: int = 15) -> float:
    """Return the mean gap between confidence, float [n], and accuracy, bool [n], over bins (Guo et al., ICML 2017).

    The confidence is the probability of the class that is predicted, the gap of a bin weighted by its rows.
    """
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = [abs(float(np.sum(confidence[bins == b]) - np.sum(hit[bins == b]))) for b in range(n_bins)]
    return sum(gaps) / len(hit)


def scores(predicted: Array, y: Array) -> dict[str, float]:
    """Return the scores of n >= 1 rows: `classification_scores`, or `regression_scores`."""
    return regression_scores(predicted, y) if predicted.ndim == 1 else classification_scores(predicted, y)


def regression_scores(predicted: Array, y: Array) -> dict[str, float]:
    """Return root mean squared error and mean absolute error in y's unit, and R^2, of n >= 1 rows.

    R^2 is left out where all y are equal: it has no value there.
    """
    errors = predicted - y
    mse, variance = float(np.square(errors).mean()), float(np.var(y))
    found = {"rmse": math.sqrt(mse), "mae": float(np.abs(errors).mean())}
    return found | {"r2": 1 - mse / variance} if variance else found


def classification_scores(proba: Array, y: Array) -> dict[str, float]:
    """Return log loss, accuracy, macro F1 and expected calibration error of n >= 1 rows."""
    predicted, confidence = guesses(proba)
    return class_scores(row_losses(proba, y), predicted, confidence, y)


def guesses(proba: Array) -> tuple[Array, Array]:
    """Return each row's likeliest class, int [n], and its probability, float [n]; -2 and 0 if there is no class."""
    if not proba.shape[1]:
        return np.full(len(proba), -2), np.zeros(len(proba))
    return proba.argmax(1), proba.max(1)


def class_scores(losses: Array, predicted: Array, confidence: Array, y: Array) -> dict[str, float]:
    """Return the scores of rows from what is left of their probabilities: log losses and `guesses`."""
    hit = predicted == y
    return {
        "log_loss": float(losses.mean()),
        "accuracy": float(hit.mean()),
        "macro_f1": macro_f1(predicted, y),
        "calibration_error": expected_calibration_error(confidence, hit),
    }


@dataclass(frozen=True)
class Interval:
    """A mean and its one-sided 95 % bounds: with 95 % confidence it lies above `low` (and below `high`)."""

    mean: float
    low: float
    high: float
    n: int


def paired_interval(difference: Array) -> Interval:
    """Return the mean of paired differences, float [n], with its one-sided 95 % bounds.

    The normal interval, mean ± 1.645 s / sqrt(n): the gate asks from 200 rows on, where it and the bootstrap agree,
    and it is exact to replay and costs one pass over a night of any size. Fewer than two rows say nothing.
    """
    n = len(difference)
    if n < 2:  # noqa: PLR2004 - a spread needs two
        return Interval(float(difference.mean()) if n else 0.0, -math.inf, math.inf, n)
    mean, half = float(difference.mean()), 1.645 * float(difference.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)

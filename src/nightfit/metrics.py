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
    "classification": {"log_loss": "log loss", "accuracy": "accuracy", "macro_f1": "macro F1"},
    "regression": {"rmse": "RMSE", "mae": "MAE", "r2": "R²"},
}
"""The scores of each task, and what people call them; of each the first is the loss that is learned."""

HIGHER_IS_BETTER = {"accuracy", "macro_f1", "r2"}


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


def macro_f1(predicted: Array, y: Array) -> float:
    """Return the mean F1 over the classes that occur in `y` or are predicted."""
    classes, codes = np.unique(np.concatenate([predicted, y]), return_inverse=True)
    hits = np.bincount(codes[len(y) :][predicted == y], minlength=len(classes))
    return float(np.mean(2 * hits / np.bincount(codes)))


def expected_calibration_error(proba: Array, y: Array, *, n_bins: int = 15) -> float:
    """Return the confidence-weighted gap between confidence and accuracy (Guo et al., ICML 2017)."""
    confidence, hit = proba.max(1), proba.argmax(1) == y
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = [abs(float(np.sum(confidence[bins == b]) - np.sum(hit[bins == b]))) for b in range(n_bins)]
    return sum(gaps) / len(y)


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
    """Return log loss, accuracy and macro F1 of n >= 1 rows."""
    predicted = proba.argmax(1) if proba.shape[1] else np.full(len(y), -2)
    return {
        "log_loss": float(row_losses(proba, y).mean()),
        "accuracy": float(np.mean(predicted == y)),
        "macro_f1": macro_f1(predicted, y),
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

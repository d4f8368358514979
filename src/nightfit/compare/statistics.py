"""Whether one model is better than another: the interval of a paired difference over nights, and the verdict.

Both predict the same rows, so what is compared is a row's loss of the one minus that of the other. Rows of a night
share its luck, and nights in a row may share theirs: what is drawn again is blocks of nights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from nightfit.batch import Array

Verdict: TypeAlias = Literal["better", "worse", "same", "unclear"]

MARGIN = 0.01
"""The share of the other model's loss below which a difference is of no consequence."""

N_RESAMPLES = 2_000
"""Draws of the bootstrap: its standard error is then known to 1.6 % (1 / sqrt(2 n))."""

NOMINAL = 0.98
"""The level of Student's quantile whose intervals hold the truth in 95 % of cases also where the luck of nights hangs
together, up to a correlation of 0.5 between neighbours: what a hundred nights do not show, no block length mends
(`scripts/bench_compare.py` measures it)."""

_DRAWN_AT_A_TIME = 4_000_000


@dataclass(frozen=True)
class Difference:
    """A model's mean loss per row minus another's, and its two-sided 95 % bounds; infinite where one night is all."""

    mean: float
    low: float
    high: float
    block_nights: float

    def verdict(self, margin: float) -> Verdict:
        """Say what may be believed, with a `margin` in the unit of the loss.

        Different: chance is ruled out, and the difference is beyond the margin. The same: it is within the margin, for
        certain. Else it is unclear.
        """
        if self.low > 0 and self.mean > margin:
            return "worse"
        if self.high < 0 and self.mean < -margin:
            return "better"
        return "same" if -margin <= self.low and self.high <= margin else "unclear"


def difference(
    losses: Array, others: Array, rows: Array, *, seed_variance: float = 0.0, n_resamples: int = N_RESAMPLES
) -> Difference:
    """Compare mean losses of nights (float [n]) that had so many rows (int [n]), n >= 1.

    Mean plus and minus Student's quantile times the standard error of the stationary bootstrap (Politis & Romano, JASA
    1994) over nights, weighted by their rows. Blocks are as long as `block_length` says, and at least the cube root of
    the number of nights, the order at which their variance is known best (Politis & White 2004): dependence that is
    too weak to be seen still widens it. The quantile has the equivalent degrees of freedom of a variance that is a sum
    of covariances with such weights, 2 n / (1 + length) - 1 (Priestley, Spectral Analysis and Time Series, 1981).
    `seed_variance` is what chance adds to the mean besides: that of the models' own seeds.

    >>> nights = np.random.default_rng(0).normal(0.5, 0.02, 40)
    >>> difference(nights + 0.03, nights, np.full(40, 500)).verdict(0.01 * 0.5)
    'worse'
    """
    rows = np.asarray(rows, np.float64)
    paired = np.asarray(losses - others, np.float64)
    mean = float(rows @ paired / rows.sum())
    influence = (paired - mean) * rows / rows.mean()  # what a night does to the weighted mean
    n = len(rows)
    length = max(block_length(influence), np.cbrt(n))
    if n == 1:
        return Difference(mean, -math.inf, math.inf, length)
    bias = max(1 - (2 * length - 1) / n, 1 / n)  # of covariances about the sample's own mean, as they are summed
    variance = _bootstrap_variance(paired, rows, length, n_resamples) / bias + seed_variance
    half = _student(max(2 * n / (1 + length) - 1, 1)) * math.sqrt(variance)
    return Difference(mean, mean - half, mean + half, length)


def _student(freedom: float) -> float:
    """Return the quantile of Student's distribution that `NOMINAL` of it lie within, on both sides."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + NOMINAL) / 2))


def _bootstrap_variance(paired: Array, rows: Array, length: float, n_resamples: int) -> float:
    """Return the variance of the weighted mean over draws of blocks; always the same draws."""
    random = np.random.default_rng(0)
    step = max(_DRAWN_AT_A_TIME // len(rows), 1)
    means = []
    for start in range(0, n_resamples, step):
        drawn = stationary(len(rows), length, min(step, n_resamples - start), random)
        weights = rows[drawn]
        means.append((weights * paired[drawn]).sum(1) / weights.sum(1))
    return float(np.concatenate(means).var())


def stationary(n: int, length: float, n_draws: int, random: np.random.Generator) -> Array:
    """Draw nights, int64 [n_draws, n], in blocks of geometric lengths of that mean, around the end to the start.

    >>> bool((np.diff(stationary(9, 1e9, 1, np.random.default_rng(0))[0]) % 9 == 1).all())
    True
    """
    begins = random.random((n_draws, n)) < 1 / length
    begins[:, 0] = True
    position = np.arange(n)
    since = np.maximum.accumulate(np.where(begins, position, 0), axis=1)
    starts = np.take_along_axis(random.integers(n, size=(n_draws, n)), since, axis=1)
    return np.asarray((starts + position - since) % n)


def block_length(values: Array) -> float:
    """Return the mean length of blocks, in nights, that suits the stationary bootstrap of a series, float [n].

    Politis & White (Econometric Reviews, 2004), as corrected by Patton, Politis & White (2009): (2 G^2 / D)^(1/3)
    n^(1/3), of the autocovariances up to twice the last lag that counts, through a flat-top window. At least 1, and at
    most min(3 sqrt(n), n / 3), as in the authors' own programme.

    >>> block_length(np.random.default_rng(0).normal(size=400)) < 3
    True
    """
    n = len(values)
    covariances = _autocovariances(values)
    if covariances[0] <= 0 or len(covariances) < 2:  # noqa: PLR2004 - one night, or all the same
        return 1.0
    last = min(2 * _last_lag(covariances / covariances[0], n), len(covariances) - 1)
    lags = np.arange(1, last + 1)
    windowed = np.minimum(1, 2 * (1 - lags / max(last, 1))) * covariances[1 : last + 1]
    slope, spectrum = 2 * float(lags @ windowed), float(covariances[0] + 2 * windowed.sum())
    if spectrum <= 0:  # neighbours cancel out: single nights promise least
        return 1.0
    return float(np.clip(np.cbrt(slope**2 / spectrum**2 * n), 1, max(min(3 * math.sqrt(n), n / 3), 1)))


def _autocovariances(values: Array) -> Array:
    """Return those of lags 0 to sqrt(n) and the few beyond that must not count."""
    n, centred = len(values), values - values.mean()
    n_lags = min(math.ceil(math.sqrt(n)) + _n_silent(n), n - 1)
    return np.array([centred[: n - k] @ centred[k:] / n for k in range(n_lags + 1)])


def _n_silent(n: int) -> int:
    """Return how many lags in a row must not count, for those before them to be all that do."""
    return max(5, math.ceil(math.sqrt(math.log10(n))))


def _last_lag(correlations: Array, n: int) -> int:
    """Return the last lag that counts: correlated by more than 2 sqrt(log10(n) / n), or followed by one that is."""
    counts = np.abs(correlations[1:]) > 2 * math.sqrt(math.log10(n) / n)
    silent = _n_silent(n)
    runs = (lag for lag in range(len(counts)) if not counts[lag : lag + silent].any())
    return next(runs, len(counts))

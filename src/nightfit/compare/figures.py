"""What night-by-night losses say besides their mean: rolling means, drifts and the way back, flips, calibration.

Pure functions of arrays over the scored nights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from nightfit.batch import Array
from nightfit.detector import Adwin

SMOOTH = 7
"""Nights that a rolling score averages: single nights are noisy."""

BEFORE, AFTER = 7, 3
"""Nights whose mean loss is what a model was before a drift, and those whose mean must be back there."""


RISE = 0.1
"""The share by which a night's errors must lie above those before it to be marked: a detector that sees thousands of
rows a night also finds what hardly anybody would call a drift."""


class Drift(NamedTuple):
    """A night (an index) at which errors rose for good, and their means, from 0 to 1, before it and in it."""

    night: int
    before: float
    now: float


def drifts(errors: Iterable[Array]) -> list[Drift]:
    """Return the nights at which errors (float [m] a night, from 0 to 1, in order) rose for good.

    The detector is that of `nightfit.detector`; where errors fall, or rise by less than `RISE`, no drift is marked.
    """
    adwin, found = Adwin(), []
    for i, night in enumerate(errors):
        cuts, now = adwin.update(night), float(np.mean(night))
        if cuts and cuts[0] * (1 + RISE) < now:
            found.append(Drift(i, cuts[0], now))
    return found


def as_errors(losses: Sequence[Array], *, is_quantity: bool) -> list[Array]:
    """Turn losses of rows into errors from 0 to 1.

    What the true class was denied; of a quantity e² / (e² + unit), the unit being the first night's median e².
    """
    if not is_quantity:
        return [1 - np.exp(-np.asarray(night, np.float64)) for night in losses]
    unit = max(float(np.median(losses[0])), np.finfo(np.float32).tiny) if losses else 1.0
    return [np.asarray(night, np.float64) / (night + unit) for night in losses]


def rolling(losses: Array, rows: Array, n_nights: int = SMOOTH) -> Array:
    """Return the mean loss of the rows of each night and the ones before it, n_nights in all, float [n].

    >>> rolling(np.array([1.0, 3.0, 8.0]), np.array([1, 1, 2]), 2).tolist()
    [1.0, 2.0, 6.333333333333333]
    """
    sums, counts = (np.concatenate([[0.0], np.cumsum(each)]) for each in (losses * rows, rows))
    ends = np.arange(1, len(losses) + 1)
    starts = np.maximum(ends - n_nights, 0)
    return np.asarray((sums[ends] - sums[starts]) / (counts[ends] - counts[starts]))


def recoveries(losses: Array, rows: Array, drifted: Sequence[int], margin: float) -> list[int | None]:
    """Return for each drift how many nights passed until the loss was back at what it was before, at most a margin off.

    Before: the mean of the last `BEFORE` nights. Back: the mean of `AFTER` nights from there on is; None if it was not
    until the next drift or the end. `margin` is a share of the loss before.
    """
    return [_back(losses, rows, *ends, margin) for ends in pairwise([*drifted, len(losses)])]


def _back(losses: Array, rows: Array, start: int, end: int, margin: float) -> int | None:
    before = slice(max(start - BEFORE, 0), start)
    if not start:
        return None
    goal = float(np.average(losses[before], weights=rows[before])) * (1 + margin)
    after = rolling(losses[start:end], rows[start:end], AFTER)[AFTER - 1 :]  # of the nights from its index on
    there = np.flatnonzero(after <= goal)
    return int(there[0]) if len(there) else None


def median(nights: Sequence[int | None]) -> float | None:
    """Return the median, of which None is the largest; None where that is the median, or where there is nothing."""
    if not nights:
        return None
    found = float(np.median([np.inf if n is None else n for n in nights]))
    return found if np.isfinite(found) else None


def negative_flips(reference: Array, right: Array) -> float:
    """Return the share of n >= 1 rows that the reference had right (bool [n]) and the other has wrong."""
    return float((reference & ~right).mean())

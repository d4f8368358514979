"""Axes: which round numbers an axis shows, and where on it a value lies."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

_STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Parts of a power of ten that people count in."""

_FLOOR = 1e-9
"""The least spread of an axis: equal values still need one."""


@dataclass(frozen=True)
class Axis:
    """The values between `low` and `high`, with round ones to mark; equal ratios are equal lengths if it is `log`."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Say how far along the axis a value lies: 0 at the low end, 1 at the high one, beyond them outside."""
        if self.log:
            low, high, value = math.log(self.low), math.log(self.high), math.log(max(value, self.low * 1e-6))
            return (value - low) / (high - low)
        return (value - self.low) / (self.high - self.low)

    def text(self, tick: float) -> str:
        """Return what a mark says, with as many digits as the marks differ in."""
        if self.log or len(self.ticks) < 2:  # noqa: PLR2004 - a step needs two
            return f"{tick:,.10g}"
        step = self.ticks[1] - self.ticks[0]
        digits = max(-math.floor(math.log10(step) + 1e-6), 0)
        return f"{tick:,.{digits}f}" if abs(tick) > step / 10 else "0"


def linear(low: float, high: float, *, n: int = 5, whole: bool = False) -> Axis:
    """Return an axis that ends at round numbers around the values, in at most n steps; `whole` marks whole numbers.

    >>> linear(0.13, 0.49).ticks
    (0.1, 0.2, 0.3, 0.4, 0.5)
    """
    spread = max(high - low, _FLOOR, abs(high) * 1e-6)
    power = 10.0 ** math.floor(math.log10(spread))
    step = next(power * part for part in _STEPS if spread / (power * part) <= n)
    step = max(round(step), 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(float(f"{step * i:.12g}") for i in range(first, max(last, first + 1) + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def within(low: float, high: float, *, n: int = 5) -> Axis:
    """Return an axis of whole numbers that ends where the values end: nights, versions."""
    marks = linear(low, high, n=n, whole=True).ticks
    ends = (low, high) if high > low else (low - 0.5, low + 0.5)
    return Axis(*ends, tuple(tick for tick in marks if low <= tick <= high) or (low,))


def logarithmic(low: float, high: float) -> Axis:
    """Return an axis of ratios around positive values, marked at 1, 2, 5 of powers of ten, or at powers."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    every = [part * 10.0**power for power in powers for part in (1, 2, 5)]
    first = max(tick for tick in every if tick <= low)
    last = min(tick for tick in every if tick >= high and tick > first)
    ticks = [tick for tick in every if first <= tick <= last]
    if len(ticks) > 6:  # noqa: PLR2004 - more would touch on a phone
        ticks = [tick for tick in ticks if math.isclose(math.log10(tick) % 1, 0, abs_tol=1e-9)] or ticks[::3]
    return Axis(first, last, tuple(float(f"{tick:.6g}") for tick in ticks), log=True)


def spaced(positions: Iterable[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions apart to at least `gap`, in their order, within the ends as far as there is room.

    >>> spaced([10, 11, 50], 5, 0, 52)
    [10, 15, 50]
    """
    order = sorted(range(len(placed := list(positions))), key=placed.__getitem__)
    for before, i in pairwise(order):
        placed[i] = max(placed[i], placed[before] + gap)
    limit = high
    for i in reversed(order):
        placed[i] = max(min(placed[i], limit), low)
        limit = placed[i] - gap
    return placed

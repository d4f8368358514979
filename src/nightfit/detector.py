"""A change detector on a stream of errors: ADWIN, a window that drops its older part when the two parts differ.

Bifet & Gavaldà, Learning from Time-Changing Data with Adaptive Windowing, SDM 2007; with the details of River's
implementation (a cut is looked for every 32 values, and no part is shorter than 5), against which it is tested. The
window is kept as buckets of 1, 2, 4, ... values, at most 5 of each size: a million values are about a hundred numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from nightfit.batch import Array

DELTA = 0.002
"""The chance that a cut is seen where there is none."""

CLOCK, MIN_WINDOW, MIN_PART, MAX_BUCKETS = 32, 10, 5, 5
"""Values between two looks for a cut; values before the first; values of either part; buckets of one size."""


class Adwin:
    """The window: of each bucket the number of values, their sum and their squared deviations.

    After a cut it begins anew, so that one change is one cut.

    >>> adwin = Adwin()
    >>> adwin.update([0.1] * 500), [round(mean, 2) for mean in adwin.update([0.9] * 500)]
    ([], [0.16])
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._levels: list[list[tuple[float, float]]] = [[]]
        """Of each power of two the buckets (sum, squared deviations), oldest first."""
        self.width, self._total, self._m2, self._tick = 0, 0.0, 0.0, 0

    @property
    def mean(self) -> float:
        """The mean of the window; 0 of an empty one."""
        return self._total / self.width if self.width else 0.0

    def update(self, values: Iterable[float]) -> list[float]:
        """Take values, in order, and return the window's mean before each cut."""
        return [mean for value in values if (mean := self._update(float(value))) is not None]

    def _update(self, value: float) -> float | None:
        self._take(1, value, 0.0)
        self._levels[0].append((value, 0.0))
        self._compress()
        self._tick += 1
        if self._tick % CLOCK or self.width <= MIN_WINDOW or not self._must_cut():
            return None
        before = self.mean
        self._clear()
        return before

    def _take(self, size: int, total: float, m2: float) -> None:
        """Merge a bucket's moments into the window's (Chan, Golub & LeVeque 1983)."""
        if self.width:
            delta = total / size - self.mean
            m2 += delta**2 * size * self.width / (size + self.width)
        self.width, self._total, self._m2 = self.width + size, self._total + total, self._m2 + m2

    def _compress(self) -> None:
        """Join the two oldest buckets of a size that has too many."""
        for i, level in enumerate(self._levels):
            if len(level) <= MAX_BUCKETS:
                return
            (total0, m0), (total1, m1) = level[:2]
            del level[:2]
            if i + 1 == len(self._levels):
                self._levels.append([])
            size = 2**i
            self._levels[i + 1].append((total0 + total1, m0 + m1 + (total0 - total1) ** 2 / (2 * size)))

    def _must_cut(self) -> bool:
        """Say whether the means on the two sides of any bucket's end differ by more than chance allows."""
        sizes, totals, _ = (np.array(column) for column in zip(*self._oldest_first(), strict=True))
        n0, total0 = np.cumsum(sizes)[:-1], np.cumsum(totals)[:-1]
        n1, total1 = self.width - n0, self._total - total0
        long = (n0 >= MIN_PART) & (n1 >= MIN_PART)
        n0, n1 = n0[long], n1[long]
        confidence = math.log(2 * math.log(self.width) / DELTA)
        inverse = 1 / (n0 - MIN_PART + 1) + 1 / (n1 - MIN_PART + 1)
        variance = max(self._m2 / self.width, 0.0)
        bound = np.sqrt(2 * inverse * variance * confidence) + 2 / 3 * confidence * inverse
        return bool((np.abs(total0[long] / n0 - total1[long] / n1) > bound).any())

    def _oldest_first(self) -> list[tuple[int, float, float]]:
        return [(2**i, total, m2) for i, level in reversed(list(enumerate(self._levels))) for total, m2 in level]

    def arrays(self) -> dict[str, Array]:
        """Return the window as named arrays: its buckets, oldest first, its sums, and the values since it began."""
        buckets = self._oldest_first()
        return {
            "sizes": np.array([size for size, _, _ in buckets], np.int64),
            "totals": np.array([total for _, total, _ in buckets], np.float64),
            "m2": np.array([m2 for _, _, m2 in buckets], np.float64),
            "window": np.array([self._total, self._m2, self._tick], np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Adwin:
        """Read what `arrays` returned."""
        adwin = cls()
        sizes, totals, m2 = (arrays[name].tolist() for name in ("sizes", "totals", "m2"))
        adwin._levels += [[] for _ in range(max(sizes, default=1).bit_length() - 1)]
        for size, *bucket in zip(sizes, totals, m2, strict=True):
            adwin._levels[size.bit_length() - 1].append((bucket[0], bucket[1]))
        adwin.width = sum(sizes)
        adwin._total, adwin._m2, tick = arrays["window"].tolist()
        adwin._tick = int(tick)
        return adwin

"""What nightfit's own learners share: raw answers behind a calibration, and a rehearsal on the first night.

A raw answer is a probability for each class, or, where the target is a quantity, a standardised value.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import repeat
from types import MappingProxyType

import numpy as np

from nightfit.batch import Array, Batch, Rows
from nightfit.calibration import MAX_ROWS, Calibration
from nightfit.quantity import TargetScale
from nightfit.schema import Task


class Calibrated(ABC):
    """A learner with raw answers; calibration makes them fit for use."""

    notes: Sequence[str] = ()
    votes = False
    figures: Mapping[str, float] = MappingProxyType({})

    def __init__(self, task: Task) -> None:
        self._task = task
        self._calibration: Calibration | TargetScale = Calibration() if task == "classification" else TargetScale()

    @abstractmethod
    def _has_learned(self) -> bool:
        """Say whether anything was learned."""

    @abstractmethod
    def _raw(self, batch: Batch) -> Array:
        """Return uncalibrated probabilities, float64 [n, K], or standardised values, float64 [n]."""

    @abstractmethod
    def _learn(self, rows: Rows, *, seed: int) -> None:
        """Go on learning from the rows."""

    @abstractmethod
    def _convert(self, factor: float, shift: float) -> None:
        """Let every standardised value v become factor v + shift: the target's moments have moved."""

    def observe(self, rows: Rows) -> None:
        """Let calibration learn from the outcomes of a sample."""
        if self._has_learned() and len(rows):  # before that there is nothing to calibrate
            self._calibrate(rows.sample(MAX_ROWS))

    def predict(self, batch: Batch) -> Array:
        """Return calibrated probabilities, float64 [n, K], or values, float64 [n]."""
        return self._calibration.apply(self._raw_or_prior(batch))

    def learn(self, rows: Rows, *, seed: int) -> None:
        """Go on learning; the first night rehearses, as it has no night before it to calibrate on."""
        if len(rows) and self._calibration.is_blank:
            rows, rest = rehearse(rows, seed=seed)
            self._learn_and_count(rows, seed=seed)
            for block in rest.chunks():
                self._calibrate(block)
            rows = rest
        self._learn_and_count(rows, seed=seed)

    def declare(self, n_classes: int) -> None:
        """Give each declared class half a count in the prior."""
        self._calibration.declare(n_classes)

    def _learn_and_count(self, rows: Rows, *, seed: int) -> None:
        if not len(rows):
            return
        weights = [block.weight for block in rows.chunks()] if rows.is_weighted else repeat(None)
        moved = self._calibration.count((block.y for block in rows.chunks()), weights)
        if moved and self._has_learned():
            self._convert(*moved)
        self._learn(rows, seed=seed)

    def _raw_or_prior(self, batch: Batch) -> Array:
        return self._raw(batch) if self._has_learned() else self._calibration.prior_rows(len(batch))

    def _calibrate(self, batch: Batch) -> None:
        self._calibration.observe(self._raw_or_prior(batch), batch.y, batch.weight)


def rehearse(rows: Rows, *, seed: int) -> tuple[Rows, Rows]:
    """Split a random tenth off the last block: rows that are predicted before they are learned.

    It has at least 50 rows, or none if that were more than half of the block. Costs the memory of one block.
    """

    def chosen(n_last: int) -> Array:
        n = max(n_last // 10, 50)
        mask = np.zeros(n_last, bool)
        if n_last >= 2 * n:
            mask[np.random.default_rng(seed).permutation(n_last)[:n]] = True
        return mask

    return rows.split_last(chosen)

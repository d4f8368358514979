"""What every protocol says of predictions: labels or values, and the probability of each class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nightfit.batch import Array
from nightfit.serving.served import Served

DIGITS = 6
"""Decimal places of a probability, as `nightfit predict` writes them."""


class Answers(NamedTuple):
    """A version's answers to rows: `proba` float64 [n, K] or None for a quantity, whose `values` are float64 [n]."""

    served: Served
    proba: Array | None
    values: Array | None

    @classmethod
    def of(cls, served: Served, predicted: Array) -> Answers:
        """Sort what a scorer returned by the kind of target."""
        return cls(served, np.round(predicted, DIGITS), None) if predicted.ndim == 2 else cls(served, None, predicted)  # noqa: PLR2004

    @property
    def predictions(self) -> list[str] | list[float]:
        """The most probable class of each row as text, or its value."""
        if self.proba is None:
            assert self.values is not None
            return [*map(float, self.values)]
        classes = self.served.schema.classes
        return [classes[i] for i in self.proba.argmax(1).tolist()]

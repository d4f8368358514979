"""What every protocol says of predictions: labels or values, and the probability of each class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nightfit.batch import Array
from nightfit.serving.served import Served

DIGITS = 6
"""Decimal places of a probability, as `nightfit predict` writes them."""


class Answers(NamedTuple):
    """A version's answers to rows: classes as text, or values; `proba` float64 [n, K], None for a quantity."""

    served: Served
    predictions: list[str] | list[float]
    proba: Array | None

    @classmethod
    def of(cls, served: Served, predicted: Array) -> Answers:
        """Sort what a scorer returned by the kind of target; the most probable class is that before rounding."""
        if predicted.ndim == 1:
            return cls(served, [*map(float, predicted)], None)
        classes = served.schema.classes
        return cls(served, [classes[i] for i in predicted.argmax(1).tolist()], np.round(predicted, DIGITS))

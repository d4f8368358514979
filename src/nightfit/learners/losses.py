"""Losses: the cross-entropy over the classes that were learned, or half the squared error of a quantity."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_ROWS = 32
"""A step's mean is over at least so many rows: the gradient of one row is mostly noise, and no night a single one."""


class Loss:
    """The loss of a night's steps. `seen`: bool [K], the classes that were ever learned; None: of a quantity."""

    def __init__(self, seen: Tensor | None) -> None:
        self._one_hot = None if seen is None else torch.eye(len(seen), device=seen.device)
        self._unseen = None if seen is None or seen.all() else ~seen[:, None]

    def wanted(self, y: Tensor) -> Tensor:
        """Return what outputs are held against, float32 [K, n]: one-hot classes of indices [n], or the values."""
        return y[None] if self._one_hot is None else self._one_hot.index_select(1, y)

    def gradient(self, outputs: Tensor, wanted: Tensor, n_rows: int) -> Tensor:
        """Return the gradient of the members' mean losses over n rows at their outputs [m, K, n], which it overwrites.

        `wanted`: float32 [K, n]. Of `n_rows` those here may be a part.
        """
        if self._one_hot is not None:
            legal = outputs if self._unseen is None else outputs.masked_fill_(self._unseen, -torch.inf)
            outputs = torch.softmax(legal, 1)
        return outputs.sub_(wanted).div_(max(n_rows, LEAST_ROWS))

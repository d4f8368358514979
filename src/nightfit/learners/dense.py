"""What learners on the dense matrix of the rows share: the layout, what was seen, votes; they keep no rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from nightfit.batch import BLOCK_ROWS, Array, Batch, Rows
from nightfit.learners.calibrated import Calibrated
from nightfit.learners.layout import Layout
from nightfit.moments import standardise
from nightfit.normaliser import Normaliser
from nightfit.schema import Sizes, Task
from nightfit.scorer import Forward, voted

DENSE_NUMBERS = 1 << 24
"""Numbers of a dense matrix that are in memory at a time: 128 MiB."""

LEAST_SHARE = 1e-12
"""The least probability of a class that was learned."""


class Dense(Calibrated):
    """A learner behind the persisted normaliser that reads rows as a `Layout` lays them out."""

    def __init__(self, normaliser: Normaliser, task: Task) -> None:
        super().__init__(task)
        self.normaliser, self._task = normaliser, task
        self._layout, self._seen = Layout(), np.zeros(0, bool)

    def _has_learned(self) -> bool:
        return bool(self._seen.any())

    def observe(self, rows: Rows) -> None:
        """Let calibration learn; votes have none."""
        if not self.votes:
            super().observe(rows)

    def predict(self, batch: Batch) -> Array:
        """Return probabilities, float64 [n, K], votes [n, K] or values of a quantity, float64 [n]."""
        return voted(self._raw_or_prior(batch)) if self.votes else super().predict(batch)

    def learn(self, rows: Rows, *, seed: int) -> None:
        """Go on learning; where there is nothing to calibrate nothing is rehearsed."""
        if self.votes:
            self._learn_and_count(rows, seed=seed)
        else:
            super().learn(rows, seed=seed)

    def _matrices(self, rows: Rows, seed: int) -> Iterator[tuple[Array, Array]]:
        """Yield the rows once, shuffled, as matrices [n, width] with their targets."""
        moments, n = self.normaliser.arrays(), n_dense(self._layout)
        for block in rows.shuffled(BLOCK_ROWS, seed=seed):
            for start in range(0, len(block), n):
                piece = block.take(slice(start, start + n))
                yield self._layout.matrix(standardise(moments, piece.x_num), piece.x_cat), piece.y

    def grow(self, sizes: Sizes, parent_ids: Array, missing_ids: Array) -> None:  # noqa: ARG002 - no memory
        """Take note of what is new; room is made for it, if at all, when the first rows with it are learned."""
        self._layout.grow(sizes, parent_ids)
        self._seen = np.concatenate([self._seen, np.zeros(sizes.n_outputs - len(self._seen), bool)])
        self._calibration.grow(sizes.n_outputs)

    def forget(self, keys: Array) -> int:  # noqa: ARG002 - no memory
        """Return 0: it keeps no rows."""
        return 0

    def memory(self) -> Batch | None:
        """Return None: it keeps no rows."""
        return None


def n_dense(layout: Layout) -> int:
    """Return how many rows of a matrix are in memory at a time."""
    return max(DENSE_NUMBERS // layout.width, 1)


def by_pieces(layout: Layout, answer: Callable[[Array], Array], none: Array) -> Forward:
    """Return a forward pass that lays rows out a piece at a time; `none` is what it answers to no row."""

    def raw(z: Array, x_cat: Array) -> Array:
        if not len(z):
            return none
        n = n_dense(layout)
        pieces = (slice(i, i + n) for i in range(0, len(z), n))
        return np.concatenate([answer(layout.matrix(z[piece], x_cat[piece])) for piece in pieces])

    return raw


def shares(p: Array, seen: Array) -> Array:
    """Return probabilities [n, K] of all classes; those that were never learned have no share."""
    p = np.concatenate([p, np.zeros((len(p), len(seen) - p.shape[1]))], 1)
    p = np.where(seen, np.maximum(p, LEAST_SHARE), 0.0)
    return np.asarray(p / p.sum(1, keepdims=True))

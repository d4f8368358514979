"""Bounded samples of rows, kept in the checkpoint: a uniform one of all rows so far, and the latest ones.

The uniform one holds the k rows with the smallest hash of their key: a sample without random state, the same however
the rows were split into nights (bottom-k sampling, Cohen & Kaplan 2007).
"""

from __future__ import annotations

from typing import Self

import numpy as np

from nightfit.batch import ARRAYS, Array, Batch, concat, widened
from nightfit.identity import priority


class _Sample:
    """At most `capacity` rows, in `batch`."""

    def __init__(self, capacity: int, batch: Batch | None = None) -> None:
        self.capacity = capacity
        none = Batch(np.zeros(0, np.uint64), np.zeros((0, 0)), np.zeros((0, 0), np.int32), np.zeros(0, np.int64))
        self.batch = none if batch is None else batch

    def __len__(self) -> int:
        return len(self.batch)

    def grow(self, d_num: int, cat_ids: Array) -> None:
        """Append columns: missing numbers, and for categories the ids (int32 [d_cat]) that mean missing."""
        self.batch = widened(self.batch, d_num, cat_ids)

    def forget(self, keys: Array) -> int:
        """Delete the rows of these keys (hashes, uint64), and return how many there were."""
        gone = np.isin(self.batch.key_hash, keys)
        self.batch = self.batch.take(~gone)
        return int(gone.sum())

    def clear(self) -> None:
        """Start anew, with the same columns."""
        self.batch = self.batch.take(slice(0))

    def arrays(self) -> dict[str, Array]:
        """Return the rows as named arrays."""
        weight = {} if self.batch.weight is None else {"weight": self.batch.weight}
        return {name: getattr(self.batch, name) for name in ARRAYS} | weight

    @classmethod
    def from_arrays(cls, capacity: int, arrays: dict[str, Array]) -> Self:
        """Read what `arrays` returned."""
        return cls(capacity, Batch(**arrays))


class Memory(_Sample):
    """A uniform sample of all rows that were ever offered, in ascending order of priority."""

    def add(self, batch: Batch) -> None:
        """Offer rows; those of unknown classes are not kept, and of a key that comes twice the newest is."""
        offered = batch.take(self._wanted(batch))
        newest_first = concat([offered.take(slice(None, None, -1)), self.batch])
        _, order = np.unique(priority(newest_first.key_hash), return_index=True)
        self.batch = newest_first.take(order[: self.capacity])

    def _wanted(self, batch: Batch) -> Array:
        """Say which rows (bool [n]) can be kept: of a large night few are among the smallest."""
        if not 0 < self.capacity <= len(self):
            return batch.can_learn
        return batch.can_learn & (priority(batch.key_hash) <= priority(self.batch.key_hash[-1:]))


class Recent(_Sample):
    """The latest rows, oldest first."""

    def latest(self, n: int) -> Recent:
        """Return the latest n rows alone."""
        return Recent(n, self.batch.take(slice(max(len(self) - n, 0), None)))

    def add(self, batch: Batch) -> None:
        """Append rows, and let the oldest go."""
        offered = np.flatnonzero(batch.can_learn)
        offered = offered[max(len(offered) - self.capacity, 0) :]
        kept = slice(max(len(self) + len(offered) - self.capacity, 0), None)
        self.batch = concat([self.batch.take(kept), batch.take(offered)])


def draw(n_rows: int, n: int, random: np.random.Generator) -> Array:
    """Return which n of so many rows (int64 [n]; all, if there are fewer) are drawn without replacement."""
    return random.choice(n_rows, min(n, n_rows), replace=False)

"""A bounded, uniform sample of rows, kept in the checkpoint.

The k rows with the smallest hash of their key: a uniform sample of all rows ever offered, without random state, the
same however the rows were split into nights (bottom-k sampling, Cohen & Kaplan 2007), and deletable by key.
"""

from __future__ import annotations

import numpy as np

from nightfit.batch import Array, Batch, concat
from nightfit.identity import priority


class Memory:
    """At most `capacity` rows. `batch` holds them, in ascending order of priority."""

    def __init__(self, capacity: int, batch: Batch | None = None) -> None:
        self.capacity = capacity
        none = Batch(np.zeros(0, np.uint64), np.zeros((0, 0)), np.zeros((0, 0), np.int32), np.zeros(0, np.int64))
        self.batch = none if batch is None else batch

    def __len__(self) -> int:
        return len(self.batch)

    def grow(self, d_num: int, cat_ids: Array) -> None:
        """Append columns: missing numbers, and for categories the ids (int32 [d_cat]) that mean missing."""
        old, n = self.batch, len(self.batch)
        x_num = np.full((n, d_num), np.nan)
        x_num[:, : old.x_num.shape[1]] = old.x_num
        x_cat = np.tile(cat_ids, (n, 1))
        x_cat[:, : old.x_cat.shape[1]] = old.x_cat
        self.batch = Batch(old.key_hash, x_num, x_cat, old.y)

    def add(self, batch: Batch) -> None:
        """Offer rows; those of unknown classes are not kept, and of a key that comes twice the newest is."""
        newest_first = concat([batch.take(batch.y >= 0).take(slice(None, None, -1)), self.batch])
        _, order = np.unique(priority(newest_first.key_hash), return_index=True)
        self.batch = newest_first.take(order[: self.capacity])

    def arrays(self) -> dict[str, Array]:
        """Return the rows as named arrays."""
        return {
            "key_hash": self.batch.key_hash,
            "x_num": self.batch.x_num,
            "x_cat": self.batch.x_cat,
            "y": self.batch.y,
        }

    @classmethod
    def from_arrays(cls, capacity: int, arrays: dict[str, Array]) -> Memory:
        """Read what `arrays` returned."""
        return cls(capacity, Batch(**arrays))

"""Replay: two memories of old rows, and the minibatches in which they go with tonight's."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nightfit.batch import BLOCK_ROWS, Array, Batch, Rows, concat
from nightfit.learners.base import MEMORY, Arrays, MlpConfig, part
from nightfit.memory import Memory, Recent
from nightfit.schema import Sizes

RESERVOIR, NEW, RECENT = range(3)
"""Pools of rows: a sample of all nights before, tonight's, the latest rows before.

In a minibatch they lie in this order, so that those of each regime lie together.
"""

REGIMES = (RESERVOIR, NEW, RECENT)
"""The pool that each group of members learns besides tonight's rows (NEW: none)."""

REPLAYED = 2
"""Rows of each memory for each new row."""

RECENT_NIGHTS, MIN_RECENT = 3, 1_000
"""Recent rows are as many as so many nights like tonight's have: a concept that ends is forgotten as soon. But no fewer
than so many: a night of one row is not a reason to learn the last three."""

MIN_STEPS, MAX_EPOCHS = 30, 10
"""A small night takes at least so many steps, in at most so many epochs: 100 rows in three epochs teach little."""


class Replay:
    """A uniform sample of all rows so far, and the latest ones, half of `config.memory_rows` each."""

    def __init__(self, config: MlpConfig, arrays: Arrays | None = None) -> None:
        self._config, half = config, config.memory_rows // 2
        kept = part(arrays or {}, "memory")
        self._reservoir = Memory.from_arrays(half, part(kept, "reservoir")) if kept else Memory(half)
        self._recent = Recent.from_arrays(half, part(kept, "recent")) if kept else Recent(half)

    def blocks(self, rows: Rows, *, seed: int) -> Iterator[tuple[Batch, list[tuple[Array, list[slice]]]]]:
        """Yield blocks of rows, tonight's in a few epochs with replayed ones, and each block's minibatches.

        A minibatch is an index into its block (int64) and, for each of `REGIMES`, the slice of that index which is
        learned; all minibatches of a block have the same share of each pool.
        """
        random, n_epochs = np.random.default_rng(seed), self._n_epochs(len(rows))
        recent = self._recent.latest(max(RECENT_NIGHTS * len(rows), MIN_RECENT))
        for epoch in range(n_epochs):
            for block in rows.shuffled(BLOCK_ROWS, seed=seed * n_epochs + epoch):
                n = self._n_replayed(len(block))
                pools = [self._reservoir.draw(n, random), block, recent.draw(n, random)]
                yield concat(pools), self._minibatches([len(pool) for pool in pools], random)

    def _minibatches(self, sizes: list[int], random: np.random.Generator) -> list[tuple[Array, list[slice]]]:
        starts = np.cumsum([0, *sizes[:-1]])
        orders = [start + random.permutation(n) for start, n in zip(starts, sizes, strict=True)]
        n_steps = math.ceil(sum(sizes) / self._config.batch_size)
        parts = zip(*(np.array_split(order, n_steps) for order in orders), strict=True)
        return [(np.concatenate(pools), _slices([len(pool) for pool in pools])) for pools in parts]

    def _n_epochs(self, n_rows: int) -> int:
        n_replayed = sum(min(self._n_replayed(n_rows), len(memory)) for memory in (self._reservoir, self._recent))
        per_epoch = math.ceil((n_rows + n_replayed) / self._config.batch_size)
        return max(self._config.n_epochs, min(math.ceil(MIN_STEPS / per_epoch), MAX_EPOCHS))

    def _n_replayed(self, n_rows: int) -> int:
        """Return how many rows of each memory go with new ones: at least as many as fill a step."""
        return max(REPLAYED * n_rows, (self._config.batch_size - n_rows) // 2)

    def remember(self, rows: Rows) -> None:
        """Offer tonight's rows to both memories."""
        for block in rows.chunks():
            self._reservoir.add(block)
            self._recent.add(block)

    def grow(self, sizes: Sizes, missing_ids: Array) -> None:
        """Append columns."""
        for memory in (self._reservoir, self._recent):
            memory.grow(sizes.d_num, missing_ids)

    def rows(self) -> Batch | None:
        """Return the rows of both memories, each once; None if there are none."""
        both = concat([self._reservoir.batch, self._recent.batch])
        _, first = np.unique(both.key_hash, return_index=True)
        return both.take(first) if len(first) else None

    def forget(self, keys: Array) -> int:
        """Delete the rows of these keys (hashes, uint64) from both memories, and return how many there were."""
        return self._reservoir.forget(keys) + self._recent.forget(keys)

    def arrays(self) -> Arrays:
        """Return both memories as named arrays."""
        named = {f"{MEMORY}reservoir.{name}": array for name, array in self._reservoir.arrays().items()}
        return named | {f"{MEMORY}recent.{name}": array for name, array in self._recent.arrays().items()}


def _slices(counts: list[int]) -> list[slice]:
    """Return each regime's rows of a minibatch that has so many rows of each pool, in their order."""
    ends = np.cumsum([0, *counts]).tolist()
    return [slice(ends[min(pool, NEW)], ends[max(pool, NEW) + 1]) for pool in REGIMES]

"""Replay: two memories of old rows, and the minibatches in which they go with tonight's.

Minibatches are indices into pools of rows that stay where they are: on a GPU no row moves twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from typing import NamedTuple, TypeAlias

import numpy as np

from nightfit.batch import Array, Batch, Block, Rows, concat
from nightfit.learners.base import MEMORY, Arrays, MlpConfig, part
from nightfit.memory import Memory, Recent, draw
from nightfit.ranks import Alone
from nightfit.schema import Sizes
from nightfit.scorer import group_sizes

RESERVOIR, NEW, RECENT = range(3)
"""Pools of rows: a sample of all nights before, tonight's, the latest rows before.

In a minibatch they lie in this order, so that those of each regime lie together.
"""

REPLAYED = 2
"""Rows of each memory for each new row."""

RECENT_NIGHTS, MIN_RECENT = 3, 1_000
"""Recent rows are as many as so many nights like tonight's have: a concept that ends is forgotten as soon. But no fewer
than so many: a night of one row is not a reason to learn the last three."""

MIN_STEPS, MAX_EPOCHS = 30, 10
"""A small night takes at least so many steps, in at most so many epochs: 100 rows in three epochs teach little."""


PerPool: TypeAlias = tuple[int, ...]
"""Numbers of rows by pool."""


class Counts(NamedTuple):
    """How many rows of each pool a minibatch has: here, and on all ranks together."""

    own: PerPool
    all: PerPool


class Mix(NamedTuple):
    """A block of tonight's rows, and the minibatches in which it is learned with replayed ones.

    `rows`: int64 [n], those of all minibatches, one after the other. They are counted through the reservoir, then the
    latest rows (both as `Replay.pools` returns them), then the block. `counts`: those of each minibatch, all much the
    same.
    """

    block: Block
    rows: Array
    counts: list[Counts]


class Replay:
    """A uniform sample of all rows so far, and the latest ones, half of `config.memory_rows` each."""

    def __init__(self, config: MlpConfig, arrays: Arrays | None = None) -> None:
        self._config, half = config, config.memory_rows // 2
        kept = part(arrays or {}, "memory")
        self._reservoir = Memory.from_arrays(half, part(kept, "reservoir")) if kept else Memory(half)
        self._recent = Recent.from_arrays(half, part(kept, "recent")) if kept else Recent(half)

    def pools(self, n_rows: int, ranks: Alone) -> tuple[Batch, Batch]:
        """Return a rank's share of what is replayed beside so many new rows: of the reservoir, and the latest ones."""
        is_learned = RECENT in regimes(self._config.n_members)
        latest = self._recent.latest(max(RECENT_NIGHTS * n_rows, MIN_RECENT) if is_learned else 0)
        return ranks.part(self._reservoir.batch), ranks.part(latest.batch)

    def mixes(self, rows: Rows, n_rows: int, ranks: Alone, *, seed: int) -> Iterator[Mix]:
        """Yield the blocks of a rank's share of tonight's `n_rows` in a few epochs, mixed with its replayed rows."""
        random, n_epochs = np.random.default_rng(seed), self._n_epochs(n_rows)
        n_old, n_recent = map(len, self.pools(n_rows, ranks))
        for epoch in range(n_epochs):
            for block, order in rows.orders(seed=seed * n_epochs + epoch):
                n = math.ceil(self._n_replayed(int(ranks.totals(np.array(len(block))))) / ranks.size)
                old, recent = draw(n_old, n, random), n_old + draw(n_recent, n, random)
                yield Mix(block, *self._minibatches([old, n_old + n_recent + order, recent], ranks, random))

    def _minibatches(self, pools: list[Array], ranks: Alone, random: np.random.Generator) -> tuple[Array, list[Counts]]:
        n_steps = math.ceil(ranks.totals(np.array([*map(len, pools)])).sum() / self._config.batch_size)
        shuffled = (pool[random.permutation(len(pool))] for pool in pools)
        minibatches = list(zip(*(np.array_split(pool, n_steps) for pool in shuffled), strict=True))
        own = np.array([[*map(len, parts)] for parts in minibatches])
        counts = [
            Counts(tuple(here), tuple(all_))
            for here, all_ in zip(own.tolist(), ranks.totals(own).tolist(), strict=True)
        ]
        return np.concatenate([part for parts in minibatches for part in parts]), counts

    def _n_epochs(self, n_rows: int) -> int:
        learned, memories = regimes(self._config.n_members), {RESERVOIR: self._reservoir, RECENT: self._recent}
        n_replayed = sum(min(self._n_replayed(n_rows), len(memories[pool])) for pool in learned if pool != NEW)
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


def regimes(n_members: int) -> PerPool:
    """Return the pool that each group of an ensemble's members learns besides tonight's rows (NEW: none)."""
    return tuple(pool for pool, size in zip((RESERVOIR, NEW, RECENT), group_sizes(n_members), strict=True) if size)


@cache
def slices(counts: PerPool, n_members: int) -> tuple[slice, ...]:
    """Return the rows of a minibatch that each group learns: those of two pools lie together."""
    ends = [0, *accumulate(counts)]
    return tuple(slice(ends[min(pool, NEW)], ends[max(pool, NEW) + 1]) for pool in regimes(n_members))

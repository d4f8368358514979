"""Rows as arrays: what every learner, metric and memory works on, with the shapes checked once.

`Batch` is one block of rows in memory; `Rows` is a night's worth of blocks, which may lie on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

BLOCK_ROWS = 65_536
"""Rows of a block of `Rows`; also the window within which epochs are shuffled."""

UNKNOWN_CLASS = -1
"""The `y` of a row whose class the schema has not learned yet."""

ARRAYS = ("key_hash", "x_num", "x_cat", "y")
"""What every batch has, in the order of its fields."""


@dataclass(frozen=True)
class Batch:
    """Cleaned, encoded rows.

    `key_hash`: uint64 [n], the rows' identities. `x_num`: float64 [n, d_num], NaN where missing.
    `x_cat`: int32 [n, d_cat], ids of categories in the schema's one table of ids.
    `y`: int64 [n], class indices (`UNKNOWN_CLASS` where the schema does not know the class);
    or float64 [n], a quantity.
    `weight`: float64 [n], above 0, by what each row's loss is multiplied; None, as in every night: by 1.
    """

    key_hash: Array
    x_num: Array
    x_cat: Array
    y: Array
    weight: Array | None = None

    def __post_init__(self) -> None:
        n = len(self.key_hash)
        lengths = {n, len(self.x_num), len(self.x_cat), len(self.y)}
        dims = (self.key_hash.ndim, self.x_num.ndim, self.x_cat.ndim, self.y.ndim)
        if dims != (1, 2, 2, 1) or lengths != {n}:
            raise ValueError(
                "a batch must hold as many keys as rows of x_num, x_cat and y, however their shapes are "
                f"{self.key_hash.shape}, {self.x_num.shape}, {self.x_cat.shape} and {self.y.shape}",
            )

    def __len__(self) -> int:
        return len(self.key_hash)

    @property
    def can_learn(self) -> Array:
        """Say which rows (bool [n]) have an outcome that can be learned: a known class, or any quantity."""
        return self.y != UNKNOWN_CLASS if self.y.dtype.kind == "i" else ~np.isnan(self.y)

    def take(self, index: Array | slice) -> Batch:
        """Return the rows that an index array, a mask or a slice names."""
        weight = None if self.weight is None else self.weight[index]
        return Batch(self.key_hash[index], self.x_num[index], self.x_cat[index], self.y[index], weight)

    @property
    def weights(self) -> Array:
        """By what each row's loss is multiplied, float64 [n], also where none is given."""
        return np.ones(len(self)) if self.weight is None else self.weight


def concat(batches: Iterable[Batch]) -> Batch:
    """Join batches of equal widths into one; at least one is needed."""
    blocks = list(batches)
    if len(blocks) == 1:
        return blocks[0]
    joined = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in ARRAYS}
    if any(block.weight is not None for block in blocks):
        joined["weight"] = np.concatenate([block.weights for block in blocks])
    return Batch(**joined)


class Rows:
    """A night's rows: immutable, re-iterable, in blocks of at most `BLOCK_ROWS`, of which one is in memory at a time.

    >>> rows = Rows([Batch(np.zeros(2, np.uint64), np.zeros((2, 1)), np.zeros((2, 0), np.int32), np.zeros(2, int))])
    >>> len(rows), [len(block) for block in rows.shuffled(1, seed=0)]
    (2, [1, 1])
    """

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._blocks = [piece for block in blocks for piece in _cut(block)]

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    @property
    def blocks(self) -> Sequence[Block]:
        """The blocks, unread."""
        return self._blocks

    def chunks(self) -> Iterator[Batch]:
        """Yield the rows in order, block by block."""
        yield from map(in_memory, self._blocks)

    def shuffled(self, batch_size: int, *, seed: int) -> Iterator[Batch]:
        """Yield the rows in batches of at most `batch_size`, in an order that depends on the seed alone.

        Blocks come in random order and rows are shuffled within a block, so that a night that lies on disk is
        read a block at a time.
        """
        for block, order in self.orders(seed=seed):
            rows = in_memory(block)
            for start in range(0, len(rows), batch_size):
                yield rows.take(order[start : start + batch_size])

    def orders(self, *, seed: int) -> Iterator[tuple[Block, Array]]:
        """Yield the blocks in random order, each with a random order of its rows, int64 [n]: `shuffled`, unread."""
        random = np.random.default_rng(seed)
        for i in random.permutation(len(self._blocks)):
            yield self._blocks[i], random.permutation(len(self._blocks[i]))

    def sample(self, n: int) -> Batch:
        """Return about n rows, evenly spread over the night; all, if there are fewer. There must be a row."""
        step = max(len(self) // n, 1)
        return concat(block.take(slice(None, None, step)) for block in self.chunks())

    def class_counts(self, n_classes: int) -> Array:
        """Count the rows of each class, [n_classes], by their weights; all their classes must be known."""
        counts = (np.bincount(block.y, block.weight, n_classes) for block in self.chunks())
        return sum(counts, start=np.zeros(n_classes, np.int64))

    @property
    def is_weighted(self) -> bool:
        """Say whether rows differ in how much they count."""
        return any(isinstance(block, Batch) and block.weight is not None for block in self._blocks)

    def split_last(self, chosen: Callable[[int], Array]) -> tuple[Rows, Rows]:
        """Split rows off the last block: those that the mask (bool [m]) which `chosen` makes of its length names."""
        *blocks, last = self._blocks
        block, mask = in_memory(last), chosen(len(last))
        return Rows([*blocks, block.take(~mask)]), Rows([block.take(mask)])

    @property
    def y(self) -> Array:
        """All class indices, int64 [n], or quantities, float64 [n], in order: the memory of as many numbers."""
        return np.concatenate([np.zeros(0, np.int64), *(block.y for block in self.chunks())])


@dataclass(frozen=True)
class StagedBatch:
    """A batch on disk, of n rows; `load` maps it, and it is gone from memory when nobody holds it any more."""

    stem: Path
    n: int

    def __len__(self) -> int:
        return self.n

    def load(self) -> Batch:
        """Return the batch, its large arrays memory-mapped."""
        return Batch(*(_load(_path(self.stem, name)) for name in ARRAYS))


Block: TypeAlias = Batch | StagedBatch


def in_memory(block: Block) -> Batch:
    """Return a block's rows, memory-mapped if they lie on disk."""
    return block if isinstance(block, Batch) else block.load()


def _cut(block: Block) -> Iterator[Block]:
    """Yield the pieces of a block, none of them empty or larger than `BLOCK_ROWS`; what is staged is neither."""
    if isinstance(block, StagedBatch):
        yield block
    else:
        yield from (block.take(slice(i, i + BLOCK_ROWS)) for i in range(0, len(block), BLOCK_ROWS))


def stage(batches: Iterable[Batch], folder: Path, *, keep: bool = False) -> Rows:
    """Write batches to `folder` as whole blocks, so that a night of any size fits.

    A single block stays in memory, unless what is written is to be kept: `staged` opens it again.
    """
    blocks: list[Block] = []
    for i, pieces in enumerate(_pieces(batches)):
        if i == 1 and not keep:
            blocks = [spill(blocks, folder / f"{0:06d}")]  # type: ignore[arg-type]
        blocks.append(spill(pieces, folder / f"{i:06d}") if i or keep else concat(pieces))
    return Rows(blocks)


def staged(folder: Path) -> Rows:
    """Open what `stage` kept in a folder; none of it is read yet."""
    keys = sorted(folder.glob("*-key_hash.npy"))
    return Rows([StagedBatch(path.with_name(path.name.partition("-")[0]), len(_load(path))) for path in keys])


def widened(batch: Batch, d_num: int, cat_ids: Array) -> Batch:
    """Append columns to rows: missing numbers, and for categories the ids (int32 [d_cat]) that mean missing."""
    n = len(batch)
    if batch.x_num.shape[1] == d_num and batch.x_cat.shape[1] == len(cat_ids):
        return batch
    x_num, x_cat = np.full((n, d_num), np.nan), np.tile(cat_ids, (n, 1))
    x_num[:, : batch.x_num.shape[1]] = batch.x_num
    x_cat[:, : batch.x_cat.shape[1]] = batch.x_cat
    return Batch(batch.key_hash, x_num, x_cat, batch.y, batch.weight)


def _pieces(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    """Hold small batches until they are a full block, and cut large ones: shuffling within a block needs full ones."""
    held: list[Batch] = []
    for batch in batches:
        start, room = 0, BLOCK_ROWS - sum(map(len, held))
        while len(batch) - start >= room:
            yield [*held, batch.take(slice(start, start + room))]
            held, start, room = [], start + room, BLOCK_ROWS
        if start < len(batch):
            held.append(batch.take(slice(start, None)))
    if held:
        yield held


def save_array(path: Path, array: Array) -> None:
    """Write an array for `np.load`; raises `OSError` where the disk is full.

    Into a file numpy writes through a stream of C's, whose last bytes may be lost without a word; into anything else
    that can write it does so in Python.
    """
    with path.open("wb") as file:
        np.save(SimpleNamespace(write=file.write), array, allow_pickle=False)


def spill(pieces: Sequence[Batch], stem: Path) -> StagedBatch:
    """Write batches, none of them weighted, as one block, maybe of no rows; they are not joined in memory."""
    assert all(piece.weight is None for piece in pieces)
    stem.parent.mkdir(parents=True, exist_ok=True)
    n = sum(map(len, pieces))
    for name in ARRAYS:
        arrays = [np.ascontiguousarray(getattr(piece, name)) for piece in pieces]
        header = np.lib.format.header_data_from_array_1_0(arrays[0]) | {"shape": (n, *arrays[0].shape[1:])}
        with _path(stem, name).open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for array in arrays:
                file.write(array.data)  # not `tofile`, for the reason that `save_array` names
    return StagedBatch(stem, n)


def _path(stem: Path, name: str) -> Path:
    return stem.with_name(f"{stem.name}-{name}.npy")


def _load(path: Path) -> Array:
    try:
        mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # no columns, no bytes: nothing can be mapped
        mapped = np.load(path, allow_pickle=False)
    return mapped

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfit.batch import BLOCK_ROWS, Batch, Rows, concat, save_array, stage


def a_batch(n: int, start: int = 0) -> Batch:
    """Give n rows that are numbered in every array."""
    i = np.arange(start, start + n)
    return Batch(i.astype(np.uint64), np.stack([i, -i], 1).astype(float), i.astype(np.int32)[:, None], i)


def test_shapes_are_checked() -> None:
    """Arrays of different lengths or dimensions make no batch, and the message says the shapes."""
    good = a_batch(3)
    for key_hash, x_num, x_cat, y in (
        (good.key_hash[:2], good.x_num, good.x_cat, good.y),
        (good.key_hash, good.x_num[:, 0], good.x_cat, good.y),
        (good.key_hash, good.x_num, good.x_cat[:2], good.y),
        (good.key_hash, good.x_num, good.x_cat, good.y[:, None]),
    ):
        with pytest.raises(ValueError, match=r"as many keys as rows .* however their shapes are \("):
            Batch(key_hash, x_num, x_cat, y)


def test_take_takes_the_same_rows_of_every_array() -> None:
    """An index array, a mask and a slice name rows of all arrays alike."""
    batch = a_batch(5)
    for index in (np.array([4, 0]), np.array([True, False, False, True, False]), slice(1, 3)):
        taken = batch.take(index)
        assert np.array_equal(taken.y, batch.y[index])
        assert np.array_equal(taken.key_hash, taken.y)
        assert np.array_equal(taken.x_num[:, 1], -taken.y)
        assert np.array_equal(taken.x_cat[:, 0], taken.y)


def test_concat_keeps_order() -> None:
    """Batches are joined in the order given."""
    assert np.array_equal(concat([a_batch(2), a_batch(3, 2)]).y, np.arange(5))


@given(st.lists(st.integers(0, 7), max_size=5), st.integers(1, 9), st.integers(0, 3))
def test_shuffling_yields_every_row_once(sizes: list[int], batch_size: int, seed: int) -> None:
    """An epoch holds every row once, in batches of at most the size asked for, in an order of the seed alone."""
    ends = np.cumsum([0, *sizes])
    rows = Rows(a_batch(n, int(start)) for n, start in zip(sizes, ends, strict=False))
    batches = list(rows.shuffled(batch_size, seed=seed))
    order = [int(y) for batch in batches for y in batch.y]
    assert sorted(order) == list(range(sum(sizes))) == rows.y.tolist()
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert order == [int(y) for batch in rows.shuffled(batch_size, seed=seed) for y in batch.y]


def test_another_seed_gives_another_order() -> None:
    """The order depends on the seed."""
    rows = Rows([a_batch(100)])
    one, two = (next(iter(rows.shuffled(100, seed=seed))).y for seed in (0, 1))
    assert not np.array_equal(one, two)


def test_a_staged_night_comes_back_in_full_blocks(tmp_path: Path) -> None:
    """What was staged in small batches is the same rows in order, in blocks large enough to shuffle, mapped."""
    step = 10_000
    rows = stage((a_batch(step, start) for start in range(0, 15 * step, step)), tmp_path / "night")
    blocks = list(rows.chunks())
    assert np.array_equal(rows.y, np.arange(15 * step))
    assert min(map(len, blocks[:-1])) >= BLOCK_ROWS
    assert isinstance(blocks[0].x_num, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        blocks[0].x_num[0] = 1


def test_an_empty_night_is_staged(tmp_path: Path) -> None:
    """A night without rows has no blocks and no labels."""
    rows = stage([], tmp_path / "night")
    assert (len(rows), list(rows.chunks()), rows.y.tolist()) == (0, [], [])


@pytest.mark.parametrize("shape", [(3, 0), (1,), (50, 7), (3000, 20)])
def test_an_array_is_written_whole_or_not_at_all(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """An array comes back as it was; on a full disk writing fails, and nothing is cut short without a word."""
    array = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    save_array(tmp_path / "a.npy", array)
    assert np.array_equal(np.load(tmp_path / "a.npy"), array)
    with pytest.raises(OSError, match="No space left") as caught:
        save_array(Path("/dev/full"), array)
    assert caught.value.errno == errno.ENOSPC

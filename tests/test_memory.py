from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nightfit.batch import Batch
from nightfit.checkpoint import pack, unpack
from nightfit.identity import hash_positions
from nightfit.memory import Memory, Recent


def a_batch(rows: list[int], place: str = "a") -> Batch:
    """Give rows of one place, which carry their number."""
    i = np.array(rows, np.int64)
    return Batch(hash_positions(place, 0, i), i[:, None].astype(float), np.zeros((len(i), 1), np.int32), i % 3)


def filled(batches: list[Batch], capacity: int = 10) -> Memory:
    """Offer batches in turn to a memory that is saved and loaded in between."""
    memory = Memory(capacity)
    for batch in batches:
        memory.grow(1, np.zeros(1, np.int32))
        memory.add(batch)
        memory = Memory.from_arrays(capacity, unpack(pack(memory.arrays())))
    return memory


@given(st.permutations(range(40)), st.lists(st.integers(0, 40), max_size=5))
def test_the_sample_does_not_depend_on_order_or_nights(order: list[int], cuts: list[int]) -> None:
    """The same rows in any order, however split into nights, leave the same memory, which never exceeds its size."""
    parts = [part.tolist() for part in np.split(np.array(order), sorted(cuts))]
    memory, whole = filled([a_batch(part) for part in parts]), filled([a_batch(list(range(40)))])
    assert len(memory) == 10
    for name, values in whole.arrays().items():
        assert np.array_equal(memory.arrays()[name], values)


def test_the_sample_is_uniform() -> None:
    """Over many streams of 50 nights every night has its fair share of the memory (chi-square)."""
    kept = np.zeros(50)
    for place in range(200):
        memory = Memory(50)
        memory.grow(1, np.zeros(1, np.int32))
        for night in range(50):
            memory.add(a_batch(list(range(night * 10, night * 10 + 10)), str(place)))
        kept += np.bincount(memory.batch.x_num[:, 0].astype(int) // 10, minlength=50)
    assert stats.chisquare(kept).pvalue > 1e-6


def test_rows_of_unknown_classes_are_not_kept() -> None:
    """What has no class cannot test a model."""
    batch = a_batch([0, 1, 2])
    assert len(filled([replace(batch, y=np.array([-1, 0, -1]))])) == 1


def test_the_newest_row_of_a_key_is_kept() -> None:
    """A row that was updated replaces the one before it, within a batch as well."""
    old, new = a_batch([1, 2]), a_batch([1, 1])
    new.x_num[:, 0] = [7.0, 8.0]
    memory = filled([old, new])
    assert sorted(memory.batch.x_num[:, 0].tolist()) == [2.0, 8.0]


def test_growth_keeps_rows() -> None:
    """New columns are missing in the rows that are kept; the rest of them stays."""
    memory = filled([a_batch([5])])
    memory.grow(2, np.array([0, 9], np.int32))
    assert np.array_equal(memory.batch.x_num, [[5, np.nan]], equal_nan=True)
    assert memory.batch.x_cat.tolist() == [[0, 9]]
    assert memory.batch.x_cat.dtype == np.int32


def test_an_empty_memory_keeps_its_widths() -> None:
    """A memory that was saved before it held a row takes rows as soon as it is loaded."""
    memory = Memory(10)
    memory.grow(1, np.zeros(1, np.int32))
    loaded = Memory.from_arrays(10, unpack(pack(memory.arrays())))
    loaded.add(a_batch([1, 2]))
    assert len(loaded) == 2


def test_a_memory_may_start_anew() -> None:
    """Emptied, it keeps its columns, and takes rows in again."""
    memory = Memory(5)
    memory.grow(1, np.zeros(1, np.int32))
    memory.add(a_batch([*range(9)]))
    memory.clear()
    assert len(memory) == 0
    memory.add(a_batch([*range(3)]))
    assert len(memory) == 3


def test_rows_are_deleted_by_key() -> None:
    """A forgotten row is gone, from both kinds of memory; the others stay, in their order."""
    batch = a_batch(list(range(8)))
    for memory in (filled([batch]), Recent(10, batch)):
        before = memory.batch.x_num[:, 0].tolist()
        assert memory.forget(a_batch([3, 5, 99]).key_hash) == 2
        assert memory.batch.x_num[:, 0].tolist() == [i for i in before if i not in {3, 5}]


def test_the_latest_rows_are_the_last_that_came() -> None:
    """However many are asked for, and from none."""
    memory = Recent(10, a_batch(list(range(8))))
    for n in (0, 3, 8, 100):
        assert memory.latest(n).batch.x_num[:, 0].tolist() == list(range(8))[8 - min(n, 8) :]
    assert len(Recent(10).latest(5)) == 0

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightfit.batch import Array
from nightfit.checkpoint import pack, unpack
from nightfit.known import N_NIGHTS, Known, Segment

Pairs = list[tuple[int, int]]


def segment(pairs: Pairs, name: str = "a.csv") -> Segment:
    """Make a segment of (key, value) pairs from one place."""
    keys, values = (np.array([pair[i] for pair in pairs], np.uint64) for i in (0, 1))
    return Segment.sort(keys, values, np.zeros(len(pairs), np.int32), [name])


def uint(*numbers: int) -> Array:
    """Make hashes."""
    return np.array(numbers, np.uint64)


def test_a_row_is_found_with_its_place() -> None:
    """A key that was met is recognised, with whether its values were the same, and where it was."""
    known = Known([segment([(7, 1), (3, 2)], "a.csv"), segment([(9, 5)], "b.db")])
    met, same, place = known.find(uint(3, 9, 9, 4), uint(2, 5, 6, 0))
    assert met.tolist() == [True, True, True, False]
    assert same.tolist() == [True, True, False, False]
    assert [known.place(int(p)) for p in place[:3]] == ["a.csv", "b.db", "b.db"]


def test_the_newest_night_counts() -> None:
    """Of several nights that met a key, the newest says what its values are."""
    met, same, _ = Known([segment([(1, 20)]), segment([(1, 10)])]).find(uint(1, 1), uint(20, 10))
    assert met.all()
    assert same.tolist() == [True, False]


def test_the_last_of_a_night_counts() -> None:
    """Of several rows of one night with one key, the last one is kept."""
    assert segment([(1, 10), (2, 5), (1, 20)]).values.tolist() == [20, 5]


def test_32_nights_are_remembered() -> None:
    """A row is recognised for 32 nights, and no longer."""
    known = Known([segment([(i, i)]) for i in range(N_NIGHTS + 1)])
    assert known.find(uint(31, 32), uint(31, 32))[0].tolist() == [True, False]


@pytest.mark.parametrize("pairs", [[], [(0, 0)], [(2**64 - 1, 5), (17, 2**64 - 1)]])
def test_a_mapped_segment_is_the_same(pairs: Pairs, tmp_path: Path) -> None:
    """What was written as safetensors is mapped from disk as it was, an empty night and extreme hashes included."""
    written = segment(pairs, "Größe.csv")
    (tmp_path / "s").write_bytes(pack(written.arrays()))
    for read in (Segment.open(tmp_path / "s"), Segment.from_arrays(unpack((tmp_path / "s").read_bytes()))):
        assert read.names == ("Größe.csv",)
        for name in ("keys", "values", "places"):
            np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
        assert read.find(uint(17))[0].tolist() == [bool(pairs) and len(pairs) > 1]


@settings(deadline=None)
@given(
    nights=st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), max_size=8), max_size=4),
    asked=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), max_size=8),
)
def test_known_is_a_dictionary(nights: list[Pairs], asked: Pairs) -> None:
    """Segments answer as one dictionary would that every night, from the oldest on, has written its rows to."""
    truth: dict[int, int] = {}
    for night in reversed(nights):
        truth |= dict(night)
    known = Known([segment(night) for night in nights])
    met, same, _ = known.find(uint(*(key for key, _ in asked)), uint(*(value for _, value in asked)))
    assert met.tolist() == [key in truth for key, _ in asked]
    assert same.tolist() == [truth.get(key) == value for key, value in asked]

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightfit.batch import Array
from nightfit.checkpoint import unpack
from nightfit.errors import CheckpointError
from nightfit.known import N_NIGHTS, Known, Segment, write_segment

Pairs = list[tuple[int, int]]
NUMBERS = count()


def segment(pairs: Pairs) -> Segment:
    """Make a segment of (key, value) pairs, of one key the last; a target is a tenth of its value."""
    unique = sorted(dict(pairs).items())
    keys, values = (np.array([pair[i] for pair in unique], np.uint64) for i in (0, 1))
    return Segment(keys, values, values // np.uint64(10), np.zeros(len(unique), np.int32))


def known(folder: Path, *nights: Pairs) -> Known:
    """Write nights, newest first; the n-th one's rows come from place n."""
    paths = [folder / f"{next(NUMBERS)}" for _ in nights]
    for i, (path, night) in enumerate(zip(paths, nights, strict=True)):
        write_segment([segment(night)], [f"place {i}"], path)
    return Known(paths)


def uint(*numbers: int) -> Array:
    """Make hashes."""
    return np.array(numbers, np.uint64)


def test_a_row_is_found_with_its_place(tmp_path: Path) -> None:
    """A key that was met is recognised, with the hashes of its values and of its target, and where it was."""
    nights = known(tmp_path, [(7, 10), (3, 20)], [(9, 50)])
    met = nights.find(uint(3, 4, 9, 9))
    assert met.found.tolist() == [True, False, True, True]
    assert met.values.tolist() == [20, 0, 50, 50]
    assert met.targets.tolist() == [2, 0, 5, 5]
    assert [nights.place(int(p)) for p in met.places[[0, 2, 3]]] == ["place 0", "place 1", "place 1"]


def test_the_newest_night_counts(tmp_path: Path) -> None:
    """Of several nights that met a key, the newest says what its values are."""
    assert known(tmp_path, [(1, 20)], [(1, 10)]).find(uint(1)).values.tolist() == [20]


def test_32_nights_are_remembered(tmp_path: Path) -> None:
    """A row is recognised for 32 nights, and no longer."""
    nights = known(tmp_path, *([(i, i)] for i in range(N_NIGHTS + 1)))
    assert nights.find(uint(31, 32)).found.tolist() == [True, False]


@pytest.mark.parametrize("pairs", [[], [(0, 0)], [(17, 2**64 - 1), (2**64 - 1, 5)]])
def test_a_mapped_segment_is_the_same(pairs: Pairs, tmp_path: Path) -> None:
    """Written piece by piece, a segment is sound safetensors and is mapped as it was, an empty one included."""
    pieces = [segment([pair]) for pair in pairs]
    write_segment(pieces, ["Größe.csv"], tmp_path / "s")
    read, arrays, whole = Segment.open(tmp_path / "s"), unpack((tmp_path / "s").read_bytes()), segment(pairs)
    assert read.names == ("Größe.csv",)
    for name in ("keys", "values", "targets", "places"):
        np.testing.assert_array_equal(getattr(read, name), getattr(whole, name))
        np.testing.assert_array_equal(arrays[name], getattr(whole, name))
    assert read.find(uint(17))[0].tolist() == [len(pairs) > 1]
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@settings(deadline=None)
@given(
    nights=st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), max_size=8), max_size=4),
    asked=st.lists(st.integers(0, 9), max_size=8),
)
def test_known_is_a_dictionary(nights: list[Pairs], asked: list[int]) -> None:
    """Segments answer as one dictionary would that every night, from the oldest on, has written its rows to."""
    truth: dict[int, int] = {}
    for night in reversed(nights):
        truth |= dict(night)
    with tempfile.TemporaryDirectory() as folder:
        met = known(Path(folder), *nights).find(uint(*sorted(asked)))
    assert met.found.tolist() == [key in truth for key in sorted(asked)]
    assert met.values.tolist() == [truth.get(key, 0) for key in sorted(asked)]


@pytest.mark.parametrize(
    "data", [b"", b"short", b"\x80\x04pickle" * 9, b"\x1a" + bytes(7) + b'{"__metadata__":{"a":"b"}} ']
)
def test_what_is_no_segment_is_refused(tmp_path: Path, data: bytes) -> None:
    """A file that hashes to its name and is no segment all the same is told apart, and never a traceback."""
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(CheckpointError, match="must be a segment of known rows, however"):
        Segment.open(tmp_path / "x")

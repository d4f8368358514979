from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nightfit.identity import hash_positions, hash_text, hash_word, is_held_out, mix, priority

WORDS = {
    "": 0x186DA64456263A46,
    "5": 0x5D0212CF8CDE524F,
    "abc": 0x7C3E2CC42842A818,
    "é\x00ü": 0x0E33A9A98B863893,
    "x" * 1000: 0x29DD6F34AFD8A3DB,
}


def test_hashes_of_text_never_change() -> None:
    """Known keys are kept on disk by these hashes: another value would make every row new again."""
    assert {word: int(h) for word, h in zip(WORDS, hash_text(pa.array(list(WORDS))), strict=True)} == WORDS


def test_mixing_never_changes() -> None:
    """These values decide which rows are held out: another one would leak held-out rows into learning."""
    given_ = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    assert mix(given_).tolist() == [0, 6238072747940578789, 2720858781877447050, 13029008266876403067]
    assert priority(given_).tolist() == [
        9370218965779684112,
        132297946315314195,
        16981297974119524034,
        7905036713375737238,
    ]
    assert hash_positions("data.csv", 2, np.array([0, 1])).tolist() == [8945576498593790603, 9819028179255906934]
    assert is_held_out(np.arange(40, dtype=np.uint64), 0.1).nonzero()[0].tolist() == [5, 10]


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=5))
def test_text_hashes_alike_in_every_layout(words: list[str]) -> None:
    """A word has one hash: alone, in an array, in chunks, as large text."""
    text = pa.array(words, pa.string())
    alone = [int(hash_word(word)) for word in words]
    for layout in (text, pa.chunked_array([text[:2], text[2:]]), text.cast(pa.large_string())):
        assert hash_text(layout).tolist() == alone


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_mixing_loses_nothing(a: int, b: int) -> None:
    """Different values stay different."""
    one, two = mix(np.array([a, b], np.uint64))
    assert (one == two) == (a == b)


def test_a_position_is_a_place_a_generation_and_a_row() -> None:
    """Rows without a key are told apart by all three."""
    rows = np.arange(1000)
    hashes = [hash_positions(place, generation, rows) for place in ("a.csv", "b.csv") for generation in (0, 1)]
    assert len(np.unique(np.concatenate(hashes))) == 4000
    assert np.array_equal(hash_positions("a.csv", 0, rows[500:]), hashes[0][500:])


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_the_held_out_share_is_the_share_asked_for(fraction: float) -> None:
    """The number of rows held out lies within binomial bounds, for keys and for positions."""
    n = 100_000
    keys = mix(hash_text(pa.array([f"key-{i}" for i in range(n)])))
    for hashes in (keys, hash_positions("a.csv", 0, np.arange(n))):
        held = int(is_held_out(hashes, fraction).sum())
        low, high = stats.binom.interval(1 - 1e-9, n, fraction)
        assert low <= held <= high


def test_whether_a_row_is_held_out_does_not_depend_on_its_night() -> None:
    """A row lands on the same side alone, in any company, and for a larger share stays held out."""
    keys = hash_positions("a.csv", 0, np.arange(1000))
    whole = is_held_out(keys, 0.1)
    assert np.array_equal(np.concatenate([is_held_out(part, 0.1) for part in np.split(keys, 10)]), whole)
    assert is_held_out(keys, 0.2)[whole].all()


def test_priority_does_not_depend_on_the_split() -> None:
    """The rows that a memory keeps are no others for being held out."""
    keys = hash_positions("a.csv", 0, np.arange(100_000))
    held = is_held_out(keys, 0.5)
    assert stats.ks_2samp(priority(keys[held]) / 2**64, priority(keys[~held]) / 2**64).pvalue > 1e-6

"""The change detector: the same cuts as River's, through any breaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river.drift import ADWIN

from nightfit.batch import Array
from nightfit.checkpoint import pack, unpack
from nightfit.detector import Adwin


def stream(seed: int) -> Array:
    """Make errors that change, by more or less, twice or so."""
    random = np.random.default_rng(seed)
    calm, other = random.beta(2, 8, 2_000), random.beta(2, 8 - seed % 7, 2_000)
    return np.concatenate([calm, other, random.random(1_000) < 0.3, 0.5 * random.random(1_500)])


@pytest.mark.parametrize("seed", range(8))
def test_cuts_where_river_does(seed: int) -> None:
    """After each value the window is as wide as River's, with the same mean, and is cut when River's is."""
    ours, theirs = Adwin(), ADWIN()
    n_cuts = 0
    for value in stream(seed).tolist():
        cuts = ours.update([value])
        theirs.update(value)
        assert bool(cuts) == theirs.drift_detected
        n_cuts += len(cuts)
        if not cuts:  # River begins anew with the next value
            assert ours.width == theirs.width
            assert ours.mean == pytest.approx(theirs.estimation, abs=1e-9)
    assert n_cuts


@given(st.lists(st.integers(0, 900), max_size=6), st.integers(0, 20))
def test_a_break_changes_nothing(breaks: list[int], seed: int) -> None:
    """Saved and loaded between any two values it cuts as without, to the bit."""
    values = np.random.default_rng(seed).random(900) * np.repeat([0.3, 1.0], [500, 400])
    whole, broken, cuts = Adwin(), Adwin(), list[float]()
    for piece in np.split(values, sorted(breaks)):
        cuts += broken.update(piece)
        broken = Adwin.from_arrays(unpack(pack(broken.arrays())))
    assert cuts == whole.update(values)
    assert pack(broken.arrays()) == pack(whole.arrays())


def test_a_cut_tells_what_the_error_was() -> None:
    """A cut says what the mean was before it; a change for the better is one as well, and the window begins anew."""
    adwin = Adwin()
    assert adwin.update([0.8] * 1_000 + [0.2] * 200) == [pytest.approx(0.79, abs=0.01)]
    assert adwin.mean == pytest.approx(0.2)
    assert adwin.width == 1_200 - 1_024


def test_a_million_values_are_a_hundred_numbers() -> None:
    """The state is bounded by the logarithm of the values."""
    adwin = Adwin()
    assert not adwin.update(np.full(100_000, 0.5))
    assert adwin.width == 100_000
    assert len(adwin.arrays()["sizes"]) < 100

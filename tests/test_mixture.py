from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfit.mixture import SHARE, Mixture


@given(st.lists(st.lists(st.floats(-20, 20), min_size=4, max_size=4), max_size=20), st.integers(1, 10**6))
def test_weights_stay_weights(nights: list[list[float]], n_rows: int) -> None:
    """Whatever the losses, they sum to 1, and nobody falls below its part of the share: it can come back."""
    mixture = Mixture.even(4)
    for losses in nights:
        mixture.observe(np.array(losses), n_rows)
        assert mixture.weights.sum() == pytest.approx(1)
        assert mixture.weights.min() >= SHARE / 4 - 1e-12


def test_only_differences_count() -> None:
    """A night that is harder for everybody says nothing about anybody."""
    one, other = Mixture.even(3), Mixture.even(3)
    losses = np.array([0.3, 0.35, 0.4])
    one.observe(losses, 500)
    other.observe(losses + 5, 500)
    assert one.weights == pytest.approx(other.weights)


def test_a_member_that_becomes_the_best_leads_within_a_week() -> None:
    """After 300 nights of being worst, a tenth of a nat better a night is enough, on nights of 300 rows."""
    mixture = Mixture.even(8)
    losses = np.full(8, 0.5)
    losses[3] = 0.8
    for _ in range(300):
        mixture.observe(losses, 300)
    assert mixture.weights[3] < 0.04
    losses[3] = 0.4
    for _ in range(7):
        mixture.observe(losses, 300)
    assert mixture.weights.argmax() == 3
    assert mixture.weights[3] > 0.25


def test_answers_are_the_weighted_mean() -> None:
    """Of probabilities and of values alike."""
    mixture = Mixture(np.array([0.25, 0.75]))
    assert mixture.apply(np.array([[[1.0, 0.0]], [[0.0, 1.0]]])) == pytest.approx(np.array([[0.25, 0.75]]))
    assert mixture.apply(np.array([[4.0], [8.0]])) == pytest.approx(np.array([7.0]))

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, log_loss

from nightfit.batch import UNKNOWN_CLASS
from nightfit.metrics import (
    CLIP,
    Tally,
    clipped,
    constant_loss,
    paired_interval,
    row_hits,
    row_losses,
    scores,
    spread,
)


@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 1000))
def test_scores_are_scikit_learns(n_classes: int, n: int, seed: int) -> None:
    """Log loss, accuracy and macro F1 are what scikit-learn computes from the same probabilities."""
    random = np.random.default_rng(seed)
    proba = random.dirichlet(np.full(n_classes, 0.3), n)
    y = random.integers(0, n_classes, n)
    found = scores(proba, y)
    assert found["log_loss"] == pytest.approx(log_loss(y, clipped(proba), labels=range(n_classes)), rel=1e-9)
    assert found["accuracy"] == accuracy_score(y, proba.argmax(1))
    assert found["macro_f1"] == pytest.approx(f1_score(y, proba.argmax(1), average="macro", zero_division=0))


def test_losses_by_hand() -> None:
    """A row's loss is minus the logarithm of its class's probability, which is clipped."""
    proba = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5], [0.5, 0.5]])
    assert row_losses(proba, np.array([1, 1, -1, 2])) == pytest.approx(
        [-math.log(0.75), -math.log(CLIP), -math.log(CLIP), -math.log(CLIP)], rel=1e-5
    )
    assert row_losses(np.zeros((2, 0)), np.array([-1, -1])) == pytest.approx([13.8155, 13.8155], abs=1e-4)
    assert row_losses(proba[:0], np.zeros(0, int)).shape == (0,)


def test_macro_f1_by_hand() -> None:
    """F1 is averaged over the classes that occur or are predicted: here (2/3 + 1/2 + 0) / 3."""
    predicted, y = np.array([0, 0, 1, 1, 1]), np.array([0, 2, 1, 2, 2])
    assert scores(np.eye(3)[predicted], y)["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_a_class_that_nobody_knows_is_never_right() -> None:
    """Unknown classes cost the clip, and no prediction of them counts as a hit, even without any class."""
    assert scores(np.zeros((3, 0)), np.full(3, -1)) == {
        "log_loss": pytest.approx(-math.log(CLIP)),
        "accuracy": 0.0,
        "macro_f1": 0.0,
        "calibration_error": 0.0,
    }


def test_calibration_error_by_hand() -> None:
    """Four rows said to be 75 % sure and right half the time are off by a quarter."""
    proba = np.tile([0.75, 0.25], (4, 1))
    assert scores(proba, np.array([0, 0, 1, 1]))["calibration_error"] == pytest.approx(0.25)


def test_hits_by_hand() -> None:
    """A row is right if its likeliest class is; an unknown class never is, and a quantity knows no right."""
    proba = np.array([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1]])
    assert row_hits(proba, np.array([0, 0, UNKNOWN_CLASS])).tolist() == [True, False, False]
    assert row_hits(np.zeros((2, 0)), np.array([UNKNOWN_CLASS, 0])).tolist() == [False, False]
    assert len(row_hits(np.zeros(3), np.zeros(3))) == 0


def test_scores_of_nonsense_are_nonsense() -> None:
    """A NaN among the probabilities shows in the log loss, and breaks nothing else."""
    found = scores(np.array([[np.nan, np.nan], [0.5, 0.5]]), np.array([0, 1]))
    assert np.isnan(found["log_loss"])


def test_clipping_keeps_probabilities() -> None:
    """Clipped probabilities sum to 1 and none is below the clip by more than rounding."""
    proba = clipped(np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]]))
    assert proba.sum(1) == pytest.approx(1)
    assert proba.min() >= CLIP * (1 - 1e-5)


@pytest.mark.parametrize("n", [200, 2000])
@pytest.mark.parametrize("law", ["normal", "skewed"])
def test_the_interval_agrees_with_the_bootstrap(n: int, law: str) -> None:
    """From 200 rows on the normal interval and scipy's bootstrap differ by a fifth of the half width at most."""
    random = np.random.default_rng(n)
    difference = random.normal(0.1, 1, n) if law == "normal" else random.exponential(1, n) ** 2
    interval = paired_interval(difference)
    bootstrap = stats.bootstrap(
        (difference,), np.mean, confidence_level=0.9, n_resamples=4000, method="percentile", rng=random
    ).confidence_interval
    half = interval.high - interval.mean
    assert interval.mean == pytest.approx(difference.mean())
    assert interval.n == n
    assert abs(interval.low - bootstrap.low) < 0.2 * half
    assert abs(interval.high - bootstrap.high) < 0.2 * half


def test_the_interval_covers_what_it_says() -> None:
    """Of many samples of 200, the mean lies above the lower bound in about 95 %."""
    random = np.random.default_rng(0)
    lows = [paired_interval(sample).low for sample in random.normal(0.3, 1, (2000, 200))]
    assert 0.93 < np.mean(np.array(lows) < 0.3) < 0.97


def test_too_few_rows_say_nothing() -> None:
    """No row and one row bound nothing."""
    for difference in (np.zeros(0), np.array([3.0])):
        interval = paired_interval(difference)
        assert (interval.low, interval.high, interval.n) == (-math.inf, math.inf, len(difference))


def test_the_best_constant_answers_by_hand() -> None:
    """Of classes the entropy of their shares, of a quantity its variance."""
    assert constant_loss([np.array([0, 1]), np.array([1, 1])]) == pytest.approx(
        -(math.log(0.25) + 3 * math.log(0.75)) / 4
    )
    assert constant_loss([np.array([1.0]), np.array([3.0])]) == pytest.approx(1.0)


def test_a_spread_is_never_nothing_beside_the_size() -> None:
    """A quantity that is always 1000 has the spread of one part in a thousand; no rows have none."""
    assert spread(np.array([1.0, 3.0])) == pytest.approx(1.0)
    assert spread(np.full(5, 1000.0)) == pytest.approx(1.0)
    assert spread(np.zeros(0)) == spread(np.zeros(3)) == 0.0


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 1000), st.booleans())
def test_a_tally_of_blocks_is_that_of_all_rows(sizes: list[int], seed: int, is_value: bool) -> None:  # noqa: FBT001
    """However rows are cut into blocks, and though classes appear on the way, the scores are those of all at once."""
    random = np.random.default_rng(seed)
    tally, joined, answers, outcomes = Tally(), Tally(), [], []
    for i, n in enumerate(sizes):
        answers.append(random.normal(size=n) if is_value else random.dirichlet(np.ones(i + 2), n))
        outcomes.append(random.normal(size=n) if is_value else random.integers(-1, i + 2, n))
        tally.add(answers[-1], outcomes[-1])
        block = Tally()
        block.add(answers[-1], outcomes[-1])
        joined.join(Tally.from_arrays(block.arrays()))
    width = len(sizes) + 1
    padded = answers if is_value else [np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in answers]
    assert tally.n == sum(sizes)
    assert tally.scores() == pytest.approx(scores(np.concatenate(padded), np.concatenate(outcomes)), abs=2e-5)
    assert joined.scores() == pytest.approx(tally.scores())

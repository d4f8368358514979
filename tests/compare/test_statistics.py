from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightfit.compare.figures import drifts, median, negative_flips, recoveries, rolling
from nightfit.compare.statistics import MARGIN, Verdict, difference
from nightfit.compare.verdict import sentence

N_NIGHTS, N_ROWS, LOSS, SD = 100, 500, 0.5, 0.25


def verdicts(n: int, *, worse: float, seed: int = 0) -> list[Verdict]:
    """Return the verdicts on n made pairs of models whose mean losses differ by a share."""
    rng = np.random.default_rng(seed)
    rows = np.full(N_NIGHTS, N_ROWS)
    found = []
    for _ in range(n):
        other = rng.normal(LOSS, 0.05, N_NIGHTS)
        ours = other + worse * LOSS + rng.normal(0, SD / np.sqrt(N_ROWS), N_NIGHTS)
        found.append(difference(ours, other, rows).verdict(MARGIN * LOSS))
    return found


def test_equal_models_are_not_called_different() -> None:
    """Of a hundred pairs of equal expected loss, over 100 nights of 500 rows, at most five are called different."""
    assert sum(verdict in {"better", "worse"} for verdict in verdicts(100, worse=0)) <= 5


def test_a_model_that_is_two_percent_worse_is_called_worse() -> None:
    """Over 100 nights of 500 rows chance does not hide it, and the other way round it is called better."""
    assert verdicts(20, worse=0.02) == ["worse"] * 20
    assert verdicts(20, worse=-0.02) == ["better"] * 20


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10), st.integers(1, 1000)), min_size=2, max_size=40),
)
def test_the_interval_holds_the_mean_and_turns_with_the_pair(nights: list[tuple[float, float, int]]) -> None:
    """The mean is that of all rows and lies within its bounds; the other way round all signs change."""
    ours, others, rows = (np.array(each) for each in zip(*nights, strict=True))
    found, turned = difference(ours, others, rows, n_resamples=50), difference(others, ours, rows, n_resamples=50)
    assert found.mean == pytest.approx(np.average(ours - others, weights=rows))
    assert found.low <= found.mean + 1e-12
    assert found.high >= found.mean - 1e-12
    assert (turned.low, turned.mean, turned.high) == pytest.approx((-found.high, -found.mean, -found.low))


def test_a_single_night_decides_nothing() -> None:
    """There is no interval, whatever the difference."""
    found = difference(np.array([1.0]), np.array([0.1]), np.array([1000]))
    assert found.verdict(0.0) == "unclear"


def test_figures_of_nights() -> None:
    """Rolling means count by rows; a model is back after a drift when three nights are at what it was before."""
    assert rolling(np.array([1.0, 3.0]), np.array([1, 3]), 7).tolist() == [1.0, 2.5]
    losses = np.array([1.0] * 10 + [3.0, 2.0, 1.0, 1.0, 1.0, 1.0] + [5.0] * 5)
    rows = np.full(len(losses), 100)
    assert recoveries(losses, rows, [10, 16], 0.01) == [2, None]
    assert median([2, None]) is None
    assert median([2, 4, None]) == 4
    assert negative_flips(np.array([True, True, False]), np.array([True, False, True])) == pytest.approx(1 / 3)


def test_a_night_at_which_errors_rise_is_a_drift() -> None:
    """It is found where it is, and not where errors fall."""
    rng = np.random.default_rng(0)
    levels = [0.2] * 10 + [0.5] * 10 + [0.2] * 10
    errors = [np.clip(rng.normal(level, 0.1, 500), 0, 1) for level in levels]
    assert [drift.night for drift in drifts(errors)] == [10]


def result(**changes: object) -> dict[str, object]:
    """Make a result of two models."""
    pair = {
        "model": "b", "against": "a", "difference": 0.1, "low": 0.05, "high": 0.15, "loss": 0.5, "verdict": "worse",
        "by": "loss",
    }  # fmt: skip
    costs = {name: {"tonight_s": 1.0, "text": None} for name in "ab"}
    plain: dict[str, object] = {
        "task": "classification", "score": "log_loss", "nights": 9, "best": "a", "reference": "a", "costs": costs,
        "models": {"a": {"log_loss": 0.5, "failed": None}, "b": {"log_loss": 0.6, "failed": None}}, "pairs": [pair],
    }  # fmt: skip
    return plain | changes


def test_the_sentence_says_what_is_known() -> None:
    """A better model is to be taken; of equal ones the cheaper; an unclear lead is said to be so."""
    assert sentence(result()).startswith("Take a: log loss 0.5000 over 9 nights; the next is worse (b: +20.0%, 95 %")
    pair = result()["pairs"][0]  # type: ignore[index]
    costs = {"a": {"tonight_s": 2.0, "text": None}, "b": {"tonight_s": 1.0, "text": None}}
    same = sentence(result(pairs=[pair | {"verdict": "same"}], costs=costs))
    assert same.startswith("Take b: as good as a")
    unclear = sentence(result(pairs=[pair | {"verdict": "unclear"}]))
    assert "not sure" in unclear

from __future__ import annotations

import numpy as np
import pytest

from nightfit.demands import (
    SCORE_NAMES,
    check_demands,
    count_flips,
    floor_missed,
    slice_intervals,
    too_many_flips,
    unknown_floor,
)
from nightfit.errors import ConfigError
from nightfit.metrics import paired_interval


def test_a_floor_has_a_direction() -> None:
    """More is better of accuracy, macro F1 and R^2, less of all other scores; the floor itself is not past it."""
    for name in SCORE_NAMES:
        at, less, more = (floor_missed({name: 0.5}, {name: value}, {}) for value in (0.5, 0.4, 0.6))
        assert not at
        missed = [what for what, said in (("less", less), ("more", more)) if said]
        assert missed == (["less"] if name in {"accuracy", "macro_f1", "r2"} else ["more"]), name


def test_a_floor_that_is_missed_says_by_how_much() -> None:
    """The sentence has the score, the floor, and what the champion has on the same rows."""
    said = floor_missed({"accuracy": 0.7}, {"accuracy": 0.61}, {"accuracy": 0.6})
    assert said == "accuracy 0.61 is below the floor of 0.7 (the champion has 0.6)"
    assert floor_missed({"log_loss": 0.6}, {"log_loss": 0.75}, {}) == "log loss 0.75 is above the limit of 0.6"
    assert not floor_missed({"r2": 0.6}, {"rmse": 1.0}, {}), "R^2 has no value where all targets are equal"


def test_an_unknown_floor_names_the_nearest() -> None:
    """What is no score is said, with the one that was perhaps meant; NaN is no floor."""
    assert unknown_floor({"acuracy": 0.7}).endswith("did you mean 'accuracy'?")
    assert unknown_floor({"speed": 1}).endswith(
        "there are log_loss, accuracy, macro_f1, calibration_error, rmse, mae, r2"
    )
    assert "floors.accuracy" in unknown_floor({"accuracy": float("nan")})
    assert not unknown_floor(dict.fromkeys(SCORE_NAMES, 0.5))


def test_demands_must_suit_task_and_columns() -> None:
    """A floor of the other task's scores, and a slice of no column or of numbers, are mistakes in the config."""
    kinds = {"country": "categorical", "age": "numeric"}
    check_demands({"accuracy": 0.7}, ["country"], task="classification", kinds=kinds)
    with pytest.raises(ConfigError, match="has 'accuracy' and the task is regression, which has rmse, mae, r2"):
        check_demands({"accuracy": 0.7}, [], task="regression", kinds=kinds)
    with pytest.raises(ConfigError, match="'contry' is none; did you mean 'country'"):
        check_demands({}, ["contry"], task="classification", kinds=kinds)
    with pytest.raises(ConfigError, match="'age' is numeric"):
        check_demands({}, ["age"], task="classification", kinds=kinds)


def test_flips_count_both_ways() -> None:
    """Negative flips were right and are wrong now, positive ones the other way round."""
    champion = np.array([True] * 600 + [False] * 400)
    candidate = champion.copy()
    candidate[:30], candidate[600:650] = False, True
    flips = count_flips(candidate, champion)
    assert (flips.negative.mean, flips.negative.n, flips.positive) == (0.03, 1000, 0.05)
    assert not too_many_flips(flips, 0.03), "it takes evidence"
    assert "3.0% of the 1,000 held-out rows were right and are wrong now" in too_many_flips(flips, 0.02)
    assert count_flips(np.zeros(0, bool), np.zeros(0, bool)).negative.n == 0
    assert not too_many_flips(count_flips(np.zeros(0, bool), np.zeros(0, bool)), 0.0)


def test_many_slices_cry_wolf_no_more_often_than_one() -> None:
    """With twenty slices of a candidate that is no worse, one of them is past its bound in at most 5 % of nights."""
    random, n_alarms = np.random.default_rng(3), 0
    slices = {str(i): np.arange(i * 1000, (i + 1) * 1000) for i in range(20)}
    for _ in range(500):
        found = slice_intervals(random.normal(size=20_000), slices)
        n_alarms += any(interval.low > 0 for interval in found.values())
    assert n_alarms <= 0.05 * 500 + 15, "three standard deviations above 5 %"
    difference = random.normal(size=200)
    assert slice_intervals(difference, {"all": np.arange(200)})["all"] == paired_interval(difference)


def test_bounds_of_many_looks_are_wider() -> None:
    """Looking n times needs bounds that err n times less often."""
    difference = np.random.default_rng(0).normal(size=1000)
    one, ten = paired_interval(difference), paired_interval(difference, n_looks=10)
    assert (ten.mean - ten.low) / (one.mean - one.low) == pytest.approx(2.576 / 1.645, rel=1e-3)

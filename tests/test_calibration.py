from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfit.batch import Array, Batch, Rows
from nightfit.calibration import CAUTION, GUARD, GUARD_HIGH, MAX_ROWS, Calibration, tempered
from nightfit.learners.base import MlpConfig, PartialFitConfig
from nightfit.metrics import row_losses
from nightfit.model import Model
from nightfit.schema import Schema

SLACK = math.log(1 / GUARD)
"""What all nights together may lose on the prior (see `Calibration.observe`)."""

N_NIGHTS, N_ROWS, D = 16, 200, 4


def separable(random: np.random.Generator, sign: int = 1, scale: float = 1.0) -> tuple[Array, Array]:
    """Give a night that a line separates, or its mirror image."""
    x = random.normal(size=(N_ROWS, D))
    return x * scale, (sign * x[:, 0] > 0).astype(int)


def stream(name: str) -> Iterator[tuple[Array, Array]]:
    """Yield the nights of an adversarial stream: x [n, d], y [n]."""
    random = np.random.default_rng(0)
    for t in range(N_NIGHTS):
        x, y = random.normal(size=(N_ROWS, D)), random.integers(0, 2, N_ROWS)
        nights = {
            "noise": (x, y),
            "noise of ten classes": (x, random.integers(0, 10, N_ROWS)),
            "a rare class": (x, (random.random(N_ROWS) < 0.02).astype(int)),
            "one row a night": (x[:1], y[:1]),
            "one class a night": (x, np.full(N_ROWS, t % 3)),
            "exploding features, noise": (x * 10.0 ** (6 * t), y),
            "exploding features": separable(random, scale=10.0 ** (6 * t)),
            "separable": separable(random),
            "drift": separable(random, 1 if t < N_NIGHTS // 2 else -1),
            "a mirror every night": separable(random, 1 if t % 2 else -1),
            "a mirror every fifth night": separable(random, -1 if t % 5 == 4 else 1),
        }
        yield nights[name]


LOSS = {"separable": 0.3, "exploding features": 0.65}
STREAMS = [
    "noise", "noise of ten classes", "a rare class", "one row a night", "one class a night", "drift", "separable",
    "exploding features, noise", "exploding features", "a mirror every night", "a mirror every fifth night",
]  # fmt: skip


@pytest.mark.parametrize("config", [MlpConfig(n_epochs=2), PartialFitConfig()], ids=["mlp", "partial_fit"])
@pytest.mark.parametrize("name", STREAMS)
def test_no_stream_makes_a_learner_worse_than_the_prior(name: str, config: MlpConfig | PartialFitConfig) -> None:
    """Up to any night the losses exceed the class prior's by 3 nats in all at most, by far less on noise."""
    nights = list(stream(name))
    n_classes = max(int(y.max()) for _, y in nights) + 1
    model = Model.fresh("", config)
    model.grow(Schema().with_columns({f"n{i}": "numeric" for i in range(D)}))
    model.declare(str(k) for k in range(n_classes))
    counts, excess, losses = np.ones(n_classes), [], []
    for t, (x, y) in enumerate(nights):
        keys = np.arange(len(y), dtype=np.uint64) + np.uint64(t * N_ROWS)
        rows = Rows([Batch(keys, x, np.zeros((len(y), 0), np.int32), y.astype(np.int64))])
        loss = float(row_losses(model.predict_rows(rows), y).mean())
        model.learner.observe(rows)
        if t:
            losses.append(loss)
            excess.append(loss - float(-np.log(counts / counts.sum())[y].mean()))
        counts += np.bincount(y, minlength=n_classes)
        model.learn(rows, seed=0)
    assert np.cumsum(excess).max() <= SLACK + 0.011 * N_NIGHTS
    assert np.mean(excess) <= (0.05 if "noise" in name or "rare" in name else 0.2)
    assert np.mean(losses) <= LOSS.get(name, math.inf)


@given(st.integers(0, 10**6), st.integers(2, 4), st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_the_guard_keeps_its_bound(seed: int, n_classes: int, sizes: list[int]) -> None:
    """Whatever is predicted, however right it was before: nightly losses never sum to 3 nats over the prior's."""
    random = np.random.default_rng(seed)
    calibration = Calibration(np.ones(n_classes))
    excess = 0.0
    for n in sizes:
        y = random.integers(0, n_classes, n)
        aim = (y + (random.random() < random.choice([0.0, 0.1, 0.9]))) % n_classes
        raw = np.full((n, n_classes), 10.0 ** -random.integers(0, 9))
        raw[np.arange(n), aim] = 1
        raw /= raw.sum(1, keepdims=True)
        prior = np.tile(calibration.prior, (n, 1))
        if n:
            excess += float((row_losses(calibration.apply(raw), y) - row_losses(prior, y)).mean())
        calibration.observe(raw, y)
        calibration.count([y])
        assert excess <= SLACK - len(sizes) * math.log(GUARD_HIGH) + 1e-3


def test_what_is_overconfident_is_tempered() -> None:
    """Probabilities that are too sure are flattened to what they should have been, and good ones are kept."""
    random = np.random.default_rng(0)
    true = random.dirichlet([1, 1], 5000)
    y = (random.random(5000) < true[:, 1]).astype(int)
    calibration = Calibration(np.ones(2))
    for _ in range(5):
        calibration.observe(tempered(true, 1 / 2), y)
    assert calibration.chosen[0] == 2
    loss = row_losses(calibration.apply(tempered(true, 1 / 2)), y).mean()
    assert loss <= row_losses(true, y).mean() + 0.005


def test_a_blank_calibration_is_cautious() -> None:
    """Before there is evidence probabilities are flattened and mixed with a share of the prior."""
    calibration = Calibration(np.array([3.0, 1.0]))
    assert calibration.is_blank
    assert calibration.chosen == (2.0, 0.1)
    proba = calibration.apply(np.array([[0.0, 1.0]]))
    assert proba.sum() == pytest.approx(1)
    assert proba[0, 0] == pytest.approx(0.75 * (1 - 0.9 * (1 - GUARD)))


def test_tempering_is_a_softmax_of_cooler_logits() -> None:
    """The temperature divides the logits; a class of probability 0 keeps it."""
    logits = np.array([[0.0, 1.0, -2.0]])
    proba = np.exp(logits) / np.exp(logits).sum()
    cooler = np.exp(logits / 2) / np.exp(logits / 2).sum()
    assert tempered(proba, 2.0) == pytest.approx(cooler)
    assert tempered(np.array([[0.5, 0.5, 0.0]]), 16.0).tolist() == [[0.5, 0.5, 0.0]]


def test_rows_that_say_nothing_change_nothing() -> None:
    """No rows, and rows of classes that are not known, are no evidence."""
    for calibration in (Calibration(), Calibration(np.ones(2))):
        calibration.observe(np.zeros((3, len(calibration.counts))), np.full(3, -1))
        calibration.observe(np.zeros((0, len(calibration.counts))), np.zeros(0, int))
        assert calibration.is_blank
        assert calibration.guard == GUARD


def test_a_sorted_night_is_seen_as_a_whole() -> None:
    """Of a large night rows from its start to its end are looked at: one sorted by class does not mislead."""
    n = 3 * MAX_ROWS
    y = np.repeat([0, 1], n // 2)
    calibration = Calibration(np.ones(2))
    calibration.observe(np.tile([0.4, 0.6], (n, 1)), y)
    seen = calibration.losses - CAUTION * 0.8
    assert seen[4, 0] - seen[0, -1] == pytest.approx((-math.log(0.4) - math.log(0.6)) / 2 - math.log(2), rel=0.01)


def test_state_is_a_snapshot() -> None:
    """What was saved does not change when the calibration goes on, and comes back as it was."""
    calibration = Calibration(np.ones(2))
    saved = calibration.arrays()
    copies = {name: array.copy() for name, array in saved.items()}
    calibration.observe(np.full((9, 2), 0.5), np.zeros(9, int))
    calibration.count([np.zeros(9, int)])
    calibration.declare(1)
    calibration.grow(3)
    assert all(np.array_equal(saved[name], copies[name]) for name in copies)
    loaded = Calibration.from_arrays(calibration.arrays())
    assert all(np.array_equal(array, loaded.arrays()[name]) for name, array in calibration.arrays().items())


def test_one_night_on_which_everything_changed_does_not_rule_for_weeks() -> None:
    """A learner that is right again the night after is believed again within a week."""
    random = np.random.default_rng(0)
    calibration = Calibration()
    calibration.grow(2)
    calibration.count([random.integers(0, 2, 1000)])

    def night(*, wrong: bool) -> None:
        y = random.integers(0, 2, 500)
        right = np.where(random.random(500) < 0.05, 1 - y, y) ^ wrong
        calibration.observe(np.eye(2)[right] * 0.9 + 0.05, y)

    for _ in range(20):
        night(wrong=False)
    night(wrong=True)
    for _ in range(6):
        night(wrong=False)
    assert calibration.chosen[1] <= 0.03
    assert calibration.chosen[0] <= 1

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightfit.batch import Array, Rows
from nightfit.learners.base import KINDS, LearnerConfig, MlpConfig, PartialFitConfig, part
from nightfit.model import Model
from nightfit.schema import Task
from nightfit.scorer import Scorer
from nightfit.testing import random_night, schema_of

CONFIGS = [
    MlpConfig(d_hidden=16, n_epochs=1),
    MlpConfig(n_blocks=1),
    MlpConfig(n_blocks=3, n_epochs=1),
    MlpConfig(d_hidden=8, n_members=1, n_epochs=1),
    MlpConfig(d_hidden=8, n_members=2, n_epochs=1),
    PartialFitConfig(),
]


def scored(model: Model, rows: Rows) -> Array:
    """Predict by numpy alone, from the arrays that a checkpoint would hold."""
    arrays = model.state()[1]["model"]
    scorer = Scorer(model.kind, part(arrays, "normaliser"), part(arrays, "learner"))
    none = np.zeros(0 if model.schema.task == "regression" else (0, len(model.schema.classes)))
    return np.concatenate([none, *map(scorer.predict, rows.chunks())])


def fresh(config: LearnerConfig, task: Task = "classification") -> Model:
    """Give a model that knows nothing, under its kind's name."""
    return Model.fresh(next(kind for kind, of in KINDS.items() if isinstance(config, of)), config, task=task)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@settings(deadline=None, max_examples=25)
@given(
    sizes=st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 3), st.integers(1, 4)),
    seed=st.integers(0, 1000),
    n_rows=st.integers(0, 200),
)
def test_numpy_predicts_as_the_learner_does(
    config: LearnerConfig, sizes: tuple[int, int, int, int], seed: int, n_rows: int
) -> None:
    """Probabilities without torch equal the learner's to 1e-5: with missing and unseen values, and grown."""
    n_num, n_cat, n_categories, n_classes = sizes
    model = fresh(config)
    for night in range(3):
        schema = schema_of(n_num, n_cat, n_categories=n_categories + night, n_classes=n_classes + night)
        if night == 2:
            schema = model.schema.with_columns({"late": "numeric", "later": "categorical"}).with_classes(["x"])
        model.grow(schema)
        rows = random_night(schema, 50, seed + night)
        assert np.abs(scored(model, rows) - model.predict_rows(rows)).max(initial=0) <= 1e-5
        night_rows = random_night(schema, n_rows, seed + night + 10)
        model.learner.observe(night_rows)
        model.learn(night_rows, seed=seed)
        assert np.abs(scored(model, rows) - model.predict_rows(rows)).max(initial=0) <= 1e-5


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_numpy_predicts_quantities_as_the_learner_does(config: LearnerConfig, seed: int) -> None:
    """Values without torch equal the learner's to 1e-5 of the target's spread, before the first night too."""
    model = fresh(config, "regression")
    for night in range(3):
        model.grow(schema_of(2, 2, n_categories=2 + night, n_classes=0, task="regression"))
        rows = random_night(model.schema, 200, seed + night)
        for _ in range(2):
            gap = np.abs(scored(model, rows) - model.predict_rows(rows)).max()
            assert gap <= 1e-5 * np.std(rows.y)
            model.learner.observe(rows)
            model.learn(rows, seed=seed)


@pytest.mark.parametrize("config", CONFIGS[-2:], ids=str)
def test_a_model_that_knows_nothing_has_no_classes(config: LearnerConfig) -> None:
    """Before the first night there is no probability to give, and asking for it is no error."""
    model = fresh(config)
    rows = random_night(schema_of(0, 0, n_categories=0, n_classes=0), 3, 0)
    assert scored(model, rows).shape == model.predict_rows(rows).shape == (3, 0)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_extreme_values_stay_probabilities(config: LearnerConfig) -> None:
    """The largest numbers that a schema lets through give finite probabilities that sum to 1."""
    schema = schema_of(2, 0, n_categories=0, n_classes=3)
    model = fresh(config)
    model.grow(schema)
    model.learn(random_night(schema, 300, 0), seed=0)
    (block,) = random_night(schema, 4, 1).chunks()
    block.x_num[:] = [[1e100, -1e100], [1e100, np.nan], [np.nan, np.nan], [-1e100, 1e-300]]
    proba = scored(model, Rows([block]))
    assert np.isfinite(proba).all()
    assert proba.sum(1) == pytest.approx(1)

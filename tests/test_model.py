from __future__ import annotations

import json

import numpy as np
import pytest

from nightfit.batch import Rows
from nightfit.checkpoint import pack, unpack
from nightfit.learners.base import LearnerConfig, MlpConfig, PartialFitConfig, part
from nightfit.model import Model
from nightfit.testing import random_night, schema_of

CONFIGS = [MlpConfig(), PartialFitConfig()]
SCHEMA = schema_of(2, 1, n_categories=2, n_classes=3)


def learned(config: LearnerConfig, *, seed: int = 0) -> Model:
    """Give a model that has learned one night."""
    model = Model.fresh("mlp" if isinstance(config, MlpConfig) else "partial_fit", config, seed=seed)
    model.grow(SCHEMA)
    model.learn(random_night(SCHEMA, 200, 0), seed=seed)
    return model


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_model_comes_back_from_its_checkpoint(config: LearnerConfig) -> None:
    """Schema, normaliser, learner, holdout memory and the count of nights are saved, and learn on to the same bits."""
    model = learned(config)
    for block in random_night(SCHEMA, 50, 1).chunks():
        model.holdout.add(block)
    state, files = model.state()
    kept = {name: unpack(pack(arrays)) for name, arrays in files.items()}
    loaded = Model.load(json.loads(json.dumps(state)), kept, config)
    assert loaded.schema == SCHEMA
    assert (loaded.kind, loaded.n_nights, len(loaded.holdout)) == (model.kind, 1, 50)
    for both in (model, loaded):
        both.learn(random_night(SCHEMA, 200, 2), seed=0)
    one, two = model.state()[1], loaded.state()[1]
    assert all(
        np.array_equal(one[file][name], array, equal_nan=True) for file in two for name, array in two[file].items()
    )


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_night_without_rows_changes_nothing(config: LearnerConfig) -> None:
    """Weights, moments and the count of nights stay as they were."""
    model = learned(config)
    before = model.state()
    model.learn(Rows([]), seed=0)
    after = model.state()
    assert before[0] == after[0]
    assert all(np.array_equal(before[1]["model"][k], array) for k, array in after[1]["model"].items())


def test_every_night_has_its_own_random_state() -> None:
    """Another night, and another seed, shuffle differently; the same ones alike."""
    one, two, other = (learned(MlpConfig(), seed=seed).state()[1]["model"] for seed in (0, 0, 1))
    assert np.array_equal(one["learner.net.w_value"], two["learner.net.w_value"])
    assert not np.array_equal(one["learner.net.w_value"], other["learner.net.w_value"])


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_declared_classes_have_a_share(config: LearnerConfig) -> None:
    """A class that is known ahead is never impossible, before the first night and after it."""
    model = Model.fresh("", config)
    model.grow(schema_of(2, 1, n_categories=2, n_classes=0))
    model.declare(["a", "b", "c"])
    schema = model.schema
    rows = random_night(schema, 200, 0, classes=2)
    assert model.predict_rows(rows) == pytest.approx(1 / 3)
    model.learn(rows, seed=0)
    assert (model.predict_rows(rows)[:, 2] > 0).all()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_what_is_not_finite_is_noticed(config: LearnerConfig) -> None:
    """A single NaN among the numbers that predict is found: the gate refuses by it."""
    model = learned(config)
    assert model.is_finite()
    assert not model.ailment()
    model.normaliser.mean[0] = np.nan
    assert not model.is_finite()
    assert model.ailment().startswith("its weights are not finite")


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_weights_that_explode_are_noticed(config: LearnerConfig) -> None:
    """A weight that is finite and absurd is found."""
    model = learned(config)
    assert max(float(np.abs(w).max()) for w in model.learner.weights()) < 10
    state, arrays = model.state()
    name = "learner.net.w_out" if isinstance(config, MlpConfig) else "learner.bias"
    arrays["model"][name] = arrays["model"][name] * 0 - 2e4
    exploded = Model.load(state, arrays, config)
    assert exploded.ailment() == "its largest weight is 2e+04, beyond 1,000: learning has exploded"


def test_parts_are_named_by_prefix() -> None:
    """An array's name says whose it is; a dot within the rest stays."""
    assert list(part({"a.x.y": np.zeros(1), "ab.z": np.zeros(1)}, "a")) == ["x.y"]

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nightfit.batch import Array, Rows
from nightfit.errors import ConfigError
from nightfit.learners.base import Arrays, Learner, MlpConfig, PartialFitConfig
from nightfit.learners.calibrated import rehearse
from nightfit.learners.deep import DeepLearner
from nightfit.learners.partial_fit import PartialFitLearner
from nightfit.model import Model
from nightfit.normaliser import Normaliser
from nightfit.schema import TASKS, Task
from nightfit.testing import check_learner, model_of, random_night, saved_and_loaded, schema_of, widened

Make = Callable[[Normaliser], Learner]
SMALL = MlpConfig(d_hidden=8, d_embedding=3, n_epochs=1)


def make_deep(normaliser: Normaliser, task: Task = "classification") -> Learner:
    """Give the deep learner as it is configured by default."""
    return DeepLearner(MlpConfig(), normaliser, task=task)


def make_small(normaliser: Normaliser) -> Learner:
    """Give a small deep learner."""
    return DeepLearner(SMALL, normaliser)


def make_linear(normaliser: Normaliser, task: Task = "classification") -> Learner:
    """Give the baseline."""
    return PartialFitLearner(PartialFitConfig(), normaliser, task=task)


@pytest.mark.parametrize("make", [make_deep, make_linear], ids=["mlp", "partial_fit"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", [0, 100])
def test_both_learners_keep_the_contract(make: Callable[..., Learner], task: Task, seed: int) -> None:
    """Nightfit's own learners pass the check that it offers to the authors of others."""
    check_learner(partial(make, task=task), task=task, seed=seed)


class Forgetful(PartialFitLearner):
    """A learner that starts anew each night."""

    def _learn(self, rows: Rows, *, seed: int) -> None:
        self._weights = {name: np.zeros_like(block) for name, block in self._weights.items()}
        super()._learn(rows, seed=seed)


class Amnesic(PartialFitLearner):
    """A learner that does not save its class prior."""

    def load(self, arrays: dict[str, Array], extra: dict[str, Array], data: object) -> None:  # noqa: ARG002
        """Forget the counts."""
        super().load(arrays | {"counts": np.zeros_like(arrays["counts"])}, extra, {})


@pytest.mark.parametrize(
    ("kind", "rule"),
    [(Amnesic, "resuming must give the same bits"), (Forgetful, "must go on from")],
)
def test_the_check_finds_what_is_broken(kind: type[PartialFitLearner], rule: str) -> None:
    """A learner that restarts, or loses state fails the check with the rule that it broke."""
    with pytest.raises(AssertionError, match=rule):
        check_learner(lambda normaliser: kind(PartialFitConfig(), normaliser))


GROWTH = st.fixed_dictionaries(
    {
        "numeric": st.integers(0, 2),
        "categorical": st.integers(0, 2),
        "words": st.sets(st.sampled_from(["a", "w0x", "zz"]), max_size=3),
        "classes": st.sets(st.sampled_from(["-5", "0", "500", "2000", "x"]), max_size=3),
    }
)


@pytest.mark.parametrize("make", [make_small, make_linear], ids=["mlp", "partial_fit"])
@settings(deadline=None, max_examples=40)
@given(
    sizes=st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 3)),
    steps=st.lists(GROWTH, min_size=1, max_size=3),
    n_rows=st.integers(0, 60),
)
def test_growth_at_any_night_keeps_predictions(
    make: Make, sizes: tuple[int, int, int], steps: list[dict[str, object]], n_rows: int
) -> None:
    """Columns, categories and classes, in any mix and order, leave predictions on old rows as they were to 1e-6."""
    schema = schema_of(sizes[0], sizes[1], n_categories=2, n_classes=sizes[2])
    model = model_of(make)
    model.grow(schema)
    model.learn(random_night(schema, 30, 0), seed=0)
    for night, step in enumerate(steps):
        rows = random_night(schema, 20, night)
        before = model.predict_rows(rows)
        schema = schema.with_columns({f"n{night}-{i}": "numeric" for i in range(int(str(step["numeric"])))})
        schema = schema.with_columns({f"c{night}-{i}": "categorical" for i in range(int(str(step["categorical"])))})
        schema = schema.with_categories({c.name: step["words"] for c in schema.categorical})  # type: ignore[misc]
        schema = schema.with_classes(step["classes"])  # type: ignore[arg-type]
        model.grow(schema)
        after = model.predict_rows(widened(rows, schema))
        assert np.abs(after[:, : before.shape[1]] - before).max() <= 1e-6
        model = saved_and_loaded(model, make)
        model.learner.observe(random_night(schema, n_rows, night + 50))
        model.learn(random_night(schema, n_rows, night + 50), seed=0)


@pytest.mark.parametrize("make", [make_small, make_linear], ids=["mlp", "partial_fit"])
def test_what_is_new_is_learned(make: Make) -> None:
    """A class that first comes on the tenth night, told by a new category, is soon predicted where it occurs."""
    schema = schema_of(2, 1, n_categories=2, n_classes=2)
    model = model_of(make)
    for night in range(40):
        if night == 10:
            schema = schema.with_categories({"c0": ["new"]}).with_classes(["0"])
        (block,) = random_night(schema, 200, night).chunks()
        if night >= 10:
            block.x_cat[block.y == 2, 0] = schema.columns[-1].categories["new"]
            block.x_cat[(block.y != 2) & (block.x_cat[:, 0] == schema.columns[-1].categories["new"]), 0] = 0
        model.grow(schema)
        model.learner.observe(Rows([block]))
        model.learn(Rows([block]), seed=0)
    proba = model.predict(block)
    assert proba[block.y == 2, 2].mean() > 0.8
    assert proba[block.y != 2, 2].mean() < 0.2


def moments_of(model: Model) -> Arrays:
    """Return what the optimiser keeps, by name."""
    moments = {
        k: a for k, a in model.learner.state()[1].items() if k.partition(".")[0] in {"exp_avg", "exp_avg_sq", "step"}
    }
    assert len({name.partition(".")[0] for name in moments}) == 3
    return moments


def test_growth_keeps_the_optimisers_moments() -> None:
    """What AdamW knows of old weights stays when columns, categories and classes are appended; new ones start at 0."""
    schema = schema_of(3, 2, n_categories=3, n_classes=3)
    model = model_of(make_small)
    model.grow(schema)
    model.learn(random_night(schema, 100, 0), seed=0)
    before = moments_of(model)
    assert all(np.abs(array).sum() > 0 for array in before.values())
    wider = schema.with_columns({"n": "numeric", "c": "categorical"}).with_classes(["0"])
    model.grow(wider.with_categories({c.name: ["new"] for c in wider.categorical}))
    after = moments_of(model)
    assert before.keys() == after.keys()
    for name, old in before.items():
        kept = tuple(slice(n) for n in old.shape)
        assert np.array_equal(after[name][kept], old)
        assert np.abs(after[name]).sum() == pytest.approx(np.abs(old).sum(), rel=1e-6)


def test_categories_of_a_new_column_start_apart() -> None:
    """A new category of an old column starts as the unseen one did; those of a new column differ from the start."""
    schema = schema_of(1, 1, n_categories=2, n_classes=2)
    model = model_of(make_small)
    model.grow(schema)
    model.learn(random_night(schema, 100, 0), seed=0)
    schema = schema.with_columns({"new": "categorical"}).with_categories({"c0": ["late"], "new": ["x", "y"]})
    model.grow(schema)
    embedding = model.learner.state()[0]["net.embedding"]
    old, new = schema.categorical
    assert np.array_equal(embedding[old.categories["late"]], embedding[old.unseen_id])
    assert len({embedding[i].tobytes() for i in (new.unseen_id, *new.categories.values())}) == 3


def test_a_network_keeps_its_shape() -> None:
    """A config that asks for another network than the lineage's is refused, with both sizes."""
    model = model_of(make_small)
    arrays, extra, data = model.learner.state()
    other = DeepLearner(replace(SMALL, d_hidden=9), Normaliser(0))
    with pytest.raises(ConfigError, match="d_hidden is 9 now and was 8; set it back"):
        other.load(arrays, extra, data)


def test_loading_copies() -> None:
    """A learner that was loaded never writes into the arrays that it came from."""
    schema = schema_of(2, 1, n_categories=2, n_classes=2)
    for make in (make_small, make_linear):
        model = model_of(make)
        model.grow(schema)
        model.learn(random_night(schema, 100, 0), seed=0)
        arrays, extra, data = model.learner.state()
        for array in (*arrays.values(), *extra.values()):
            array.flags.writeable = False
        loaded = model_of(make)
        loaded.normaliser.grow(2)
        loaded.learner.load(arrays, extra, data)
        loaded.learner.observe(random_night(schema, 100, 1))
        loaded.learner.learn(random_night(schema, 100, 1), seed=0)


def test_threads_do_not_change_bits() -> None:
    """The deep learner gives the same bits on one thread and on two, and leaves the number as it was."""
    schema = schema_of(3, 1, n_categories=2, n_classes=3)
    states, n_threads = [], torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            model = model_of(make_small)
            model.grow(schema)
            model.learn(random_night(schema, 300, 0), seed=0)
            assert torch.get_num_threads() == n
            states.append(model.learner.state()[0])
    finally:
        torch.set_num_threads(n_threads)
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


@given(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.integers(0, 5))
def test_a_rehearsal_splits_the_night(sizes: list[int], seed: int) -> None:
    """Every row is in one of the two parts, and a small night is not split."""
    schema = schema_of(1, 0, n_categories=0, n_classes=2)
    rows = Rows([block for i, n in enumerate(sizes) for block in random_night(schema, n, i).chunks()])
    main, rest = rehearse(rows, seed=seed)
    keys = [int(key) for part in (main, rest) for block in part.chunks() for key in block.key_hash]
    assert sorted(keys) == sorted(int(key) for block in rows.chunks() for key in block.key_hash)
    assert len(rest) == (50 if sizes[-1] >= 100 else 0)


@pytest.mark.parametrize(
    ("config", "options"),
    [(MlpConfig, {"d_hidden": 0}), (MlpConfig, {"learning_rate": 1.5}), (PartialFitConfig, {"estimator": "forest"})],
)
def test_options_are_checked(config: type, options: dict[str, object]) -> None:
    """An option that has no meaning is refused with the rule and its value."""
    with pytest.raises(ValueError, match=r"must .* however it is"):
        config(**options)


def test_a_new_class_is_served_with_its_share() -> None:
    """A class of few rows is not served with the square root of its share by members that average over the nights."""
    schema = schema_of(3, 0, n_categories=0, n_classes=2)
    model = model_of(make_small)
    model.grow(schema)
    for night in range(3):
        model.learn(random_night(schema, 400, night), seed=0)
    wider = schema.with_classes(["rare"])
    model.grow(wider)
    (block,) = random_night(schema, 400, 9).chunks()
    block.y[:4] = 2
    model.learn(Rows([block]), seed=0)
    served = model.learner.state()[0]["net.b_out"][:, 0, 2]
    learned = model.learner.state()[1]["weights.b_out"][:, 0, 2]
    assert np.abs(served - learned).max() < 1.0
    assert model.predict(block)[4:, 2].mean() < 0.05

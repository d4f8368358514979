"""scikit-learn's estimators, each held against the contract, against scikit-learn itself, and across a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier

from nightfit.config import parse, short_named
from nightfit.demands import check_demands
from nightfit.errors import ConfigError
from nightfit.learners.base import ESTIMATORS, OF_CLASSES, Learner, PartialFitConfig
from nightfit.learners.chain import Chain
from nightfit.learners.estimator import EstimatorLearner, forward
from nightfit.learners.layout import Layout
from nightfit.moments import standardise
from nightfit.normaliser import Normaliser
from nightfit.schema import Sizes, Task
from nightfit.scorer import Scorer
from nightfit.store import Store
from nightfit.testing import check_learner, model_of, random_night, saved_and_loaded, schema_of, widened
from pipe import CONFIG, Pipe, make_rows

CHAINS = ("pca+sgd", "dictionary+sgd", "kmeans+sgd", "pca+pa", "dictionary+bernoulli_nb", "pca+sk_mlp")
NAMES = (*(name for name in ESTIMATORS if name != "sgd"), *CHAINS)


def make(normaliser: Normaliser, name: str = "gnb", task: Task = "classification", **options: Any) -> Learner:  # noqa: ANN401
    """Give an estimator by its short name."""
    return EstimatorLearner(PartialFitConfig(estimator=name, **options), normaliser, task=task)


def is_for(name: str, task: Task) -> bool:
    """Say whether an estimator learns what the task asks for."""
    return task == "classification" or name.rpartition("+")[2] not in OF_CLASSES


BOTH: tuple[Task, Task] = ("classification", "regression")


@pytest.mark.parametrize(("name", "task"), [(n, t) for t in BOTH for n in NAMES if is_for(n, t)])
def test_every_estimator_keeps_the_contract(name: str, task: Task) -> None:
    """Each one resumes bit for bit, grows without a change to old rows, and goes on from where it was."""
    check_learner(partial(make, name=name, task=task), task=task)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_quantity_needs_an_estimator_of_quantities(name: str) -> None:
    """Naive Bayes is refused for a quantity, with the estimators that there are."""
    with pytest.raises(ConfigError, match=f"'{name}' learns classes, however the target is a quantity; take sgd, pa"):
        make(Normaliser(0), name, "regression")


def of_scikit_learn(name: str) -> Any:  # noqa: ANN401
    """Return the class that a name stands for, as the docs say."""
    return {
        "gnb": GaussianNB(),
        "multinomial_nb": MultinomialNB(),
        "bernoulli_nb": BernoulliNB(binarize=None),
        "pa": SGDClassifier(loss="hinge", penalty=None, learning_rate="pa1", eta0=1.0, shuffle=False),
        "sk_mlp": MLPClassifier((64, 64), batch_size=64, learning_rate_init=2e-3, shuffle=False, random_state=7),
    }[name]


@pytest.mark.parametrize("name", ["gnb", "multinomial_nb", "bernoulli_nb", "pa", "sk_mlp"])
def test_a_night_is_scikit_learns_own_partial_fit(name: str) -> None:
    """Four nights, kept and loaded between them, are what one estimator in memory makes of the same four calls."""
    random, ours = np.random.default_rng(0), Chain(PartialFitConfig(estimator=name), "classification")
    theirs = of_scikit_learn(name)
    for night in range(4):
        y = random.integers(0, 3, 100)
        x = random.normal(size=(100, 6)) + y[:, None]
        ours.begin(7, n_features=6, n_classes=3, parents=np.zeros(0, np.int64))
        ours.learn(x, y, with_steps=True)
        kept, _extra = ours.arrays()
        again = Chain(PartialFitConfig(estimator=name), "classification")
        again.load({**kept, **_extra}, n_features=6, n_classes=3)
        ours = again if night % 2 else ours
        theirs.partial_fit(ours.head.read(x), y, classes=np.arange(3))
    if name == "pa":
        assert np.array_equal(ours.answer(x).argmax(1), theirs.predict(x))
        assert np.array_equal(ours.head.model.coef_, theirs.coef_)
    else:
        assert np.array_equal(ours.answer(x), theirs.predict_proba(ours.head.read(x)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("task", BOTH)
def test_scoring_needs_what_predicts_alone(name: str, task: Task) -> None:
    """A scorer made of the arrays that predict answers as the learner, also after growth that no night has learned."""
    if not is_for(name, task):
        return
    schema, make_one = schema_of(3, 2, n_categories=3, n_classes=2, task=task), partial(make, name=name, task=task)
    model = model_of(make_one, task)
    for night in range(3):
        model.grow(schema)
        rows = random_night(schema, 150, night)
        model.learner.observe(rows)
        model.learn(rows, seed=0)
        schema = schema.with_columns({f"n{night}x": "numeric", f"c{night}x": "categorical"}).with_classes(["0", "7"])
        schema = schema.with_categories({c.name: ["late"] for c in schema.categorical})
        model.grow(schema)
        arrays, _, data = model.learner.state()
        raw, votes = forward(data, arrays)
        scorer = Scorer("partial_fit", model.normaliser.arrays(), arrays, raw=raw, votes=votes)
        (block,) = widened(rows, schema).chunks()
        assert np.array_equal(scorer.predict(block), model.predict(block))
        assert scorer.predict(block.take(slice(0))).shape == model.predict(block.take(slice(0))).shape


@pytest.mark.parametrize("name", ["sgd", "pa", "sk_mlp"])
def test_a_third_class_keeps_the_odds_of_the_first_two(name: str) -> None:
    """When a third class is to be learned, one vector for two classes becomes two, and the odds stay."""
    config = PartialFitConfig(estimator=f"pca+{name}")
    ours, random, none = Chain(config, "classification"), np.random.default_rng(0), np.zeros(0, np.int64)
    x, y = random.normal(size=(300, 5)), random.integers(0, 2, 300)
    ours.begin(0, n_features=5, n_classes=2, parents=none)
    ours.learn(x, y, with_steps=True)
    ours.settle()
    before = ours.answer(x)
    ours.begin(0, n_features=5, n_classes=4, parents=none)
    after = ours.answer(x)
    assert after.shape == (300, 4)
    if name == "sk_mlp":
        assert np.allclose(after[:, 1] / after[:, 0], before[:, 1] / before[:, 0], rtol=1e-4)
        assert (after[:, 2:] < 0.1).all()
    else:
        assert np.allclose(after[:, :2], before, atol=1e-12)


def test_a_new_category_starts_as_the_unseen_one() -> None:
    """A category's weight in the first layer starts at that of the unseen value, a new column's at nothing."""
    layout, sizes = Layout(), Sizes(1, 1, 4, 2)
    layout.grow(sizes, np.array([0, 1, 1, 1]))
    assert layout.meet().tolist() == [-1] * 6
    layout.grow(Sizes(2, 2, 8, 2), np.array([0, 1, 1, 1, 1, 5, 6, 6]))
    assert layout.ids.tolist() == [3, 4, 5, 6, 4, -1, -1, -1], "read as the unseen one, or not at all"
    x = layout.matrix(np.array([[0.5, 9.0], [np.nan, 9.0]]), np.array([[4, 5], [2, 7]]))
    assert x.tolist() == [[0, 0.5, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1, 0]]
    assert layout.meet().tolist() == [-1, -1, 4, -1, -1, -1]
    assert layout.width == 13


def test_each_gets_the_input_that_it_needs() -> None:
    """Multinomial Bayes reads nothing negative, Bernoulli only 0 and 1, whatever stands before them."""
    x = np.array([[-2.0, 0.0, 0.5]])
    for name, wanted in (("multinomial_nb", [[0, 2, 0, 0, 0.5, 0]]), ("bernoulli_nb", [[0, 0, 1]])):
        assert Chain(PartialFitConfig(estimator=name), "classification").head.read(x).tolist() == wanted


def test_clusters_tell_how_close_rows_are() -> None:
    """A model of clusters says the inertia of the night: the mean squared distance of rows to the nearest centre."""
    model, schema = model_of(partial(make, name="kmeans")), schema_of(3, 0, n_categories=0, n_classes=3)
    model.grow(schema)
    rows = random_night(schema, 500, 0)
    model.learn(rows, seed=0)
    inertia = model.learner.figures["inertia"]
    kept, (block,) = model.learner.state()[0], rows.chunks()
    z = standardise(model.normaliser.arrays(), block.x_num)
    x = np.concatenate([np.zeros((500, 1)), np.stack([np.nan_to_num(z), np.isnan(z)], 2).reshape(500, 6)], 1)
    distances = np.square(x[:, None] - kept["head.cluster_centers_"]).sum(2).min(1)
    assert inertia == pytest.approx(distances.mean(), rel=0.1), "centres moved on while the night was learned"


def test_votes_have_no_log_loss() -> None:
    """A passive-aggressive classifier votes: it has accuracy and macro F1 alone, and no floor of a log loss."""
    model, schema = model_of(partial(make, name="pa")), schema_of(3, 2, n_categories=3, n_classes=3)
    model.grow(schema)
    rows = random_night(schema, 300, 0)
    model.learn(rows, seed=0)
    assert set(np.unique(model.predict_rows(rows))) == {0, 1}
    assert model.tally(rows).scores().keys() == {"accuracy", "macro_f1"}
    with pytest.raises(ConfigError, match="gives no probabilities; take accuracy or macro_f1"):
        check_demands({"log_loss": 0.5}, [], task="classification", kinds={}, votes=True)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"estimator": "sgb"}, "estimator must be one of sgd, pa, .*, however it is 'sgb'; did you mean 'sgd'"),
        ({"estimator": "gnb+sgd"}, "a feature step must be one of pca, dictionary, kmeans, however it is 'gnb'"),
        ({"estimator": "pa", "alpha": 0.1}, "alpha and learning_rate are sgd's, however the estimator is 'pa'"),
        (
            {"estimator": "pca+sgd", "options": {"n_components": 2}},
            "must be tables named pca, sgd, however one is 'n_c",
        ),
        ({"options": {"penalty": "l1"}}, "sgd has alpha, learning_rate and n_epochs, however options are given"),
        ({"n_epochs": -1}, "n_epochs must be at least 0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], rule: str) -> None:
    """What makes no sense in a table is said before anything runs."""
    document = {
        "name": "p",
        "target": "y",
        "sources": [{"url": "a"}],
        "models": {"m": {"kind": "partial_fit", **options}},
    }
    with pytest.raises(ConfigError, match=rule):
        parse(document, Path())


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("gnb", {"var_smothing": 1.0}, "options of 'gnb' must be legal, however scikit-learn says: .*var_smothing"),
        ("gnb", {"var_smoothing": -1.0}, "options of 'gnb' must be legal, however scikit-learn says: .*var_smoothing"),
        ("sk_mlp", {"solver": "lbfgs"}, "options of 'sk_mlp' must leave what nightfit sets, however one is 'solver'"),
        ("pca+pa", {"pca": {"n_components": "many"}}, "options of 'pca' must be legal"),
    ],
)
def test_scikit_learns_options_are_checked(name: str, options: dict[str, Any], rule: str) -> None:
    """Options that scikit-learn does not take, or that nightfit sets, are refused before the first row."""
    with pytest.raises(ConfigError, match=rule):
        make(Normaliser(0), name, options=options)


def test_options_reach_scikit_learn() -> None:
    """Options are keyword arguments of the class, of a chain by name."""
    options = {"pca": {"n_components": 2, "whiten": True}, "sk_mlp": {"hidden_layer_sizes": [5], "alpha": 0.5}}
    model = model_of(partial(make, name="pca+sk_mlp", options=options))
    schema = schema_of(4, 0, n_categories=0, n_classes=2)
    model.grow(schema)
    model.learn(random_night(schema, 100, 0), seed=0)
    arrays = model.learner.state()[0]
    assert (arrays["step0.components_"].shape, arrays["head.layer.0"].shape) == ((2, 9), (2, 5))


def test_a_lineage_keeps_its_estimator() -> None:
    """Another estimator, or one of another shape, is refused with both."""
    model, schema = model_of(partial(make, name="sk_mlp")), schema_of(2, 0, n_categories=0, n_classes=2)
    model.grow(schema)
    model.learn(random_night(schema, 60, 0), seed=0)
    with pytest.raises(ConfigError, match="a lineage keeps its estimator, however it is 'gnb' now and was 'sk_mlp'"):
        saved_and_loaded(model, partial(make, name="gnb"))
    with pytest.raises(ConfigError, match="a lineage keeps its estimator's shape, however sk_mlp's layer"):
        saved_and_loaded(model, partial(make, name="sk_mlp", options={"hidden_layer_sizes": [8]}))


def test_short_names_are_models() -> None:
    """A table named by a short name is that estimator, one with `estimator` is of its kind; `linear` is `sgd`."""
    tables = {"gnb": {}, "mine": {"estimator": "pca+sk_mlp"}, "linear": {}, "kmeans": {"options": {"n_clusters": 3}}}
    models = parse({"name": "p", "target": "y", "sources": [{"url": "a"}], "models": tables}, Path()).models
    assert [(m.kind, getattr(m.learner, "estimator", "")) for m in models.values()] == [
        ("partial_fit", name) for name in ("gnb", "pca+sk_mlp", "sgd", "kmeans")
    ]
    assert short_named("sgd") == models["linear"]
    assert short_named("forest") is None


ALL = CONFIG.replace("[models.linear]\n", "") + "".join(
    f'[models.{name.replace("+", "-")}]\nestimator = "{name}"\n' for name in ("sgd", *NAMES)
)


def files_of(pipe: Pipe) -> dict[str, str]:
    """Return the hashes of what each model's head has learned."""
    store = Store(pipe.load().store).pipeline("p")
    heads = {name: store.lineage(name).head() for name in pipe.load().models}
    return {
        f"{name}/{file}": head.files[file].sha256
        for name, head in heads.items()
        if head
        for file in ("model.safetensors", "learning.safetensors")
    }


def versions(pipe: Pipe) -> int:
    """Count what was committed."""
    return len(list(pipe.root.glob("checkpoints/p/*/0*")))


def train(pipe: Pipe, *, until: int | None = None) -> None:
    """Run `nightfit train`; killed as soon as so many versions are there, if it is not done before."""
    command = [sys.executable, "-m", "nightfit", "train", "--config", str(pipe.root / "n.toml")]
    with subprocess.Popen(command, start_new_session=True) as process:
        while process.poll() is None:
            if until and versions(pipe) >= until:
                os.killpg(process.pid, signal.SIGKILL)
                return
            time.sleep(0.02)
        assert process.returncode == 0


def test_three_nights_killed_and_resumed_are_three_nights(tmp_path: Path) -> None:
    """Every estimator learns the same bits in three nights that were killed on the way as in three that were not."""
    straight, killed = pipes = [Pipe(tmp_path / name, ALL) for name in ("straight", "killed")]
    for pipe in pipes:
        pipe.root.mkdir()
    n_versions, n_models = list[int](), len(straight.load().models)
    for night, n_done in enumerate((1, n_models // 2, n_models - 2)):
        for pipe in pipes:
            pipe.append(make_rows(300, start=300 * night))
            pipe.load()
        train(straight)
        train(killed, until=night * n_models + n_done)
        n_versions.append(versions(killed))
        train(killed)
    assert any(n % n_models for n in n_versions), "no kill came while some models had learned and others had not"
    assert files_of(straight) == files_of(killed)
    assert len(files_of(killed)) == 2 * n_models

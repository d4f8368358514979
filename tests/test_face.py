"""scikit-learn's face: its own checks, and what they do not ask for."""

from __future__ import annotations

import io
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pytest
import sklearn
import torch
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save_file
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import check_estimator, check_sample_weight_equivalence_on_dense_data

import nightfit
from nightfit import IncrementalMLPClassifier, IncrementalMLPRegressor
from nightfit.batch import Array, Batch, Rows
from nightfit.errors import CheckpointError
from nightfit.face import Face
from nightfit.learners.base import MlpConfig
from nightfit.learners.deep import DeepLearner
from nightfit.normaliser import Normaliser
from nightfit.schema import Sizes

BOTH = pytest.mark.parametrize("kind", [IncrementalMLPClassifier, IncrementalMLPRegressor])
EQUIVALENCE = "check_sample_weight_equivalence_on_dense_data"
REASON = "minibatches are drawn at random: a weight of two is a row that stands there twice on average only"

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(240, 3))
Y = (X[:, 0] > 0).astype(int)


@BOTH
@pytest.mark.filterwarnings("default")  # its own: SCIPY_ARRAY_API is not set, columns that become vectors
def test_scikit_learns_own_checks_pass(kind: type[Any]) -> None:
    """Every check of scikit-learn passes at the default parameters, but for the one that its own SGD fails."""
    found = check_estimator(kind(), expected_failed_checks={EQUIVALENCE: REASON}, on_fail=None, on_skip=None)
    failed = {each["check_name"]: each["exception"] for each in found if each["status"] == "failed"}
    assert not failed
    assert {each["check_name"] for each in found if each["status"] == "xfail"} == {EQUIVALENCE}
    assert sum(each["status"] == "passed" for each in found) > 50


@pytest.mark.parametrize("kind", [SGDClassifier, SGDRegressor])
def test_what_may_fail_fails_for_scikit_learns_own(kind: type[Any]) -> None:
    """The expected failure is no excuse of ours: scikit-learn's minibatch learners fail that check as well."""
    with pytest.raises(AssertionError, match="not equivalent"):
        check_sample_weight_equivalence_on_dense_data(kind.__name__, kind(max_iter=5, tol=None))  # as its own tests do


@BOTH
def test_parameters_are_the_configs(kind: type[Any]) -> None:
    """Parameters are the keys of [models.deep], with the same defaults, but for that of categories: there are none."""
    told = kind().get_params()
    assert {f.name: f.default for f in fields(MlpConfig) if f.name != "d_embedding"}.items() <= told.items()
    assert told.keys() - {f.name for f in fields(MlpConfig)} == {"warm_start", "random_state", "device"}


@BOTH
@pytest.mark.parametrize(
    "wrong", [{"n_epochs": 0}, {"learning_rate": 2.0}, {"batch_size": "many"}, {"device": "abacus"}], ids=str
)
def test_wrong_parameters_are_named_at_fit(kind: type[Any], wrong: dict[str, Any]) -> None:
    """A parameter that makes no sense is a ValueError of `fit`, which names it."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**wrong).fit(X, Y)


def test_a_call_continues() -> None:
    """`partial_fit` learns what is new and keeps what it knew: classes that come one after the other are all known."""
    middles = np.array([[4.0, 0, 0], [0, 4, 0], [0, 0, 4]])
    model = IncrementalMLPClassifier(random_state=0)
    for i, middle in enumerate(middles):
        model.partial_fit(X[:80] + middle, np.full(80, i), classes=[0, 1, 2] if i == 0 else None)
    everything = np.concatenate([X[80:160] + middle for middle in middles])
    assert model.score(everything, np.repeat([0, 1, 2], 80)) > 0.95


def test_a_warm_start_goes_on() -> None:
    """With `warm_start` a second `fit` goes on; without it the second is as if the first had never been."""
    y = np.sin(3 * X[:, 0])
    fresh = IncrementalMLPRegressor(random_state=0).fit(X, y)
    again = clone(fresh).fit(X[:40], X[:40, 1]).fit(X, y)
    warm = clone(fresh).set_params(warm_start=True).fit(X, y).fit(X, y).fit(X, y)
    assert np.array_equal(fresh.predict(X), again.predict(X))
    assert 1 - warm.score(X, y) < 0.7 * (1 - fresh.score(X, y))


def test_settings_may_change_between_calls() -> None:
    """A parameter that was changed holds from the next call on; one that shapes the network is refused."""
    y = np.sin(3 * X[:, 0])
    model = IncrementalMLPRegressor(random_state=0).fit(X, y)
    still = clone(model).fit(X, y).set_params(learning_rate=1e-9)
    before = model.predict(X)
    moved = [float(np.abs(m.set_params(warm_start=True).fit(X, -y).predict(X) - before).mean()) for m in (still, model)]
    assert moved[0] < 0.2 * moved[1]
    with pytest.raises(ValueError, match="d_hidden is 8 now and was 64"):
        model.set_params(d_hidden=8).partial_fit(X, Y)


def test_classes_are_settled_by_the_first_call() -> None:
    """The first `partial_fit` needs classes; other ones later, and rows of unknown ones, are errors that say so."""
    model = IncrementalMLPClassifier(random_state=0)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        model.partial_fit(X, Y)
    model.partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="classes must stay"):
        model.partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"holds 2;|np.int64\(2\)"):
        model.partial_fit(X, Y + 1)
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:, :2], Y)


def test_a_class_that_never_came_has_a_share() -> None:
    """A class that was named and never learned keeps a small probability, and is no row's answer."""
    model = IncrementalMLPClassifier(random_state=0).partial_fit(X, Y, classes=[0, 1, 7])
    proba = model.predict_proba(X)
    assert proba.shape == (240, 3)
    assert (proba[:, 2] > 0).all()
    assert set(model.predict(X)) == {0, 1}


def test_missing_values_are_values() -> None:
    """NaN needs no imputer: that a value is missing can be all that tells the classes apart."""
    holes = X.copy()
    holes[Y == 1, 1] = np.nan
    assert IncrementalMLPClassifier(random_state=0).fit(holes[:200], Y[:200]).score(holes[200:], Y[200:]) > 0.95


WEIGHTS = RANDOM.uniform(0.5, 2, len(X))


@BOTH
@pytest.mark.parametrize(
    ("weights", "rows"),
    [(np.full(len(X), 7.0), slice(None)), ((np.arange(len(X)) < 150).astype(float), slice(150))],
    ids=["equal ones are none", "0 leaves a row out"],
)
def test_weights_that_say_nothing_change_nothing(kind: type[Any], weights: Array, rows: slice) -> None:
    """Equal weights are no weights, and a row of weight 0 was never there: to the bit."""
    weighted = kind(random_state=0).fit(X, Y, sample_weight=weights)
    plain = kind(random_state=0).fit(X[rows], Y[rows])
    assert np.array_equal(weighted.predict(X), plain.predict(X))


@BOTH
def test_only_proportions_of_weights_count(kind: type[Any]) -> None:
    """Weights in another unit are the same weights, in whatever call."""
    models = [kind(random_state=0).fit(X, Y, sample_weight=unit * WEIGHTS) for unit in (1, 1024)]
    models = [
        m.partial_fit(X[:50], Y[:50], sample_weight=u * WEIGHTS[:50]) for m, u in zip(models, (1024, 1), strict=True)
    ]
    assert np.array_equal(models[0].predict(X), models[1].predict(X))


def test_weights_decide_between_rows_that_contradict() -> None:
    """Of rows that differ in nothing but label and weight the heavy ones are believed, but never beyond their share."""
    x, y = np.repeat(X, 2, 0), np.tile([0, 1], len(X))
    weight = np.where(np.repeat(Y, 2) == y, 9.0, 1.0)
    proba = IncrementalMLPClassifier(random_state=0).fit(x, y, sample_weight=weight).predict_proba(X)
    unweighted = IncrementalMLPClassifier(random_state=0).fit(x, y).predict_proba(X)
    assert 0.65 < proba[np.arange(len(X)), Y].mean() < 0.9
    assert unweighted[np.arange(len(X)), Y].mean() == pytest.approx(0.5, abs=0.05)


def test_replayed_rows_keep_their_weights() -> None:
    """A later call without weights replays the rows of the first with theirs, also once saved and loaded."""
    x, y = np.repeat(X, 2, 0), np.tile([0.0, 10.0], len(X))
    weight = np.where(y > 0, 9.0, 1.0)
    model = IncrementalMLPRegressor(random_state=0).fit(x, y, sample_weight=weight)
    for i in range(4):
        few = slice(10 * i, 10 * i + 10)
        model = restored(model).partial_fit(X[few], np.full(10, 9.0))
    assert model.predict(X).mean() == pytest.approx(9, abs=1)


def test_bad_weights_are_refused() -> None:
    """Weights below 0, or none above it, are errors."""
    for wrong, words in ((-np.ones(240), "sample_weight"), (np.zeros(240), "zero")):
        with pytest.raises(ValueError, match=words):
            IncrementalMLPClassifier().fit(X, Y, sample_weight=wrong)


def learned(rows: Rows) -> Array:
    """Return the weights after ten steps, each of them over all rows."""
    normaliser = Normaliser(3)
    normaliser.update(torch.from_numpy(X[:64]))
    learner = DeepLearner(MlpConfig(n_epochs=1, memory_rows=0, d_hidden=8), normaliser)
    learner.grow(Sizes(3, 0, 0, 2), np.zeros(0, np.int64), np.zeros(0, np.int32))
    learner._learn(rows, seed=0)
    return np.concatenate([weights.ravel() for weights in learner.weights()])


def test_a_weight_is_a_repetition() -> None:
    """In a minibatch of all rows a weight of three does what the row does that stands there three times."""
    n = np.where(np.arange(64) % 2, 3, 1)

    def rows(index: Array, weight: Array | None) -> Rows:
        keys, none = np.arange(len(index), dtype=np.uint64), np.zeros((len(index), 0), np.int32)
        return Rows([Batch(keys, X[index], none, Y[index], weight)])

    plain, repeated = learned(rows(np.arange(64), None)), learned(rows(np.repeat(np.arange(64), n), None))
    weighted = learned(rows(np.arange(64), n / n.mean()))
    assert np.abs(weighted - repeated).max() < 1e-3
    assert np.abs(plain - repeated).max() > 1e-2


def restored(model: Face) -> Any:  # noqa: ANN401 - what joblib gives
    """Return what joblib makes of a model, with the tools that users have for it."""
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


def test_pipelines_of_data_frames() -> None:
    """In a pipeline whose steps give data frames it learns their names, and a search finds its parameters."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"price": X[:, 0], "colour": np.where(X[:, 1] > 0, "red", "blue")})
    encode = make_column_transformer(
        (StandardScaler(), ["price"]), (OneHotEncoder(sparse_output=False), ["colour"]), verbose_feature_names_out=False
    )
    y = np.where((X[:, 0] > 0) ^ (X[:, 1] > 0), "yes", "no")
    pipeline = make_pipeline(encode, IncrementalMLPClassifier(random_state=0)).set_output(transform="pandas")
    grid = {"incrementalmlpclassifier__d_hidden": np.array([4, 32])}
    search = GridSearchCV(pipeline, grid, cv=2).fit(frame, y)
    model = search.best_estimator_[-1]
    assert search.score(frame, y) > 0.9
    assert model.feature_names_in_.tolist() == ["price", "colour_blue", "colour_red"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(pandas.DataFrame(X, columns=["a", "b", "c"]))


def test_metadata_is_routed() -> None:
    """With metadata routing weights and classes find their way through a pipeline and a search."""
    with sklearn.config_context(enable_metadata_routing=True):
        kind = IncrementalMLPClassifier(random_state=0).set_fit_request(sample_weight=True)
        kind.set_score_request(sample_weight=True).set_partial_fit_request(sample_weight=True, classes=True)
        scale = StandardScaler().set_fit_request(sample_weight=False)
        weighted = make_pipeline(scale, kind).fit(X, Y, sample_weight=WEIGHTS)
        plain = make_pipeline(scale, clone(kind)).fit(X, Y)
        assert not np.array_equal(weighted.predict_proba(X), plain.predict_proba(X))
        GridSearchCV(weighted, {"incrementalmlpclassifier__d_hidden": [4]}, cv=2).fit(X, Y, sample_weight=WEIGHTS)


@pytest.mark.parametrize("labels", [[0, 1], [False, True], ["no", "yes"], np.array(["no", "yes"], object), [0.0, 2.0]])
def test_a_saved_one_goes_on_to_the_bit(labels: npt.ArrayLike, tmp_path: Path) -> None:
    """`load` brings back what `save` kept: answers, labels, names, parameters, and how it would have gone on."""
    pandas = pytest.importorskip("pandas")
    frame, y = pandas.DataFrame(X, columns=["a", "b", "c"]), np.asarray(labels)[Y]
    model = (
        IncrementalMLPClassifier(random_state=3)
        .set_params(n_epochs=np.int64(2))
        .fit(frame[:100], y[:100], WEIGHTS[:100])
    )
    model.save(tmp_path / "model.safetensors")
    loaded = IncrementalMLPClassifier.load(tmp_path / "model.safetensors")
    assert loaded.get_params() == model.get_params()
    assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.feature_names_in_.tolist() == ["a", "b", "c"]
    for each in (model, loaded):
        each.partial_fit(frame[100:], y[100:])
    assert np.array_equal(model.predict_proba(frame), loaded.predict_proba(frame))


def test_what_users_pickle_goes_on_to_the_bit() -> None:
    """A copy by joblib goes on as its original does."""
    model = IncrementalMLPRegressor(random_state=0).fit(X[:100], X[:100, 0])
    assert np.array_equal(restored(model.set_params(d_hidden=8)).predict(X), model.predict(X))  # for the next `fit`
    copy = restored(model.set_params(d_hidden=64))
    for each in (model, copy):
        each.partial_fit(X[100:], X[100:, 0])
    assert np.array_equal(model.predict(X), copy.predict(X))


def test_a_file_is_safetensors(tmp_path: Path) -> None:
    """What is saved is plain safetensors; what cannot be kept is said before anything is written."""
    model = IncrementalMLPRegressor(random_state=np.random.RandomState(0)).fit(X[:20], X[:20, 0])
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match="RandomState; change it"):
        model.save(path)
    assert not path.exists()
    model.set_params(random_state=None).save(path)
    assert "json" in load_tensors(path.read_bytes())
    with pytest.raises(sklearn.exceptions.NotFittedError):
        IncrementalMLPRegressor().save(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """Another class's file, another safetensors file and what is none are refused by name."""
    IncrementalMLPRegressor().fit(X[:20], X[:20, 0]).save(tmp_path / "a")
    save_file({"x": np.zeros(2)}, tmp_path / "b")
    (tmp_path / "c").write_bytes(b"cbuiltins\neval\n")
    for name, words in (("a", "holds IncrementalMLPRegressor"), ("b", "something else"), ("c", "must be safetensors")):
        with pytest.raises(CheckpointError, match=words):
            IncrementalMLPClassifier.load(tmp_path / name)


def test_the_docs_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/sklearn.md runs as it stands, and scores what the page says."""
    page = (Path(__file__).parents[1] / "docs" / "sklearn.md").read_text()
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0], found)  # noqa: S102 - our own docs
    told = re.findall(r"knows (\S+) of the later digits before the night, and (\S+) after", page)[0]
    assert [found["before"], found["after"]] == pytest.approx([float(each) for each in told], abs=0.015)


def test_the_package_names_them() -> None:
    """`nightfit` has both, tells that it has, and knows nothing else by accident."""
    assert {"IncrementalMLPClassifier", "IncrementalMLPRegressor"} <= set(nightfit.__all__)
    with pytest.raises(AttributeError, match="IncrementalSVM"):
        _ = nightfit.IncrementalSVM

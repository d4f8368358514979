"""Models of one's own by import path: estimators, PyTorch modules, and River's, which are for `compare` alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import own_models
from nightfit.checkpoint import Manifest
from nightfit.compare.bench import Unit
from nightfit.compare.protocol import Protocol
from nightfit.config import parse, short_named
from nightfit.errors import ConfigError, NightfitError, NotKeptError
from nightfit.history import lineages
from nightfit.learners.base import LearnerConfig, ModuleConfig, PartialFitConfig
from nightfit.learners.keeping import kept, restored
from nightfit.model import Model, make_learner
from nightfit.normaliser import Normaliser
from nightfit.resume import load_model
from nightfit.schema import Task
from nightfit.serving.following import Follower
from nightfit.serving.telemetry import Metrics
from nightfit.testing import check_learner, model_of, random_night, saved_and_loaded, schema_of, widened
from nightfit.version import load_version
from pipe import CONFIG, Pipe, make_rows

TESTS = Path(own_models.__file__).parent
NET, BOLD = ModuleConfig("own_models:make"), PartialFitConfig(estimator="own_models:Bold")
PERCEPTRON = "sklearn.neural_network:MLPClassifier"
ADAM = "sklearn.neural_network._stochastic_optimizers.AdamOptimizer"
OWN = CONFIG.replace(
    "[models.linear]\n",
    '[models.net]\nkind = "module"\nmodule = "own_models:make"\nbatch_size = 32\noptions = { d_hidden = 8 }\n'
    '[models.bold]\nestimator = "own_models:Bold"\n[models.means]\nestimator = "own_models:Means"\n',
)


def make(normaliser: Normaliser, config: LearnerConfig, task: Task = "classification") -> Any:  # noqa: ANN401
    """Give a learner by its config."""
    return make_learner(config, normaliser, task=task, device="cpu", seed=0)


def taught(config: LearnerConfig, task: Task = "classification", *, n_classes: int = 3) -> Model:
    """Return a model that has learned a night."""
    model = model_of(partial(make, config=config, task=task), task)
    schema = schema_of(3, 2, n_categories=3, n_classes=n_classes, task=task)
    model.grow(schema)
    model.learn(random_night(schema, 150, 0), seed=0)
    return model


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (NET, "classification"),
        (PartialFitConfig(estimator="sklearn.linear_model:SGDRegressor", options={"eta0": 0.001}), "regression"),
    ],
)
def test_what_is_imported_keeps_the_contract(config: LearnerConfig, task: Task) -> None:
    """A module and an estimator of quantities resume bit for bit, and growth changes no answer."""
    check_learner(partial(make, config=config, task=task), task=task)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipe, Pipe]:
    """Train three nights twice, once with a kill in each."""
    straight, killed = pipes = [Pipe(tmp_path_factory.mktemp(name), OWN) for name in ("straight", "killed")]
    for night in range(3):
        for pipe in pipes:
            pipe.append(make_rows(300, start=300 * night))
        straight.nights()
        assert kill_while_learning(killed) == -signal.SIGKILL
        killed.nights()
    return straight, killed


def kill_while_learning(pipe: Pipe) -> int:
    """Run `nightfit train` from the folder of the models, and kill it once it has staged rows."""
    pipe.load()
    command = [sys.executable, "-m", "nightfit", "train", "--config", str(pipe.root / "n.toml")]
    with subprocess.Popen(command, cwd=TESTS) as process:
        while process.poll() is None and not any(pipe.root.glob("checkpoints/p/.staging/*/*")):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        return process.wait()


def test_three_nights_killed_and_resumed_are_three_nights(trained: tuple[Pipe, Pipe]) -> None:
    """Nights that were killed on the way come to the same bits as nights that were not."""
    for name in ("net", "bold", "means"):
        straight, killed = ([pipe.lineage(name).manifest(n) for n in (1, 2, 3)] for pipe in trained)
        assert [files_of(m) for m in straight] == [files_of(m) for m in killed]
        assert len({files_of(m) for m in straight}) == 3, "every night must have learned something"


def files_of(manifest: Manifest) -> tuple[str, str]:
    """Return the hashes of what a version has learned."""
    return manifest.files["model.safetensors"].sha256, manifest.files["learning.safetensors"].sha256


@pytest.mark.parametrize("name", ["net", "bold", "means"])
def test_a_version_answers_as_its_learner(trained: tuple[Pipe, Pipe], name: str) -> None:
    """What `predict` and `serve` load from a version answers as the model that learned, with the config at hand."""
    config, lineage = trained[0].load(), trained[0].lineage(name)
    manifest, wanted = trained[0].head(name), config.models[name]
    files = lineage.load(manifest)
    model = load_model(manifest, files, wanted)
    (block,) = random_night(model.schema, 200, 5).chunks()
    scorer = load_version(manifest, files, wanted.learner).predictor
    assert np.array_equal(scorer.predict(block), model.predict(block))
    hits = (model.predict(block).argmax(1) == block.y).mean()
    assert hits > 0.5
    learners = {model: found.learner for model, found in config.models.items()}
    follower = Follower(lineages(config, name), config.rules, Metrics(), learners)
    follower.look()
    served = follower.get(name)
    assert served
    assert np.array_equal(served.scorer.score(block.x_num, block.x_cat), model.predict(block))


def test_a_version_cannot_choose_what_code_runs(trained: tuple[Pipe, Pipe]) -> None:
    """A manifest that names other code than the config is refused, and that code is not even imported."""
    config, lineage = trained[0].load(), trained[0].lineage("bold")
    manifest, wanted = trained[0].head("bold"), config.models["bold"].learner
    files = lineage.load(manifest)
    other = replace(manifest, state={**manifest.state, "learner": {"imported": "antigravity:geohash"}})
    for kept_one, asked in ((other, wanted), (manifest, None), (manifest, config.models["net"].learner)):
        with pytest.raises(ConfigError, match="a lineage keeps the code that it learns by, however version 3 of bold"):
            load_version(kept_one, files, asked)
    assert "antigravity" not in sys.modules
    follower = Follower(lineages(config, "bold"), config.rules, Metrics())
    follower.look()
    assert follower.get("bold") is None


def test_a_version_brings_back_only_what_is_trusted() -> None:
    """Types beyond the config's class and those that skops trusts are refused, when written as when read."""
    options = {"hidden_layer_sizes": [4], "max_iter": 5}
    doubtful = PartialFitConfig(estimator=PERCEPTRON, options=options)
    trusting = replace(doubtful, trusted=(ADAM,))
    with pytest.raises(
        NotKeptError, match=rf'however skops does not know {ADAM}; if you do, write trusted = \["{ADAM}'
    ):
        taught(doubtful).state()
    model = taught(trusting)
    (block,) = random_night(model.schema, 50, 1).chunks()
    again = saved_and_loaded(model, partial(make, config=trusting))
    assert np.array_equal(again.predict(block), model.predict(block))
    with pytest.raises(ConfigError, match="must hold types that the config trusts"):
        saved_and_loaded(model, partial(make, config=doubtful))


def test_a_version_is_of_the_class_that_the_config_names() -> None:
    """Another trusted estimator in its place is refused."""
    data = kept(own_models.Bold(), "own_models:Bold", [])
    with pytest.raises(ConfigError, match="must hold"):
        restored(data, "own_models:Unkept", own_models.Unkept, ["own_models.Bold"])


def test_equal_estimators_give_equal_bytes() -> None:
    """What is kept depends on what was learned alone: neither on addresses in memory nor on the time."""
    one, other = (taught(BOLD).state()[1]["model"]["learner.estimator"] for _ in range(2))
    assert np.array_equal(one, other)


def test_what_came_too_late_is_told_and_not_learned() -> None:
    """New columns are not read and a new class has its share of the rows; both are told, once."""
    model = taught(BOLD, n_classes=2)
    schema = model.schema.with_columns({"late": "numeric"}).with_classes(["0"])
    rows = random_night(schema, 300, 1)
    model.grow(schema)
    model.learn(rows, seed=0)
    (note,) = model.learner.notes
    assert note.startswith("'own_models:Bold' keeps the columns and classes that it began with, however there are new")
    answers = model.predict_rows(rows)
    share = (rows.y == 2).sum() / (150 + 300)
    assert answers[:, 2] == pytest.approx(np.full(300, share), abs=0.1)
    (block,) = rows.chunks()
    block.x_num[:, -1] = 1e6
    assert np.array_equal(model.predict_rows(rows), answers)
    again = saved_and_loaded(model, partial(make, config=BOLD))
    again.grow(schema)
    again.learn(rows, seed=0)
    assert not again.learner.notes


def test_a_class_alone_teaches_nothing() -> None:
    """Before there are two classes nothing is asked of an estimator, which could not learn from them."""
    model = taught(BOLD, n_classes=1)
    assert (model.predict_rows(random_night(model.schema, 5, 1)) == 1).all()
    schema = model.schema.with_classes(["0"])
    model.grow(schema)
    rows = widened(random_night(schema, 200, 2), schema)
    model.learn(rows, seed=0)
    assert (model.predict_rows(rows).argmax(1) == rows.y).mean() > 0.6


@pytest.mark.parametrize(
    ("config", "task", "rule"),
    [
        (PartialFitConfig(estimator="own_models:Gone"), "classification", "must be importable, .*no attribute 'Gone'"),
        (PartialFitConfig(estimator="not_there.at_all:A"), "classification", "no module 'not_there' in .*; mend it"),
        (PartialFitConfig(estimator="own_models:make"), "classification", "must be a class with partial_fit, however"),
        (BOLD, "regression", "a target of this task needs a regressor, however 'own_models:Bold' is a classifier"),
        (replace(BOLD, options={"eta": 1}), "classification", "must work, however it raised TypeError: .*'eta'"),
        (
            PartialFitConfig(estimator="own_models:Broken"),
            "classification",
            r"raised ValueError: no idea .* \(own_models.py:\d+",
        ),
        (ModuleConfig("own_models:Wrong"), "classification", r"must answer \[n, d_out\] = \[\d+, 3\], however"),
        (ModuleConfig("builtins:max"), "classification", "must return an nn.Module, however it returns a int"),
    ],
)
def test_mistakes_are_named(config: LearnerConfig, task: Task, rule: str) -> None:
    """What is wrong with code of one's own is one sentence that names it, and its line."""
    with pytest.raises(ConfigError, match=rule):
        taught(config, task)


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ({"estimator": "gnb", "trusted": ["a.B"]}, "trusted is for an import path, however the estimator is 'gnb'"),
        ({"kind": "module"}, "module must be an import path as package.module:make, however it is ''"),
        ({"module": "make"}, "module must be an import path as package.module:make, however it is 'make'"),
        ({"estimator": "pca+own_models:Bold"}, "estimator must be one of .*or package.module:Class alone"),
        ({"module": "a:b", "n_epochs": 0}, "n_epochs must be at least 1"),
    ],
)
def test_wrong_tables_are_named(table: dict[str, Any], rule: str) -> None:
    """What makes no sense in a table is said without importing anything."""
    with pytest.raises(ConfigError, match=rule):
        parse({"name": "p", "target": "y", "sources": [{"url": "a"}], "models": {"m": table}}, Path())


def test_names_on_the_command_line_are_what_they_lead_to() -> None:
    """A class with `partial_fit` is an estimator, what else can be called makes a module, the rest is refused."""
    found = [short_named(name) for name in ("own_models:Bold", "own_models:Wrong", "river.naive_bayes:GaussianNB")]
    assert [model.kind for model in found if model] == ["partial_fit", "module", "partial_fit"]
    with pytest.raises(ConfigError, match="however 'own_models:NOTHING' is a int; name another"):
        short_named("own_models:NOTHING")


def test_changed_code_is_another_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `compare --results` keeps of a model is not taken for that of a file that has changed since."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    keys = []
    for text in ("A = 1\n", "A = 1\n", "A = 2\n"):
        Path("changing_models.py").write_text(text)
        unit = Unit("m", model_named("changing_models:A"), 0, Protocol(), "cpu")
        keys.append(unit.key("rows", {}))
    assert keys[0] == keys[1] != keys[2]


def model_named(path: str) -> Any:  # noqa: ANN401
    """Return a model's config by its import path."""
    tables = {"m": {"estimator": path}}
    return parse({"name": "p", "target": "y", "sources": [{"url": "a"}], "models": tables}, Path()).models["m"]


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("river.linear_model:LogisticRegression", "is River's, whose only form on disk is pickle; use it in `compare`"),
        ("own_models:Unkept", "must be of types that skops can write"),
    ],
)
def test_what_cannot_be_kept_is_not_trained(tmp_path: Path, path: str, rule: str) -> None:
    """`train` refuses a model that has no form on disk without pickle, and commits nothing."""
    pipe = Pipe(tmp_path, CONFIG.replace("[models.linear]", f'[models.mine]\nestimator = "{path}"'))
    pipe.append(make_rows(100))
    with pytest.raises(NightfitError, match=rule):
        pipe.nights()
    assert not list(tmp_path.glob("checkpoints/p/mine/0*"))


def test_what_cannot_be_kept_is_compared(tmp_path: Path) -> None:
    """`compare --models` takes import paths from the present folder: modules, estimators, River's, kept or not."""
    pipe = Pipe(tmp_path)
    pipe.append(make_rows(900))
    names = [
        "own_models:make",
        "own_models:Unkept",
        "river.linear_model:LogisticRegression",
        "river.linear_model:PARegressor",
    ]
    command = [
        sys.executable, "-m", "nightfit", "compare", str(tmp_path / "a.csv"), "--target", "y", "--key", "id",
        "--night-rows", "300", "--models", ",".join(names), "--json",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    models = json.loads(done.stdout)["models"]
    assert list(models) == names
    assert models[names[0]]["log_loss"] < np.log(2), "two nights of two steps a pass, and a tenth kept for calibration"
    assert all(models[name]["log_loss"] < 0.5 for name in names[1:3])
    assert [bool(models[name]["disk_bytes"]) for name in names[:3]] == [True, False, False]
    assert "needs a River Classifier" in models[names[3]]["failed"]
    assert done.returncode == 1

"""A target that is a quantity, from the file to the answer: train, gate, log, show, predict, compare."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from nightfit.batch import Array, Batch, Rows
from nightfit.compare import entrant
from nightfit.model import Model
from nightfit.moments import CLAMP
from nightfit.quantity import MARGIN, TargetScale
from nightfit.schema import Schema

CONFIG = 'name = "shop"\ntarget = "spent"\nkey = "id"\nholdout = 0.4\n[[sources]]\nurl = "data.csv"\n'


def spending(n: int, start: int = 0, *, flipped: bool = False, header: bool = True) -> str:
    """Make CSV text of n rows whose target follows from two features, or (flipped) from their opposite."""
    random = np.random.default_rng(start)
    sign = -1 if flipped else 1
    lines = ["id,visits,shop,spent"] if header else []
    for i in range(start, start + n):
        visits, shop = random.normal(), ["north", "south"][random.integers(2)]
        spent = 1000 + sign * (80 * visits + 60 * (shop == "north")) + 10 * random.normal()
        lines.append(f"{i},{visits:.4f},{shop},{spent:.2f}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Path]:
    """Stand in a folder with a config and 600 rows."""
    before = Path.cwd()
    (tmp_path / "n.toml").write_text(CONFIG)
    (tmp_path / "data.csv").write_text(spending(600))
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


@pytest.fixture
def command(shop: Path, nightfit: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Give what types a command of the shop's pipeline, expects an exit code, and returns its JSON."""

    def typed(*words: object, code: int = 0) -> dict[str, Any]:
        done = nightfit(*words, "--config", shop / "n.toml", "--json")
        assert done.code == code, done.err
        told: dict[str, Any] = json.loads(done.out)
        return told

    return typed


def append(shop: Path, text: str) -> None:
    """Append rows to the shop's data."""
    with (shop / "data.csv").open("a") as file:
        file.write(text)


def test_nights_learn_a_quantity_and_say_how_well(
    shop: Path, command: Callable[..., dict[str, Any]], nightfit: Callable[..., Any]
) -> None:
    """Version 2 is scored by RMSE, MAE and R² on rows it had not seen; log and show say so."""
    command("train")
    append(shop, spending(600, 600, header=False))
    command("train")
    for entries in command("log")["models"].values():
        first, second = entries
        assert (first["prequential"], second["status"]) == ({}, "accepted")
        assert second["prequential"]["rows"] == 600
        assert second["prequential"]["r2"] > 0.5
        assert second["prequential"]["rmse"] < 0.75 * 85, "the target's own deviation is 85"
        assert 0 < second["prequential"]["mae"] < second["prequential"]["rmse"]
        assert "squared error" in second["verdict"]
    plain = nightfit("log", "--config", "n.toml").out
    assert "RMSE" in plain
    assert "log loss" not in plain
    shown = nightfit("show", 2, "--config", "n.toml").out
    assert "spent, a quantity" in shown
    assert "r2 0." in shown
    assert command("verify")["ok"]


def test_predictions_are_values_of_the_version(shop: Path, command: Callable[..., dict[str, Any]]) -> None:
    """Predict adds value and version, and no probability; numpy and torch agree; unreadable rows get none."""
    command("train")
    lines = spending(200, 5000).splitlines()
    lines[7] = "5006,many,north,1"
    (shop / "new.csv").write_text("\n".join(lines) + "\n")
    answers = []
    for options in ([], ["--device", "cpu"]):
        assert command("predict", "new.csv", "-o", "out.csv", *options)["unreadable"] == 1
        with (shop / "out.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["id", "visits", "shop", "spent", "prediction", "model_version"]
        assert rows[6]["prediction"] == ""
        answers.append(np.array([float(row["prediction"]) for row in rows if row["prediction"]]))
    spent = np.array([float(row["spent"]) for row in rows if row["prediction"]])
    assert r2_score(spent, answers[0]) > 0.5
    assert np.abs(answers[0] - answers[1]).max() < 1e-3


def test_the_gate_refuses_a_night_of_wrong_targets(
    shop: Path, command: Callable[..., dict[str, Any]], nightfit: Callable[..., Any]
) -> None:
    """Flipped targets are better tonight and far worse on earlier nights: refused, in the words of squared errors."""
    for start in range(0, 2400, 600):
        if start:
            append(shop, spending(600, start, header=False))
        command("train")
    append(shop, spending(1500, 9000, flipped=True, header=False))
    done = nightfit("train", "--config", "n.toml")
    assert done.code == 3
    assert "squared error" in done.err
    for entries in command("log")["models"].values():
        assert [entry["status"] for entry in entries][-1] == "refused"


def test_what_is_no_number_is_a_reject(shop: Path, command: Callable[..., dict[str, Any]]) -> None:
    """Targets that do not read as numbers are counted and kept as rejects; one without a target waits for it."""
    command("train")
    append(shop, spending(100, 600, header=False) + "900,1.0,north,plenty\n901,1.0,north,\n902,1.0,north,1e3\n")
    rows = command("train")["models"]["deep"]["rows"]
    assert (rows["rejected"], rows["pending"], rows["learned"] + rows["held_out"]) == (1, 1, 101)


def test_a_lineage_keeps_its_task(shop: Path, command: Callable[..., dict[str, Any]]) -> None:
    """What was inferred on the first night holds, also for few whole numbers; asking for another is an error."""
    command("train")
    append(shop, "900,1.0,north,1000\n901,1.0,south,1000\n")
    assert command("train")["models"]["deep"]["status"] == "accepted"
    (shop / "n.toml").write_text(CONFIG.replace("key", 'task = "classification"\nkey'))
    append(shop, "903,1.0,north,1000\n")
    assert "a lineage keeps its task" in command("train", code=78)["error"]


def test_init_writes_the_task_that_it_sees(shop: Path, nightfit: Callable[..., Any]) -> None:
    """A quantity of thousands of values is no error to init, and its config learns one."""
    done = nightfit("init", "data.csv", "--target", "spent", "--config", "made.toml", "--json")
    told = json.loads(done.out)
    assert (told["task"], told["n_classes"]) == ("regression", 0)
    assert 'task = "regression"' in (shop / "made.toml").read_text()
    assert nightfit("train", "--config", "made.toml").code == 0


@pytest.mark.parametrize("task", [[], ["--task", "regression"]])
def test_compare_scores_are_those_of_an_independent_count(
    shop: Path, nightfit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, task: list[str]
) -> None:
    """RMSE, MAE and R² are scikit-learn's over all rows that were predicted before they were learned."""
    append(shop, spending(350, 600, header=False) + "980,1.0,north,\n")
    told: dict[str, list[tuple[Array, Array]]] = {"deep": [], "linear": []}
    fresh = entrant.fresh

    def spied(*arguments: Any) -> Model:  # noqa: ANN401
        model: Model = fresh(*arguments)
        predict, pairs = model.learner.predict, told[model.kind.replace("mlp", "deep").replace("partial_fit", "linear")]

        def noted(batch: Batch) -> Array:
            pairs.append((predict(batch), batch.y))
            return pairs[-1][0]

        monkeypatch.setattr(model.learner, "predict", noted)
        return model

    monkeypatch.setattr(entrant, "fresh", spied)
    options = ["--target", "spent", "--key", "id", "--night-rows", "100", "--report", "r.html", "--jobs", "1", *task]
    result = json.loads(nightfit("compare", "data.csv", *options, "--json").out)
    assert (result["task"], result["rows"], result["nights"], result["left_out"]) == ("regression", 850, 9, 1)
    for name, looks in told.items():
        pairs = looks[1:-1]  # the first and the last look back at the first night
        predicted, y = (np.concatenate(column) for column in zip(*pairs, strict=True))
        scores = result["models"][name]
        assert scores["rmse"] == pytest.approx(mean_squared_error(y, predicted) ** 0.5)
        assert scores["mae"] == pytest.approx(mean_absolute_error(y, predicted))
        assert scores["r2"] == pytest.approx(r2_score(y, predicted))
        assert scores["r2"] > 0.7
        assert len(result["per_night"]) == 9
    page = (shop / "r.html").read_text()
    assert "RMSE, night by night" in page
    assert "Lower is better" in page
    assert "R²" in page
    assert "Classes" not in page
    plain = nightfit("compare", "data.csv", *options).out
    assert "RMSE" in plain


def rows_of(x: Array, y: Array) -> Rows:
    """Make rows of numbers."""
    keys = np.arange(len(y), dtype=np.uint64)
    return Rows([Batch(keys, x, np.zeros((len(y), 0), np.int32), y)])


def a_model(kind: str) -> Model:
    """Give a model of a quantity, of three numbers."""
    from nightfit.learners.base import KINDS

    model = Model.fresh(kind, KINDS[kind](), task="regression")
    model.grow(Schema(task="regression").with_columns({f"n{i}": "numeric" for i in range(3)}))
    return model


@pytest.mark.parametrize("kind", ["mlp", "partial_fit"])
@pytest.mark.parametrize(("factor", "shift"), [(1e-6, 0.0), (1.0, 1e9), (1e6, -1e12)])
def test_the_unit_of_the_target_makes_no_difference(kind: str, factor: float, shift: float) -> None:
    """Cents or millions, near zero or not: answers are the same, but for the unit."""
    random = np.random.default_rng(0)
    one, other = a_model(kind), a_model(kind)
    for _ in range(3):
        x = random.normal(size=(300, 3))
        y = x.sum(1) + 0.1 * random.normal(size=300)
        one.learner.observe(rows_of(x, y))
        one.learn(rows_of(x, y), seed=1)
        other.learner.observe(rows_of(x, factor * y + shift))
        other.learn(rows_of(x, factor * y + shift), seed=1)
    a, b = one.predict_rows(rows_of(x, y)), other.predict_rows(rows_of(x, y))
    assert np.abs((b - shift) / factor - a).max() < 0.01


@pytest.mark.parametrize("kind", ["mlp", "partial_fit"])
def test_a_target_that_moves_changes_no_answer_until_it_is_learned(kind: str) -> None:
    """Tonight's targets, ten times larger, move the target's moments; what the weights answer stays the same value."""
    random = np.random.default_rng(0)
    model = a_model(kind)
    x = random.normal(size=(400, 3))
    y = 5 * x.sum(1)
    model.learner.observe(rows_of(x, y))
    model.learn(rows_of(x, y), seed=0)
    learner: Any = model.learner
    scale: TargetScale = learner._calibration
    (block,) = rows_of(x, y).chunks()
    raw = learner._raw(block)
    before = scale.apply(raw)
    learner._convert(*scale.count([1000 + 50 * y]))
    after = scale.apply(learner._raw(block))
    assert np.std(before) > 1
    mean = (1 - scale.share) * before.mean()  # a share of the mean is mixed in, and the mean has moved
    assert np.corrcoef(before, after)[0, 1] > 0.999999
    assert np.std(after) == pytest.approx(np.std(before), rel=1e-4)
    assert scale.share > 0 or after.mean() == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("kind", ["mlp", "partial_fit"])
def test_wide_rows_do_not_make_it_diverge(kind: str) -> None:
    """With 400 columns a constant step of plain least squares would overshoot and grow without bounds."""
    random = np.random.default_rng(0)
    from nightfit.learners.base import KINDS

    model = Model.fresh(kind, KINDS[kind](), task="regression")
    model.grow(Schema(task="regression").with_columns({f"n{i}": "numeric" for i in range(400)}))
    weights = random.normal(size=400) / 20
    for night in range(6):
        x = random.normal(size=(400, 400))
        y = x @ weights + 0.1 * random.normal(size=400)
        predicted = model.predict_rows(rows_of(x, y))
        model.learner.observe(rows_of(x, y))
        model.learn(rows_of(x, y), seed=night)
    assert r2_score(y, predicted) > 0.3
    assert model.is_finite()


def test_answers_stay_near_the_range_of_what_was_learned() -> None:
    """A row of absurd features is answered by a value that the target could take."""
    random = np.random.default_rng(0)
    model = a_model("partial_fit")
    x = random.normal(size=(500, 3))
    y = x.sum(1)
    model.learn(rows_of(x, y), seed=0)
    (answer,) = model.predict_rows(rows_of(np.full((1, 3), 1e9), np.zeros(1)))
    width = y.max() - y.min()
    assert answer == pytest.approx(y.max() + MARGIN * width)
    assert answer < CLAMP * 3, "it would have been far outside"


def test_shrinking_is_used_only_where_it_helps() -> None:
    """Answers that carry nothing are shrunk to the mean within a few nights, and good ones are believed."""
    random = np.random.default_rng(0)
    for noise, wanted in ((0.05, 0.0), (100.0, 1.0)):
        scale = TargetScale()
        scale.count([random.normal(size=1000)])
        for _ in range(15):
            y = random.normal(size=500)
            z = scale.standard(y) + noise * random.normal(size=500)
            scale.observe(z, y)
        assert scale.share == wanted
        again = TargetScale.from_arrays(scale.arrays())
        assert np.array_equal(again.apply(z), scale.apply(z))


def test_a_constant_target_is_answered_by_its_value() -> None:
    """A first night of one value has no spread to divide by; the next nights do."""
    random = np.random.default_rng(0)
    for kind in ("mlp", "partial_fit"):
        model = a_model(kind)
        for y in (np.full(200, 7.0), np.full(200, 7.0), random.normal(size=200)):
            x = random.normal(size=(200, 3))
            assert np.isfinite(model.predict_rows(rows_of(x, y))).all()
            model.learner.observe(rows_of(x, y))
            model.learn(rows_of(x, y), seed=0)
            if y.std() == 0:
                assert model.predict_rows(rows_of(x, y)) == pytest.approx(7.0, abs=0.5)
        assert model.is_finite()


def test_a_constant_target_is_no_reason_to_crash(shop: Path, command: Callable[..., dict[str, Any]]) -> None:
    """Night after night the same value: no loss before and after, accepted; then it varies, and wins."""
    rows = spending(900).splitlines()
    (shop / "data.csv").write_text("\n".join([rows[0], *(row.rpartition(",")[0] + ",7.5" for row in rows[1:])]) + "\n")
    (shop / "n.toml").write_text(CONFIG.replace("key", 'task = "regression"\nkey'))
    command("train")
    append(shop, "\n".join(row.rpartition(",")[0] + ",7.5" for row in spending(900, 900).splitlines()[1:]) + "\n")
    assert {entry["status"] for entry in command("train")["models"].values()} == {"accepted"}
    append(shop, spending(600, 5000, header=False))
    assert "for now" in command("train", code=3)["models"]["deep"]["verdict"], "a new world, or a poisoned night"
    append(shop, spending(600, 7000, header=False))
    assert {entry["status"] for entry in command("train")["models"].values()} == {"accepted"}


@pytest.mark.parametrize("unit", [1e-50, 1e-12, 1.0, 1e12])
def test_a_first_night_of_one_value_leaves_a_learner_sound(unit: float) -> None:
    """Whatever the unit in which the target varies later, weights and moments stay finite, and learning goes on."""
    random = np.random.default_rng(0)
    model = a_model("mlp")
    for night in range(8):
        x = random.normal(size=(300, 3))
        y = unit * x.sum(1) * (night > 0)
        predicted = model.predict_rows(rows_of(x, y))
        model.learner.observe(rows_of(x, y))
        model.learn(rows_of(x, y), seed=night)
        assert model.is_finite()
    assert r2_score(y / unit, predicted / unit) > 0.5


def test_the_optimisers_moments_follow_the_unit_of_the_target() -> None:
    """What it remembers of gradients becomes what it would have seen of the same rows in the new unit."""
    random = np.random.default_rng(0)
    model = a_model("mlp")
    x = random.normal(size=(400, 3))
    y = x.sum(1)
    model.learn(rows_of(x, y), seed=0)
    learner: Any = model.learner
    net = learner._net

    def gradient() -> Any:  # noqa: ANN401
        (block,) = rows_of(x, y).chunks()
        inputs, wanted = net.inputs(*learner._features(block)), learner._outcomes(block.y)[None]
        weights, into = net.parts(net.flat.data), net.parts(learner._descent.gradient)
        passes = net.passes(inputs, [slice(None)] * 3, weights)
        net.backward(inputs, passes, [done.outputs - wanted for done in passes], weights, into)
        return learner._descent.gradient.clone()

    moments = learner._descent.moments
    before = gradient()
    moments["exp_avg"], moments["exp_avg_sq"] = before.clone(), before.square()
    learner._convert(*learner._calibration.count([1000 + 20 * y]))
    after = gradient()
    assert np.allclose(moments["exp_avg"], after, rtol=1e-2, atol=1e-4 * float(after.abs().max()))
    assert np.allclose(moments["exp_avg_sq"], after.square(), rtol=2e-2, atol=1e-4 * float(after.square().max()))


def test_nights_without_a_target_decide_no_task(shop: Path, command: Callable[..., dict[str, Any]]) -> None:
    """A first night whose targets are all missing says nothing about the task; the first that has some does."""
    (shop / "data.csv").write_text("id,visits,shop,spent\n" + "".join(f"{i},0.{i},north,\n" for i in range(50)))
    command("train", "--accept", "targets come later")
    append(shop, spending(600, 1000, header=False))
    command("train")
    append(shop, spending(300, 3000, header=False))
    command("train")
    for entries in command("log")["models"].values():
        assert entries[-1]["prequential"]["r2"] > 0.3


def test_a_value_is_the_same_however_it_is_spelled(shop: Path, command: Callable[..., dict[str, Any]]) -> None:
    """Rows that come again with 12.5 for 12.50 are duplicates, no conflicts."""
    lines = spending(600).splitlines()
    command("train")
    again = [f"{row.rpartition(',')[0]},{float(row.rpartition(',')[2]) + 0.0!r}00" for row in lines[1:100]]
    append(shop, "\n".join(again) + "\n" + spending(100, 900, header=False))
    rows = command("train")["models"]["deep"]["rows"]
    assert (rows["duplicate"], rows["rejected"]) == (99, 0)


def test_no_held_out_rows_is_no_reason_to_warn(shop: Path, command: Callable[..., dict[str, Any]]) -> None:
    """With holdout = 0 there is no evidence, and no warning either."""
    (shop / "n.toml").write_text(CONFIG.replace("holdout = 0.4", "holdout = 0"))
    command("train")
    append(shop, spending(300, 900, header=False))
    assert command("train")["models"]["deep"]["status"] == "accepted"

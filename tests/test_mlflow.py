"""What a real MLflow is told of nights, in SQLite: `scripts/test_mlflow`, which installs it, runs these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import Command, Rows
from nightfit import config
from nightfit.errors import ConfigError
from nightfit.tracking.config import MlflowConfig

real = pytest.mark.mlflow
quiet = pytest.mark.filterwarnings("default")  # MLflow's own: what it and its libraries have deprecated


def configured(home: Path, uri: str, more: str = "") -> None:
    """Let the pipeline's nights be logged."""
    path = home / "configs" / "nightfit.toml"
    models = "[models.deep]\n[models.linear]\n[models.gnb]\n"
    path.write_text(f'{path.read_text()}\n{models}[mlflow]\nuri = "{uri}"\n{more}')


def more_rows(home: Path, make_rows: Rows, start: int) -> None:
    """Append a night's rows."""
    with (home / "data.csv").open("a") as data:
        data.write(make_rows(100, start, header=False))


def runs(uri: str, name: str = "shop") -> dict[tuple[str, str], Any]:
    """Return the runs of an experiment by model and version; each must be there once."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    by_version = {(run.data.tags["nightfit.model"], run.data.tags["nightfit.version"]): run for run in found}
    assert len(by_version) == len(found)
    return by_version


@real
@quiet
def test_nights_are_logged_once(home: Path, nightfit: Command, make_rows: Rows, monkeypatch: Any) -> None:  # noqa: ANN401
    """Each model's version is a run with params, metrics and tags, told in silence; another run adds none."""
    uri = f"sqlite:///{home}/mlflow.db"
    monkeypatch.setenv("TRACKING", uri)
    configured(home, "${TRACKING}", 'artifacts = "kept"\n')
    more_rows(home, make_rows, 600)
    done = nightfit("train", "--device", "cpu")
    assert (done.code, done.err) == (0, "")
    logged = runs(uri)
    assert set(logged) == {("deep", "2"), ("linear", "2"), ("gnb", "1")}
    run = logged["deep", "2"]
    assert run.data.params | {"d_hidden": "64", "seed": "0", "kind": "mlp"} == run.data.params
    assert run.data.metrics["rows.read"] == 100
    assert {"before.log_loss", "candidate.log_loss", "champion.log_loss", "seconds"} <= set(run.data.metrics)
    assert run.data.tags["nightfit.verdict"].startswith("accepted: ")
    assert "nightfit.no_model" in logged["gnb", "1"].data.tags
    assert nightfit("train", "--device", "cpu").code == 0
    assert set(runs(uri)) == set(logged)


@real
@quiet
def test_the_model_answers_as_nightfit_does(home: Path, nightfit: Command, make_rows: Rows) -> None:
    """What MLflow loads as its ONNX flavour gives the probabilities of `nightfit predict`."""
    import mlflow.onnx
    import onnxruntime

    uri = f"sqlite:///{home}/mlflow.db"
    configured(home, uri, 'artifacts = "kept"\n')
    more_rows(home, make_rows, 600)
    assert nightfit("train", "--model", "linear", "--device", "cpu").code == 0
    run = runs(uri)["linear", "2"]
    model = mlflow.onnx.load_model(f"{run.info.artifact_uri}/model")
    table = pd.read_csv("data.csv").head(20)
    columns = {name: table[name].to_numpy(kind)[:, None] for name, kind in (("price", float), ("colour", object))}
    days = (pd.to_datetime(table["day"]) - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (probability,) = session.run(["probability"], columns | {"day": days.to_numpy(float)[:, None]})
    assert nightfit("predict", "data.csv", "--model", "linear", "-o", "out.csv").code == 0
    wanted = pd.read_csv("out.csv").head(20)[["probability_no", "probability_yes"]]
    np.testing.assert_allclose(probability, wanted, atol=1e-5)


@real
@quiet
def test_a_night_that_was_not_logged_is_logged_by_the_next(home: Path, nightfit: Command, make_rows: Rows) -> None:
    """MLflow that is not there is a warning; the night is committed, ends with 0, and is told when it is back."""
    configured(home, "http://127.0.0.1:1/s3cr3t", "models = false\n")
    more_rows(home, make_rows, 600)
    done = nightfit("train", "--model", "linear", "--device", "cpu")
    assert done.code == 0
    assert "MLflow must take what it is told, however" in done.err
    assert "changes nothing about the night" in done.err
    assert "s3cr3t" not in done.err
    assert (home / "checkpoints" / "shop" / "linear" / "000002").is_dir()
    uri, path = f"sqlite:///{home}/mlflow.db", home / "configs" / "nightfit.toml"
    path.write_text(path.read_text().replace("http://127.0.0.1:1/s3cr3t", uri))
    assert nightfit("train", "--model", "linear", "--device", "cpu").code == 0
    assert set(runs(uri)) == {("linear", "2")}


def test_without_mlflow_the_night_says_so(home: Path, nightfit: Command, make_rows: Rows) -> None:
    """[mlflow] without the extra is a warning that says what to install; the night is committed."""
    configured(home, "sqlite:///mlflow.db")
    more_rows(home, make_rows, 600)
    done = nightfit("train", "--model", "linear", "--device", "cpu")
    assert (done.code, "pip install 'nightfit[mlflow]'" in done.err) == (0, True)


def test_keys_are_checked(tmp_path: Path) -> None:
    """Nothing is logged by default, and keys that need a uri say so."""
    document = {"name": "s", "target": "y", "sources": [{"url": "x"}]}
    assert config.parse(document, tmp_path).mlflow == MlflowConfig()
    with pytest.raises(ConfigError, match="go with a uri"):
        config.parse(document | {"mlflow": {"experiment": "x"}}, tmp_path)

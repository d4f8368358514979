"""What a released nightfit has written is read for ever: golden folders, one for each format, never rewritten.

scripts/make_golden.py wrote them. A change that fails here breaks the checkpoints that users have: raise the format,
keep reading the old one, and add a folder; never write an old one anew.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import make_golden
from conftest import Command
from nightfit import IncrementalMLPClassifier, IncrementalMLPRegressor, checkpoint, face
from nightfit.checkpoint import MANIFEST, Manifest
from nightfit.config import load
from nightfit.errors import CheckpointError
from nightfit.face import Face
from nightfit.history import lineages
from nightfit.store import Lineage

GOLDEN = Path(__file__).parent / "golden"
STORES = [
    (path.parts[-2], path.name, model)
    for path in sorted(GOLDEN.glob("checkpoint-*/*"))
    for model in load(path / "nightfit.toml").models
]
TOLERANCE = 1e-5
"""Of a probability, and of a quantity with a deviation of 1.8: single precision, summed by another machine."""


def homes() -> list[str]:
    """Name the pipelines that were kept, with their format."""
    return list(dict.fromkeys(f"{kept}/{name}" for kept, name, _ in STORES))


def models_of(home: Path) -> list[str]:
    """Name the models of a pipeline."""
    return list(load(home / "nightfit.toml").models)


def lineage_of(home: Path, model: str) -> Lineage:
    """Return a model's lineage."""
    return lineages(load(home / "nightfit.toml"), model)[model]


def head_of(home: Path, model: str) -> Manifest:
    """Return a model's head."""
    head = lineage_of(home, model).head()
    assert head
    return head


@pytest.fixture(params=homes())
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give a copy of each pipeline that was kept, where a night may write."""
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / "home"))


def test_every_format_has_its_folders() -> None:
    """A format that this nightfit writes, or has ever written, has a folder: raise it, and make one."""
    wanted = {f"checkpoint-{n}" for n in range(1, checkpoint.FORMAT + 1)}
    wanted |= {f"estimator-{n}" for n in range(1, face.FORMAT + 1)}
    assert {path.name for path in GOLDEN.iterdir()} == wanted
    assert all((GOLDEN / name / "quantity").is_dir() for name in wanted if name.startswith("checkpoint"))


def test_kept_folders_are_never_rewritten(capsys: pytest.CaptureFixture[str]) -> None:
    """The script that makes them leaves every folder that is there as it is, and says so."""
    before = {path: path.stat().st_mtime_ns for path in GOLDEN.rglob("*")}
    assert make_golden.main() == 1
    assert capsys.readouterr().out.count("is written once, however") == 2
    assert {path: path.stat().st_mtime_ns for path in GOLDEN.rglob("*")} == before


def test_nothing_kept_needs_pickle() -> None:
    """The folders hold text, safetensors and Arrow alone."""
    kinds = {path.suffix for path in GOLDEN.rglob("*") if path.is_file() and path.stat().st_size}
    assert kinds == {".toml", ".csv", ".json", ".safetensors", ".arrow"}


@pytest.mark.parametrize(("kept", "name", "model"), STORES)
def test_it_answers_as_it_did(kept: str, name: str, model: str, tmp_path: Path, nightfit: Command) -> None:
    """`nightfit predict` answers the rows of the next night as the nightfit that wrote the version did."""
    home, answers = GOLDEN / kept / name, tmp_path / "answers.csv"
    config = home / "nightfit.toml"
    done = nightfit("predict", home / "next.csv", "--model", model, "-o", answers, "--config", config)
    assert done.code == 0, done.err
    now, then = (pd.read_csv(path) for path in (answers, home / f"answers-{model}.csv"))
    pd.testing.assert_frame_equal(now, then, rtol=0, atol=TOLERANCE)


def test_it_verifies(home: Path, nightfit: Command) -> None:
    """`nightfit verify` finds every file as it was written, pruned and erased ones gone."""
    done = nightfit("verify", "--config", home / "nightfit.toml", "--json")
    assert (done.code, json.loads(done.out)) == (0, {"ok": True, "models": {name: [] for name in models_of(home)}})


def test_it_learns_another_night(home: Path, nightfit: Command) -> None:
    """The next night goes on from it, whatever it was: warm, from its cursors, keys and waiting rows."""
    before = {model: head_of(home, model) for model in models_of(home)}
    old, new = (pd.read_csv(home / name, dtype=str, keep_default_na=False) for name in ("data.csv", "next.csv"))
    late = old[old["y"] == ""].assign(y=old["y"].iloc[0])
    again = old[old["y"] != ""].tail(5)
    with (home / "data.csv").open("a") as file:
        for rows in (new, late, again):
            rows.to_csv(file, header=False, index=False, lineterminator="\n")
    done = nightfit("train", "--config", home / "nightfit.toml", "--device", "cpu", "--json", "--accept", "a test")
    assert done.code == 0, done.err
    for model, result in json.loads(done.out)["models"].items():
        head, rows = head_of(home, model), result["rows"]
        assert (head.parent, head.status) == (before[model].version, "accepted")
        learning: Any = head.night["learning"]
        assert learning["loss_before"] is not None, "it must not begin anew"
        assert (rows["read"], rows["rejected"]) == (len(new) + len(late) + len(again), 0)
        assert rows["pending"] == (new["y"] == "").sum()
        n_skipped = 3 if model == "linear" else 0
        assert (rows["pending"], rows["excluded"]) == ((new["y"] == "").sum(), n_skipped)
        assert rows["duplicate"] == len(again) + len(late) - n_skipped


def test_a_format_from_the_future_is_refused(home: Path, nightfit: Command) -> None:
    """A head that a newer nightfit wrote stops predict and train with one sentence, and is left where it is."""
    model = models_of(home)[0]
    folder = lineage_of(home, model).path(head_of(home, model).version)
    raw = json.loads((folder / MANIFEST).read_bytes())
    raw |= {"format": checkpoint.FORMAT + 1, "nightfit": "99.0"}
    (folder / MANIFEST).write_bytes(checkpoint._pretty(raw | {"digest": checkpoint._digest(raw)}))
    for command in (("predict", home / "next.csv", "-o", home / "out.csv"), ("train", "--device", "cpu")):
        done = nightfit(*command, "--config", home / "nightfit.toml")
        assert done.code == CheckpointError.exit_code
        assert f"must have format {checkpoint.FORMAT} or older" in done.err
        assert "upgrade to the nightfit that wrote it (99.0)" in done.err
    assert folder.is_dir()
    assert not (home / "out.csv").exists()


ESTIMATORS = [
    (path, kind)
    for path in sorted(GOLDEN.glob("estimator-*"))
    for kind in (IncrementalMLPClassifier, IncrementalMLPRegressor)
]


def file_of(kind: type[Face]) -> str:
    """Return the name of the file that holds such an estimator."""
    return kind.__name__.removeprefix("IncrementalMLP").lower() + ".safetensors"


@pytest.mark.parametrize(("kept", "kind"), ESTIMATORS)
def test_an_estimator_answers_as_it_did_and_goes_on(kept: Path, kind: type[Any]) -> None:
    """`load` reads what `save` wrote then: the same answers, and it learns on."""
    rows = pd.read_csv(kept / "rows.csv")
    x, estimator = rows[["a", "b", "c"]], kind.load(kept / file_of(kind))
    if kind is IncrementalMLPClassifier:
        np.testing.assert_allclose(estimator.predict_proba(x)[:, 1], rows["up"], rtol=0, atol=TOLERANCE)
        estimator.partial_fit(x, np.where(rows["y"] > 0, "up", "down"))
    else:
        np.testing.assert_allclose(estimator.predict(x), rows["value"], rtol=0, atol=TOLERANCE)
        estimator.partial_fit(x, rows["y"])
    assert len(estimator.predict(x)) == len(x)


def test_an_estimator_from_the_future_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a newer format is refused with both formats named, and what to do."""
    kept = IncrementalMLPClassifier.load(GOLDEN / "estimator-1" / "classifier.safetensors")
    with monkeypatch.context() as newer:
        newer.setattr(face, "FORMAT", face.FORMAT + 1)
        kept.save(tmp_path / "newer.safetensors")
    with pytest.raises(CheckpointError, match=rf"format {face.FORMAT}\).*format {face.FORMAT + 1}.*; upgrade to"):
        IncrementalMLPClassifier.load(tmp_path / "newer.safetensors")

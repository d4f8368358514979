from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightfit.batch import Array, Rows
from nightfit.errors import ConfigError
from nightfit.learners.partial_fit import PartialFitLearner
from pipe import CONFIG, Pipe, Row, make_rows


def gate(options: str) -> str:
    """Return the config with a gate that is asked for more."""
    return CONFIG.replace("[models.linear]", f"[gate]\n{options}\n[models.linear]")


def flipped(n: int, start: int) -> list[Row]:
    """Make a night whose labels are flipped."""
    return make_rows(n, start=start, flipped=True)


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    """Give a pipeline with the linear model that has learned two honest nights, 300 rows held out or so."""
    pipe = Pipe(tmp_path)
    for i in range(2):
        pipe.append(make_rows(1500, start=10_000 * i, seed=i))
        assert pipe.night().status == "accepted"
    return pipe


def gate_of(pipe: Pipe, version: int) -> Any:  # noqa: ANN401 - JSON
    """Return what the gate saw of a version."""
    return pipe.lineage().manifest(version).night["gate"]


@pytest.mark.parametrize("name", ["deep", "linear"])
def test_after_a_change_nights_are_judged_by_the_new_concept(tmp_path: Path, name: str) -> None:
    """Once a change is confirmed the holdout memory starts anew: no later night is refused for the old concept."""
    pipe = Pipe(tmp_path, CONFIG.replace("linear", name))
    for i in range(2):
        pipe.append(make_rows(1500, start=10_000 * i, seed=i))
        pipe.night()
    said = []
    for i in range(5):
        pipe.append(flipped(600, 50_000 + 10_000 * i))
        said.append(pipe.night().verdict)
    assert said[0].startswith("refused for now")
    assert said[1].startswith("accepted: the change is real")
    assert said[1].endswith("the holdout memory starts anew")
    assert all(verdict.startswith("accepted: ") for verdict in said[2:])
    figures: Any = pipe.lineage(name).manifest(5).night["gate"]
    assert figures["memory"]["n"] < 200, "of the nights since the change"


def test_forgetting_that_a_person_accepts_starts_the_memory_anew(pipe: Pipe) -> None:
    """A person who says that the change is real is not asked again the next night."""
    pipe.append(flipped(1500, 50_000))
    assert pipe.night().status == "refused"
    assert pipe.night(accept="new sensor").status == "accepted"
    pipe.append(flipped(600, 60_000))
    assert pipe.night().status == "accepted"


def test_refused_candidates_are_tried_one_after_the_other(pipe: Pipe) -> None:
    """When later rows have spoken against a kept candidate, the one of that night is kept, and tried in its turn."""
    pipe.append(flipped(1500, 50_000))
    pipe.night()
    pipe.append(make_rows(300, start=60_000))
    assert pipe.night().verdict.endswith("on the 300 rows that came since, now this one is kept")
    for i in range(2):
        pipe.append(make_rows(250, start=70_000 + 1000 * i))
        pipe.night()
    kept = [gate_of(pipe, version).get("kept", {}).get("n") for version in (3, 4, 5, 6)]
    assert kept == [None, 300, 250, 250]


def test_a_worse_candidate_that_later_rows_prove_right_is_accepted(pipe: Pipe) -> None:
    """What is worse on all held-out rows, earlier ones included, may be better on what comes: these rows decide."""
    pipe.config = gate("forgetting_margin = 1000.0\nmargin = 0.0")
    pipe.append(flipped(1500, 50_000))
    refused = pipe.night()
    assert refused.verdict.startswith("refused: it is worse, log loss +")
    assert "; it is kept, and wins if it predicts the next rows better, of which 200 are needed" in refused.verdict
    pipe.append(flipped(400, 60_000))
    assert pipe.night().verdict.startswith("accepted: the change is real")


def test_a_floor_keeps_versions_out(pipe: Pipe) -> None:
    """Below the floor nothing new is served, and the version before it stays; the figures stand beside the verdict."""
    pipe.config = gate("floors = { accuracy = 0.99 }")
    pipe.append(make_rows(600, start=50_000))
    result = pipe.night()
    assert result.status == "refused"
    assert result.verdict.startswith("refused: accuracy 0.")
    assert "is below the floor of 0.99 (the champion has 0." in result.verdict
    assert gate_of(pipe, 3)["scores"]["accuracy"] < 0.99
    pipe.config = gate("floors = { accuracy = 0.6, log_loss = 0.6 }")
    assert pipe.night().status == "accepted", "another gate, another verdict"


def test_a_first_version_must_meet_the_floor_too(tmp_path: Path) -> None:
    """A pipeline begins when a model is good enough: rows add up until one is."""
    pipe = Pipe(tmp_path, gate("floors = { accuracy = 0.99 }"))
    pipe.append(make_rows(3000))
    assert pipe.night().status == "refused"
    assert pipe.lineage().head() is None
    pipe.config = gate("floors = { accuracy = 0.7 }")
    assert pipe.night().verdict == "accepted: it is the first"


def test_a_slice_is_watched(pipe: Pipe) -> None:
    """A night that spoils a value of a column is refused by that value's name; values of few rows say nothing."""
    pipe.config = gate('margin = 100.0\nforgetting_margin = 100.0\nslices = ["c"]\nmin_rows = 60')
    rows = [{**row, "y": 1 - row["y"]} if row["c"] == "red" else row for row in make_rows(3000, start=50_000)]
    pipe.append([*rows, *({**row, "c": "rare"} for row in make_rows(100, start=90_000))])
    result = pipe.night()
    assert result.verdict.startswith("refused: it is worse where c is ")
    figures = gate_of(pipe, 3)["slices"]
    assert set(figures) == {"c is blue", "c is green", "c is red"}
    assert sum(f["n"] for f in figures.values()) > 500


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('slices = ["colour"]', "gate.slices must name columns that are delivered, however 'colour' is none"),
        ('slices = ["x1"]', "gate.slices must name categorical columns, however 'x1' is numeric"),
        ("floors = { rmse = 1.0 }", "gate.floors has 'rmse' and the task is classification, which has log_loss"),
    ],
)
def test_demands_that_cannot_be_met_stop_the_night(pipe: Pipe, options: str, said: str) -> None:
    """A column that is not there, numbers as slices, a score of another task: 78, before anything is learned."""
    pipe.config = gate(options)
    pipe.append(make_rows(20, start=50_000))
    with pytest.raises(ConfigError, match=said):
        pipe.night()
    assert pipe.head().version == 2


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (np.nan, "its weights are not finite: learning has diverged"),
        (1e6, "beyond 1,000: learning has exploded"),
    ],
)
def test_what_is_broken_is_never_served(pipe: Pipe, monkeypatch: pytest.MonkeyPatch, factor: float, said: str) -> None:
    """Weights that are NaN, or finite and absurd, are refused, on a first night and whatever a person says."""

    def explodes(self: PartialFitLearner, rows: Rows, *, seed: int) -> None:
        del rows, seed
        self._weights = {name: (block + 1) * factor for name, block in self._weights.items()}

    monkeypatch.setattr(PartialFitLearner, "_learn", explodes)
    pipe.append(make_rows(300, start=50_000))
    for request in ({}, {"accept": "I insist"}, {"accept": "really"}):
        result = pipe.night(**request)
        assert result.status == "refused"
        assert said in result.verdict
    assert result.verdict.endswith("with --model linear --exclude 3 to leave out the rows of the first refused night")
    first = Pipe(pipe.root / "first")
    first.root.mkdir()
    first.append(make_rows(300))
    assert first.night(accept="I insist").status == "refused"


def test_predictions_that_are_not_finite_are_never_served(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night without held-out rows is tested on what it learned: NaN there is refused, whatever a person says."""
    pipe.config = CONFIG.replace("[[", "holdout = 0.0\n[[")
    honest = PartialFitLearner.predict

    def predict(self: PartialFitLearner, batch: Any) -> Array:  # noqa: ANN401
        answers = honest(self, batch)
        return np.full_like(answers, np.nan) if len(batch) == 70 else answers

    monkeypatch.setattr(PartialFitLearner, "predict", predict)
    pipe.append(make_rows(70, start=50_000))
    result = pipe.night(accept="I insist")
    assert result.verdict == "refused: what it predicts is not finite: learning has diverged"


def test_flips_are_recorded_for_classes_alone(pipe: Pipe, tmp_path: Path) -> None:
    """Every night with a champion says how many rows flipped; a quantity has no right and no wrong."""
    assert set(gate_of(pipe, 2)["flips"]) == {"negative", "positive"}
    other = Pipe(tmp_path / "quantity")
    other.root.mkdir()
    other.config = CONFIG.replace("[[", 'task = "regression"\n[[')
    for start in (0, 5000):
        other.append([{**row, "y": row["x1"] * 2.5} for row in make_rows(1500, start=start)])
        other.night()
    figures: Any = other.head().night["gate"]
    assert "flips" not in figures
    assert set(figures["scores"]) == {"rmse", "mae", "r2"}

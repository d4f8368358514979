from __future__ import annotations

from pathlib import Path

import pytest

from nightfit.diff import Change, diff
from nightfit.prune import prune
from pipe import CONFIG, Pipe, make_rows

BOTH = CONFIG.replace("[models.linear]\n", "[models.linear]\n[models.deep]\nd_hidden = 8\nn_epochs = 1\n")


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    """Give a pipeline whose second night brings a column, a category, and another gate."""
    pipe = Pipe(tmp_path, BOTH)
    pipe.append(make_rows(300))
    pipe.nights()
    (tmp_path / "a.csv").unlink()
    rows = make_rows(300, start=300, x3="v")
    rows[5]["c"] = "mauve"
    pipe.append(rows)
    pipe.config = BOTH + "[gate]\nmargin = 0.02\n"
    pipe.nights()
    return pipe


@pytest.mark.parametrize("name", ["linear", "deep"])
def test_everything_that_differs_is_told(pipe: Pipe, name: str) -> None:
    """Settings, columns, categories, norms, scores, and answers to the rows kept for testing."""
    found = diff(pipe.lineage(name), 1, 2)
    assert found.config == [Change("gate.margin", 0.01, 0.02)]
    assert found.schema == [
        Change("column x3", None, "categorical"),
        Change("categories of c", 3, 4),
        Change("categories of x3", None, 1),
    ]
    scores = {change.what: (change.before, change.after) for change in found.scores}
    assert scores["log_loss"][0] is None
    assert scores["log_loss"][1] > 0
    assert any(w.difference and w.difference > 0 for w in found.weights)
    assert any(w.before is not None and w.difference is None for w in found.weights), "arrays that grew"
    assert found.flips
    assert found.flips.changed is not None
    assert found.flips.rows > 30
    assert 0 < found.flips.changed < 30
    assert found.notes == []


def test_a_version_differs_in_nothing_from_itself(pipe: Pipe) -> None:
    """No setting, no column, no weight, no answer."""
    found = diff(pipe.lineage(), 2, 2)
    assert (found.config, found.schema, found.notes) == ([], [], [])
    assert all(w.difference == 0 for w in found.weights)
    assert found.flips
    assert found.flips.changed == 0


def test_what_is_gone_is_told(pipe: Pipe) -> None:
    """Of a pruned version settings, schema and scores are compared, and a note says why no more is."""
    pipe.append(make_rows(50, start=900, x3="v"))
    pipe.nights()
    prune(pipe.lineage(), 1)
    found = diff(pipe.lineage(), 1, 3)
    assert found.config
    assert (found.weights, found.flips) == ([], None)
    assert "model.safetensors" in found.notes[0]


def test_a_quantity_has_a_change_and_no_flips(tmp_path: Path) -> None:
    """The answers to a quantity differ by so much."""
    pipe = Pipe(tmp_path, CONFIG.replace("key =", 'task = "regression"\nkey =', 1))
    for start in (0, 300):
        pipe.append([row | {"y": row["x1"] * 3 + row["x2"]} for row in make_rows(300, start=start)])
        pipe.night()
    flips = diff(pipe.lineage(), 1, 2).flips
    assert flips
    assert flips.changed is None
    assert flips.rms_change is not None
    assert 0 < flips.rms_change < 3

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from conftest import Command, Rows


def test_report_writes_the_life_of_a_pipeline(home: Path, nightfit: Command) -> None:
    """The page has every model with its version in service, and `--json` the same versions as `log`."""
    done = nightfit("report", "-o", "page.html", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert {name: model["serving"] for name, model in told["models"].items()} == {"deep": 1, "linear": 1}
    page = (home / "page.html").read_text()
    assert "it is the first" in page
    assert "deep: where the rows went" in page


def test_report_names_what_is_wrong_with_its_output(home: Path, nightfit: Command) -> None:
    """A folder that is not there is a mistake on the command line."""
    assert nightfit("report", "-o", home / "none" / "page.html").code == 2


def test_tensorboard_reads_every_figure_of_every_version(home: Path, nightfit: Command, make_rows: Rows) -> None:
    """TensorBoard's own reader finds a run for each model, with the versions as steps; written again it is the same."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with (home / "data.csv").open("a") as file:
        file.write(make_rows(200, 600, header=False))
    assert nightfit("train").code == 0
    for _ in range(2):
        done = nightfit("report", "--tensorboard", "runs", "--json")
        assert done.code == 0, done.err
    written = "events.out.tfevents.nightfit"
    assert json.loads(done.out)["events"] == [f"runs/{name}/{written}" for name in ("deep", "linear")]
    told = json.loads(nightfit("log", "--json").out)["models"]
    for name, versions in told.items():
        assert [path.name for path in (home / "runs" / name).iterdir()] == [written]
        run = EventAccumulator(str(home / "runs" / name)).Reload()
        learned = run.Scalars("rows/learned")
        assert [event.step for event in learned] == [version["version"] for version in versions]
        assert [event.value for event in learned] == [version["rows"]["learned"] for version in versions]
        assert [event.step for event in run.Scalars("before/log_loss")] == [2]
        assert learned[0].wall_time < learned[1].wall_time


def test_tensorboard_is_asked_for(home: Path, nightfit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the error says how to have it."""
    assert home.exists()
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    done = nightfit("report", "--tensorboard", "runs")
    assert done.code == 78
    assert "pip install 'nightfit[tensorboard]'" in done.err

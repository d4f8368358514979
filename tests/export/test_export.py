"""`nightfit export`: what is typed, and what lies on disk afterwards."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench_export import measure
from nightfit.config import load
from nightfit.export.check import answers, opened
from nightfit.sources.increment import Cut
from pipe import Pipe

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "scripts" / "samples" / "hotel_bookings.csv.gz"

BOOKINGS = """
name = "bookings"
target = "TARGET"
key = "booking_id"
[[sources]]
url = "a.csv"
[schema]
categorical = ["agent", "company"]
[models.deep]
n_epochs = 1
[models.linear]
"""


@pytest.mark.parametrize("target", ["is_canceled", "market_segment", "adr"])
def test_real_bookings(tmp_path: Path, target: str) -> None:
    """Two classes, eight classes, a quantity: after some nights both learners' graphs answer as nightfit on all rows.

    Rows that no night has seen are among them, and pandas reads them for the graph.
    """
    pipe = Pipe(tmp_path, BOOKINGS.replace("TARGET", target))
    table = pd.read_csv(SAMPLE, dtype=str, keep_default_na=False, nrows=4_000)
    table.head(2_500).to_csv(tmp_path / "a.csv", index=False)
    pipe.backfill(Cut.parse(1_000, None, None), ["deep", "linear"])
    table.to_csv(tmp_path / "all.csv", index=False)
    for model in ("deep", "linear"):
        found = measure(tmp_path / "all.csv", load(tmp_path / "n.toml"), model, rounds=1)
        assert (found["rows"], found["version"]) == (4_000, 3)
        assert found["max_difference"] <= 1e-5
        assert found["other_labels"] == 0
        assert found["checked_rows"] > 1_000


def test_a_version_becomes_a_file(home: Path, nightfit: Callable[..., Any]) -> None:
    """Without options the head of the first model goes into a file that its name tells, and nothing is printed."""
    done = nightfit("export")
    assert (done.code, done.out, done.err) == (0, "", "")
    graph = (home / "shop-deep-1.onnx").read_bytes()
    assert opened(graph).get_modelmeta().custom_metadata_map["model"] == "deep"


@pytest.mark.parametrize("model", ["deep", "linear"])
def test_the_file_answers_as_predict(
    home: Path, nightfit: Callable[..., Any], make_rows: Callable[..., str], model: str
) -> None:
    """Labels and probabilities are those that `predict` writes for the same rows."""
    (home / "new.csv").write_text(make_rows(300, 700))
    assert nightfit("export", "--model", model, "-o", "m.onnx").code == 0
    assert nightfit("predict", "new.csv", "--model", model, "-o", "out.csv").code == 0
    wanted = pd.read_csv("out.csv")
    seconds = (pd.to_datetime(wanted["day"]) - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
    raw = {"price": wanted["price"].to_numpy(), "colour": wanted["colour"].to_numpy(object), "day": seconds.to_numpy()}
    found = answers(opened((home / "m.onnx").read_bytes()), raw)
    assert found["prediction"][:, 0].tolist() == wanted["prediction"].tolist()
    assert np.abs(found["probability"][:, 1] - wanted["probability_yes"].to_numpy()).max() <= 1.1e-6


def test_the_docs_example(home: Path, nightfit: Callable[..., Any], make_rows: Callable[..., str]) -> None:
    """The Python of docs/export.md runs as it stands, and has the answers of `predict`."""
    text = re.sub(r"(?m)^(7\d5),[^,]*,", r"\1,,", make_rows(100, 700))  # some prices are missing
    (home / "bookings.csv").write_text(text)
    assert nightfit("export", "-o", "bookings.onnx").code == 0
    assert nightfit("predict", "bookings.csv", "-o", "out.csv").code == 0
    (snippet,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "export.md").read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    exec(compile(snippet, "docs/export.md", "exec"), found)  # noqa: S102 - our own page
    wanted = pd.read_csv("out.csv")
    assert found["prediction"][:, 0].tolist() == wanted["prediction"].tolist()
    assert np.abs(found["probability"][:, 1] - wanted["probability_yes"].to_numpy()).max() <= 1.1e-6


def test_json_and_older_versions(
    home: Path, nightfit: Callable[..., Any], make_rows: Callable[..., str]
) -> None:  # fmt: skip
    """--version takes any version there is, --json says what was written and how it was tried."""
    with (home / "data.csv").open("a") as file:
        file.write(make_rows(200, 600, header=False))
    assert nightfit("train", "--model", "linear").code == 0
    told = {}
    for options in (["--version", "1"], []):
        done = nightfit("export", "--model", "linear", "-o", "m.onnx", "--json", *options)
        assert (done.code, done.err) == (0, "")
        told[tuple(options)] = json.loads(done.out)
        graph = (home / "m.onnx").read_bytes()
        meta = opened(graph).get_modelmeta()
        number = told[tuple(options)]["model_version"]
        assert (meta.version, meta.custom_metadata_map["model_version"]) == (number, str(number))
        assert told[tuple(options)]["bytes"] == len(graph)
    old, new = told.values()
    assert (old["model_version"], new["model_version"]) == (1, 2)
    assert set(new) == {"output", "model", "model_version", "bytes", "rows_checked", "max_difference"}
    assert new["output"] == "m.onnx"
    assert new["rows_checked"] > 1_000
    assert new["max_difference"] <= 1e-5


def test_forgotten_rows_are_not_needed(
    home: Path, nightfit: Callable[..., Any], make_rows: Callable[..., str]
) -> None:  # fmt: skip
    """A version whose memories were erased is tried on made-up rows alone, and exported."""
    with (home / "data.csv").open("a") as file:
        file.write(make_rows(200, 600, header=False))
    assert nightfit("train", "--model", "deep").code == 0
    assert nightfit("forget", "3", "--model", "deep").code == 0
    done = nightfit("export", "--version", "1", "-o", "m.onnx", "--json")
    assert done.code == 0, done.err
    assert 1_000 <= json.loads(done.out)["rows_checked"] < 1_100
    assert (home / "m.onnx").exists()


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        (["--format", "pmml"], 2, "--format must be onnx, however it is 'pmml'"),
        (["--model", "none"], 78, "--model must name one of deep, linear"),
        (["--version", "9"], 65, "9 is not among those it has: 1"),
        (["-o", "none/m.onnx"], 65, "No such file"),
        (["-o", "configs"], 65, "Is a directory"),
    ],
)
def test_what_cannot_be_exported(
    home: Path, nightfit: Callable[..., Any], typed: list[str], code: int, said: str
) -> None:
    """What was typed wrong is one line, and nothing is written."""
    before = sorted(home.rglob("*"))
    done = nightfit("export", *typed)
    assert done.code == code
    assert said in done.err
    assert done.err.count("\n") == 1
    assert sorted(home.rglob("*")) == before


def test_a_wrong_graph_is_not_written(
    home: Path, nightfit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that answers otherwise ends with 65: the file that was there stays as it was, and nothing else comes."""
    from onnx import numpy_helper

    from nightfit.export import model

    build = model.onnx_model

    def tampered(*arguments: Any) -> Any:  # noqa: ANN401 - a ModelProto
        made = build(*arguments)
        constant = next(c for c in made.graph.initializer if c.name.endswith("from_mean.1"))
        constant.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant) + 0.1, constant.name))
        return made

    (home / "m.onnx").write_bytes(b"the one before")
    before = sorted(home.iterdir())
    monkeypatch.setattr(model, "onnx_model", tampered)
    done = nightfit("export", "-o", "m.onnx")
    assert done.code == 65
    assert "a graph must answer as nightfit does to 1e-05, however that of version 1 of deep differs by" in done.err
    assert done.err.count("\n") == 1
    assert (home / "m.onnx").read_bytes() == b"the one before"
    assert sorted(home.iterdir()) == before
    monkeypatch.undo()
    assert nightfit("export", "-o", "m.onnx").code == 0
    assert opened((home / "m.onnx").read_bytes()).get_modelmeta().version == 1
    assert sorted(home.iterdir()) == before


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_what_is_not_installed(home: Path, name: str) -> None:
    """Without the libraries of the extra the command says how to install them, and ends with 78."""
    code = f"import sys\nsys.modules[{name!r}] = None\nfrom nightfit.cli import main\nmain()\n"
    done = subprocess.run([sys.executable, "-c", code, "export"], capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert f"however {name} is not installed; pip install 'nightfit[onnx]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(home.glob("*.onnx"))


def test_exporting_is_light(home: Path) -> None:
    """Neither torch, scikit-learn nor pandas is loaded."""
    lines = [
        "import sys",
        "from nightfit.cli import app",
        "try:",
        "    app(['export', '-o', 'm.onnx'])",
        "except SystemExit as end:",
        "    assert not end.code",
        "print({name.partition('.')[0] for name in sys.modules} & {'torch', 'sklearn', 'pandas'})",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert (home / "m.onnx").exists()

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nightfit.history import learning_sentence

ROWS = {"read", "learned", "held_out", "rejected", "duplicate", "excluded", "pending"}


@pytest.fixture
def lineage(home: Path, nightfit: Callable[..., Any], make_rows: Callable[..., str]) -> Path:
    """Stand in a pipeline of three nights: accepted, refused (labels swapped), accepted with a reason."""
    for n, swapped, options in ((1500, True, ()), (0, False, ("--accept", "looked at"))):
        with (home / "data.csv").open("a") as file:
            file.write(make_rows(n, 600, swapped=swapped, header=False))
        nightfit("train", "--model", "deep", *options)
    return home


def log(nightfit: Callable[..., Any], *options: str) -> dict[str, Any]:
    """Read the log."""
    done = nightfit("log", *options, "--json")
    assert (done.code, done.err) == (0, "")
    models: dict[str, Any] = json.loads(done.out)["models"]
    return models


@pytest.mark.usefixtures("lineage")
def test_the_log_has_the_keys_of_the_design(nightfit: Callable[..., Any]) -> None:
    """Versions are integers, parents too but for the first; every version has rows, scores and a verdict."""
    models = log(nightfit)
    assert list(models) == ["deep", "linear"]
    for entry in [entry for entries in models.values() for entry in entries]:
        assert {"version", "parent", "status", "rows", "prequential", "verdict"} <= set(entry)
        assert set(entry["rows"]) == ROWS
        assert all(type(n) is int for n in entry["rows"].values())
        rows = entry["rows"]
        assert rows["read"] == sum(rows[k] for k in ROWS - {"read"})
        assert type(entry["version"]) is int
        assert isinstance(entry["verdict"], str)
    deep = models["deep"]
    assert [(e["version"], e["parent"], e["status"]) for e in deep] == [
        (1, None, "accepted"), (2, 1, "refused"), (3, 1, "accepted"),
    ]  # fmt: skip
    assert [bool(e["prequential"]) for e in deep] == [False, False, True]


@pytest.mark.usefixtures("lineage")
def test_one_model_can_be_asked_for(nightfit: Callable[..., Any]) -> None:
    """--model leaves out the others, and an unknown one is named with those there are."""
    assert list(log(nightfit, "--model", "linear")) == ["linear"]
    for command in (["log"], ["verify"], ["show", "1"]):
        done = nightfit(*command, "--model", "forest")
        assert done.code == 78
        assert done.err == "nightfit: --model must name one of deep, linear, however it is 'forest'\n"


@pytest.mark.usefixtures("lineage")
def test_people_get_a_line_a_night(nightfit: Callable[..., Any]) -> None:
    """The table tells what happened in words."""
    done = nightfit("log")
    text = " ".join(done.out.split())
    assert "refused" in text
    assert "accepted" in text
    assert "it is the first" in text
    assert "2,100" in text or "1,500" in text


def test_a_pipeline_without_versions_has_an_empty_log(home: Path, nightfit: Callable[..., Any]) -> None:
    """Before the first night the log is empty, and that is no error."""
    path = home / "configs" / "nightfit.toml"
    path.write_text(path.read_text().replace("shop", "fresh"))
    assert log(nightfit) == {"deep": [], "linear": []}
    assert nightfit("log").out == "deep: no version yet\nlinear: no version yet\n"
    done = nightfit("show", "1")
    assert (done.code, "1 is not among those it has: none" in done.err) == (65, True)


@pytest.mark.usefixtures("lineage")
def test_show_tells_everything_about_a_version(nightfit: Callable[..., Any]) -> None:
    """Rows, scores, gate, learning, columns and cursors; as JSON the manifest without its category lists."""
    text = " ".join(nightfit("show", "2").out.split())
    for word in (
        "shop/deep version 2",
        "warm start from version 1",
        "gate",
        "numeric columns price",
        "data.csv",
        "bytes",
    ):
        assert word in text
    shown = json.loads(nightfit("show", "2", "--json").out)
    assert (shown["version"], shown["parent"], shown["status"]) == (2, 1, "refused")
    assert {"name": "colour", "kind": "categorical", "n_categories": 3} in shown["state"]["schema"]["columns"]
    assert "the first" in " ".join(nightfit("show", "1").out.split())


def test_figures_stand_under_the_verdict(
    home: Path, nightfit: Callable[..., Any], make_rows: Callable[..., str]
) -> None:
    """Show has both models' scores, the rows that flipped, each slice, and the comparison with a fresh model."""
    path = home / "configs" / "nightfit.toml"
    path.write_text("fresh_every = 2\n" + path.read_text() + '[gate]\nmin_rows = 30\nslices = ["colour"]\n')
    with (home / "data.csv").open("a") as file:
        file.write(make_rows(900, 600, header=False))
    nightfit("train")
    text = " ".join(nightfit("show", "2").out.split())
    for word in ("gate, candidate log loss 0.", "gate, champion log loss 0.", "rows were right and are wrong now",
                 "gate, colour is ", "fresh against warm ", "a fresh model of "):  # fmt: skip
        assert word in text, word
    assert "skipped: there are no rows for replay" in nightfit("show", "2", "--model", "linear").out
    deep = log(nightfit)["deep"]
    assert deep[0]["fresh"] is None
    assert deep[1]["fresh"]["difference"]["n"] > 30
    said = " ".join(nightfit("log").out.split())
    assert "is better, a fresh model of " in said
    assert "skipped" not in said, "the log says what was found"


def test_verify_exits_65_for_a_wrong_hash_only(home: Path, nightfit: Callable[..., Any]) -> None:
    """A sound store and leftovers exit 0; a flipped bit exits 65 and names the version."""
    done = nightfit("verify", "--json")
    assert (done.code, json.loads(done.out)) == (0, {"ok": True, "models": {"deep": [], "linear": []}})
    assert "every file of every version verifies" in nightfit("verify").out
    (home / "checkpoints" / "shop" / ".staging" / "left").mkdir(parents=True)
    done = nightfit("verify", "--json")
    assert done.code == 0
    assert {f["level"] for f in json.loads(done.out)["models"]["deep"]} == {"warning"}
    weights = home / "checkpoints" / "shop" / "linear" / "000001" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    done = nightfit("verify", "--json")
    report = json.loads(done.out)
    assert (done.code, report["ok"]) == (65, False)
    assert [f["version"] for f in report["models"]["linear"] if f["level"] == "error"] == [1]
    assert nightfit("verify", "--model", "deep").code == 0
    assert "1 errors" not in nightfit("verify").out


def test_an_unreadable_version_is_listed(home: Path, nightfit: Callable[..., Any]) -> None:
    """A version whose manifest is broken shows as quarantined, without figures."""
    (home / "checkpoints" / "shop" / "deep" / "000001" / "manifest.json").write_text("{}")
    (entry,) = log(nightfit, "--model", "deep")["deep"]
    assert (entry["version"], entry["status"], entry["rows"]) == (1, "quarantined", None)
    assert "quarantined" in nightfit("log").out


@pytest.mark.parametrize(
    ("learning", "parent", "said"),
    [
        ({"rows": 0}, 1, "no rows to learn: cursors moved, weights stayed"),
        ({"rows": 5, "loss_before": None, "loss_after": 0.5, "loss_of_constant": 0.7}, None, "cold start"),
        ({"rows": 5, "loss_before": 0.6, "loss_after": 0.5, "loss_of_constant": 0.7}, 4, "from version 4"),
        ({"rows": 5, "loss_before": 0.6, "loss_after": None, "loss_of_constant": 0.7}, 4, "not a number"),
    ],
)
def test_learning_in_a_sentence(learning: dict[str, Any], parent: int | None, said: str) -> None:
    """A warm start says where the loss began and ended; figures that were not finite are called so."""
    assert said in learning_sentence(learning, parent)


@pytest.mark.usefixtures("home")
def test_the_log_counts_rows_that_wait(nightfit: Callable[..., Any], make_rows: Callable[..., str]) -> None:
    """Where rows wait for their label there is a column of them, and none where there are none."""
    assert "pending" not in nightfit("log").out
    rows = make_rows(20, 900, header=False).splitlines()
    with Path("data.csv").open("a") as file:
        file.write("\n".join(row.rsplit(",", 1)[0] + "," for row in rows) + "\n")
    assert nightfit("train", "--model", "linear").code == 0
    lines = nightfit("log", "--model", "linear").out.splitlines()
    end = next(line.index("pending") + len("pending") for line in lines if "pending" in line)
    assert any(line.lstrip().startswith("2 ") and line[:end].endswith(" 20") for line in lines)

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nightfit.lock import writer_lock


@pytest.fixture
def lineage(home: Path, nightfit: Callable[..., Any], make_rows: Callable[..., str]) -> Path:
    """Stand in a pipeline of two accepted nights."""
    with (home / "data.csv").open("a") as file:
        file.write(make_rows(300, 600, header=False))
    assert nightfit("train").code == 0
    return home


@pytest.mark.usefixtures("lineage")
def test_going_back_is_told(nightfit: Callable[..., Any]) -> None:
    """Rollback, promote and a rollback that changes nothing say what serves now; log and show name the act."""
    done = nightfit("rollback")
    assert done.out == "shop/deep: version 3 version 1 serves again; rows after it are read again\n"
    assert nightfit("rollback", "1").out == "shop/deep: version 3 serves, and has that state already\n"
    found = json.loads(nightfit("promote", "2", "--model", "linear", "--json").out)
    assert found == {
        "model": "linear", "version": 2, "parent": 1, "verdict": found["verdict"], "committed": False,
    }  # fmt: skip
    found = json.loads(nightfit("promote", "1", "--model", "linear", "--skip-rows", "--json").out)
    assert (found["version"], found["parent"], found["committed"]) == (3, 1, True)
    assert "300 rows that came after it are left out" in found["verdict"]
    deep = json.loads(nightfit("log", "--json").out)["models"]["deep"]
    assert [(e["version"], e["parent"], e["act"]) for e in deep] == [
        (1, None, "night"),
        (2, 1, "night"),
        (3, 1, "promote"),
    ]
    shown = nightfit("show", "3").out
    assert "act" in shown
    assert "promote" in shown
    assert nightfit("verify").code == 0


@pytest.mark.usefixtures("lineage")
def test_what_cannot_be_done_is_one_line(nightfit: Callable[..., Any], lineage: Path) -> None:
    """A version that is not there is 65, the first one has none before it, a lock that is held is 75 at once."""
    for arguments, code, says in (
        (["promote", "9"], 65, "9 is not among"),
        (["rollback", "--model", "forest"], 78, "must name one of"),
        (["prune", "--keep", "0"], 2, "keep"),
    ):
        done = nightfit(*arguments)
        assert (done.code, done.out) == (code, ""), done
        assert says in done.err
    nightfit("rollback")
    assert nightfit("rollback").code == 65
    with writer_lock(lineage / "configs" / ".." / "checkpoints" / "shop"):
        for command in (["rollback"], ["promote", "1"], ["prune"], ["forget", "3"]):
            assert nightfit(*command).code == 75


@pytest.mark.usefixtures("lineage")
def test_prune_and_forget_are_told(nightfit: Callable[..., Any]) -> None:
    """Both say what they deleted, as a sentence or as JSON."""
    assert nightfit("prune", "--keep", "1").out.splitlines() == ["deep: nothing to prune", "linear: nothing to prune"]
    found = json.loads(nightfit("forget", "3", "17", "--json").out)["models"]
    assert {name: what["version"] for name, what in found.items()} == {"deep": 3, "linear": 3}
    assert found["deep"]["erased"] == {"1": ["memory.safetensors"], "2": ["memory.safetensors"]}
    assert found["deep"]["rows"] >= 2
    done = nightfit("promote", "1")
    assert done.code == 65
    assert "--skip-rows" in done.err
    assert nightfit("promote", "1", "--skip-rows").code == 0
    assert json.loads(nightfit("prune", "--keep", "1", "--json").out) == {"pruned": {"deep": [2, 3], "linear": []}}
    assert "2 keys forgotten" in nightfit("show", "3").out
    assert nightfit("verify").code == 0


@pytest.mark.usefixtures("lineage")
def test_two_versions_are_shown_side_by_side(nightfit: Callable[..., Any]) -> None:
    """Diff prints scores, norms and flips, and the same as JSON."""
    shown = nightfit("diff", "1", "2").out
    for words in (
        "shop/deep: from version 1 to version 2",
        "log_loss",
        "Euclidean norm of",
        "are answered differently",
    ):
        assert words in shown
    found = json.loads(nightfit("diff", "1", "2", "--model", "linear", "--json").out)
    assert {"model", "before", "after", "config", "schema", "weights", "scores", "flips", "notes"} == set(found)


def test_going_back_loads_nothing_heavy(lineage: Path) -> None:
    """Rollback and prune load neither torch, scikit-learn, pandas, pyarrow nor SQLAlchemy: they must be quick."""
    code = (
        "import sys; sys.argv = ['nightfit', *sys.argv[1:]]\n"
        "from nightfit.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*{m.partition('.')[0] for m in sys.modules})"
    )
    for command in (["rollback"], ["promote", "2"], ["prune"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True, cwd=lineage, check=True
        )
        loaded = set(done.stdout.split())
        assert not loaded & {"torch", "sklearn", "pandas", "pyarrow", "sqlalchemy", "scipy"}, command


def test_a_parquet_source_is_shown(home: Path, nightfit: Callable[..., Any]) -> None:
    """Show says how far Parquet files were read, which are counted by rows alone."""
    import pyarrow.csv
    import pyarrow.parquet

    config = home / "configs" / "nightfit.toml"
    config.write_text(config.read_text().replace("data.csv", "data.parquet").replace('"shop"', '"other"'))
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(home / "data.csv"), home / "data.parquet")
    assert nightfit("train", "--model", "linear").code == 0
    assert "data.parquet: 600 rows" in nightfit("show", "1", "--model", "linear").out


@pytest.mark.usefixtures("lineage")
def test_what_was_set_aside_is_told(nightfit: Callable[..., Any], lineage: Path) -> None:
    """Where the version that serves is rotten, forgetting goes on from the one before, and says so."""
    path = lineage / "checkpoints" / "shop" / "deep" / "000002" / "model.safetensors"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    done = nightfit("forget", "3", "--model", "deep")
    assert done.code == 0
    assert "deep: version 2 of shop/deep must be what was committed" in done.err
    assert "it is set aside" in done.err


@pytest.mark.usefixtures("lineage")
def test_a_model_that_cannot_forget_keeps_no_other(nightfit: Callable[..., Any], lineage: Path) -> None:
    """The error of one is told when all others have forgotten."""
    config = lineage / "configs" / "nightfit.toml"
    config.write_text(config.read_text() + '[models.deep]\nkind = "partial_fit"\n[models.linear]\n')
    done = nightfit("forget", "3")
    assert done.code == 78
    assert "keeps its kind" in done.err
    assert done.out.startswith("linear: version 3 has none of these rows")


@pytest.mark.usefixtures("lineage")
def test_models_that_the_config_no_longer_has_are_told(nightfit: Callable[..., Any], lineage: Path) -> None:
    """Forgetting does not reach their memories, and says so."""
    config = lineage / "configs" / "nightfit.toml"
    config.write_text(config.read_text() + "[models.linear]\n")
    done = nightfit("forget", "3")
    assert (done.code, "shop/deep is none of them and has versions, too" in done.err) == (0, True)
    assert nightfit("forget", "3", "--model", "linear").err == ""

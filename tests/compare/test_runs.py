from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, make_rows: Callable[..., str]) -> Path:
    """Give a file of 600 rows."""
    path = tmp_path_factory.mktemp("data") / "data.csv"
    path.write_text(make_rows(600))
    return path


def command(data: Path, *options: object) -> list[str]:
    """Spell a comparison in nights of a hundred rows."""
    typed = ["compare", data, "--target", "bought", "--key", "id", "--night-rows", "100", "--device", "cpu", "--json"]
    return [sys.executable, "-m", "nightfit", *map(str, [*typed, *options])]


@cache
def compared(data: Path, *options: object) -> dict[str, Any]:
    """Compare in a process of its own; the same comparison is made once."""
    done = subprocess.run(command(data, *options), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def scores(result: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a model's scores, which no seed leaves to chance."""
    return {k: v for k, v in result["models"][name].items() if k in {"log_loss", "accuracy", "macro_f1", "rows"}}


def kept(folder: Path) -> dict[Path, float]:
    """Return the results of a folder, and when they were written."""
    return {path: path.stat().st_mtime for path in folder.rglob("result.safetensors")}


def test_side_by_side_is_as_one_by_one(data: Path) -> None:
    """Two processes score what one does, and a name with a plus is one of a process, too."""
    models = "linear,gnb,pca+sgd,prior"
    one, two = (compared(data, "--models", models, "--jobs", jobs) for jobs in (1, 2))
    for name in models.split(","):
        assert scores(one, name) == scores(two, name)


def test_what_was_done_is_not_done_again(data: Path, tmp_path: Path) -> None:
    """With kept results a model that is added runs alone; other options make another result."""
    first = compared(data, "--models", "linear", "--results", tmp_path / "kept")
    before = kept(tmp_path / "kept")
    second = compared(data, "--models", "linear,gnb", "--results", tmp_path / "kept")
    after = kept(tmp_path / "kept")
    assert len(before) == 1
    assert len(after) == 2
    assert before.items() <= after.items()
    assert scores(first, "linear") == scores(second, "linear")
    compared(data, "--models", "linear", "--seed", "1", "--results", tmp_path / "kept")
    assert len(kept(tmp_path / "kept")) == 3


@pytest.mark.parametrize("after_s", [2.5, 4.5])
def test_a_run_that_was_killed_is_gone_on_with(data: Path, tmp_path: Path, after_s: float) -> None:
    """The same command ends with the scores of one that nobody killed, wherever it was."""
    options = ["--models", "deep,linear", "--jobs", "2", "--results", tmp_path / "kept"]
    process = subprocess.Popen(command(data, *options), stdout=subprocess.DEVNULL, start_new_session=True)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    result, whole = compared(data, *options), compared(data, *options[:4])
    for name in ("deep", "linear"):
        assert scores(result, name) == scores(whole, name)


def test_what_makes_no_sense_is_said_before_anything_runs(data: Path, tmp_path: Path) -> None:
    """A model named twice, options that --history would not heed, and places that are none end with 2."""
    (tmp_path / "file").write_text("")
    wrong: list[tuple[list[object], str]] = [
        (["--models", "linear,linear"], "'linear' is there 2 times"),
        (["--history", "--jobs", "2"], "--jobs"),
        (["--history", "--classes", "observed"], "--classes"),
        (["--figures", tmp_path / "file"], "--figures must name a folder"),
    ]
    for options, says in wrong:
        done = subprocess.run(command(data, *options), capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert says in done.stderr


def test_labels_that_come_late_are_learned_late(data: Path) -> None:
    """With a delay of two nights the fourth night is the first that is scored, by what the first one taught."""
    late, plain = compared(data, "--models", "linear", "--label-delay", "2"), compared(data, "--models", "linear")
    assert [night["night"] for night in late["per_night"]] == [4, 5, 6]
    assert [night["night"] for night in plain["per_night"]] == [2, 3, 4, 5, 6]
    assert late["protocol"]["label_delay"] == 2
    assert late["per_night"][0]["models"]["linear"]["log_loss"] > plain["per_night"][2]["models"]["linear"]["log_loss"]


def test_a_warm_up_is_learned_and_not_scored(data: Path) -> None:
    """Three nights of warm-up leave the scores of the others as they are."""
    warm, plain = compared(data, "--models", "linear", "--warm-up", "3"), compared(data, "--models", "linear")
    theirs = [night["models"]["linear"]["log_loss"] for night in plain["per_night"]]
    assert [night["models"]["linear"]["log_loss"] for night in warm["per_night"]] == theirs[2:]


def test_several_seeds_are_averaged(data: Path) -> None:
    """The score is the mean of those of the seeds alone, and its spread is told."""
    both = compared(data, "--models", "linear", "--seed", "0,1")
    each = [compared(data, "--models", "linear", *of)["models"]["linear"]["log_loss"] for of in ((), ("--seed", "1"))]
    assert both["models"]["linear"]["log_loss"] == pytest.approx(sum(each) / 2)
    assert both["models"]["linear"]["spread"]["log_loss"] == pytest.approx(abs(each[0] - each[1]) / 2**0.5)


def test_history_is_the_path_of_train(data: Path, tmp_path: Path) -> None:
    """`--history` scores what `train --night-rows` writes into its log, gate and held-out rows included."""
    result = compared(data, "--models", "linear", "--history")
    (tmp_path / "n.toml").write_text(
        f'name = "c"\ntarget = "bought"\nkey = "id"\n[[sources]]\nurl = "{data}"\n[models.linear]\n'
    )
    run = [sys.executable, "-m", "nightfit"]
    options = ["--config", str(tmp_path / "n.toml")]
    subprocess.run([*run, "train", *options, "--night-rows", "100", "--device", "cpu"], check=True, capture_output=True)
    log = subprocess.run([*run, "log", *options, "--json"], check=True, capture_output=True, text=True).stdout
    lines = sorted(json.loads(log)["models"]["linear"], key=lambda line: line["version"])[1:]
    told = [night["models"]["linear"]["log_loss"] for night in result["per_night"]]
    assert told == pytest.approx([line["prequential"]["log_loss"] for line in lines])


def test_votes_are_held_against_others_by_errors(data: Path) -> None:
    """What gives no probabilities has no log loss; its pair is one of errors, and it is never the best."""
    result = compared(data, "--models", "linear,pa")
    (pair,) = (pair for pair in result["pairs"] if pair["model"] == "pa")
    assert pair["by"] == "errors"
    errors = {name: 1 - result["models"][name]["accuracy"] for name in ("linear", "pa")}
    assert pair["difference"] == pytest.approx(errors["pa"] - errors["linear"])
    assert "log_loss" not in result["models"]["pa"]
    assert (result["best"], result["score"]) == ("linear", "log_loss")
    alone = compared(data, "--models", "pa")
    assert (alone["best"], alone["score"]) == ("pa", "accuracy")

"""Nights of a log: a comparison whose nights are those that a pipeline had."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Command, Rows

BY_LOG = ("compare", "--nights-of-log", "--models", "linear", "--device", "cpu")


def append(home: Path, text: str) -> None:
    """Let rows come."""
    with (home / "data.csv").open("a") as file:
        file.write(text)


def test_nights_are_those_of_the_log(home: Path, nightfit: Command, make_rows: Rows) -> None:
    """Each night has the rows that `train` read, bad records counted where they lie; what came since is one more."""
    first, *rest = make_rows(200, 600, header=False).splitlines()
    append(home, "\n".join([first, "1,2,3,4,5,6,7", *rest]) + "\n")
    assert nightfit("train", "--accept", "as it is", "--device", "cpu").code == 0
    append(home, make_rows(150, 800, header=False))
    assert nightfit("train", "--model", "deep", "--accept", "as it is", "--device", "cpu").code == 0
    append(home, make_rows(70, 950, header=False))
    done = nightfit(*BY_LOG, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["nights"], told["rows"]) == (3, 420)
    assert [night["rows"] for night in told["per_night"]] == [200, 150, 70]


def test_a_log_that_does_not_cover_the_rows(home: Path, nightfit: Command, make_rows: Rows) -> None:
    """Rows that are gone, rows that were left out and no version at all are told, with what to do instead."""
    rows = (home / "data.csv").read_text()
    (home / "data.csv").write_text(make_rows(100))
    gone = nightfit(*BY_LOG)
    assert (gone.code, "the log tells of 600" in gone.err, "100 are there" in gone.err) == (65, True, True)

    (home / "data.csv").write_text(rows)
    append(home, make_rows(200, 600, header=False))
    assert nightfit("train", "--accept", "as it is", "--device", "cpu").code == 0
    assert nightfit("rollback", "--skip-rows", "--model", "deep").code == 0
    left_out = nightfit(*BY_LOG)
    assert (left_out.code, "version 3 left some out" in left_out.err) == (65, True)

    none = nightfit(*BY_LOG, env={"NIGHTFIT_CONFIG": str(other(home))})
    assert (none.code, "has no whole log; use --night-rows" in none.err) == (65, True)


def other(home: Path) -> Path:
    """Write a config of a pipeline that never ran."""
    path = home / "configs" / "other.toml"
    path.write_text((home / "configs" / "nightfit.toml").read_text().replace('"shop"', '"other"'))
    return path

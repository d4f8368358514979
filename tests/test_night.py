from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightfit.checkpoint import unpack
from nightfit.errors import ConfigError, DataError, UsageError
from nightfit.identity import hash_text, is_held_out, mix
from nightfit.verify import verify
from pipe import CONFIG, IMPATIENT, Pipe, Row, make_rows

DEEP = CONFIG.replace("[models.linear]", "[models.deep]\n[models.linear]")
ISSUE = "ID,Feature1,Feature2,Feature3,TARGET\n1,10.2,15.6,100,1\n2,12.4,16.1,110,0\n3,11.8,14.9,105,1\n"


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    """Give a pipeline with the linear model, and no data yet."""
    return Pipe(tmp_path)


def held_out(rows: list[Row]) -> list[bool]:
    """Say which rows the hash of their key holds out."""
    keys = np.array([str(row["id"]) for row in rows], object)
    import pyarrow as pa

    return [bool(held) for held in is_held_out(mix(hash_text(pa.array(keys))), 0.1)]


@pytest.mark.parametrize("name", ["deep", "linear"])
def test_three_rows_make_a_first_version(pipe: Pipe, name: str) -> None:
    """The issue's three rows, of two classes, are a first night: accepted, finite, every row accounted for."""
    pipe.config = f'name = "p"\ntarget = "TARGET"\nkey = "ID"\n[[sources]]\nurl = "a.csv"\n[models.{name}]\n'
    pipe.write(ISSUE)
    result = pipe.night()
    assert (result.status, result.version, result.verdict) == ("accepted", 1, "accepted: it is the first")
    assert (result.rows.read, result.rows.learned + result.rows.held_out) == (3, 3)
    assert pipe.head(name).parent is None
    assert not verify(pipe.lineage(name))


@pytest.mark.parametrize("name", ["deep", "linear"])
@pytest.mark.parametrize("rows", [make_rows(1), [{**row, "y": 1} for row in make_rows(40)]])
def test_one_row_or_one_class_is_a_first_night(pipe: Pipe, name: str, rows: list[Row]) -> None:
    """A first night of one row, or of one class, is accepted; a second class that comes later is learned."""
    pipe.config = CONFIG.replace("linear", name)
    pipe.append(rows)
    assert pipe.night().status == "accepted"
    pipe.append(make_rows(300, start=1000))
    result = pipe.night()
    assert result.status == "accepted"
    schema: Any = pipe.head(name).state["schema"]
    assert sorted(schema["classes"]) == ["0", "1"]


def test_a_night_may_hold_out_all_its_rows(pipe: Pipe) -> None:
    """Where the hash holds out every row there is a version all the same: cursors move, nothing is learned."""
    rows = make_rows(400)
    out = [row for row, held in zip(rows, held_out(rows), strict=True) if held]
    pipe.append(out)
    result = pipe.night()
    assert (result.status, result.rows.learned, result.rows.held_out) == ("accepted", 0, len(out))
    assert pipe.head().night["learning"] == {"rows": 0}
    assert pipe.night().status == "nothing"
    pipe.append([row for row in rows if row not in out])
    assert pipe.night().rows.learned == 400 - len(out)
    assert pipe.counts()["read"] == 400


@pytest.mark.parametrize("name", ["deep", "linear"])
def test_a_night_without_rows_to_learn_commits(pipe: Pipe, name: str) -> None:
    """A night of duplicates, or of held-out rows, moves the cursors and leaves the weights bit for bit."""
    pipe.config = CONFIG.replace("linear", name)
    rows = make_rows(300)
    pipe.append(rows)
    pipe.night()
    before, cursors = pipe.weights(name=name), pipe.head(name).cursors
    pipe.append(rows)
    result = pipe.night()
    assert (result.status, result.version, result.rows.duplicate) == ("accepted", 2, 300)
    more = make_rows(400, start=5000)
    pipe.append([row for row, held in zip(more, held_out(more), strict=True) if held])
    result = pipe.night()
    assert (result.status, result.rows.learned, result.rows.held_out > 0) == ("accepted", 0, True)
    assert pipe.weights(name=name) == before
    assert pipe.head(name).cursors != cursors


def test_an_empty_source_is_nothing(pipe: Pipe) -> None:
    """A table without rows, and a file with a header alone, are nothing new and make no version."""
    pipe.config = CONFIG + '[[sources]]\nurl = "sqlite:///b.db"\ntable = "t"\n'
    pipe.write("id,x1,x2,c,y\n")
    pipe.insert(make_rows(1))
    import sqlite3

    with sqlite3.connect(pipe.root / "b.db") as connection:
        connection.execute("DELETE FROM t")
    connection.close()
    assert (pipe.night().status, pipe.night().verdict) == ("nothing", "nothing new since the start")
    assert pipe.lineage().head() is None
    pipe.append(make_rows(20))
    assert pipe.night().rows.read == 20


def test_too_many_rejects_stop_before_learning(pipe: Pipe) -> None:
    """Above the share the run ends with 65 and no version, every night, until the source is mended or --accept."""
    pipe.config = IMPATIENT
    pipe.append([*make_rows(80), *({**row, "y": ""} for row in make_rows(20, start=500))])
    for _ in range(2):
        with pytest.raises(
            DataError, match=r"however 20 of 100 were: column 'y' \(the target\) has no value"
        ) as caught:
            pipe.night()
        assert caught.value.exit_code == 65
        assert pipe.lineage().head() is None
    result = pipe.night(accept="known gap")
    assert (result.status, result.rows.rejected, result.rows.read) == ("accepted", 20, 100)
    assert len(pipe.rejects()) == 20
    assert pipe.night().status == "nothing", "they are counted, and the next night moves on"
    pipe.append(make_rows(20, start=500))
    assert pipe.night().rows.duplicate == 0, "and the mended rows may come"


def test_only_bad_rows_are_a_night_if_accepted(pipe: Pipe) -> None:
    """A first night of nothing but rejects makes, if accepted, a version that has learned nothing yet."""
    pipe.config = IMPATIENT
    pipe.append([{**row, "y": ""} for row in make_rows(5)])
    result = pipe.night(accept="start here")
    assert (result.status, result.rows.rejected, result.rows.learned) == ("accepted", 5, 0)
    pipe.append(make_rows(50, start=10))
    assert pipe.night().verdict == "accepted: it is the first"


def test_unsplittable_records_count(pipe: Pipe) -> None:
    """Records that are no rows at all are read, rejected and kept with their text."""
    pipe.append(make_rows(50))
    with (pipe.root / "a.csv").open("a") as file:
        file.write("so,many,fields,in,this,line\n")
    assert pipe.night().rows.rejected == 1
    assert pipe.rejects()[0]["value"] == "so,many,fields,in,this,line"
    assert pipe.counts() == {
        "read": 51, "learned": 43, "held_out": 7, "rejected": 1, "duplicate": 0, "excluded": 0, "pending": 0,
    }  # fmt: skip


def test_rows_that_come_again_are_duplicates(pipe: Pipe) -> None:
    """A row that a file and a table both deliver, or that comes again on a later night, is learned once."""
    pipe.config = CONFIG + '[[sources]]\nurl = "sqlite:///b.db"\ntable = "t"\n'
    rows = make_rows(100)
    pipe.append(rows[:60])
    pipe.insert(rows[40:])
    result = pipe.night()
    assert (result.rows.read, result.rows.learned + result.rows.held_out, result.rows.duplicate) == (120, 100, 20)
    for i in range(3):
        pipe.append([*rows[60:], *make_rows(1, start=1000 + i)])
        assert pipe.night().rows.duplicate == 40
    assert len(set(pipe.keys())) == 103
    assert pipe.counts()["learned"] + pipe.counts()["held_out"] == 103


@pytest.mark.parametrize("name", ["deep", "linear"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda row: {**row, "x1": 1e6},
        lambda row: {**row, "c": f"new{row['id']}"},
        lambda row: {**row, "y": 1 - row["y"]},
        lambda row: {**row, "y": "another"},
    ],
    ids=["numbers", "categories", "flipped", "classes"],
)
def test_held_out_rows_are_never_learned(tmp_path: Path, name: str, spoil: Callable[[Row], Row]) -> None:
    """Whatever held-out rows say, weights, normaliser, calibration, vocabularies and classes are the same bits."""
    nights = [make_rows(150), make_rows(150, start=1000, seed=1)]
    states = []
    for which in range(2):
        pipe = Pipe(tmp_path / str(which), CONFIG.replace("linear", name))
        pipe.root.mkdir()
        for rows in nights:
            spoilt = [spoil(row) if held and which else row for row, held in zip(rows, held_out(rows), strict=True)]
            assert not which or spoilt != rows
            pipe.append(spoilt)
            assert pipe.night().status == "accepted"
        head = pipe.head(name)
        states.append((head.files["model.safetensors"], head.files["learning.safetensors"], head.state["schema"]))
    assert states[0] == states[1]


@pytest.mark.parametrize("name", ["deep", "linear"])
def test_the_second_night_starts_warm(pipe: Pipe, name: str) -> None:
    """Night 2 begins at version 1's loss, far from chance, and its manifest records where it began and ended."""
    pipe.config = CONFIG.replace("linear", name)
    pipe.append(make_rows(1500))
    pipe.night()
    first: Any = pipe.head(name).night["learning"]
    assert first["loss_before"] is None
    pipe.append(make_rows(300, start=5000, seed=1))
    result = pipe.night()
    second: Any = pipe.head(name).night["learning"]
    assert second["rows"] == result.rows.learned
    assert second["loss_before"] == pytest.approx(first["loss_after"], rel=0.25)
    assert second["loss_before"] < 0.8 * second["loss_of_constant"]
    assert result.prequential["log_loss"] == pytest.approx(second["loss_before"], rel=0.1)
    assert math.isfinite(second["loss_after"])


def test_the_champion_is_tested_before_it_learns(pipe: Pipe) -> None:
    """The prequential score is the old version's on all new rows; the first night has none, nor have refused ones."""
    pipe.append(make_rows(400))
    assert pipe.night().prequential == {}
    pipe.append(make_rows(400, start=1000, flipped=True))
    result = pipe.night()
    assert result.prequential["rows"] == 400
    assert result.prequential["log_loss"] > 1, "the flipped night surprises it"


def test_new_columns_categories_and_classes_grow(pipe: Pipe) -> None:
    """A night may bring what no night has brought before; the model grows, and keeps the places of what it knows."""
    pipe.append(make_rows(300))
    pipe.night()
    old: Any = pipe.head().state["schema"]
    (pipe.root / "a.csv").unlink()
    pipe.append([{**row, "c": "violet", "y": 2} for row in make_rows(300, start=1000, new=1.5)])
    result = pipe.night()
    assert result.status == "accepted"
    assert any("overwritten" in note for note in result.notes)
    new: Any = pipe.head().state["schema"]
    assert new["classes"] == [*old["classes"], "2"]
    assert [column["name"] for column in new["columns"]] == ["x1", "x2", "c", "new"]
    assert new["columns"][2]["categories"].items() >= old["columns"][2]["categories"].items()


def test_a_lost_column_stops_every_model(pipe: Pipe) -> None:
    """A source that stops delivering a column ends the run with 65, and names column and file."""
    pipe.append(make_rows(100))
    pipe.night()
    rows = [{k: v for k, v in row.items() if k != "c"} for row in make_rows(100, start=1000)]
    (pipe.root / "a.csv").unlink()
    pipe.append(rows)
    with pytest.raises(DataError, match=r"a\.csv has no 'c' any more"):
        pipe.night()
    pipe.config = CONFIG.replace("[models", '[schema]\non_missing_column = "missing"\n[models')
    assert pipe.night().rows.read == 100


def test_a_lineage_keeps_its_target_key_and_kind(pipe: Pipe) -> None:
    """A config that now asks for another target, key or kind of learner is refused, and says what to do."""
    pipe.append(make_rows(100))
    pipe.night()
    pipe.append(make_rows(100, start=1000))
    for old, new, said in (
        ('target = "y"', 'target = "c"', "a lineage keeps its target, however it is 'c' now and was 'y' in version 1"),
        ('key = "id"\n', "", "a lineage keeps its key"),
        ("[models.linear]", '[models.linear]\nkind = "mlp"', "a lineage keeps its kind of learner"),
    ):
        pipe.config = CONFIG.replace(old, new)
        with pytest.raises(ConfigError, match=said):
            pipe.night()


def test_a_rotten_segment_costs_its_check_only(pipe: Pipe) -> None:
    """A segment that does not verify is noted; its night's rows are not recognised, and everything else goes on."""
    for i in range(2):
        pipe.append(make_rows(50, start=100 * i))
        pipe.night()
    path = pipe.lineage().segments.file(pipe.head().segments[1])
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    pipe.append([*make_rows(50), *make_rows(50, start=100)])
    result = pipe.night()
    assert (result.status, result.rows.duplicate) == ("accepted", 50), "of the night whose segment is whole"
    assert any("will not be recognised" in note for note in result.alarms)
    assert "notes" in pipe.head().night


def test_a_corrupt_head_is_set_aside(pipe: Pipe) -> None:
    """The version before is used, its cursors say what to read again, and each row is accounted for once."""
    for i in range(3):
        pipe.append(make_rows(60, start=100 * i))
        pipe.night()
    path = pipe.lineage().path(3) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    pipe.append(make_rows(60, start=300))
    result = pipe.night()
    assert (result.status, result.version, result.rows.read) == ("accepted", 4, 120)
    assert any("is set aside" in note for note in result.alarms)
    assert [entry.status for entry in pipe.lineage().entries()] == ["accepted", "accepted", "quarantined", "accepted"]
    assert pipe.head().parent == 2
    assert pipe.counts()["read"] == 240
    assert len(pipe.keys()) == len(set(pipe.keys())) == 240


def test_a_head_whose_tensors_were_deleted_is_passed_over(pipe: Pipe) -> None:
    """Where somebody deleted the newest version's tensors, the one before goes on, and the next night just works."""
    for i in range(2):
        pipe.append(make_rows(60, start=100 * i))
        pipe.night()
    for name in pipe.head().files:
        (pipe.lineage().path(2) / name).unlink()
    result = pipe.night()
    assert (result.status, result.version, result.rows.read) == ("accepted", 3, 60)
    assert pipe.head().parent == 1
    assert pipe.night().status == "nothing"


def test_resume_is_the_same_bits(tmp_path: Path) -> None:
    """A night that was lost before its commit is done again to the same bits, for both learners."""
    pipes = [Pipe(tmp_path / name, DEEP) for name in ("whole", "broken")]
    for pipe in pipes:
        pipe.root.mkdir()
        for i in range(3):
            pipe.append(make_rows(100, start=1000 * i))
            pipe.nights()
            if pipe.root.name == "broken" and i:
                for name in ("deep", "linear"):
                    pipe.lineage(name).path(i + 1).rename(pipe.root / f"lost-{name}-{i}")
                pipe.nights()
    for name in ("deep", "linear"):
        assert pipes[0].weights(name=name) == pipes[1].weights(name=name)
        assert pipes[0].head(name).rows == pipes[1].head(name).rows


def test_exclude_needs_a_version_that_was_not_learned(pipe: Pipe) -> None:
    """An excluded version must exist, and must not be among those that the head grew from; nothing is learned then."""
    pipe.append(make_rows(60))
    pipe.night()
    pipe.append(make_rows(60, start=100))
    with pytest.raises(UsageError, match=r"version 1 of p/linear has learned version 1's rows"):
        pipe.night(exclude=1)
    with pytest.raises(DataError, match="7 is not among those it has: 1"):
        pipe.night(exclude=7)
    assert pipe.head().version == 1


def test_every_figure_is_recorded(pipe: Pipe) -> None:
    """A manifest says what was read, how learning went, what the gate saw, where it ran and how long it took."""
    pipe.append(make_rows(100))
    pipe.night()
    night = pipe.head().night
    assert set(night) == {
        "read", "looked_up", "learning", "drift", "gate", "device", "why_rejected", "notes", "seconds", "settings",
    }  # fmt: skip
    assert night["read"] == {"a.csv": 100}
    data: Any = pipe.head().state["data"]
    assert data == {"target": "y", "key": ["id"], "columns": {"a.csv": ["c", "x1", "x2", "y"]}}
    memory = unpack(pipe.lineage().load(pipe.head())["memory.safetensors"])
    assert set(memory) >= {"holdout.key_hash", "holdout.x_num", "holdout.y"}

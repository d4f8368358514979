"""Labels that come late: rows wait for them in the checkpoint, and each is accounted for once, whatever the order."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightfit.checkpoint import PENDING
from nightfit.errors import CheckpointError, DataError
from nightfit.nightly import NightResult
from nightfit.pending import Pending
from pipe import CONFIG, Pipe, Row, make_rows

TWO = """
name = "p"
target = "y"
key = "id"
holdout = 0.2
[[sources]]
url = "rows.csv"
[[sources]]
url = "labels.csv"
optional = true
[models.linear]
"""


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    """Give an empty pipeline of one file."""
    return Pipe(tmp_path)


@pytest.fixture
def two(tmp_path: Path) -> Pipe:
    """Give an empty pipeline whose labels come in a file of their own."""
    return Pipe(tmp_path, TWO)


def without(rows: list[Row]) -> list[Row]:
    """Leave the targets empty."""
    return [{**row, "y": ""} for row in rows]


def features(rows: list[Row]) -> list[Row]:
    """Leave the targets' column out."""
    return [{name: value for name, value in row.items() if name != "y"} for row in rows]


def labels(rows: list[Row]) -> list[Row]:
    """Leave out everything but key and target."""
    return [{"id": row["id"], "y": row["y"]} for row in rows]


def counts(result: NightResult) -> dict[str, int]:
    """Count what became of a night's rows, without zeros; learned and held-out ones are used."""
    rows = result.rows
    named = {
        "read": rows.read,
        "used": rows.learned + rows.held_out,
        "rejected": rows.rejected,
        "duplicate": rows.duplicate,
        "excluded": rows.excluded,
        "pending": rows.pending,
    }
    return {name: n for name, n in named.items() if n}


def test_a_row_waits_for_its_label(pipe: Pipe) -> None:
    """A row without a target is pending; the row that brings the target is a duplicate, and the first one learned."""
    rows = make_rows(40)
    pipe.append(without(rows[:10]) + rows[10:])
    assert counts(pipe.night()) == {"read": 40, "used": 30, "pending": 10}
    pipe.append(rows[:4])
    assert counts(pipe.night()) == {"read": 4, "used": 4, "duplicate": 4, "pending": 6}
    pipe.append(rows[:10])
    assert counts(pipe.night()) == {"read": 10, "used": 6, "duplicate": 10}
    assert pipe.night().status == "nothing"
    assert pipe.counts()["learned"] + pipe.counts()["held_out"] == 40
    assert len(set(pipe.keys())) == 40


def test_features_are_those_from_before_the_label(pipe: Pipe) -> None:
    """What is learned is the row as it was when it came: an update that brings the label does not change it."""
    early = make_rows(60)
    late = [{**row, "x1": 99.0, "c": "purple"} for row in early]
    pipe.append(without(early))
    pipe.night()
    pipe.append(late)
    assert counts(pipe.night()) == {"read": 60, "used": 60, "duplicate": 60}
    schema: Any = pipe.head().state["schema"]
    assert "purple" not in str(schema)
    straight = Pipe(pipe.root / "straight")
    straight.root.mkdir()
    straight.append(early)
    straight.night()
    assert straight.weights() == pipe.weights(), "late labels teach what labels in time would have taught"


def test_a_source_may_hold_only_labels(two: Pipe) -> None:
    """Features in one source, key and target in another: labels find rows of the same night and of nights before."""
    rows = make_rows(50)
    two.append(features(rows[:30]), "rows.csv")
    assert counts(two.night()) == {"read": 30, "pending": 30}
    two.append(labels(rows[:20]), "labels.csv")
    assert counts(two.night()) == {"read": 20, "used": 20, "duplicate": 20, "pending": 10}
    two.append(features(rows[30:]), "rows.csv")
    two.append(labels(rows[20:]), "labels.csv")
    assert counts(two.night()) == {"read": 50, "used": 30, "duplicate": 30}


def test_a_label_without_its_row_is_a_reject(two: Pipe) -> None:
    """A label whose row never came is rejected, and so is another label for a row that has one."""
    rows = make_rows(60)
    two.append(features(rows[:50]), "rows.csv")
    two.append(labels(rows[:51]), "labels.csv")
    assert counts(two.night()) == {"read": 101, "used": 50, "duplicate": 50, "rejected": 1}
    assert "a label must come with or after its row" in two.rejects()[0]["reason"]
    assert (two.rejects()[0]["place"], two.rejects()[0]["key"]) == ("labels.csv", "50")
    two.append([*labels(rows[:20]), {"id": 0, "y": 1 - rows[0]["y"]}], "labels.csv")
    assert counts(two.night()) == {"read": 21, "duplicate": 20, "rejected": 1}
    assert two.rejects()[0]["reason"].endswith("with other values, from labels.csv")


def test_rows_that_wait_are_delivered_again(pipe: Pipe) -> None:
    """A pending row that comes again is a duplicate, with other values a reject; neither counts it twice."""
    rows = make_rows(20)
    pipe.append(without(rows))
    pipe.night()
    pipe.append(without(rows))
    assert counts(pipe.night()) == {"read": 20, "duplicate": 20, "pending": 20}
    pipe.append([{**without(rows)[0], "x1": 5}, *without(rows)])
    assert counts(pipe.night()) == {"read": 21, "duplicate": 20, "rejected": 1, "pending": 20}


def test_what_was_learned_late_is_known(two: Pipe) -> None:
    """A row that was learned when its label came is known like any other: row, label and both are duplicates."""
    rows = make_rows(30)
    two.append(features(rows), "rows.csv")
    two.append(labels(rows), "labels.csv")
    two.night()
    two.append(features(rows), "rows.csv")
    two.append(labels(rows), "labels.csv")
    assert counts(two.night()) == {"read": 60, "duplicate": 60}
    two.config = TWO.replace("[models.linear]", '[[sources]]\nurl = "both.csv"\n[models.linear]')
    two.append(rows, "both.csv")
    assert counts(two.night()) == {"read": 30, "duplicate": 30}


def test_a_label_that_never_comes_expires(pipe: Pipe) -> None:
    """After label_wait a pending row is a reject, also on a night that reads nothing, and stops no night by itself."""
    pipe.config = CONFIG.replace("[[sources]]", 'label_wait = "2d"\n[[sources]]')
    rows = make_rows(30)
    pipe.append(without(rows[:20]) + rows[20:])
    pipe.night()
    assert pipe.night().status == "nothing"
    assert pipe.night().status == "nothing"
    assert counts(pipe.night()) == {"rejected": 20}
    assert "(the target) did not come within 2d" in pipe.rejects()[0]["reason"]
    pipe.append(rows[:20])
    assert counts(pipe.night()) == {"read": 20, "used": 20}, "a mended row may come again"


def test_only_so_many_rows_wait(pipe: Pipe) -> None:
    """Beyond pending_rows the oldest are rejected."""
    pipe.config = CONFIG.replace("[[sources]]", "pending_rows = 25\n[[sources]]")
    rows = make_rows(60)
    pipe.append(without(rows[:20]))
    pipe.night()
    pipe.append(without(rows[20:40]))
    assert counts(pipe.night()) == {"read": 20, "rejected": 15, "pending": 25}
    assert sorted(int(reject["key"]) for reject in pipe.rejects()) == list(range(15))


def test_a_clock_that_goes_back_expires_nothing(pipe: Pipe) -> None:
    """Rows that came "tomorrow" wait on."""
    pipe.append(without(make_rows(10)))
    pipe.night()
    pipe.n_runs = -400
    pipe.append(make_rows(10, start=50))
    assert counts(pipe.night()) == {"read": 10, "used": 10, "pending": 10}


def test_database_rows_are_looked_up(pipe: Pipe) -> None:
    """A label that is written into a row behind the cursor is found by the row's key; looking up is not reading."""
    pipe.config = CONFIG.replace('url = "a.csv"', 'url = "sqlite:///b.db"\ntable = "t"')
    rows = make_rows(40)
    pipe.insert([{**row, "y": None} for row in rows])
    assert counts(pipe.night()) == {"read": 40, "pending": 40}
    assert pipe.night().status == "nothing"
    with sqlite3.connect(pipe.root / "b.db") as connection:
        connection.executemany("update t set y = ? where id = ?", [(row["y"], row["id"]) for row in rows[:25]])
    connection.close()
    assert counts(pipe.night()) == {"used": 25, "pending": 15}
    assert pipe.head().cursors == pipe.lineage().manifest(1).cursors


def test_excluded_rows_wait_no_more(pipe: Pipe) -> None:
    """Pending rows of a refused night that is excluded are excluded as well."""
    pipe.append(make_rows(2000))
    pipe.night()
    pipe.append([*make_rows(2000, start=5000, flipped=True), *without(make_rows(5, start=9000))])
    refused = pipe.night()
    assert refused.status == "refused"
    done = counts(pipe.night(exclude=refused.version))
    assert done == {"read": 2005, "excluded": 2005}


def test_without_a_key_nothing_waits(pipe: Pipe) -> None:
    """A row without a key cannot be found by a label: without a target it is a reject."""
    pipe.config = CONFIG.replace('key = "id"\n', "")
    pipe.append([*make_rows(95), *without(make_rows(5, start=500))])
    assert counts(pipe.night()) == {"read": 100, "used": 95, "rejected": 5}


def test_a_misspelt_target_is_no_late_label(pipe: Pipe) -> None:
    """Where every source has delivered rows and none has the target, the night stops."""
    pipe.config = CONFIG.replace('target = "y"', 'target = "yy"')
    pipe.append(make_rows(10))
    with pytest.raises(DataError, match="did you mean 'y'"):
        pipe.night()


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_every_row_is_accounted_for_once_in_any_order(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Rows and labels tripled and shuffled over the nights: each row is learned or held out once, or waits still."""
    draw = random.Random(seed)  # noqa: S311
    pipe = Pipe(tmp_path_factory.mktemp("any"), TWO.replace("holdout = 0.2", "holdout = 0.2\nlabel_wait = '99d'"))
    rows = make_rows(30, seed=seed)
    arrives = {row["id"]: draw.randrange(6) for row in rows}
    told = {key: draw.randrange(night, 7) for key, night in arrives.items()}
    for night in range(6):
        mine = [row for row in rows if arrives[row["id"]] == night]
        again = [row for row in rows if arrives[row["id"]] < night and draw.random() < 0.3]
        late = [row for row in rows if told[row["id"]] == night]
        twice = [row for row in rows if told[row["id"]] < night and draw.random() < 0.3]
        for name, batch in (("rows.csv", features(mine * 3 + again)), ("labels.csv", labels(late * 3 + twice))):
            draw.shuffle(batch)
            if batch:
                pipe.append(batch, name)
        pipe.night()
    total = pipe.counts()
    assert total["rejected"] == 0
    n_waiting = sum(night == 6 for night in told.values())
    assert total["learned"] + total["held_out"] == 30 - n_waiting
    assert pipe.head().rows.pending == n_waiting
    assert len(pipe.known_keys()) == 30 - n_waiting


def test_a_pending_row_keeps_its_values_exactly(pipe: Pipe) -> None:
    """Numbers, times, categories and missing values come out of the checkpoint as they went in."""
    rows = [
        {**row, "at": f"2026-03-{1 + i % 28:02d}", "z": "" if i % 3 else 1e-300} for i, row in enumerate(make_rows(50))
    ]
    pipe.append(without(rows))
    pipe.night()
    pipe.append(rows)
    pipe.night()
    straight = Pipe(pipe.root / "straight")
    straight.root.mkdir()
    straight.append(rows)
    straight.night()
    assert straight.weights() == pipe.weights()


def test_a_label_that_is_no_label_brings_nothing(pipe: Pipe) -> None:
    """An empty text in the target's column of a database labels no row, and makes no version night after night."""
    pipe.config = CONFIG.replace('url = "a.csv"', 'url = "sqlite:///b.db"\ntable = "t"')
    rows = make_rows(40)
    pipe.insert([{**row, "y": ""} if row["id"] == 7 else row for row in rows])
    assert counts(pipe.night()) == {"read": 40, "used": 39, "pending": 1}
    assert [pipe.night().status for _ in range(3)] == ["nothing"] * 3


def test_nights_without_rows_cost_no_memory_of_known_ones(pipe: Pipe) -> None:
    """Expiring rows make versions of their own, which take no place among the 32 nights whose rows are known."""
    pipe.config = CONFIG.replace("[[sources]]", 'label_wait = "1d"\n[[sources]]')
    rows = make_rows(30)
    pipe.append(rows)
    pipe.night()
    for i in range(40):
        pipe.append(without(make_rows(1, start=1000 + i)))
        pipe.night()
        pipe.n_runs += 2
        pipe.night()
    pipe.append(rows)
    assert counts(pipe.night())["duplicate"] == 30


def test_columns_outlive_a_guess_of_the_task(two: Pipe) -> None:
    """A first night without labels is taken for classes; when the labels turn out to be a quantity, columns stay."""
    rows = [{**row, "y": round(3 * row["x1"] + row["x2"], 3)} for row in make_rows(300)]
    two.append(features(rows), "rows.csv")
    two.night()
    two.append(labels(rows), "labels.csv")
    assert counts(two.night()) == {"read": 300, "used": 300, "duplicate": 300}
    schema: Any = two.head().state["schema"]
    assert schema["task"] == "regression"
    assert {column["name"] for column in schema["columns"]} == {"x1", "x2", "c"}


def test_a_full_export_may_change_with_the_label(pipe: Pipe) -> None:
    """The row that brought a label, delivered again, is a duplicate; so is one that waits and has a new column."""
    rows = make_rows(40)
    pipe.append(without(rows))
    pipe.night()
    closed = [{**row, "x2": 5.5} for row in rows[:20]]
    for i in range(3):
        (pipe.root / "a.csv").unlink()
        export = [{**row, "n": row["id"]} for row in closed + without(rows[20:])]
        pipe.append(export[i:] + export[:i])
        night = counts(pipe.night())
        assert "rejected" not in night
        assert night["pending"] == 20
    assert pipe.counts()["learned"] + pipe.counts()["held_out"] == 20


def test_labels_of_an_excluded_night_are_not_learned(pipe: Pipe) -> None:
    """--exclude leaves out the pending rows that the excluded version had labelled."""
    pipe.append(make_rows(2000))
    pipe.night()
    pipe.append(without(make_rows(1500, start=5000)))
    pipe.night()
    pipe.append(make_rows(1500, start=5000, flipped=True))
    refused = pipe.night()
    assert refused.status == "refused"
    assert counts(pipe.night(exclude=refused.version)) == {"read": 1500, "excluded": 3000}


def test_a_topic_may_mix_rows_and_labels(pipe: Pipe) -> None:
    """Among JSON records one with key and target alone brings a label, whatever its neighbours hold."""
    pipe.config = CONFIG.replace("a.csv", "a.jsonl")
    rows = make_rows(40)

    def write(records: list[Row]) -> None:
        with (pipe.root / "a.jsonl").open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)

    write(features(rows[:20]))
    assert counts(pipe.night()) == {"read": 20, "pending": 20}
    write([*labels(rows[:20]), *rows[20:], *labels(rows[20:30]), {"id": 99, "y": 1}])
    assert counts(pipe.night()) == {"read": 51, "used": 40, "duplicate": 30, "rejected": 1}


@pytest.mark.parametrize("data", [b"", b"\x80\x04pickle", b"ARROW1\0\0" + bytes(64) + b"ARROW1"])
def test_what_is_no_table_is_refused(data: bytes) -> None:
    """A file with an honest hash that is no table of rows that wait is an error that says so."""
    with pytest.raises(CheckpointError, match=r"pending\.arrow of a version must be an Arrow file, however"):
        Pending.of({PENDING: data})

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightfit.cleaning import adopt, clean, parse_features
from nightfit.errors import DataError
from nightfit.fates import CleanNight, Fate, too_many_rejects
from nightfit.known import Known, Segment
from nightfit.schema import Rules, Schema, SchemaConfig
from nightfit.sources.base import Source
from nightfit.sources.files import FileSource
from nightfit.sources.increment import Increment, read_increment
from nightfit.sources.sql import SqlSource

RULES = Rules(target="y", key=("id",), holdout=0.0, label_wait_s=0)
HEADER = "id,x,c,y\n"
NONE = np.zeros(0, np.uint64)


@dataclass
class Desk:
    """Cleans night after night, as a lineage would."""

    folder: Path
    rules: Rules = RULES
    schema: Schema = field(default_factory=Schema)
    nights: list[CleanNight] = field(default_factory=list)
    increment: Increment = field(default_factory=lambda: Increment({}))

    def clean(self, *texts: str, delivered: Mapping[str, Iterable[str]] | None = None) -> CleanNight:
        """Clean the night of the files s0.csv, s1.csv, ... that are given as texts."""
        folder = self.folder / str(len(self.nights))
        folder.mkdir()
        sources: list[Source] = []
        for i, text in enumerate(texts):
            (folder / f"s{i}.csv").write_text(text)
            sources.append(FileSource(name=f"s{i}", path=f"s{i}.csv", root=folder))
        return self.read(sources, folder, delivered)

    def read(
        self, sources: list[Source], folder: Path, delivered: Mapping[str, Iterable[str]] | None = None
    ) -> CleanNight:
        """Clean what the sources give."""
        self.increment = read_increment(sources, {}, folder / "raw")
        self.schema = adopt(self.schema, (part.table for part in self.increment.parts), self.rules)
        night = clean(
            self.increment,
            self.schema,
            self.rules,
            known=Known([night.segment for night in reversed(self.nights)]),
            excluded=NONE,
            delivered=delivered or {},
            folder=folder / "clean",
        )
        assert sum(counts(night).values()) == self.increment.n_rows, "each row has one fate"
        self.schema = night.grown(self.schema)
        self.nights.append(night)
        return night


def counts(night: CleanNight) -> dict[str, int]:
    """Count the fates that occur."""
    return {fate.name.lower(): n for fate in Fate if (n := night.count(fate))}


def lines(*rows: str, header: str = HEADER) -> str:
    """Write a CSV file."""
    return header + "".join(f"{row}\n" for row in rows)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Give a desk that has cleaned nothing yet."""
    return Desk(tmp_path)


def test_every_row_has_one_fate(desk: Desk) -> None:
    """Good, doubled, contradicting, unreadable and unsplittable rows are each counted once, with reasons."""
    good, bad = ["1,1.5,a,0", "2,2,b,1", *["9,1,a,1"] * 20, "1,1.5,a,0"], ["5,n/a,a,1", "6,1,a,", ",1,a,1", "7,1"]
    night = desk.clean(lines(*good, "2,2,b,0", *bad))
    assert counts(night) == {"learned": 3, "duplicate": 20, "rejected": 5}
    assert {(r.row, r.key, r.column, r.value) for r in night.rejects} == {
        (23, "2", "", ""),
        (24, "5", "x", "n/a"),
        (25, "6", "y", ""),
        (26, "", "id", ""),
        (27, "", "", "7,1"),
    }
    reasons = " ".join(reject.reason for reject in night.rejects)
    for said in ("from s0.csv", "must be a number", "(the target) has no value", "(the key) has no value", "has 2"):
        assert said in reasons


def test_rejects_are_kept(desk: Desk) -> None:
    """Each reject is one JSON object with its place, row, key, column, reason and value."""
    night = desk.clean(lines(*(f"{i},{i},a,1" for i in range(30)), "90,Größe,a,1"))
    kept = [json.loads(line) for line in night.rejects.path.read_text("utf-8").splitlines()]
    reject = {"place": "s0.csv", "row": 30, "key": "90", "column": "x", "reason": "must be a number", "value": "Größe"}
    assert kept == [reject]
    assert night.rejects.why() == "column 'x' must be a number ('Größe') in row 31 of s0.csv (1 row)"


@pytest.mark.parametrize("other", ["1,5,a,1", "01x,5,a,1"])
def test_a_key_met_in_another_source_is_the_same_row(desk: Desk, other: str) -> None:
    """The same key with the same values is a duplicate across sources; another key is another row."""
    assert counts(desk.clean(lines("1,5.0,a,1"), lines(other))) == (
        {"learned": 1, "duplicate": 1} if other.startswith("1,") else {"learned": 2}
    )


def test_a_conflict_names_both_places(desk: Desk) -> None:
    """The same key with other values is a reject that says where both came from, within a night and across nights."""
    night = desk.clean(lines("1,5,a,1"), lines("1,6,a,1"))
    assert [(r.place, r.reason) for r in night.rejects] == [
        ("s1.csv", "the key's row came before, with other values, from s0.csv")
    ]
    night = desk.clean(lines(), lines("1,7,a,1"))
    assert [(r.place, r.key) for r in night.rejects] == [("s1.csv", "1")]
    assert next(iter(night.rejects)).reason.endswith("from s0.csv")


@pytest.mark.parametrize(
    "types", ["INTEGER, REAL, TEXT, INTEGER", "TEXT, TEXT, TEXT, TEXT", "INTEGER, INTEGER, TEXT, REAL"]
)
def test_sql_and_csv_agree_on_a_row(desk: Desk, tmp_path: Path, types: str) -> None:
    """A row of a database's typed columns and its text in a CSV file are one row: 5, 5.0 and "5" are one number."""
    ddl = ", ".join(f"{name} {kind}" for name, kind in zip(("id", "x", "c", "y"), types.split(", "), strict=True))
    with sqlite3.connect(tmp_path / "b.db") as connection:
        connection.execute(f"CREATE TABLE t ({ddl})")
        connection.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?)", [(1, 5, "a", 1), (2, None, None, 0), (3, -0.0, "", 1)]
        )
    connection.close()
    (tmp_path / "a.csv").write_text(lines("1,5,a,1", "2,,,0", "3,0,,1", "1,5.0,a,1", "1,+5e0,a,1"))
    sql = SqlSource(name="db", url="sqlite:///b.db", table="t", cursor=("id",), key=("id",), root=tmp_path)
    csv = FileSource(name="csv", path="a.csv", root=tmp_path)
    assert counts(desk.read([sql, csv], tmp_path)) == {"learned": 3, "duplicate": 5}


def test_keys_may_be_scoped_to_their_source(desk: Desk) -> None:
    """With key_scope = "source", equal keys of two sources are two rows; of one source they are still one."""
    desk.rules = replace(RULES, key_scope="source")
    night = desk.clean(lines("1,5,a,1", "1,5,a,1"), lines("1,6,a,1"))
    assert counts(night) == {"learned": 2, "duplicate": 1}
    assert counts(desk.clean(lines("1,5,a,1"), lines("1,6,a,1"))) == {"duplicate": 2}


def test_updates_may_be_learned(desk: Desk) -> None:
    """With on_update = "learn", a key with new values is learned; only what it said last counts as a duplicate."""
    desk.rules = replace(RULES, on_update="learn")
    assert counts(desk.clean(lines("1,5,a,1", "1,6,a,1", "1,6,a,1", "1,5,a,1"))) == {"learned": 3, "duplicate": 1}
    assert counts(desk.clean(lines("1,5,a,1"))) == {"duplicate": 1}
    assert counts(desk.clean(lines("1,7,a,1", "1,7,a,1"))) == {"learned": 1, "duplicate": 1}
    assert counts(desk.clean(lines("1,5,a,1"))) == {"learned": 1}


def test_a_mended_row_may_come_again(desk: Desk) -> None:
    """Rejects leave no hash: the same key is learned once its values can be read, that night or later."""
    good = [f"{i},{i},a,1" for i in range(60)]
    assert counts(desk.clean(lines(*good, "90,n/a,a,1", "90,3,a,1", "91,n/a,a,1"))) == {"learned": 61, "rejected": 2}
    assert counts(desk.clean(lines("91,4,a,1", "90,3,a,1"))) == {"learned": 1, "duplicate": 1}


def test_a_duplicate_renews_its_hash(desk: Desk) -> None:
    """A row that comes again is remembered from then on: 32 nights count from the last time it came."""
    desk.clean(lines("1,1,a,1"))
    for i in range(31):
        desk.clean(lines(f"{100 + i},1,a,1", *["1,1,a,1"] * (i == 20)))
    assert counts(desk.clean(lines("1,1,a,1"))) == {"duplicate": 1}
    for i in range(32):
        desk.clean(lines(f"{200 + i},1,a,1"))
    assert counts(desk.clean(lines("1,1,a,1"))) == {"learned": 1}, "after 32 nights without it, it is new"


def test_rows_without_a_key_are_their_positions(desk: Desk) -> None:
    """Without a key, equal rows of a file are different rows: identity is the position, never the content."""
    desk.rules = replace(RULES, key=())
    assert counts(desk.clean(lines("1,1,a,1", "1,1,a,1"))) == {"learned": 2}
    assert counts(desk.clean(lines("1,1,a,1", "1,1,a,1", "1,1,a,1"))) == {"duplicate": 2, "learned": 1}


def test_a_key_may_have_parts(desk: Desk) -> None:
    """Rows are the same if all parts of the key are; a row that lacks one is rejected."""
    desk.rules = replace(RULES, key=("id", "c"))
    night = desk.clean(lines("1,1,a,1", "1,1,b,1", "1,1,b,1", "1,1,,1"))
    assert counts(night) == {"learned": 2, "duplicate": 1, "rejected": 1}


def test_a_source_needs_target_and_key(desk: Desk) -> None:
    """A source without the target or the key stops the night, with the nearest column named."""
    with pytest.raises(DataError, match=r"the target 'y' must be a column of every source, however s1\.csv has none"):
        desk.clean(lines("1,1,a,1"), lines("1,1,a,1", header="id,x,c,yy\n"))


def test_a_near_column_is_proposed(desk: Desk) -> None:
    """A mistyped key is answered with the column that was meant."""
    desk.rules = replace(RULES, key=("iid",))
    with pytest.raises(DataError, match=r"the key 'iid' .* did you mean 'id'"):
        desk.clean(lines("1,1,a,1"))


def test_a_new_column_is_adopted(desk: Desk) -> None:
    """A column that first comes tonight is adopted, unless it is to be dropped or holds no value; old hashes stand."""
    desk.rules = replace(RULES, schema=SchemaConfig(drop=("no",)))
    desk.clean(lines("1,1,a,1"))
    night = desk.clean(lines("1,1,a,1,,z,", "2,1,a,1,7,z,", header="id,x,c,y,new,no,empty\n"))
    assert [(column.name, column.kind) for column in desk.schema.columns] == [
        ("x", "numeric"),
        ("c", "categorical"),
        ("new", "numeric"),
    ]
    assert counts(night) == {"duplicate": 1, "learned": 1}


def test_a_column_late_in_the_night_is_adopted(tmp_path: Path) -> None:
    """A column is adopted even if its first value, or its source, comes after more rows than are sampled."""
    empty = pa.table({"y": ["1"] * 70_000, "late": pa.array([""] * 70_000)})
    full = pa.table({"y": ["1"] * 3, "late": ["1", "2", "3"], "other": ["a", "b", "c"]})
    schema = adopt(Schema(), [empty, full], RULES)
    assert {column.name: column.kind for column in schema.columns} == {"late": "numeric", "other": "categorical"}
    assert not list(tmp_path.iterdir())


def test_hints_make_categories(desk: Desk) -> None:
    """A column of numbers that the config calls categorical is one."""
    desk.rules = replace(RULES, schema=SchemaConfig(categorical=("x",)))
    desk.clean(lines("1,1,a,1"))
    assert {column.name: column.kind for column in desk.schema.columns} == {"x": "categorical", "c": "categorical"}


def test_sources_may_differ_in_their_columns(desk: Desk) -> None:
    """A source may lack what another has, on the first night and later: what it never delivered is missing."""
    other = "id,z,y\n"
    night = desk.clean(lines("1,1,a,1"), lines("2,5,0", header=other))
    assert counts(night) == {"learned": 2}
    assert night.delivered == {"s0": {"x", "c", "y"}, "s1": {"z", "y"}}
    night = desk.clean(lines("3,1,a,1"), lines("4,5,0", header=other), delivered=night.delivered)
    (batch_0, batch_1) = night.encode(desk.schema, Fate.LEARNED)
    np.testing.assert_array_equal(batch_0.x_num, [[1, np.nan]])
    np.testing.assert_array_equal(batch_1.x_num, [[np.nan, 5]])


def test_a_source_that_loses_a_column_stops_the_night(desk: Desk) -> None:
    """A column that a source has delivered must come again, within a night as well as later."""
    with pytest.raises(DataError, match=r"s0\.csv has no 'c' any more; mend the source, or set schema\.on_missing"):
        desk.clean(lines("1,5,1", header="id,x,y\n"), delivered={"s0": {"x", "c"}})


@pytest.mark.parametrize("config", [SchemaConfig(on_missing_column="missing"), SchemaConfig(drop=("c",))])
def test_a_lost_column_may_be_missing(desk: Desk, config: SchemaConfig) -> None:
    """With on_missing_column = "missing", or if the column is dropped, a source may stop delivering it."""
    first = desk.clean(lines("1,5,a,1"))
    desk.rules = replace(RULES, schema=config)
    night = desk.clean(lines("2,5,1", header="id,x,y\n"), delivered=first.delivered)
    (batch,) = night.encode(desk.schema, Fate.LEARNED)
    assert batch.x_cat.tolist() == [[desk.schema.categorical[0].missing_id]]
    assert night.delivered == {"s0": {"x", "c", "y"}}


def test_a_known_column_may_be_dropped_later(desk: Desk) -> None:
    """A column that the config drops after it was learned is missing from then on, even if it still comes."""
    desk.clean(lines("1,5,a,1"))
    desk.rules = replace(RULES, schema=SchemaConfig(drop=("x",)))
    (batch,) = desk.clean(lines("2,5,a,1")).encode(desk.schema, Fate.LEARNED)
    assert np.isnan(batch.x_num).all()


def test_held_out_rows_grow_nothing(tmp_path: Path) -> None:
    """Categories and classes of held-out rows are not taken into the vocabulary; those of learned rows are."""
    desk = Desk(tmp_path, replace(RULES, holdout=0.5))
    night = desk.clean(lines(*(f"{i},1,c{i},k{i}" for i in range(200))))
    n_learned = night.count(Fate.LEARNED)
    assert 60 < n_learned < 140
    assert n_learned + night.count(Fate.HELD_OUT) == 200
    assert len(desk.schema.classes) == len(desk.schema.categorical[0].categories) == n_learned
    for batch in night.encode(desk.schema, Fate.HELD_OUT):
        assert (batch.y == -1).all()
        assert (batch.x_cat[:, 0] == desk.schema.categorical[0].unseen_id).all()


def test_excluded_rows_are_left_out(desk: Desk) -> None:
    """Rows with an excluded key are counted as such and leave no hash; what cannot be read is a reject before."""
    first = desk.clean(lines("1,1,a,1", "2,2,a,1"))
    args: dict[str, Any] = {"known": Known([]), "excluded": Segment.open(first.segment).keys, "delivered": {}}
    night = clean(desk.increment, desk.schema, RULES, folder=desk.folder / "again", **args)
    assert counts(night) == {"excluded": 2}
    assert len(Segment.open(night.segment).keys) == 0


def test_too_many_rejects_have_a_sentence(desk: Desk) -> None:
    """Above the share, a sentence says how many rows were rejected, why, and what the ways out are; at it, none."""
    night = desk.clean(lines(*(f"{i},{i},a,1" for i in range(95)), *(f"{i},n/a,a,1" for i in range(200, 205))))
    assert too_many_rejects(night, 100, 0.05) is None
    sentence = too_many_rejects(night, 100, 0.04)
    assert sentence is not None
    assert (
        "at most 4% of a night's rows may be rejected, however 5 of 100 were: column 'x' must be a number" in sentence
    )
    assert '--accept "why"' in sentence


def test_a_schema_without_features_keeps_its_rows() -> None:
    """Rows that have a target and nothing else are still rows."""
    table, bad = parse_features(pa.table({"y": ["1", "2"]}), Schema(), ("",))
    assert (table.num_rows, bad) == (2, {})


ROW = st.tuples(st.integers(0, 5), st.integers(0, 2), st.sampled_from(["1", "2", "x", ""]))


NIGHT = st.lists(st.tuples(ROW, st.booleans()), max_size=12)


@pytest.mark.parametrize("learn", [False, True])
@settings(deadline=None, max_examples=50)
@given(nights=st.lists(NIGHT, min_size=1, max_size=4))
def test_fates_are_those_of_a_dictionary(
    nights: list[list[tuple[tuple[int, int, str], bool]]],
    learn: bool,  # noqa: FBT001 - pytest's
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whatever comes from two sources in any order, each row's fate is what a dictionary of keys would decide."""
    desk = Desk(tmp_path_factory.mktemp("n"), replace(RULES, on_update="learn" if learn else "reject"))
    desk.schema = desk.schema.with_columns({"v": "numeric", "x": "numeric"})
    truth: dict[int, tuple[int, str]] = {}
    header = "id,v,x,y\n"
    for night in nights:
        halves = [[row for row, second in night if second is which] for which in (False, True)]
        expected = {"learned": 0, "duplicate": 0, "rejected": 0}
        for key, value, x in (row for half in halves for row in half):
            values = (value, x)
            if x == "x":
                fate = "rejected"
            elif key not in truth:
                fate = "learned"
            elif truth[key] == values:
                fate = "duplicate"
            else:
                fate = "learned" if learn else "rejected"
            expected[fate] += 1
            if fate == "learned":
                truth[key] = values
        texts = [lines(*(f"{key},{value},{x},1" for key, value, x in half), header=header) for half in halves]
        assert counts(desk.clean(*texts)) == {fate: n for fate, n in expected.items() if n}

from __future__ import annotations

import json
import math
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfit import schema as schema_module
from nightfit.batch import Batch
from nightfit.errors import DataError
from nightfit.schema import MAX_CLASSES, TIME_FEATURES, Schema, SchemaConfig, label_order

WORDS = st.sets(st.text(max_size=3), max_size=4)
STEPS = st.lists(st.tuples(st.sets(st.sampled_from("abcd")), WORDS, WORDS), max_size=5)


def grown(schema: Schema, step: tuple[set[str], set[str], set[str]]) -> Schema:
    """Append columns (categorical if their letter is a or b), categories of all of them, and classes."""
    columns, categories, classes = step
    known = {column.name for column in schema.columns}
    schema = schema.with_columns({c: "categorical" if c in "ab" else "numeric" for c in sorted(columns - known)})
    return schema.with_categories({c.name: categories for c in schema.categorical}).with_classes(classes)


def encode(schema: Schema, columns: dict[str, list[object]], labels: list[str | None]) -> Batch:
    """Encode columns, given as lists."""
    table = pa.table({k: pa.array(v, pa.float64() if k in "cd" else pa.string()) for k, v in columns.items()})
    return schema.encode(table, np.zeros(len(labels), np.uint64), pa.array(labels, pa.string()))


@given(STEPS)
def test_growth_only_appends(steps: list[tuple[set[str], set[str], set[str]]]) -> None:
    """What a schema knew keeps its place, its ids and its meaning, and ids are never used twice."""
    schema = Schema()
    for step in steps:
        old, schema = schema, grown(schema, step)
        assert schema.classes[: len(old.classes)] == old.classes
        for before, after in zip(old.columns, schema.columns, strict=False):
            assert (before.name, before.kind, before.missing_id) == (after.name, after.kind, after.missing_id)
            assert before.categories.items() <= after.categories.items()
        assert schema.feature_names[: len(old.feature_names)] == old.feature_names
        ids = [i for c in schema.categorical for i in (c.missing_id, c.unseen_id, *c.categories.values())]
        assert sorted(ids) == list(range(schema.n_ids))
        assert grown(schema, step) == schema
        parents = schema.parent_ids
        for column in schema.categorical:
            assert {int(parents[i]) for i in column.categories.values()} <= {column.unseen_id}
            assert parents[column.missing_id] == column.missing_id


@given(STEPS)
def test_a_schema_survives_json(steps: list[tuple[set[str], set[str], set[str]]]) -> None:
    """A schema that is written and read again is equal to itself."""
    schema = Schema().with_columns({"when": "datetime", "flag": "boolean"})
    for step in steps:
        schema = grown(schema, step)
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


def test_rows_are_encoded_by_name() -> None:
    """Order of columns does not matter; missing, unseen and unknown values have ids of their own; extra is ignored."""
    schema = grown(Schema(), ({"a", "b", "c", "d"}, {"x", "y"}, {"no", "yes"}))
    a, b = schema.categorical
    columns: dict[str, list[object]] = {
        "z": ["?", "?", "?"],
        "d": [1.0, None, 3.0],
        "b": ["y", None, "w"],
        "a": ["x", "y", ""],
        "c": [7.0, 8.0, None],
    }
    batch = encode(schema, columns, ["yes", None, "maybe"])
    assert np.array_equal(batch.x_num, np.array([[7, 1], [8, math.nan], [math.nan, 3]]), equal_nan=True)
    assert batch.x_cat.tolist() == [
        [a.categories["x"], b.categories["y"]],
        [a.categories["y"], b.missing_id],
        [a.unseen_id, b.unseen_id],
    ]
    assert batch.y.tolist() == [1, -1, -1]
    batch = encode(schema, {"d": [1.0]}, [None])
    assert np.array_equal(batch.x_num, np.array([[math.nan, 1]]), equal_nan=True)
    assert batch.x_cat.tolist() == [[a.missing_id, b.missing_id]] == [schema.new_cat_ids.tolist()]


def test_a_schema_without_columns_encodes_rows() -> None:
    """Rows without features are rows still: they have labels."""
    batch = (
        Schema().with_classes(["a"]).encode(pa.table({"": pa.nulls(2)}), np.zeros(2, np.uint64), pa.array(["a", "b"]))
    )
    assert (batch.x_num.shape, batch.x_cat.shape, batch.y.tolist()) == ((2, 0), (2, 0), [0, -1])


def test_chunked_and_empty_tables_are_encoded() -> None:
    """A table in several pieces, or of no row, is encoded like any other."""
    schema = grown(Schema(), ({"a", "c"}, {"x"}, {"k"}))
    table = pa.table({"a": pa.chunked_array([["x"], ["x", None]]), "c": pa.chunked_array([[1.0], [2.0, None]])})
    labels = pa.chunked_array([["k"], [None, "k"]])
    assert schema.encode(table, np.zeros(3, np.uint64), labels).y.tolist() == [0, -1, 0]
    assert len(schema.encode(table.slice(0, 0), np.zeros(0, np.uint64), labels.slice(0, 0))) == 0


def test_times_become_circles() -> None:
    """A time is three circles, the week's starting on a Monday; missing stays missing."""
    schema = Schema().with_columns({"t": "datetime"})
    monday = 4 * 86_400.0
    table = pa.table({"t": pa.array([monday, monday + 86_400 / 4, None])})
    x = schema.encode(table, np.zeros(3, np.uint64), pa.nulls(3, pa.string())).x_num
    assert schema.feature_names == [f"t.{feature}" for feature in TIME_FEATURES]
    named = dict(zip(TIME_FEATURES, x.T, strict=True))
    assert named["week_sin"][0] == pytest.approx(0, abs=1e-12)
    assert named["week_cos"][0] == pytest.approx(1)
    assert named["day_sin"][1] == pytest.approx(1)
    assert np.isnan(x[2]).all()


def test_labels_are_sorted_as_people_sort() -> None:
    """Numbers come by value, then text; the order never depends on the order in which labels were met."""
    labels = ["10", "9", "-1", "1.5", "b", "a", "nan", "inf", "", "1e1"]
    wanted = ["-1", "1.5", "9", "10", "1e1", "inf", "", "a", "b", "nan"]
    for seed in range(20):
        random.Random(seed).shuffle(labels)  # noqa: S311 - no secret
        assert sorted(labels, key=label_order) == wanted
        assert list(Schema().with_classes(labels).classes) == wanted


def test_a_target_with_too_many_values_is_refused() -> None:
    """A quantity is not learned as classes: the error names the limit and what to do."""
    schema = Schema().with_classes(map(str, range(MAX_CLASSES)))
    with pytest.raises(DataError, match=r"at most 1000 values, however it has 1001 .* choose another target"):
        schema.with_classes(["1000"])


def test_categories_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the cap a category is one of the unseen; a cap that was lowered later takes none away."""
    monkeypatch.setattr(schema_module, "MAX_CATEGORIES", 3)
    schema = Schema().with_columns({"a": "categorical"}).with_categories({"a": ["q", "p"]})
    schema = schema.with_categories({"a": ["d", "b", "c"]})
    assert list(schema.columns[0].categories) == ["p", "q", "b"]
    monkeypatch.setattr(schema_module, "MAX_CATEGORIES", 1)
    assert schema.with_categories({"a": ["x", "y", "z"]}) == schema


def test_a_share_is_checked() -> None:
    """A share of rejects that has no meaning is refused with the rule and its value."""
    with pytest.raises(ValueError, match=r"must .* however it is"):
        SchemaConfig(max_reject_share=1.5)

"""Columns that are known as numbers are read straight as such, and nothing else may come of it than of their text."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nightfit.cleaning import clean
from nightfit.fates import Fate
from nightfit.known import Known, Segment
from nightfit.schema import Rules, Schema, SchemaConfig
from nightfit.sources.base import Numbers
from nightfit.sources.files import FileSource
from nightfit.sources.increment import Increment, read_increment

SCHEMA = Schema(classes=("0", "1")).with_columns({"x": "numeric", "c": "categorical", "z": "numeric"})
X_AND_Z = frozenset({"x", "z"})
NOTHING = np.zeros(0, np.uint64)

ODD = [
    *("5", "5.00", "+5", "-5", "05", "5.", ".5", "+.5e1", "5e0", "-0", "-0.0", "0x5", "5\t", " 5", "\u00a05", "5\x00"),
    *("nan", "NaN", "-nan", "inf", "-Infinity", "1e400", "-1e400", "1e-400", "1e100", "1.0000001e100", "9" * 400),
    *("", " ", "  ", "NA", " NA", "n/a", "null", "true", "-999", "-999.0", "1,5", "5 5", "1_000", "5\n", "é", "\uff15"),
]
CELL = st.one_of(
    st.sampled_from(ODD),
    st.floats().map(repr),
    st.integers().map(str),
    st.text("0123456789+-.eE", max_size=8),
    st.text("5. \t,\"'\nNAé", max_size=4),
)
ROW = st.tuples(st.integers(0, 9), CELL, CELL, CELL, st.sampled_from(["0", "1", ""]))
MISSING = st.sampled_from([("",), ("", "NA", "-999"), ("NA", "nan", " 5", "+5"), ("", "-999.0", "inf", "TRUE", "5")])


def write(path: Path, rows: list[Any]) -> None:
    """Write a file of these rows, quoted where they need be."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "x", "c", "z", "y"), *rows])


def read(path: Path, folder: Path, names: frozenset[str], missing: tuple[str, ...] = ("",)) -> Increment:
    """Stage a file's rows, some columns as numbers."""
    source = FileSource(name="a", path=path.name, root=path.parent)
    return read_increment([source], {}, folder, numbers=Numbers(names, missing))


def outcome(path: Path, names: frozenset[str], missing: tuple[str, ...]) -> list[Any]:
    """Clean a file, and return all that comes of it as plain bytes and values."""
    rules = Rules(target="y", key=("id",), schema=SchemaConfig(missing=missing), holdout=0.3)
    with tempfile.TemporaryDirectory() as folder:
        staged, cleaned = Path(folder) / "raw", Path(folder) / "clean"
        increment = read(path, staged, names, missing)
        more: dict[str, Any] = {"known": Known([]), "excluded": NOTHING, "delivered": {}, "folder": cleaned}
        night = clean(increment, SCHEMA, rules, **more)
        batches = list(night.encode(night.grown(SCHEMA), *Fate))
        arrays = [a for part in night.parts for a in (part.fates, *part.hashes)]
        arrays += [a for batch in batches for a in (batch.key_hash, batch.x_num, batch.x_cat, batch.y)]
        return [increment.cursors, list(night.rejects), night.segment.read_bytes(), *(a.tobytes() for a in arrays)]


def all_alike(values: list[str]) -> list[Any]:
    """Make rows that have the same value in all columns."""
    return [(i, value, value, value, "1") for i, value in enumerate(values)]


@settings(deadline=None, max_examples=100)
@example(rows=all_alike(ODD), missing=("",))
@given(rows=st.lists(ROW, min_size=1, max_size=5), missing=MISSING)
def test_numbers_come_to_what_their_text_comes_to(rows: list[Any], missing: tuple[str, ...]) -> None:
    """Fates, rejects, hashes and arrays are those of the text, to the bit, whatever the cells hold."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        write(path, rows)
        assert outcome(path, X_AND_Z, missing) == outcome(path, frozenset(), missing)


@pytest.mark.parametrize("missing", [("",), ("NA", "nan", " 5", "-999")])
@pytest.mark.parametrize("odd", ODD)
def test_one_odd_value_among_numbers(odd: str, missing: tuple[str, ...], tmp_path: Path) -> None:
    """The same holds for one odd value among many plain ones."""
    write(tmp_path / "a.csv", all_alike([*map(str, range(50)), odd, *map(str, np.arange(50.0))]))
    assert outcome(tmp_path / "a.csv", X_AND_Z, missing) == outcome(tmp_path / "a.csv", frozenset(), missing)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["5", "-5.25e3", "007", " 5", "1e100"], pa.float64()),
        (["5", "", "NA", "-999"], pa.float64()),
        (["5", "n/a"], pa.string()),
        (["5", "nan"], pa.string()),
        (["5", "1e101"], pa.string()),
    ],
)
def test_only_plain_numbers_are_read_as_numbers(cells: list[str], kind: pa.DataType, tmp_path: Path) -> None:
    """What cleaning would reject stays text, as do columns that are not known as numbers; those of digits, too."""
    write(tmp_path / "a.csv", all_alike(cells))
    (part,) = read(tmp_path / "a.csv", tmp_path / "raw", frozenset({"x", "elsewhere"}), ("", "NA", "-999")).parts
    assert [field.type for field in part.table.schema] == [pa.string(), kind, pa.string(), pa.string(), pa.string()]


def test_records_that_do_not_fit_among_numbers(tmp_path: Path) -> None:
    """Records with too few fields or none of UTF-8 are bad ones, and those around them are what they are as text."""
    (tmp_path / "a.csv").write_bytes(b"id,x,c,z,y\n1,5,a,5,1\n2,5\n3,\xff,a,1,1\n4,6,a,x,0\n5,7,a,7,0\n")
    fast, slow = (outcome(tmp_path / "a.csv", names, ("",)) for names in (X_AND_Z, frozenset[str]()))
    assert fast == slow
    assert [reject.row for reject in fast[1]] == [1, 2, 3]


def test_what_is_clean_already_is_not_written_again(tmp_path: Path) -> None:
    """Clean rows borrow the numbers, digits and labels that they share with the raw ones, and no other columns."""
    write(tmp_path / "a.csv", [(1, "5", "a", "-999", "1"), (2, "", "b", "6", "0")])
    increment = read(tmp_path / "a.csv", tmp_path / "raw", X_AND_Z)
    more: dict[str, Any] = {"known": Known([]), "excluded": NOTHING, "delivered": {}, "folder": tmp_path / "clean"}
    rules = Rules(target="y", key=("id",), schema=SchemaConfig(missing=("", "-999")))
    (part,) = clean(increment, SCHEMA, rules, **more).parts
    assert set(part.borrowed) == {"x", "y", "id"}
    expected = {"x": [5.0, None], "c": ["a", "b"], "z": [None, 6.0], "y": ["1", "0"], "id": ["1", "2"]}
    assert part.table.to_pydict() == {name: expected[name] for name in part.table.column_names}
    assert len(part.table.column_names) == len(expected)


def test_a_row_read_as_text_is_met_again_as_numbers(tmp_path: Path) -> None:
    """A row that another night read as text is a duplicate when it comes as numbers, however it is spelled then."""
    write(tmp_path / "a.csv", [(1, "5.0", "a", "+1e0", "1"), (2, "n/a", "a", "1", "1"), (3, "-0", "a", "", "0")])
    write(tmp_path / "b.csv", [(1, "5", "a", "1.00", "1"), (3, "0", "a", "", "0")])
    rules, known, fates = Rules(target="y", key=("id",), holdout=0.0), list[Path](), list[list[int]]()
    for name in ("a", "b"):
        increment = read(tmp_path / f"{name}.csv", tmp_path / f"{name}-raw", X_AND_Z)
        more: dict[str, Any] = {"excluded": NOTHING, "delivered": {}, "folder": tmp_path / name}
        night = clean(increment, SCHEMA, rules, known=Known(known), **more)
        known.append(night.segment)
        fates.append(night.parts[0].fates.tolist())
    assert fates == [[Fate.LEARNED, Fate.REJECTED, Fate.LEARNED], [Fate.DUPLICATE, Fate.DUPLICATE]]
    assert np.array_equal(Segment.open(known[0]).keys, Segment.open(known[1]).keys)

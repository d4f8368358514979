from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nightfit.errors import DataError
from nightfit.kinds import Kind, as_text, infer_kind, is_quantity, parse
from nightfit.values import CATEGORY_LENGTH, LIMIT

BAD = "of another kind"
UTC = dt.UTC


def read(column: Any, kind: Kind, missing: tuple[str, ...] = ("",)) -> list[Any]:  # noqa: ANN401
    """Parse a column, given as an array or as Python values: each value, None where missing, `BAD` where rejected."""
    array = column if isinstance(column, pa.Array) else pa.array(column)
    values, bad = parse(array, kind, missing)
    assert len(values) == len(bad) == len(array)
    return [BAD if b else v for v, b in zip(values.to_pylist(), bad.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("+5", 5.0),
        (" 5 ", 5.0),
        ("\u00a05\u2003", 5.0),
        ("5\n", 5.0),
        ("5.", 5.0),
        (".5", 0.5),
        ("+.5", 0.5),
        ("-.5e-3", -0.0005),
        ("1e5", 1e5),
        ("1E+05", 1e5),
        ("00012", 12.0),
        ("1e-999", 0.0),
        ("9007199254740993", 9007199254740992.0),
        ("1" * 100, float("1" * 100)),
        ("", None),
        ("  ", None),
        *((text, BAD) for text in ("1e999", "-1e999", "1e101", "9" * 400, "1e5000000000", "inf", "-Infinity", "nan")),
        *((text, BAD) for text in ("1,000", "1_000", "0x1", "+-5", ".", "+", "e5", "1e", "5 5", "5\n5", "true")),
        *((text, BAD) for text in ("\uff19", "\u0665", "\x00", "5\x00", "5" + "x" * 1_000_000)),
    ],
)
def test_numbers_in_text(text: str, value: float | str | None) -> None:
    """Text is a number in the spellings that programs write; separators, words and what overflows are rejects."""
    assert read([text], "numeric") == [value]


@given(st.floats(-1e99, 1e99))
def test_a_number_survives_its_text(value: float) -> None:
    """A float and its shortest text are the same number, bit for bit."""
    assert read([repr(value)], "numeric") == read([value], "numeric") == [value]


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_integer_survives_its_text(value: int) -> None:
    """Integers of any size are the nearest float whether they come typed or as text; as text they are exact."""
    assert read([str(value)], "numeric") == read([value], "numeric") == [float(value)]
    assert as_text(pa.array([value])).to_pylist() == [str(value)]


ONE: list[pa.Array] = [
    *(pa.array([1, None], kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *(pa.array([1, None], kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    *(pa.array([np.float16(1), None], kind) for kind in (pa.float16(), pa.float32(), pa.float64())),
    *(pa.array([Decimal("1.00"), None], kind) for kind in (pa.decimal128(10, 2), pa.decimal256(50, 3))),
    *(pa.array([Decimal(1), None], kind) for kind in (pa.decimal128(10, 0),)),
    *(pa.array(["1", None], kind) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    pa.array(["1", None]).dictionary_encode(),
    pa.array([1, None]).dictionary_encode(),
    pa.array([b"1", None], pa.binary()),
]


@pytest.mark.parametrize("column", ONE, ids=lambda column: str(column.type))
def test_one_is_one_in_every_type(column: pa.Array) -> None:
    """The same value is the same number, boolean and category whatever type the source gave it."""
    assert read(column, "numeric") == [1.0, None]
    assert read(column, "boolean") == [1.0, None]
    assert read(column, "categorical") == ["1", None]


def test_booleans_are_numbers_too() -> None:
    """A typed boolean reads as 1 or 0 where a number is expected."""
    assert read([True, False, None], "numeric") == read([True, False, None], "boolean") == [1.0, 0.0, None]
    assert read([True, False, None], "categorical") == ["true", "false", None]


@pytest.mark.parametrize("kind", ["numeric", "boolean", "datetime", "categorical"])
@pytest.mark.parametrize("column", [pa.nulls(2), pa.array(["", " "]), pa.array([None, None], pa.float64())], ids=str)
def test_nothing_is_missing_in_every_kind(kind: Kind, column: pa.Array) -> None:
    """A column without values is missing, never a reject, and so is an empty one."""
    assert read(column, kind) == [None, None]
    assert read(column[:0], kind) == []


@pytest.mark.parametrize("kind", ["numeric", "boolean", "datetime", "categorical"])
def test_missing_texts_mean_missing_in_typed_columns_too(kind: Kind) -> None:
    """What the config calls missing is so as text, integer and float."""
    columns: list[pa.Array] = [pa.array(["-999", "NA"]), pa.array([-999, None]), pa.array([-999.0, float("nan")])]
    for column in columns:
        assert read(column, kind, ("", "NA", "-999")) == [None, None]


@pytest.mark.parametrize(
    ("value", "words"),
    [(1.0, ["true", "TRUE", "True", "t", "T", "yes", "Yes", "y", "Y", "1", "1.0", " true "]),
     (0.0, ["false", "FALSE", "False", "f", "F", "no", "No", "n", "N", "0", "0.0", "-0"]),
     (BAD, ["2", "on", "off", "ja", "tru", "nan", "\x00"])],
)  # fmt: skip
def test_booleans_in_every_spelling(value: float | str, words: list[str]) -> None:
    """Truth has the spellings that databases and people use; anything else is a reject."""
    assert read(words, "boolean") == [value] * len(words)


def seconds(*when: int) -> float:
    """Give a UTC time in seconds since 1970."""
    return dt.datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2015-01-02", seconds(2015, 1, 2)),
        ("2015-01-02 10:00", seconds(2015, 1, 2, 10)),
        ("2015-01-02T10:00:00Z", seconds(2015, 1, 2, 10)),
        ("2015-01-02 10:00:00 Z", seconds(2015, 1, 2, 10)),
        ("2015-01-02T10:00:00+05:30", seconds(2015, 1, 2, 4, 30)),
        ("2015-01-02 10:00:00 -0530", seconds(2015, 1, 2, 15, 30)),
        ("2015-03-29T02:30:00", seconds(2015, 3, 29, 2, 30)),
        ("2015-01-02T10:00:00.5", seconds(2015, 1, 2, 10) + 0.5),
        ("2015-01-02T10:00:00.123456789", seconds(2015, 1, 2, 10) + 0.123456),
        ("2016-02-29", seconds(2016, 2, 29)),
        ("1969-12-31T23:59:59.999999999", -1e-6),
        ("0001-01-01", seconds(1, 1, 1)),
        ("9999-12-31", seconds(9999, 12, 31)),
        *((text, BAD) for text in ("2015-02-31", "2015-13-01", "2015-02-29", "2015-01-02T24:00:00", "20150102")),
        *((text, BAD) for text in ("2015-01-02T10:00:60", "2015-01-02T10:00:00+25:00", "2015-01-02Z", "1420156800")),
        *(
            (text, BAD)
            for text in ("2015", "02/01/2015", "2015-1-2", "now", "today", "\x00", "\uff12\uff10\uff11\uff15-01-02")
        ),
    ],
)
def test_times_in_text(text: str, value: float | str) -> None:
    """ISO 8601 times are seconds since 1970; without a zone they are UTC, and a day that does not exist is a reject."""
    assert read([text], "datetime") == [pytest.approx(value, abs=1e-6) if isinstance(value, float) else value]


def test_a_time_does_not_depend_on_its_neighbours() -> None:
    """Nanoseconds in one row, zones in another and dates before 1677 in a third do not disturb each other."""
    texts = ["2015-01-02", "0001-01-01", None, "2015-01-02T10:00:00.123456789", "2015-01-02T10:00:00+02:00", "x"]
    assert read(texts, "datetime") == [
        value for text in texts for value in read(pa.array([text], pa.string()), "datetime")
    ]


@given(
    st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2250, 1, 1)),  # noqa: DTZ001 - zones are what is tested
    st.sampled_from(["us", "ns"]),
    st.sampled_from([None, "UTC", "Europe/Paris", "+05:30"]),
)
def test_a_time_is_the_same_typed_and_as_text(when: dt.datetime, unit: str, zone: str | None) -> None:
    """A timestamp of any unit and zone, its text and its Python value are the same second, summer time included."""
    typed: pa.Array = pa.array([when.replace(tzinfo=UTC) if zone else when], pa.timestamp(unit, zone))
    as_iso = [when.isoformat() + ("+00:00" if zone else "")]
    assert (
        read(typed, "datetime")
        == read(as_iso, "datetime")
        == [pytest.approx(when.replace(tzinfo=UTC).timestamp(), abs=1e-5)]
    )


@pytest.mark.parametrize(
    "column",
    [
        *(pa.array([dt.date(2015, 1, 2), None], kind) for kind in (pa.date32(), pa.date64())),
        *(pa.array([dt.datetime(2015, 1, 2), None], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),  # noqa: DTZ001
    ],
    ids=lambda column: str(column.type),
)
def test_dates_are_midnights(column: pa.Array) -> None:
    """A date is its first second in UTC, in every type."""
    assert read(column, "datetime") == [seconds(2015, 1, 2), None]


def test_times_beyond_arrow_and_nanoseconds_are_read() -> None:
    """Times that a finer unit could not hold, or that have nanoseconds, do not break a night."""
    assert read(pa.array([10**15], pa.timestamp("s")), "datetime") == [1e15]
    assert read(pa.array([1427592600123456789, -1], pa.timestamp("ns")), "datetime") == [1427592600.123456, -1e-6]
    assert as_text(pa.array([dt.datetime(2015, 1, 2)], pa.timestamp("ns"))).to_pylist() == ["2015-01-02 00:00:00"]  # noqa: DTZ001


def test_floats_as_text() -> None:
    """Whole floats are spelled as integers, others so that they read back; NaN is missing."""
    floats = pa.array([5.0, -0.0, 0.1, 1e300, -2.0, float("nan"), None, float("inf")])
    assert as_text(floats).to_pylist() == ["5", "0", "0.1", "1e+300", "-2", None, None, "inf"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x1c\x1d\x1e\x1f\x85"), max_size=30))
def test_categories_are_trimmed_text(text: str) -> None:
    """Any Unicode, NUL included, is a category, without the white space around it."""
    trimmed = text.strip()
    assume(trimmed.lower() not in {"true", "false"} and not re.fullmatch(r"-?\d+\.0*", trimmed))
    assert read([text], "categorical") == [trimmed or None]


def test_text_is_spelled_as_typed_values_are() -> None:
    """A whole number and a boolean in text are the text of the typed ones: keys, labels and categories agree."""
    assert as_text(pa.array(["5", "5.0", "5.00", "-3.", "True", "FALSE", "1.50", "v1.0"])).to_pylist() == [
        "5", "5", "5", "-3", "true", "false", "1.50", "v1.0",
    ]  # fmt: skip


def test_huge_categories_are_cut() -> None:
    """Only the first characters of a category count, and they are characters, not bytes."""
    assert read(["é" * 10**6, "a\x00b", " x "], "categorical") == ["é" * CATEGORY_LENGTH, "a\x00b", "x"]


def test_numbers_are_bounded() -> None:
    """What would overflow when it is squared and summed is a reject, typed as well."""
    assert read([LIMIT, -LIMIT, LIMIT * 10, float("inf")], "numeric") == [LIMIT, -LIMIT, BAD, BAD]


@pytest.mark.parametrize("column", [pa.array([[1]]), pa.array([{"a": 1}]), pa.array([b"\xff"])], ids=str)
def test_what_has_no_text_is_said(column: pa.Array) -> None:
    """A list, a struct or bytes stop the night with an error that says what to do."""
    with pytest.raises(DataError, match=r"must hold numbers, text, booleans or times, however one holds"):
        parse(column, "categorical", ())


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1"] * 19 + ["x"], "numeric"),
        (["1"] * 18 + ["x"], "categorical"),
        (["true", "False", None], "boolean"),
        (["yes", "no"], "categorical"),
        (["0", "1"], "numeric"),
        (["2015-01-02", "2015-02-31"], "datetime"),
        (["2015-01-02Z"], "categorical"),
        (["inf", "nan"], "categorical"),
        ([None], None),
        ([], None),
    ],
)
def test_kinds_are_inferred(texts: list[str | None], kind: Kind | None) -> None:
    """Nearly all values must read as a kind to make the column one; a column without values has none yet."""
    assert infer_kind(pa.array(texts, pa.string())) == kind


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["0", "1"] * 48 + ["other"] * 4, False),
        (["1", "2", "3"] * 40, False),
        ([str(i) for i in range(60)], True),
        (["1", "2", "2.5"], True),
        (["1e3", "2"], True),
        (["yes", "no"], False),
        ([], False),
        ([None, "1.5"], True),
    ],
)
def test_quantities_are_told_from_labels(values: list[str | None], expected: bool) -> None:  # noqa: FBT001
    """Fractions, or many different numbers; a few labels that are no numbers do not count as fractions."""
    assert is_quantity(pa.array(values, pa.string())) is expected


@pytest.mark.parametrize("marker", ["-999", "0.0", "-99.90", "1e5"])
def test_missing_numbers_do_not_depend_on_their_neighbours(marker: str) -> None:
    """A column that holds nothing but numbers is read fast; one odd cell must not change what the others mean."""
    cells = ["-999", "-999.0", "0", "0.0", "-99.9", "-99.90", "100000", "1e5", "5"]
    clean, _ = parse(pa.array(cells), "numeric", ("", marker))
    odd, _ = parse(pa.array([*cells, " 7", ""]), "numeric", ("", marker))
    assert clean.to_pylist() == odd.to_pylist()[: len(cells)]
    assert clean.to_pylist()[-1] == 5

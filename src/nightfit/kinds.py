"""The kinds of a column, and how raw values of any type become values of that kind.

A source hands out text (CSV) or typed values (SQL). Both must end as the same number, time or category, so that a
row is the same row wherever it came from.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightfit.batch import Array
from nightfit.errors import DataError
from nightfit.values import CATEGORY_LENGTH, DATETIME, FALSE, LIMIT, NUMBER, TRUE, float_as_text

Kind: TypeAlias = Literal["numeric", "boolean", "datetime", "categorical"]

MAX_NUMBERED = 50
"""Different whole numbers that a target may have and still be taken for class labels."""

_TICKS = {"s": 1.0, "ms": 1e3, "us": 1e6}

_MOSTLY = 0.95
"""Share of a column's values that must read as numbers (or times) to make it one; the rest become rejects."""


def as_text(column: Any, missing: tuple[str, ...] = ("",)) -> Any:  # noqa: ANN401 - pyarrow ships no types
    """Return trimmed text, null where missing; 5, 5.0, "5.0" and "5.00" are the text "5", True and "True" are "true".

    One spelling for each value: the hash of a key, a label or a category must not depend on where the row came from.

    Raises `DataError` for what has no text: lists, structs, bytes that are not UTF-8.
    """
    if pa.types.is_string(column.type) and pc.all(pc.ascii_is_decimal(column)).as_py():  # the usual key, and quick
        text, missing = column, tuple(word for word in missing if word.isdecimal())
        if not missing:
            return column
    else:
        text = pc.utf8_trim_whitespace(_to_string(column))
        text = _one_spelling(text) if pa.types.is_string(column.type) else text
    return pc.if_else(pc.fill_null(pc.is_in(text, value_set=pa.array(missing, pa.string())), True), None, text)


def _one_spelling(text: Any) -> Any:  # noqa: ANN401
    """Spell whole numbers and booleans as typed values are spelled."""
    truth = pc.match_substring_regex(text, r"^(?i:true|false)$")
    text = pc.if_else(truth, pc.utf8_lower(text), text) if pc.any(truth).as_py() else text
    whole = pc.match_substring_regex(text, r"^-?\d+\.0*$")
    return pc.replace_substring_regex(text, r"^(-?\d+)\.0*$", r"\1") if pc.any(whole).as_py() else text


def _to_string(column: Any) -> Any:  # noqa: ANN401
    kind = column.type
    if pa.types.is_string(kind):
        return column
    if pa.types.is_floating(kind):
        return _floats_as_text(column)
    if pa.types.is_boolean(kind):
        return pc.if_else(column, "true", "false")
    try:
        text = pc.cast(column, pa.string())
    except pa.ArrowException as error:
        raise DataError(
            f"a column must hold numbers, text, booleans or times, however one holds {kind} ({error}); "
            "convert it in the source's query, or drop it there"
        ) from None
    if pa.types.is_decimal(kind):
        return _without_zeros(text) if kind.scale > 0 else text
    return pc.replace_substring_regex(text, r"\.0+(Z|[+-]\d{4})?$", r"\1") if pa.types.is_timestamp(kind) else text


def _without_zeros(text: Any) -> Any:  # noqa: ANN401
    return pc.replace_substring_regex(pc.utf8_rtrim(text, "0"), r"\.$", "")


def _floats_as_text(column: Any) -> Any:  # noqa: ANN401
    """Spell each distinct number once, of which labels and categories have few."""
    coded = pc.cast(column, pa.float64()).dictionary_encode()
    words = [float_as_text(value) for value in coded.dictionary.to_pylist()]
    return pa.array(words, pa.string()).take(coded.indices)


def whole(column: Any) -> Any:  # noqa: ANN401
    """Return a column as one array; one that is so already is not copied."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def infer_kind(text: Any) -> Kind | None:  # noqa: ANN401
    """Guess a column's kind from its values as text (see `as_text`); None while it holds none.

    Numbers and times need 95 % of the values; "true" and "false" are boolean, "yes" and "no" categories (they tend
    to be joined by "unknown" later); anything else is categorical.
    """
    text = text.drop_null()
    if not len(text):
        return None
    if _clean_floats(text) is not None:  # much the faster way
        return "numeric"
    if pc.all(pc.is_in(pc.utf8_lower(text), value_set=pa.array(["true", "false"]))).as_py():
        return "boolean"
    if _share(pc.match_substring_regex(text, DATETIME)) >= _MOSTLY:
        return "datetime"
    return "numeric" if _share(pc.match_substring_regex(text, NUMBER)) >= _MOSTLY else "categorical"


def is_quantity(text: Any) -> bool:  # noqa: ANN401
    """Guess whether a target's values as text are a quantity, not labels.

    They are if they read as numbers and one is not whole, or there are more than `MAX_NUMBERED` different ones.
    """
    text = text.drop_null()
    numbers = text.filter(pc.match_substring_regex(text, NUMBER))
    if not len(text) or len(numbers) < _MOSTLY * len(text):
        return False
    return bool(pc.any(pc.match_substring_regex(numbers, r"[.eE]")).as_py()) or len(pc.unique(text)) > MAX_NUMBERED


def _share(mask: Any) -> float:  # noqa: ANN401
    return float(pc.mean(pc.cast(mask, pa.int8())).as_py())


def parse(column: Any, kind: Kind, missing: tuple[str, ...]) -> tuple[Any, Array]:  # noqa: ANN401
    """Return the column's values as `kind`, and which rows (bool [n]) hold something else.

    Numbers, booleans (0, 1) and times (epoch seconds, UTC) become float64, categories strings; missing values and
    those of another kind become null.
    """
    if kind == "categorical":
        return pc.utf8_slice_codeunits(as_text(column, missing), 0, CATEGORY_LENGTH), np.zeros(len(column), bool)
    if kind == "numeric" and column.type == pa.float64() and is_plain(column, missing):
        return column, np.zeros(len(column), bool)
    present, values = _parse_float(column, kind, missing)
    bad = present & ~(np.abs(values) <= LIMIT)
    return pa.array(values, mask=~present | bad), bad


def is_plain(column: Any, missing: tuple[str, ...] = ()) -> bool:  # noqa: ANN401
    """Say whether a column of float64 holds nothing but numbers within `LIMIT`, none of which means "no value"."""
    values = column.drop_null().to_numpy()
    if not (values.min(initial=0.0) >= -LIMIT and values.max(initial=0.0) <= LIMIT):  # nor NaN
        return False
    return not any((values == word).any() for word in _floats_of(missing) if np.isfinite(word))


def _parse_float(column: Any, kind: Kind, missing: tuple[str, ...]) -> tuple[Array, Array]:  # noqa: ANN401
    if kind == "numeric" and _is_plain_number(column.type):
        values = _floats(column)
        return ~np.isnan(values) & ~np.isin(values, _floats_of(missing)), values
    if kind == "datetime" and pa.types.is_timestamp(column.type):
        return _mask(column), _seconds(column)
    if kind == "numeric" and pa.types.is_string(column.type) and (clean := _clean_floats(column)) is not None:
        return ~np.isnan(clean) & ~np.isin(clean, _floats_of(missing)), clean
    text = as_text(column, missing)
    values = {"numeric": _numbers, "boolean": _booleans, "datetime": _times}[kind](text)
    present = _mask(text)
    return (present & ~np.isin(values, _floats_of(missing)) if kind == "numeric" else present), values


def _is_plain_number(kind: Any) -> bool:  # noqa: ANN401
    return any(test(kind) for test in (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean))


@cache
def _floats_of(missing: tuple[str, ...]) -> Array:
    """Return the numbers among the texts that mean "no value": -999 does so in a typed column too."""
    return _numbers(pa.array(missing, pa.string()))


def _mask(column: Any) -> Array:  # noqa: ANN401
    return np.asarray(pc.is_valid(column).to_numpy(zero_copy_only=False))


def _numbers(text: Any) -> Array:  # noqa: ANN401
    readable = pc.if_else(pc.match_substring_regex(text, NUMBER), pc.utf8_ltrim(text, characters="+"), None)
    return _floats(pc.cast(readable, pa.float64()))


def _clean_floats(text: Any) -> Array | None:  # noqa: ANN401
    """Return the numbers of a column of text that holds nothing else (NaN where null), or None: much the faster way."""
    try:
        values = _floats(pc.cast(text, pa.float64()))
    except pa.ArrowInvalid:
        return None
    return values if np.isfinite(values).sum() == len(text) - text.null_count else None


def _booleans(text: Any) -> Array:  # noqa: ANN401
    lower, numbers = pc.utf8_lower(text), _numbers(text)
    true, false = (pc.is_in(lower, value_set=pa.array(words)).to_numpy(zero_copy_only=False) for words in (TRUE, FALSE))
    return np.where(true | (numbers == 1), 1.0, np.where(false | (numbers == 0), 0.0, np.nan))


def _times(text: Any) -> Array:  # noqa: ANN401
    import pandas as pd

    # Microseconds: pandas would read all times as nanoseconds if one has them, and lose those before 1677.
    readable = pc.replace_substring_regex(
        pc.if_else(pc.match_substring_regex(text, DATETIME), text, None), r"(\.\d{6})\d+", r"\1"
    )
    times = pd.to_datetime(readable.to_numpy(zero_copy_only=False), format="ISO8601", utc=True, errors="coerce")
    return _seconds(pa.array(times.as_unit("us").tz_localize(None)))


def _seconds(times: Any) -> Array:  # noqa: ANN401
    """Return seconds since 1970 (UTC, which times without a zone are taken for), cut to microseconds."""
    unit, ticks = times.type.unit, pc.cast(times, pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    if unit == "ns":
        unit, ticks = "us", ticks // 1000
    return np.where(_mask(times), ticks / _TICKS[unit], np.nan)


def _floats(column: Any) -> Array:  # noqa: ANN401
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False))

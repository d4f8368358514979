"""The kinds of a column, and how raw values of any type become values of that kind.

A source hands out text (CSV) or typed values (SQL). Both must end as the same number, time or category, so that a
row is the same row wherever it came from.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightfit.batch import Array

Kind: TypeAlias = Literal["numeric", "boolean", "datetime", "categorical"]

LIMIT = 1e100
"""Largest magnitude of a number: squares of larger ones, summed over the nights, would overflow float64."""

CATEGORY_LENGTH = 200
"""Characters of a category that count; longer text is cut."""

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_DATETIME = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)? ?(Z|[+-]\d{2}:?\d{2})?$"
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")

_MOSTLY = 0.95
"""Share of a column's values that must read as numbers (or times) to make it one; the rest become rejects."""


def as_text(column: Any, missing: tuple[str, ...] = ("",)) -> Any:  # noqa: ANN401 - pyarrow ships no types
    """Return trimmed text, null where missing; 5, 5.0 and "5" are the same text."""
    text = _to_string(column)
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.fill_null(pc.is_in(text, value_set=pa.array(missing, pa.string())), True), None, text)


def _to_string(column: Any) -> Any:  # noqa: ANN401
    kind = column.type
    if pa.types.is_string(kind):
        return column
    if pa.types.is_floating(kind):
        return _floats_as_text(column)
    if pa.types.is_boolean(kind):
        return pc.if_else(column, "true", "false")
    return pc.cast(column, pa.string())


def _floats_as_text(column: Any) -> Any:  # noqa: ANN401
    values = column.to_numpy(zero_copy_only=False)
    whole = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**53)
    text = [None if np.isnan(v) else str(int(v)) if w else repr(float(v)) for v, w in zip(values, whole, strict=True)]
    return pa.array(text, pa.string())


def infer_kind(text: Any) -> Kind | None:  # noqa: ANN401
    """Guess a column's kind from its values as text (see `as_text`); None while it holds none.

    Numbers and times need 95 % of the values; "true" and "false" are boolean, "yes" and "no" categories (they tend
    to be joined by "unknown" later); anything else is categorical.
    """
    text = text.drop_null()
    if not len(text):
        return None
    if pc.all(pc.is_in(pc.utf8_lower(text), value_set=pa.array(["true", "false"]))).as_py():
        return "boolean"
    if _share(pc.match_substring_regex(text, _DATETIME)) >= _MOSTLY:
        return "datetime"
    return "numeric" if _share(pc.match_substring_regex(text, _NUMBER)) >= _MOSTLY else "categorical"


def _share(mask: Any) -> float:  # noqa: ANN401
    return float(pc.mean(pc.cast(mask, pa.int8())).as_py())


def parse(column: Any, kind: Kind, missing: tuple[str, ...]) -> tuple[Any, Array]:  # noqa: ANN401
    """Return the column's values as `kind`, and which rows (bool [n]) hold something else.

    Numbers, booleans (0, 1) and times (epoch seconds, UTC) become float64, categories strings; missing values and
    those of another kind become null.
    """
    if kind == "categorical":
        return pc.utf8_slice_codeunits(as_text(column, missing), 0, CATEGORY_LENGTH), np.zeros(len(column), bool)
    present, values = _parse_float(column, kind, missing)
    bad = present & ~(np.abs(values) <= LIMIT)
    return pa.array(values, mask=~present | bad), bad


def _parse_float(column: Any, kind: Kind, missing: tuple[str, ...]) -> tuple[Array, Array]:  # noqa: ANN401
    if kind == "numeric" and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        values = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return ~np.isnan(values), values
    if kind == "datetime" and pa.types.is_timestamp(column.type):
        return _mask(column), _seconds(column)
    text = as_text(column, missing)
    return _mask(text), {"numeric": _numbers, "boolean": _booleans, "datetime": _times}[kind](text)


def _mask(column: Any) -> Array:  # noqa: ANN401
    return np.asarray(pc.is_valid(column).to_numpy(zero_copy_only=False))


def _numbers(text: Any) -> Array:  # noqa: ANN401
    readable = pc.if_else(pc.match_substring_regex(text, _NUMBER), pc.utf8_ltrim(text, characters="+"), None)
    return _floats(pc.cast(readable, pa.float64()))


def _booleans(text: Any) -> Array:  # noqa: ANN401
    lower = pc.utf8_lower(text)
    true, false = (
        pc.is_in(lower, value_set=pa.array(words)).to_numpy(zero_copy_only=False) for words in (_TRUE, _FALSE)
    )
    return np.where(true, 1.0, np.where(false, 0.0, np.nan))


def _times(text: Any) -> Array:  # noqa: ANN401
    import pandas as pd

    readable = pc.if_else(pc.match_substring_regex(text, _DATETIME), text, None)
    times = pd.to_datetime(readable.to_numpy(zero_copy_only=False), format="ISO8601", utc=True, errors="coerce")
    return _seconds(pa.array(times.as_unit("us").tz_localize(None)))


def _seconds(times: Any) -> Array:  # noqa: ANN401
    return _floats(pc.cast(pc.cast(times, pa.timestamp("us")), pa.int64())) / 1e6


def _floats(column: Any) -> Array:  # noqa: ANN401
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False))

"""Single values in plain Python, by the rules that `kinds` applies to whole Arrow columns.

A request brings a row or a few, for which Arrow's start would cost more than the answer. `tests/test_values.py` proves
that both give the same number, time or category.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None

LIMIT = 1e100
"""Largest magnitude of a number: squares of larger ones, summed over the nights, would overflow float64."""

CATEGORY_LENGTH = 200
"""Characters of a category that count; longer text is cut."""

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
DATETIME = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?( ?(Z|[+-]\d{2}:?\d{2}))?)?$"
TRUE, FALSE = ("true", "t", "yes", "y"), ("false", "f", "no", "n")

_NUMBER, _DATETIME = re.compile(NUMBER, re.ASCII), re.compile(DATETIME, re.ASCII)
_WHOLE, _TRUTH = re.compile(r"-?\d+\.0*", re.ASCII), re.compile("true|false", re.IGNORECASE)
_EPOCH, _TICK = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


def float_as_text(value: float) -> str | None:
    """Spell a number as a label or a category: 5.0 is "5"; NaN has no text."""
    if math.isnan(value):
        return None
    return str(int(value)) if abs(value) < 2**53 and value.is_integer() else repr(value)


def as_text(value: Scalar, missing: frozenset[str] = frozenset([""])) -> str | None:
    """Return a value's one spelling as text, None where it is missing.

    >>> as_text(" 5.00"), as_text(5), as_text(True), as_text("")
    ('5', '5', 'true', None)
    """
    if isinstance(value, str):
        text = value.strip()
        if _WHOLE.fullmatch(text):
            text = text.partition(".")[0]
        elif _TRUTH.fullmatch(text):
            text = text.lower()
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = (str(value) if isinstance(value, int) else float_as_text(value) if value is not None else None) or ""
    return None if text in missing else text


def as_category(value: Scalar, missing: frozenset[str]) -> str | None:
    """Return the category that a value is of, None where it is missing."""
    text = as_text(value, missing)
    return None if text is None else text[:CATEGORY_LENGTH]


def as_number(text: str) -> float:
    """Return the number that a text is, NaN for one that is none."""
    return float(text) if _NUMBER.match(text) else math.nan


def as_truth(text: str) -> float:
    """Return 1 for true, 0 for false, NaN for what is neither; `text` is in lower case."""
    if text in TRUE:
        return 1.0
    if text in FALSE:
        return 0.0
    number = as_number(text)
    return number if number in {0.0, 1.0} else math.nan


def as_seconds(text: str) -> float:
    """Return a time's seconds since 1970 (UTC, which one without a zone is taken for), NaN for what is none."""
    if not _DATETIME.match(text):
        return math.nan
    try:
        time = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.replace(" Z", "Z").replace(" +", "+")))
    except ValueError:
        return math.nan
    return (time.replace(tzinfo=time.tzinfo or UTC) - _EPOCH) // _TICK / 1e6

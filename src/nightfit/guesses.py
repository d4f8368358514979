"""What the first rows suggest: the target, the key, what a table is read in the order of, and how long a night was.

Each guess comes with its reason, in words, so that a person can say no.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from nightfit.duration import spelt
from nightfit.kinds import parse

if TYPE_CHECKING:
    from nightfit.kinds import Kind

_KEY_NAMES = re.compile(r"(^|_)(id|key|uuid|guid)$", re.IGNORECASE)
_TARGET_NAMES = re.compile(r"(^|_)(target|label|class|outcome|y)$", re.IGNORECASE)
_YES_OR_NO = re.compile(r"^(is|has|was|did|will)_", re.IGNORECASE)
_CHANGE_NAMES = re.compile(r"updat|modif|chang|creat|insert", re.IGNORECASE)
_MOST_CLASSES = 50
DAY_S = 86_400.0
_LENGTHS_S = (DAY_S, 7 * DAY_S, 28 * DAY_S)
NIGHT_ROWS = 500
"""Rows of a night that are enough to learn from and to test on."""


@dataclass(frozen=True)
class Looked:
    """Columns of the first rows: their texts, their kinds, and the rows' number."""

    texts: Mapping[str, Any]
    kinds: Mapping[str, Kind | None]
    n_rows: int

    def is_distinct(self, name: str) -> bool:
        """Say whether every row has a value of its own."""
        text = self.texts[name]
        return not text.null_count and len(pc.unique(text)) == len(text)

    def seconds(self, name: str) -> Any:  # noqa: ANN401 - an array, or nothing
        """Return a column of times as seconds, float64 [n]; None for another, or one with a row that has none."""
        if self.kinds[name] != "datetime":
            return None
        times, bad = parse(self.texts[name], "datetime", ("",))
        return None if times.null_count or bad.any() else np.asarray(times.to_numpy(zero_copy_only=False), np.float64)


def key_of(looked: Looked, target: str) -> tuple[str, str]:
    """Guess what identifies a row: a column named like a key whose values differ from row to row."""
    for name in looked.texts:
        if name != target and _KEY_NAMES.search(name) and looked.is_distinct(name):
            return name, f"is named like a key, and differs in all {looked.n_rows:,} rows"
    return "", "no column that is named like a key (id, key, ...) differs from row to row"


def target_of(looked: Looked) -> tuple[str, str]:
    """Guess what is to be predicted: by its name, then as a question, then the last column that could be classes."""
    names = [name for name in looked.texts if looked.texts[name].null_count < looked.n_rows]
    if named := next((name for name in names if _TARGET_NAMES.search(name)), ""):
        return named, "is named like a target"
    if asked := [name for name in names if _YES_OR_NO.match(name) and _n_values(looked, name) == 2]:  # noqa: PLR2004
        return asked[-1], "is the last that is named like a question, and has two answers"
    last = next((name for name in reversed(names) if 1 < _n_values(looked, name) <= _MOST_CLASSES), "")
    return last, f"is the last column with 2 to {_MOST_CLASSES} different values"


def cursor_of(looked: Looked, key: str) -> tuple[tuple[str, ...], str]:
    """Guess what a table is read in the order of: a key that is a number, or the last time of a row, and the key."""
    if key and looked.kinds[key] == "numeric":
        return (key,), "is the key, and a number: new rows have larger ones"
    times = [name for name in looked.texts if looked.seconds(name) is not None]
    if times:
        best = next(
            (name for name in times if re.search("updat|modif|chang|creat|insert", name, re.IGNORECASE)), times[0]
        )
        return tuple(
            filter(None, (best, key))
        ), "every row has a time there; that it grows with new rows, only you know"
    return (), "there is neither a key that is a number nor a time in every row"


def night_of(looked: Looked) -> tuple[str, str]:
    """Guess the nights of a history, as options of `train`: days, weeks or months of a time that grows, or rows."""
    for name in looked.texts:
        seconds = looked.seconds(name)
        if seconds is None or len(seconds) < 2 or np.any(np.diff(seconds) < 0):  # noqa: PLR2004 - no order in one
            continue
        for length_s in _LENGTHS_S:
            n_nights = len(np.unique(np.floor(seconds / length_s)))
            if n_nights > 1 and looked.n_rows / n_nights >= NIGHT_ROWS:
                every = spelt(length_s)
                why = f"'{name}' grows from row to row; every {every} has {looked.n_rows // n_nights:,} rows on average"
                return f"--night-column {shlex.quote(name)} --every {every}", why
    if looked.n_rows >= 2 * NIGHT_ROWS:
        return f"--night-rows {NIGHT_ROWS}", "no time that grows from row to row gives nights of enough rows"
    return "", f"{looked.n_rows:,} rows are one night"


def _n_values(looked: Looked, name: str) -> int:
    return len(pc.unique(looked.texts[name].drop_null()))

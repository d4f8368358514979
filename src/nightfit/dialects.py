"""What separates the columns of a CSV file, and a number's fraction: guessed from its first lines, for `init` alone."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from nightfit.sources.base import Dialect
from nightfit.sources.csv import BOM
from nightfit.sources.listing import JSON_LINES, PARQUET, ends_with
from nightfit.sources.unpack import opened

DELIMITERS = ",;\t|"
_PEEKED_BYTES = 64 << 10
_COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+")
_NUMBER = re.compile(r"[+-]?\d*,?\d+")


def dialect_of(path: Path) -> tuple[Dialect, dict[str, str]]:
    """Guess the dialect of a file, with the reasons for what is not the default; that of no CSV file is the default."""
    if ends_with(path, (*JSON_LINES, *PARQUET)) or not path.is_file():  # who reads it says what is wrong
        return Dialect(), {}
    with opened(path, str(path)) as stream:
        data = stream.read(_PEEKED_BYTES)
    text = data.removeprefix(BOM).decode(errors="replace")
    rows = {delimiter: _rows(text, delimiter, whole=len(data) < _PEEKED_BYTES) for delimiter in DELIMITERS}
    best = max(DELIMITERS, key=lambda delimiter: _n_columns(rows[delimiter]))  # of equals the first
    if best == "," or _n_columns(rows[best]) == 1:
        return Dialect(), {}
    reasons = {"delimiter": f"it cuts all of the first {len(rows[best]):,} lines into {len(rows[best][0])} columns"}
    column = _with_commas(rows[best])
    if column:
        reasons["decimal"] = f"the numbers of '{column}' have it"
    return Dialect(best, "," if column else "."), reasons


def _rows(text: str, delimiter: str, *, whole: bool) -> list[list[str]]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error:  # a field longer than csv's limit: not cut by this
        return []
    return rows if whole else rows[:-1]


def _n_columns(rows: Sequence[Sequence[str]]) -> int:
    """Count the columns; 1 where lines differ."""
    return len(rows[0]) if rows and len({len(row) for row in rows}) == 1 else 1


def _with_commas(rows: Sequence[Sequence[str]]) -> str:
    """Name the first column all of whose values are numbers, one with a decimal comma at least; "" if none is."""
    for name, *values in zip(*rows, strict=True):
        there = [value.strip() for value in values if value.strip()]
        if any(map(_COMMA_NUMBER.fullmatch, there)) and all(map(_NUMBER.fullmatch, there)):
            return str(name)
    return ""

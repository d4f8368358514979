"""From a request's values to arrays: each is of its column's kind, or missing, or the error says where it is not.

A night rejects a row whose value it cannot read and learns the others; a request is refused whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from nightfit.batch import Array
from nightfit.schema import Column, Schema, SchemaConfig, time_features
from nightfit.serving.errors import RequestError, unusable
from nightfit.values import LIMIT, as_category, as_number, as_seconds, as_text, as_truth

MAX_ROWS = 10_000
"""Rows of a request: more are for `nightfit predict`."""

_PLAIN = {int, float, type(None)}


class Inputs(NamedTuple):
    """A request's rows as the scorer reads them: `x_num` float64 [n, d_num], `x_cat` int32 [n, d_cat]."""

    x_num: Array
    x_cat: Array


class Features:
    """The columns that a version reads, in order, and how their values become arrays.

    `ignored` are columns that the pipeline knows and never learns: records may bring them. A column that was dropped
    after a version learned it is among them, and is missing. Columns that came `later` than the lineage's first
    version may be left out, of a row's end too: clients from before know nothing of them.
    """

    def __init__(
        self,
        schema: Schema,
        config: SchemaConfig,
        *,
        ignored: frozenset[str] = frozenset(),
        later: frozenset[str] = frozenset(),
    ) -> None:
        self._all = schema.columns
        self.columns = tuple(column for column in schema.columns if column.name not in config.drop)
        self.names = [column.name for column in self.columns]
        self.is_numeric = bool(self._all) and all(column.kind == "numeric" for column in self._all)
        self.is_numeric &= self.columns == self._all
        self.missing = frozenset(config.missing)
        self._ids_of = {column.name: _without(column.categories, self.missing) for column in schema.categorical}
        self._missing_numbers = np.array([x for x in map(as_number, config.missing) if not math.isnan(x)])
        self.needed = [n for n in self.names if n not in later and config.on_missing_column != "missing"]
        """The columns that must be there, be it with null."""
        self.n_least = 1 + max((i for i, name in enumerate(self.names) if name not in later), default=-1)
        """Values that a row has at least."""
        self.ignored = ignored | frozenset(config.drop)
        self._known = {*self.names, *self.ignored}

    def numbers(self, rows: Any) -> Inputs:  # noqa: ANN401 - rows of numbers and None, as decoded
        """Turn rows of a version whose columns are all numeric into arrays: the fast way."""
        _check_count(len(rows))
        d = len(self.columns)
        if set(map(len, rows)) != {d}:
            return self.lists(rows)
        try:
            x = np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * d).reshape(-1, d)
        except TypeError:  # null is there, which takes numpy twice as long
            x = np.array(rows, np.float64)
        return Inputs(self._checked(x, lambda i: f"column '{self.names[i[1]]}'"), np.zeros((len(x), 0), np.int32))

    def lists(self, rows: Sequence[Any], *, are_texts: bool = False) -> Inputs:
        """Turn rows of values, in the order of the columns, into arrays."""
        _check_count(len(rows))
        if set(map(type, rows)) != {list} or any(n not in self._lengths for n in set(map(len, rows))):
            raise self._wrong_arity(rows)
        if self.n_least < len(self.columns):
            rows = [row + [None] * (len(self.columns) - len(row)) for row in rows]
        columns = dict(zip(self.names, zip(*rows, strict=True), strict=True))
        return self._encode(columns, len(rows), are_texts=are_texts)

    def records(self, rows: Sequence[Any]) -> Inputs:
        """Turn records (name to value) into arrays; a name may be left out only where columns may be missing."""
        _check_count(len(rows))
        other = next((i for i, row in enumerate(rows) if type(row) is not dict), None)
        if other is not None:
            raise unusable("all rows must be records if the first is one", f"row {other} is {_kind(rows[other])}")
        names = list(rows[0])
        if all(list(row) == names for row in rows):  # as programs write them
            self._check_names(names, "row 0")
            return self._encode(dict(zip(names, zip(*map(dict.values, rows), strict=True), strict=True)), len(rows))
        for i, row in enumerate(rows):
            self._check_names(row, f"row {i}")
        return self._encode({name: [row.get(name) for row in rows] for name in self.names}, len(rows))

    def by_column(self, columns: Mapping[str, Sequence[Any]], *, are_texts: bool = False) -> Inputs:
        """Turn columns of values, all of one length, into arrays."""
        self._check_names(columns, "the request")
        lengths = {len(values) for values in columns.values()}
        if len(lengths) != 1:
            raise unusable("all columns must have as many values", f"they have {sorted(lengths)}")
        n = lengths.pop()
        _check_count(n)
        return self._encode(columns, n, are_texts=are_texts)

    def _check_names(self, names: Collection[str], where: str) -> None:
        unknown = next((name for name in names if name not in self._known), None)
        if unknown is not None:
            near = get_close_matches(unknown, self.names, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"it knows {_listed(self.names)}"
            raise unusable("every column must be one that the model knows", f"{where} has '{_cut(unknown)}'; {hint}")
        lacking = [name for name in self.needed if name not in names]
        if lacking:
            raise unusable(
                "every column of the model must be there (null: missing)", f"{where} lacks {_listed(lacking)}"
            )

    @property
    def _lengths(self) -> range:
        return range(self.n_least, len(self.columns) + 1)

    def _wrong_arity(self, rows: Sequence[Any]) -> RequestError:
        n = " to ".join(map(str, sorted({self.n_least, len(self.columns)})))
        rule = f"every row must be a list of {n} values ({_listed(self.names)})"
        for i, row in enumerate(rows):
            if type(row) is not list:
                return unusable(rule, f"row {i} is {_kind(row)}")
            if len(row) not in self._lengths:
                return unusable(rule, f"row {i} has {len(row)}")
        return unusable(rule, "they hold lists")

    def _encode(self, columns: Mapping[str, Sequence[Any]], n: int, *, are_texts: bool = False) -> Inputs:
        numbers: list[Array] = []
        ids: list[Array] = []
        nothing = [None] * n
        given = {name: columns[name] for name in self.names if name in columns}
        for column in self._all:
            values = given.get(column.name, nothing)
            if column.kind == "categorical":
                ids.append(self._ids(column, values))
            elif column.kind == "datetime":
                numbers += time_features(self._floats(column, values, cache(as_seconds), are_texts=True))
            elif column.kind == "boolean":
                numbers.append(self._floats(column, values, _truth, are_texts=are_texts))
            else:
                numbers.append(self._floats(column, values, as_number, are_texts=are_texts))
        x_num = np.stack(numbers, 1) if numbers else np.zeros((n, 0))
        return Inputs(x_num, np.stack(ids, 1) if ids else np.zeros((n, 0), np.int32))

    def _ids(self, column: Column, values: Sequence[Any]) -> Array:
        known = self._ids_of[column.name]
        try:
            found = list(map(known.get, values))
        except TypeError:  # what cannot be looked up
            i = next(i for i, value in enumerate(values) if isinstance(value, (list, dict)))
            raise unusable(f"column '{column.name}' must hold text", f"row {i} has {_kind(values[i])}") from None
        if None in found:
            for i in (i for i, number in enumerate(found) if number is None):
                text = as_category(values[i], self.missing)
                found[i] = column.missing_id if text is None else known.get(text, column.unseen_id)
        return np.array(found, np.int32)

    def _floats(self, column: Column, values: Sequence[Any], read: Callable[[str], float], *, are_texts: bool) -> Array:
        """Return numbers, float64 [n], NaN where missing; texts are read by `read` where they may be."""
        if column.kind == "boolean" or not set(map(type, values)) <= _PLAIN:
            values = [self._float(column, i, value, read if are_texts else None) for i, value in enumerate(values)]
        try:
            x = np.array(values, np.float64)
        except OverflowError:
            raise unusable(f"column '{column.name}' must hold numbers up to {LIMIT:g}", "one is larger") from None
        return self._checked(x, lambda _: f"column '{column.name}'")

    def _float(self, column: Column, row: int, value: Any, read: Callable[[str], float] | None) -> float | None:  # noqa: ANN401
        if value is None:
            return None
        number = math.nan
        if isinstance(value, str) and read:
            text = as_text(value, self.missing)
            if text is None:
                return None
            number = read(text)
        elif column.kind == "boolean" and isinstance(value, (bool, int, float)):
            number = float(value) if value in {0, 1} else math.nan
        elif type(value) in _PLAIN:
            number = value
        if math.isnan(number):
            words = {"numeric": "numbers", "boolean": "true or false", "datetime": "times"}[column.kind]
            raise unusable(f"column '{column.name}' must hold {words} or null", f"row {row} has {_kind(value)}")
        return number

    def _checked(self, x: Array, where: Callable[[Any], str]) -> Array:
        """Check magnitudes, and let the numbers that mean "missing" be so."""
        size = np.abs(x)
        if not size.max(initial=0) <= LIMIT and len(found := np.argwhere(size > LIMIT)):  # or NaN: missing
            at = found[0]
            raise unusable(f"{where(at)} must hold numbers up to {LIMIT:g}", f"row {at[0]} has {x[tuple(at)]:g}")
        if len(self._missing_numbers):
            x[np.isin(x, self._missing_numbers)] = np.nan
        return x


def _check_count(n: int) -> None:
    if not n:
        raise unusable("a request must have at least one row", "it has none")
    if n > MAX_ROWS:
        raise unusable(f"a request must have at most {MAX_ROWS:,} rows", f"it has {n:,}; send parts, or use predict")


def _without(ids: Mapping[str, int], words: frozenset[str]) -> Mapping[str, int]:
    """Leave out categories that mean "missing" by now."""
    return ids if words.isdisjoint(ids) else {word: i for word, i in ids.items() if word not in words}


def _truth(text: str) -> float:
    return as_truth(text.lower())


def _kind(value: Any) -> str:  # noqa: ANN401
    """Name a value in a message, as JSON has it."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a record"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"'{_cut(value)}'" if isinstance(value, str) else _cut(repr(value))


def _cut(text: str, n: int = 60) -> str:
    return text if len(text) <= n else f"{text[:n]}..."


def _listed(names: Sequence[str], n: int = 8) -> str:
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(f"'{name}'" for name in names[:n]) + more

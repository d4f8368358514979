"""Rows of SQLite as blocks of columns, straight from its own cursor.

Few rows at a time are taken apart into columns, while they are still in the processor's cache.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from nightfit.sources.database import chunk_rows
from nightfit.sources.sqlblocks import Block
from nightfit.sources.sqlvalues import Values, to_array

N_AT_ONCE = 1_024

_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}
_MAX_BYTES = 2**31 - 1
"""Of the text that one array holds."""


def blocks(cursor: sqlite3.Cursor, names: Sequence[str], order: Sequence[str]) -> Iterator[Block]:
    """Yield the rows of a result in blocks of `CHUNK_ROWS`, with the values that `block_of` gives."""
    n_rows = chunk_rows()
    while True:
        columns = [_Column() for _ in names]
        kept: list[list[Any]] = [[] for _ in order]
        index = [names.index(name) for name in order]
        n_left = n_rows
        while n_left and (rows := cursor.fetchmany(min(n_left, N_AT_ONCE))):
            n_left -= len(rows)
            parts = list(zip(*rows, strict=True))
            for column, part in zip(columns, parts, strict=True):
                column.add(part)
            for values, i in zip(kept, index, strict=True):
                values.extend(parts[i])
        if n_left == n_rows:
            return
        yield Block(pa.table([column.array() for column in columns], names=list(names)), tuple(map(Values, kept)))


class _Column:
    """A column of a block, whose values are packed as they come while they have one type."""

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._kinds: set[type] = set()

    def add(self, values: tuple[Any, ...]) -> None:
        """Append values."""
        kinds = set(map(type, values)) - {type(None)}
        self._kinds |= kinds
        kind = _TYPES.get(kinds.pop()) if len(kinds) == 1 else None
        self._parts.append(values if kind is None else pa.array(values, kind))

    def array(self) -> Any:  # noqa: ANN401 - pyarrow ships no types
        """Return what `to_array` makes of all values."""
        kind = _TYPES.get(next(iter(self._kinds))) if len(self._kinds) == 1 else None
        if kind is None:
            return to_array([*chain.from_iterable(map(_as_values, self._parts))], exact=True)
        parts = [part if isinstance(part, pa.Array) else pa.nulls(len(part), kind) for part in self._parts]
        fits = sum(part.nbytes for part in parts) <= _MAX_BYTES
        return pa.concat_arrays(parts) if fits else pa.chunked_array(parts)


def _as_values(part: Any) -> Any:  # noqa: ANN401
    return part.to_pylist() if isinstance(part, pa.Array) else part

"""Rows of a result as blocks of columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from nightfit.sources.sqlvalues import Column, Values, to_array

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nightfit.sources.keyset import Position


class HandedOverError(Exception):
    """A reader leaves the rows after its last one to the next reader."""


class NotTheSameError(HandedOverError):
    """A faster reader cannot give these rows as the driver would; the driver goes on from the last one."""


@dataclass(frozen=True)
class Block:
    """Consecutive rows: a table, and the driver's values of the columns that rows are ordered by."""

    table: pa.Table
    order: tuple[Column, ...]

    def __len__(self) -> int:
        return len(self.table)

    def since(self, n: int) -> Block:
        """Leave out the first n rows."""
        return Block(self.table.slice(n), tuple(column.since(n) for column in self.order)) if n else self

    def position(self, i: int) -> Position:
        """Return where the i-th row lies."""
        return tuple(column[i] for column in self.order)


def block_of(names: Sequence[str], order: Sequence[str], rows: Sequence[sa.Row[Any]]) -> Block:
    """Make a block of rows; exact decimals become float64 unless rows are ordered by them."""
    columns = dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))
    table = pa.table({name: to_array(column, exact=name in order) for name, column in columns.items()})
    return Block(table, tuple(Values(columns[name]) for name in order))


def beyond(blocks: Iterator[Block], mark: Position | None, ties: int) -> Iterator[Block]:
    """Leave out the rows at the mark's own position that were read before."""
    n_left = ties
    for block in blocks:
        n_known = 0
        while n_known < min(n_left, len(block)) and block.position(n_known) == mark:
            n_known += 1
        n_left = n_left - n_known if n_known == len(block) else 0
        if n_known < len(block):
            yield block.since(n_known)

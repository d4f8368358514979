"""Rows in keyset order, by the columns of a cursor and then of a key, as SQL that every database understands."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Position: TypeAlias = tuple[Any, ...]
"""The values of a row in the columns that it is ordered by, or in the first few of them."""


@dataclass(frozen=True)
class Keyset:
    """The rows of a relation that have a value in all columns of `order`, whose first `n_cursor` are the cursor's."""

    relation: sa.FromClause
    order: tuple[str, ...]
    n_cursor: int

    @property
    def columns(self) -> list[sa.ColumnClause[Any]]:
        """The columns that rows are ordered by."""
        return [sa.column(name) for name in self.order]

    def rows(self, *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
        """Select all columns of the rows that meet the conditions, in order."""
        return self._where(sa.select(sa.text("*")), conditions).order_by(*self.columns)

    def positions(self, *conditions: sa.ColumnElement[bool], newest_first: bool = False) -> sa.Select[Any]:
        """Select where the rows lie that meet the conditions, in order."""
        columns = self.columns
        order = [column.desc() for column in columns] if newest_first else columns
        return self._where(sa.select(*columns), conditions).order_by(*order)

    def count(self, *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
        """Count the rows that meet the conditions."""
        return self._where(sa.select(sa.func.count()), conditions)

    def unordered(self, after: Position | None) -> list[sa.Select[Any]]:
        """Count the rows that lack a value to be put in order by: the first one, and any other beyond a position.

        An index of the first column, which new rows need as well, serves both counts.
        """
        first, *others = self.columns
        lacks: list[sa.ColumnElement[bool]] = [first.is_(None)]
        if others:
            there = first.is_not(None) if after is None else first >= after[0]
            lacks.append(sa.and_(there, sa.or_(*(column.is_(None) for column in others))))
        return [sa.select(sa.func.count()).select_from(self.relation).where(condition) for condition in lacks]

    def largest(self, connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> Position | None:
        """Find the last position of the rows that meet the conditions."""
        row = connection.execute(self.positions(*conditions, newest_first=True).limit(1)).first()
        return None if row is None else tuple(row)

    def at(self, position: Position) -> sa.ColumnElement[bool]:
        """Say (columns) = (position)."""
        return sa.and_(*(column == value for column, value in zip(self.columns, position, strict=False)))

    def not_before(self, position: Position) -> sa.ColumnElement[bool]:
        """Say (columns) >= (position), whose first column alone an index can use."""
        within = sa.or_(*_terms(self.columns, position, operator.gt), self.at(position))
        return sa.and_(self.columns[0] >= position[0], within)

    def beyond(self, position: Position) -> sa.ColumnElement[bool]:
        """Say (columns) > (position)."""
        return sa.and_(self.columns[0] >= position[0], sa.or_(*_terms(self.columns, position, operator.gt)))

    def not_beyond(self, position: Position) -> sa.ColumnElement[bool]:
        """Say (columns) <= (position)."""
        within = sa.or_(*_terms(self.columns, position, operator.lt), self.at(position))
        return sa.and_(self.columns[0] <= position[0], within)

    def before(self, position: Position) -> sa.ColumnElement[bool]:
        """Say (columns) < (position)."""
        return sa.and_(self.columns[0] <= position[0], sa.or_(*_terms(self.columns, position, operator.lt)))

    def behind(self, position: Position) -> sa.ColumnElement[bool]:
        """Say that a row has the position's cursor value and a smaller key."""
        n = self.n_cursor
        return sa.and_(self.at(position[:n]), sa.or_(*_terms(self.columns[n:], position[n:], operator.lt)))

    def _where(self, statement: sa.Select[Any], conditions: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
        known = [column.is_not(None) for column in self.columns]
        return statement.select_from(self.relation).where(*known, *conditions)


def _terms(
    columns: Sequence[sa.ColumnClause[Any]], position: Position, beyond: Callable[[Any, Any], Any]
) -> list[sa.ColumnElement[bool]]:
    """Return the alternatives of (columns) > (position), or <: so in one column, and equal in all before it.

    Not every database can compare tuples.
    """
    pairs = list(zip(columns, position, strict=False))
    return [sa.and_(*(c == v for c, v in pairs[:i]), beyond(column, value)) for i, (column, value) in enumerate(pairs)]

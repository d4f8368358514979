"""Any table or query of a database as a source.

Rows come in keyset order: by the cursor columns, then by the key columns. The cursor is the position of the
last row read and how many rows were read at that position, so that rows which share one are neither lost nor
read twice. Values are taken as the driver gives them; names are quoted by SQLAlchemy and values are bound,
never put into the text.

Limits: a transaction that is still open may commit a smaller cursor value later, which is then never read
(SQLite's writers take turns, so there it cannot happen while values rise). Texts that a collation takes for
equal, such as 'a' and 'A', must not share a position.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from nightfit.errors import ConfigError, DataError
from nightfit.sources.base import Chunk
from nightfit.sources.database import Rows, listed, nearest, parse_url, select_all, stream
from nightfit.sources.sqlvalues import from_json, to_array, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from nightfit.jsontypes import Json
    from nightfit.sources.base import Cursor

Position: TypeAlias = tuple[Any, ...]
"""The values of a row in the columns that it is ordered by."""


class SqlSource:
    """A table, or a query, read in the order of `cursor`, then `key`.

    `url` is SQLAlchemy's; a relative SQLite path starts at `root`, and its file is opened read-only and never
    made. With `optional`, an SQLite file that is not there is noted instead of an error. `table` may say
    `schema.table`. Columns of exact decimals become float64, those of cursor and key text.

    >>> from pathlib import Path
    >>> source = SqlSource(name="new", url="sqlite:///x.db", table="t", cursor=("ID",), root=Path("/data"))
    >>> source.name
    'new'
    """

    def __init__(
        self,
        *,
        name: str,
        url: str,
        table: str | None = None,
        query: str | None = None,
        cursor: tuple[str, ...],
        key: tuple[str, ...] = (),
        root: Path,
        optional: bool = False,
    ) -> None:
        if not cursor:
            raise ConfigError(f"source {name!r} must have a cursor column, however none is named; say cursor = ...")
        self.name = name
        self.cursor = cursor
        self.key = key
        self.optional = optional
        self._rows = Rows(f"source {name!r}", parse_url(url, root), table, query)

    @property
    def order(self) -> tuple[str, ...]:
        """The columns that rows are ordered by."""
        return tuple(dict.fromkeys((*self.cursor, *self.key)))

    def read(self, after: Cursor | None, note: Callable[[str], None]) -> Iterator[Chunk]:
        """Yield what lies after the cursor; see `Source.read`.

        Raises what `Source.read` does, and `DataError` where two rows share a position and there is no key.
        """
        if self.optional and (missing := self._rows.missing()):
            note(f"{missing}; nothing was read, since it is optional")
            return
        with self._rows.connected() as connection:
            relation, names = self._rows.relation(connection)
            self._check_order(names)
            self._note_nulls(connection, relation, note)
            mark = self._with_late_rows(connection, relation, _Mark.from_json(after), note)
            result = stream(connection, self._statement(relation, mark))
            for rows in _beyond(result.partitions(), [names.index(name) for name in self.order], mark):
                chunk = self._chunk(names, rows, mark)
                yield chunk
                mark = _Mark.from_json(chunk.cursor_at(len(rows)))

    def _chunk(self, names: list[str], rows: Sequence[sa.Row[Any]], mark: _Mark) -> Chunk:
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        for name in self.cursor:
            self._check_type(name, columns[name], mark.after)
        marks = _Marks(mark, list(zip(*(columns[name] for name in self.order), strict=True)), len(self.cursor))
        if not self.key and max(marks.n_ties) > 1:
            raise DataError(
                f"rows of {self._rows.label} must differ in {listed(self.cursor)}, however two have "
                f"{marks.first_tie()}; say key = ... as well, so that their order is known"
            )
        return Chunk(
            place=self.name,
            table=pa.table({name: to_array(column, exact=name in self.order) for name, column in columns.items()}),
            rows=np.arange(mark.rows, mark.rows + len(rows)),
            generation=0,
            cursor_at=lambda i: marks[i].to_json(),
        )

    def _statement(self, relation: sa.FromClause, mark: _Mark) -> sa.Select[Any]:
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in self.order]
        statement = select_all(relation).where(*(column.is_not(None) for column in columns)).order_by(*columns)
        if mark.after is None:
            return statement
        return statement.where(_not_before(columns[: len(mark.after)], mark.after))

    def _with_late_rows(
        self, connection: sa.Connection, relation: sa.FromClause, mark: _Mark, note: Callable[[str], None]
    ) -> _Mark:
        """Go back to the start of the mark's cursor value if rows have come behind the mark since.

        A cursor of days has many rows a value, and rows of today may come with a smaller key than the last that was
        read. What is read a second time is known by its key, and counts as duplicate.
        """
        n_cursor = len(self.cursor)
        if mark.after is None or len(self.order) == n_cursor:
            return mark
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in self.order]
        at_value = sa.and_(*(c == v for c, v in zip(columns[:n_cursor], mark.after[:n_cursor], strict=True)))
        behind = sa.or_(*_terms(columns[n_cursor:], mark.after[n_cursor:], operator.lt))
        count = sa.select(sa.func.count()).select_from(relation).where(at_value, behind)
        n_late = connection.execute(count).scalar_one() - (mark.level - mark.ties)
        if n_late <= 0:
            return mark
        value = listed(mark.after[:n_cursor])
        note(f"{n_late} rows of {self._rows.label} came after {value} had been read; all its rows are read again")
        return _Mark(mark.after[:n_cursor], mark.rows)

    def _check_type(self, name: str, values: Sequence[Any], after: Position | None) -> None:
        """Stop at a cursor of mixed types: a database sorts numbers before text, so that one text ends all reading."""
        known = [] if after is None else [after[self.order.index(name)]] if self.order.index(name) < len(after) else []
        first, *rest = [*known, *values]
        odd = next((value for value in rest if _type(value) is not _type(first)), None)
        if odd is not None:
            raise DataError(
                f"a cursor must hold values of one type, however {name!r} of {self._rows.label} has both {first!r} and "
                f"{odd!r}; mend that row, or choose another cursor"
            )

    def _check_order(self, names: list[str]) -> None:
        for role, wanted in (("cursor", self.cursor), ("key", self.key)):
            for name in wanted:
                if name not in names:
                    raise ConfigError(
                        f"the {role} of {self._rows.label} must be one of its columns ({listed(names)}), "
                        f"however {name!r} is not{nearest(name, names)}"
                    )

    def _note_nulls(self, connection: sa.Connection, relation: sa.FromClause, note: Callable[[str], None]) -> None:
        is_null = sa.or_(*(sa.column(name).is_(None) for name in self.order))
        n = connection.execute(sa.select(sa.func.count()).select_from(relation).where(is_null)).scalar_one()
        if n:
            note(
                f"rows of {self._rows.label} must have {listed(self.order)} to be put in order, however {n} "
                "have not; they are not read until they do"
            )


def read_table(url: str, *, table: str | None = None, query: str | None = None, root: Path) -> Iterator[Chunk]:
    """Yield all rows of a table or a query, in no particular order.

    One without rows yields one empty chunk, which has its columns. Raises what `SqlSource.read` does.
    """
    rows = Rows("the input", parse_url(url, root), table, query)
    with rows.connected() as connection:
        relation, names = rows.relation(connection)
        n_read = 0
        for part in stream(connection, select_all(relation)).partitions():
            yield _unordered(names, part, n_read)
            n_read += len(part)
        if not n_read:
            yield _unordered(names, [], 0)


def _unordered(names: list[str], rows: Sequence[sa.Row[Any]], n_before: int) -> Chunk:
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return Chunk(
        place="the input",
        table=pa.table({n: to_array(c, exact=True) for n, c in zip(names, columns, strict=True)}),
        rows=np.arange(n_before, n_before + len(rows)),
        generation=0,
        cursor_at=lambda i: {"rows": n_before + i},
    )


@dataclass(frozen=True)
class _Mark:
    """How far has been read: `rows` rows, the last `ties` of them at the position `after`."""

    after: Position | None = None
    rows: int = 0
    ties: int = 0
    level: int = 0
    """Rows read with the cursor value of `after`, whatever their key."""

    @classmethod
    def from_json(cls, cursor: Cursor | None) -> _Mark:
        if cursor is not None and "after" not in cursor:
            raise ConfigError("a source keeps its kind, however a database's cursor is one of files; rename the source")
        if cursor is None or cursor["after"] is None:
            return cls()
        after = tuple(from_json(value) for value in cast("list[Json]", cursor["after"]))
        return cls(after, *(cast("int", cursor[name]) for name in ("rows", "ties", "level")))

    def to_json(self) -> Cursor:
        after: Json = None if self.after is None else [to_json(value) for value in self.after]
        return {"after": after, "rows": self.rows, "ties": self.ties, "level": self.level}


@dataclass(frozen=True)
class _Marks:
    """The marks before, between and after rows; `n_ties[i]` rows up to the i-th share its position."""

    start: _Mark
    positions: list[Position]
    n_cursor: int
    n_ties: list[int] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        before, n, level = self.start.after or (), self.start.ties, self.start.level
        for position in self.positions:
            n = n + 1 if position == before else 1
            level = level + 1 if position[: self.n_cursor] == before[: self.n_cursor] else 1
            before = position
            self.n_ties.append(n)
            self.levels.append(level)

    def __getitem__(self, i: int) -> _Mark:
        if i == 0:
            return self.start
        return _Mark(self.positions[i - 1], self.start.rows + i, self.n_ties[i - 1], self.levels[i - 1])

    def first_tie(self) -> str:
        return listed(self.positions[next(i for i, n in enumerate(self.n_ties) if n > 1)])


def _not_before(columns: list[sa.ColumnClause[Any]], after: Position) -> sa.ColumnElement[bool]:
    """Spell out (columns) >= (after), which not every database can compare as tuples."""
    equal = sa.and_(*(column == value for column, value in zip(columns, after, strict=True)))
    return sa.and_(columns[0] >= after[0], sa.or_(*_terms(columns, after), equal))


def _terms(
    columns: Sequence[sa.ColumnClause[Any]], after: Position, beyond: Callable[[Any, Any], Any] = operator.gt
) -> list[sa.ColumnElement[bool]]:
    """Return the alternatives of (columns) > (after), or <: so in one column, and equal in all before it."""
    pairs = list(zip(columns, after, strict=True))
    return [sa.and_(*(c == v for c, v in pairs[:i]), beyond(column, value)) for i, (column, value) in enumerate(pairs)]


def _type(value: object) -> type:
    return float if isinstance(value, (int, float, Decimal)) else type(value)


def _beyond(parts: Iterator[Sequence[sa.Row[Any]]], order: list[int], mark: _Mark) -> Iterator[Sequence[sa.Row[Any]]]:
    """Leave out the rows at the mark's own position that were read before."""
    n_left = mark.ties
    for rows in parts:
        n_known = 0
        while n_known < min(n_left, len(rows)) and tuple(rows[n_known][i] for i in order) == mark.after:
            n_known += 1
        n_left = n_left - n_known if n_known == len(rows) else 0
        if n_known < len(rows):
            yield rows[n_known:]

"""One reading of a database source, in one snapshot: from a mark to chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np

from nightfit.errors import DataError
from nightfit.sources.base import Chunk, KeepCursor, step_over
from nightfit.sources.database import listed, stream
from nightfit.sources.overlap import Overlap
from nightfit.sources.sqlblocks import Block, HandedOverError, beyond, block_of
from nightfit.sources.sqliteblocks import blocks as sqlite_blocks
from nightfit.sources.sqlmarks import Mark, Marks, Tail
from nightfit.sources.sqlvalues import Column

if TYPE_CHECKING:
    import sqlite3

    import sqlalchemy as sa

    from nightfit.sources.keyset import Keyset, Position
    from nightfit.sources.latecommits import Limit


class _MarkAt(Protocol):
    def __getitem__(self, i: int, /) -> Mark: ...


@dataclass(frozen=True)
class Reading:
    """What a reading knows before its first row; `limit` is None where nothing tells of open transactions."""

    place: str
    label: str
    connection: sa.Connection
    keyset: Keyset
    has_key: bool
    names: Sequence[str]
    limit: Limit | None
    on_gap: Literal["stop", "skip"]
    overlap_rows: int
    note: Callable[[str], None]

    def chunks(self, mark: Mark) -> Iterator[Chunk]:
        """Yield what lies after a mark and may be read."""
        self._note_nulls(mark)
        fence = self.limit.fence if self.limit else None
        is_new, mark = fence not in {None, mark.fence}, replace(mark, fence=fence)
        if self.limit and self.limit.upto is None:
            self._note_rest(mark)
            if is_new:
                yield self._only_moved(mark)
            return
        n_read = mark.rows
        for chunk, after in self._new_rows(mark):
            yield chunk
            mark = after
        if mark.rows == n_read and (moved := self._stepped_over(mark)):
            yield self._only_moved(moved)
        if fence:
            self._note_rest(mark)

    def _new_rows(self, mark: Mark) -> Iterator[tuple[Chunk, Mark]]:
        """Yield chunks, each with the mark after it."""
        overlap = Overlap(self.connection, self.keyset, self.names, mark, self._n_overlap(mark))
        for late in overlap:
            yield self._chunk(late.block, late.start, late), late[len(late.block)]
        mark, tail = self._with_late_rows(overlap.mark, overlap.tail)
        for way in (*self._fast_ways(), self._blocks):
            try:
                for block in beyond(way(mark), mark.after, mark.ties):
                    marks = Marks(mark, block.order, self.keyset.n_cursor, tail)
                    self._check(marks)
                    mark = marks[len(block)]
                    tail = marks.tail_at(len(block), mark.ties)
                    yield self._chunk(block, marks.start, marks), mark
            except HandedOverError:
                continue
            return

    def _fast_ways(self) -> Iterator[Callable[[Mark], Iterator[Block]]]:
        """Offer readers that are faster and give the same values, where there are some."""
        dialect = self.connection.dialect.name
        if dialect == "postgresql" and find_spec("adbc_driver_postgresql"):
            from nightfit.sources.postgres import reader_of

            if reader := reader_of(self.connection, self.keyset, self.names):
                yield lambda mark: reader.blocks(mark.after, self.limit.upto if self.limit else None)
        if dialect == "sqlite" and find_spec("adbc_driver_sqlite"):
            from nightfit.sources.sqlitearrow import N_TRIES, reader_of_table

            if many := reader_of_table(self.connection, self.keyset, self.names):
                for _ in range(N_TRIES):
                    yield lambda mark: many.first(self._blocks(mark))
                    yield lambda mark: many.others(mark.after)

    def _blocks(self, mark: Mark) -> Iterator[Block]:
        statement = self.keyset.rows(*self._allowed(mark))
        if self.connection.dialect.name == "sqlite":
            cursor = cast("sqlite3.Cursor", self.connection.execute(statement).cursor)
            yield from sqlite_blocks(cursor, self.names, self.keyset.order)
            return
        for rows in stream(self.connection, statement):
            yield block_of(self.names, self.keyset.order, rows)

    def _allowed(self, mark: Mark) -> list[sa.ColumnElement[bool]]:
        """Say that rows lie at or after the mark, and may be read."""
        conditions = [] if mark.after is None else [self.keyset.not_before(mark.after)]
        if self.limit and self.limit.upto:
            conditions.append(self.keyset.not_beyond(self.limit.upto))
        return conditions

    def _n_overlap(self, mark: Mark) -> int:
        """Return how many rows before the mark are read again: none where no row can come late.

        A clock, unlike a sequence, may be read long before its row is written, so that locks do not tell of it.
        """
        drawn = mark.after or (self.limit and self.limit.upto) or ()
        is_sequence = bool(drawn) and all(isinstance(value, int) for value in drawn[: self.keyset.n_cursor])
        is_safe = self.connection.dialect.name == "sqlite" or (self.limit is not None and is_sequence)
        return 0 if is_safe else self.overlap_rows

    def _with_late_rows(self, mark: Mark, tail: Tail) -> tuple[Mark, Tail]:
        """Go back to the start of the mark's cursor value if rows have come behind the mark since.

        A cursor of days has many rows a value, and rows of today may come with a smaller key than the last that was
        read. What is read a second time is known by its key, and counts as duplicate.
        """
        n_cursor = self.keyset.n_cursor
        if mark.after is None or len(self.keyset.order) == n_cursor:
            return mark, tail
        count = self.keyset.count(self.keyset.behind(mark.after))
        n_late = self.connection.execute(count).scalar_one() - (mark.level - mark.ties)
        if n_late <= 0:
            return mark, tail
        value = mark.after[:n_cursor]
        self.note(
            f"{n_late} rows of {self.label} came after {listed(value)} had been read; all its rows are read again"
        )
        tail = tail.before(value)
        return Mark(value, mark.rows, window=tail.window(value), fence=mark.fence), tail

    def _stepped_over(self, mark: Mark) -> Mark | None:
        """Return the mark at the end of rows that no longer reach up to the mark; None if there is no gap.

        Rows may be deleted, so that only the end tells: of a database that was restored, or a table filled anew.
        """
        if mark.after is None or self._first(self.keyset.not_before(mark.after)) is not None:
            return None
        end = self.keyset.largest(self.connection, *self._allowed(Mark()))
        if end is None:
            return None
        rule = f"the rows of {self.label} must reach up to {listed(mark.after)}, up to which they were read"
        step_over(f"{rule}, however they end at {listed(end)}", self.on_gap, self.note)
        self.note(f"the rows of {self.label} are read on from {listed(end)}")
        at_end, at_value = self.keyset.at(end), self.keyset.at(end[: self.keyset.n_cursor])
        ties, level = (
            self.connection.execute(self.keyset.count(condition, self.keyset.not_beyond(end))).scalar_one()
            for condition in (at_end, at_value)
        )
        there = Mark(end, mark.rows, ties, level, fence=mark.fence)
        overlap = Overlap(self.connection, self.keyset, self.names, there, self._n_overlap(there))
        assert not list(overlap), "a mark without a window takes all rows before it for known"
        return overlap.mark

    def _first(self, condition: sa.ColumnElement[bool]) -> sa.Row[Any] | None:
        return self.connection.execute(self.keyset.positions(condition).limit(1)).first()

    def _note_nulls(self, mark: Mark) -> None:
        n = sum(self.connection.execute(count).scalar_one() for count in self.keyset.unordered(mark.after))
        if n:
            self.note(
                f"rows of {self.label} must have {listed(self.keyset.order)} to be put in order, however {n} "
                "have not; they are not read until they do"
            )

    def _note_rest(self, mark: Mark) -> None:
        """Count the rows that are there, but wait for transactions that may still write before them."""
        beyond_mark = [] if mark.after is None else [self.keyset.beyond(mark.after)]
        n = self.connection.execute(self.keyset.count(*beyond_mark)).scalar_one()
        if n:
            fact = f"some are open that may still commit rows before {n} newer ones; those wait for the next night"
            self.note(KeepCursor(f"the transactions that write to {self.label} should end, however {fact}"))

    def _check(self, marks: Marks) -> None:
        """Raise `DataError` for a cursor that cannot put rows in order."""
        for name, column in zip(self.keyset.order[: self.keyset.n_cursor], marks.order, strict=False):
            self._check_type(name, column, marks.start.after)
        last = marks[len(marks)].after or ()
        if any(value != value for value in last):  # noqa: PLR0124 - databases put NaN last
            raise DataError(
                f"rows of {self.label} must be put in order by {listed(self.keyset.order)}, however one has "
                f"{listed(last)}; mend that row, or choose another cursor"
            )
        if not self.has_key and (tie := marks.first_tie()):
            raise DataError(
                f"rows of {self.label} must differ in {listed(self.keyset.order)}, however two have "
                f"{listed(tie)}; say key = ... as well, so that their order is known"
            )

    def _check_type(self, name: str, values: Column, after: Position | None) -> None:
        """Stop at a cursor of mixed types: a database sorts numbers before text, so that one text ends all reading."""
        i = self.keyset.order.index(name)
        known = [] if after is None or i >= len(after) else [after[i]]
        if len({*map(type, known), *values.types()}) == 1:
            return
        first, *rest = [*known, *(values[i] for i in range(len(values)))]
        odd = next((value for value in rest if _type(value) is not _type(first)), None)
        if odd is not None:
            raise DataError(
                f"a cursor must hold values of one type, however {name!r} of {self.label} has both {first!r} and "
                f"{odd!r}; mend that row, or choose another cursor"
            )

    def _chunk(self, block: Block, start: Mark, marks: _MarkAt) -> Chunk:
        return Chunk(
            place=self.place,
            table=block.table,
            rows=np.arange(start.rows, start.rows + len(block)),
            generation=0,
            cursor_at=lambda i: marks[i].to_json(),
        )

    def _only_moved(self, mark: Mark) -> Chunk:
        """Make a chunk without rows, whose cursor is new."""
        nothing = block_of(self.names, self.keyset.order, [])
        return self._chunk(nothing, mark, [mark])


def _type(value: object) -> type:
    return float if isinstance(value, (int, float, Decimal)) else type(value)

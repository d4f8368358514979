"""Rows that were committed late, where nothing tells of open transactions: a window before the mark is read again.

The cursor remembers the last `overlap_rows` rows before the mark. What is found among them and was not there before
came late: it is new. A transaction that stays open while more rows than that are committed after its own is lost.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nightfit.sources.database import stream
from nightfit.sources.sqlblocks import block_of
from nightfit.sources.sqlmarks import Mark, Tail, Window, hashed, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import sqlalchemy as sa

    from nightfit.sources.keyset import Keyset, Position
    from nightfit.sources.sqlblocks import Block


@dataclass(frozen=True)
class Late:
    """Rows of the window that came late, and the mark before them. The mark after them all has the same position."""

    block: Block
    start: Mark
    n_cursor: int

    def __getitem__(self, i: int) -> Mark:
        assert self.start.after is not None
        assert self.start.window is not None
        positions = [self.block.position(j) for j in range(i)]
        level = self.start.after[: self.n_cursor]
        return replace(
            self.start,
            rows=self.start.rows + i,
            level=self.start.level + sum(position[: self.n_cursor] == level for position in positions),
            window=replace(self.start.window, seen=self.start.window.seen + hashed(positions)),
        )


class Overlap:
    """The window before a mark as it is now: iterate over what came late in it; `mark` and `tail` follow."""

    def __init__(
        self, connection: sa.Connection, keyset: Keyset, names: Sequence[str], mark: Mark, n_overlap: int
    ) -> None:
        self.mark = mark
        self.tail = Tail(n_overlap)
        self._connection, self._keyset, self._names = connection, keyset, names

    def __iter__(self) -> Iterator[Late]:
        after = self.mark.after
        if after is None or not self.tail.n:
            return
        if self.mark.window is None:
            self._take_for_known(after)
        else:
            yield from self._read_again(after, self.mark.window)
        self.tail = self.tail.then([after] * self.mark.ties, self.mark.ties)
        self.mark = replace(self.mark, window=self.tail.window(after))

    def _read_again(self, after: Position, window: Window) -> Iterator[Late]:
        known = Counter(split(window.seen))
        conditions = [] if window.start is None else [self._keyset.beyond(window.start)]
        order = [self._names.index(name) for name in self._keyset.order]
        self.tail = replace(self.tail, start=window.start)
        for rows in stream(self._connection, self._keyset.rows(*conditions, self._keyset.before(after))):
            positions = [tuple(row[i] for i in order) for row in rows]
            late = []
            for row, seen in zip(rows, split(hashed(positions)), strict=True):
                if not known[seen]:
                    late.append(row)
                known[seen] = max(known[seen] - 1, 0)
            self.tail = self.tail.then(positions, 0)
            if late:
                found = Late(block_of(self._names, self._keyset.order, late), self.mark, self._keyset.n_cursor)
                yield found
                self.mark = found[len(late)]

    def _take_for_known(self, after: Position) -> None:
        """Take the rows before a mark that remembers none, such as an earlier version's, for known."""
        statement = self._keyset.positions(self._keyset.before(after), newest_first=True).limit(self.tail.n + 1)
        known = [tuple(row) for row in self._connection.execute(statement)]
        self.tail = self.tail.then(reversed(known), 0)

"""What every source promises: the rows after a cursor, in order, in chunks, with the cursor at every row.

A source never keeps state of its own. The cursor that it hands out lives in the checkpoint of the model that
accounted for the rows, so that going back to an old version goes back to its rows as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from nightfit.jsontypes import Json

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Cursor: TypeAlias = dict[str, Json]
"""How far a source has been read: a small JSON object whose meaning only its source knows."""

CHUNK_ROWS = 65_536
"""Rows of a chunk at most: large enough for vectorised work, small enough to hold a few at a time."""


@dataclass(frozen=True)
class SourceConfig:
    """One `[[sources]]` table."""

    url: str
    """A path, a folder, a glob, or a database URL."""
    name: str = ""
    """What the cursor is kept under; made from url and table if empty."""
    table: str = ""
    query: str = ""
    cursor: str | tuple[str, ...] = ()
    """Database column(s) that grow from row to row; the key if empty."""
    optional: bool = False
    """Whether the source may be absent: it then has nothing new."""

    @property
    def cursor_columns(self) -> tuple[str, ...]:
        """The cursor's columns; the config may write a single one as text."""
        return (self.cursor,) if isinstance(self.cursor, str) else self.cursor


@dataclass(frozen=True)
class BadRow:
    """A record that could not even be split into columns: it is rejected, counted and kept."""

    row: int
    reason: str
    text: str


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of a source.

    `table` holds the n records that could be read, by column name, values as the source gave them (text for
    CSV, typed values for SQL). `rows` (int64, [n]) numbers them within the source's present generation,
    counting from 0 and counting bad records too. `bad` are the records of this stretch that could not be read.
    `cursor_at(i)` is the cursor after the first i records of the table, and any bad ones among or directly
    after them; `cursor_at(len(table))` lies after the whole chunk. `generation` goes up when a source starts
    over (a file that was overwritten). `place` is what messages call where the records come from (a file's path,
    or the source's name); (place, generation, row) is the identity of a row without a key.
    """

    place: str
    table: pa.Table
    rows: np.ndarray[tuple[int], np.dtype[np.int64]]
    generation: int
    cursor_at: Callable[[int], Cursor]
    bad: tuple[BadRow, ...] = ()


class Source(Protocol):
    """A place that rows come from. `name` is what cursors are kept under and what messages call it."""

    @property
    def name(self) -> str:
        """What cursors are kept under, and what messages call the source."""
        ...

    def read(self, after: Cursor | None, note: Callable[[str], None]) -> Iterator[Chunk]:
        """Yield what lies after the cursor, in the source's order, in chunks of at most `CHUNK_ROWS` rows.

        `after` is None on the first night. Records that are still being written are left for the next night.
        Records that were committed before the call are all yielded; later ones may be. Reading twice from one
        cursor yields the same records again, as long as nobody changes them. `note` takes sentences
        for a person (a file was overwritten, a half-written line waits). Chunks without records are not
        yielded, save one that only moves the cursor or only holds bad records.

        Raises `DataError` for what cannot be read, `TryAgainError` for what may be back later, `ConfigError`
        for what the config says and the source has not.
        """
        ...

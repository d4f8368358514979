"""The records of one file, chunk by chunk, each with the cursor after any of its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nightfit.ahead import map_ahead
from nightfit.sources.base import CHUNK_ROWS, Chunk, Cursor, Dialect, Numbers
from nightfit.sources.blocks import Block, Blocks
from nightfit.sources.formats import format_of
from nightfit.sources.position import Position, sha256

if TYPE_CHECKING:
    from nightfit.sources.csv import Header
    from nightfit.sources.formats import Format
    from nightfit.sources.unpack import Stream

HASHED_BYTES = 64 << 10
"""Hashed at the start of a file and before the offset."""
Note = Callable[[str], None]


def waiting(place: str, fact: str) -> str:
    """Say that a file is left for the next night."""
    return f"{place} should be complete, however {fact}; it waits for the next night"


def reading_of(
    stream: Stream,
    place: str,
    path: Path,
    start: Position,
    wrap: Callable[[Position], Cursor],
    *,
    note: Note,
    numbers: Numbers,
    dialect: Dialect,
    whole: bool = False,
    hollow: bool = False,
) -> Reading | None:
    """Make the reading of a file, from the stream's start on; None while its header line is not complete."""
    kind = format_of(path, stream, numbers, dialect)
    stream.seek(0)
    header = kind.read_header(stream, place=place, whole=whole and hollow)  # a log without records is no concern
    return Reading(stream, place, kind, header, start, wrap, note, whole, hollow) if header else None


@dataclass
class Reading:
    """The chunks of one file from `start` on; with `hollow`, an empty one where there are none.

    `reached` is the position after those that were yielded.
    """

    stream: Stream
    place: str
    kind: Format
    header: Header
    start: Position
    wrap: Callable[[Position], Cursor]
    note: Note
    whole: bool
    hollow: bool
    reached: Position = field(init=False)

    def __iter__(self) -> Iterator[Chunk]:
        yield from map_ahead(self._chunk, self._pieces())

    def _pieces(self) -> Iterator[tuple[_Stretch, int, int]]:
        """Find the records of each chunk; when there are no more, note what is left of the file."""
        stretch = self._first()
        blocks = Blocks(
            self.stream.read,
            place=self.place,
            offset=stretch.block.offset,
            row=stretch.row,
            whole=self.whole,
            quoted=self.kind.quoted,
            delimiter=self.kind.delimiter,
        )
        empty = self.hollow
        for block in blocks:
            stretch, empty = stretch.next(block), empty and not len(block)
            for i in range(0, len(block), CHUNK_ROWS):
                yield stretch, i, min(i + CHUNK_ROWS, len(block))
        if empty:
            yield stretch, 0, 0
        self.reached = stretch.position(len(stretch.block))
        self._note_rest(blocks.n_rest)

    def _first(self) -> _Stretch:
        """Stand at the first record to be read, with the bytes that cursors hash, and no records yet."""
        offset = max(self.start.offset, self.header.end)
        self.stream.seek(0)
        head = self.stream.read(HASHED_BYTES)
        before = max(0, offset - HASHED_BYTES)
        self.stream.seek(before)
        tail, start = self.stream.read(offset - before), self.start
        return _Stretch(head, tail, start.generation, start.rows, _no_records(offset))

    def _chunk(self, piece: tuple[_Stretch, int, int]) -> Chunk:
        stretch, start, stop = piece
        records = self.kind.parse(stretch.block, start, stop, columns=self.header.columns, row=stretch.row + start)
        index = np.append(records.index, stop)
        return Chunk(
            place=self.place,
            table=records.table,
            rows=records.index + stretch.row,
            generation=stretch.generation,
            cursor_at=lambda i: self.wrap(stretch.position(int(index[i]))),
            bad=records.bad,
            is_sparse=self.kind.is_sparse,
        )

    def _note_rest(self, n_rest: int) -> None:
        if self.stream.is_unfinished:
            self.note(waiting(self.place, "the end of its gzip is missing"))
        elif n_rest:
            self.note(
                f"the last line of {self.place} should end with a newline, however its {n_rest} bytes "
                "have none; they wait for the next night"
            )


@dataclass(frozen=True)
class _Stretch:
    """A block of a file with what the cursors inside of it need: the file's head, and the bytes before it."""

    head: bytes
    before: bytes
    generation: int
    row: int
    block: Block

    def next(self, block: Block) -> _Stretch:
        """Go on to the block that follows this one."""
        before = self._last_bytes(block.offset)
        return replace(self, before=before, row=self.row + len(self.block), block=block)

    def position(self, i: int) -> Position:
        """Give the position after i records: where the next one starts."""
        block = self.block
        offset = block.offset + (int(block.starts[i]) if i < len(block) else block.size)
        return Position(
            self.generation,
            offset,
            self.row + i,
            sha256(self.head[:offset]),
            sha256(self._last_bytes(offset)),
        )

    def _last_bytes(self, offset: int) -> bytes:
        """Take the last 64 KiB before an offset that lies in the block, or at its end."""
        end = offset - self.block.offset
        return (self.before + self.block.data[max(0, end - HASHED_BYTES) : end])[-HASHED_BYTES:]


def _no_records(offset: int) -> Block:
    nothing = np.array([], np.int64)
    return Block(offset, b"", 0, nothing, nothing)

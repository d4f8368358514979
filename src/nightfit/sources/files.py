"""CSV files as a source: one that grows, one that is overwritten, a folder or a glob of them, gzip of each.

A cursor holds, for every file met, how many unpacked bytes and records were read, and hashes of the first and
the last 64 KiB before that offset. Where these differ, the file was overwritten and is read from its start,
as a new generation.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nightfit.errors import ConfigError, DataError
from nightfit.sources.base import CHUNK_ROWS, Chunk, Cursor
from nightfit.sources.blocks import Block, Blocks
from nightfit.sources.csv import parse, read_header
from nightfit.sources.unpack import opened

if TYPE_CHECKING:
    from nightfit.sources.csv import Header
    from nightfit.sources.unpack import Stream

HASHED_BYTES = 64 << 10
"""Hashed at the start of a file and before the offset."""
Note = Callable[[str], None]


@dataclass(frozen=True)
class Position:
    """How far one file has been read: `offset` unpacked bytes, `rows` records (bad ones included).

    `head` and `tail` are the SHA-256 of the first and the last 64 KiB before the offset.
    """

    generation: int = 0
    offset: int = 0
    rows: int = 0
    head: str = hashlib.sha256().hexdigest()
    tail: str = hashlib.sha256().hexdigest()


class FileSource:
    """One CSV file, a folder of them, or a glob; relative paths start at `root`.

    A folder means its `*.csv` and `*.csv.gz`, in the order of their names, without hidden ones. A file whose
    name ends in `.gz` is unpacked. With `optional`, a file that is not there is noted instead of an error.

    >>> source = FileSource(name="bookings", path="exports/*.csv", root=Path("/data"))
    >>> list(source.read(None, note=print))
    exports/*.csv should match files, however none is there; nothing was read
    []
    """

    def __init__(self, *, name: str, path: str | Path, root: Path, optional: bool = False) -> None:
        self.name = name
        self.path = Path(path).expanduser()
        self.root = root.absolute()
        self.optional = optional

    def read(self, after: Cursor | None, note: Note) -> Iterator[Chunk]:
        """Yield what lies after the cursor, file by file; see `Source.read`."""
        cursor: Cursor = after or {"files": {}}
        if "files" not in cursor:
            raise ConfigError(
                f"a source keeps its kind, however '{self.name}' was no file before; give it another name"
            )
        for path in self._listed(note):
            place = self._place(path)
            known = cast("dict[str, dict[str, Any]]", cursor["files"])
            wrap = _Wrap(known, place)
            for chunk in _read_on(path, place, Position(**known.get(place, {})), wrap, note):
                yield chunk
                cursor = chunk.cursor_at(len(chunk.table))

    def _listed(self, note: Note) -> list[Path]:
        try:
            return self._paths(note)
        except OSError as error:
            raise DataError(
                f"the files of source {self.name!r} must be readable, however {self.path} is not: "
                f"{error.strerror}; mend its permissions"
            ) from error

    def _paths(self, note: Note) -> list[Path]:
        path = self.root / self.path
        if path.is_dir():
            found = [p for p in path.iterdir() if p.name.lower().endswith((".csv", ".csv.gz"))]
        elif glob.has_magic(str(self.path)) and not path.exists():
            # Path.glob takes no absolute pattern.
            names = glob.glob(str(self.path), root_dir=self.root, recursive=True)  # noqa: PTH207
            found = [self.root / name for name in names]
        else:
            return self._one(path, note)
        found = [p for p in found if p.is_file() and not _is_passed_over(p.name)]
        if not found:
            note(f"{self.path} should match files, however none is there; nothing was read")
        return sorted(found, key=self._place)

    def _one(self, path: Path, note: Note) -> list[Path]:
        if path.is_file() and not path.stat().st_size:
            raise DataError(f"{self._place(path)} must start with a header line, however it is empty; write it first")
        if path.exists():
            return [path]
        rule = f"the file of source {self.name!r} must exist, however {path} is not there"
        if not self.optional:
            raise DataError(f"{rule}; mend the path, or say optional = true")
        note(f"{rule}; nothing was read, since it is optional")
        return []

    def _place(self, path: Path) -> str:
        """Name a file in messages and cursors: its path from the root on."""
        place = (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()
        if not place.isprintable():
            raise DataError(f"a file name must be printable text, however {place!a} is not; rename it")
        return place


def read_whole(path: Path, *, note: Note) -> Iterator[Chunk]:
    """Yield all records of one file that is complete: a last line without a newline counts.

    A file without records yields one empty chunk, which has its columns. Raises `DataError` for a file that
    is missing, empty, or a gzip that was cut short.
    """
    place = str(path)
    with opened(path, place, whole=True) as stream:
        header = read_header(stream, place=place, whole=True)
        if header is None:
            raise DataError(f"{place} must start with a header line, however it is blank; write it first")
        yield from _Reading(stream, place, header, Position(), _Wrap({}, place), note, whole=True)


@dataclass(frozen=True)
class _Wrap:
    """Put the position of one file among those of the others."""

    others: dict[str, dict[str, Any]]
    place: str

    def __call__(self, position: Position) -> Cursor:
        return {"files": {**self.others, self.place: asdict(position)}}


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith((".tmp", ".part"))


def _read_on(
    path: Path, place: str, after: Position, wrap: Callable[[Position], Cursor], note: Note
) -> Iterator[Chunk]:
    """Yield what lies after a position of one file."""
    with opened(path, place) as stream:
        start = _start(stream, after, place, note)
        header = read_header(stream, place=place) if start else None
        if start and header:
            moved = start.generation != after.generation
            yield from _Reading(stream, place, header, start, wrap, note, moved=moved)
        elif start:
            note(_waiting(place, "its header line is not complete"))


def _start(stream: Stream, after: Position, place: str, note: Note) -> Position | None:
    """Find where to go on: at the position, at the start of a new generation, or (None) not yet."""
    n = min(HASHED_BYTES, after.offset)
    head = stream.read(n)
    stream.seek(after.offset - n)
    tail = stream.read(n)
    stream_is_short = len(tail) < n
    stream.seek(0)
    if (_sha256(head), _sha256(tail)) == (after.head, after.tail):
        return after
    if stream.is_unfinished and stream_is_short:
        note(_waiting(place, "it is shorter than what was read of it, and the end of its gzip is missing"))
        return None
    note(
        f"{place} should only grow, however what was read of it has changed: it was overwritten, "
        "and is read from its start"
    )
    return Position(generation=after.generation + 1)


def _waiting(place: str, fact: str) -> str:
    return f"{place} should be complete, however {fact}; it waits for the next night"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class _Reading:
    """The chunks of one file from `start` on; with `whole` or `moved`, an empty one where there are none."""

    stream: Stream
    place: str
    header: Header
    start: Position
    wrap: Callable[[Position], Cursor]
    note: Note
    whole: bool = False
    moved: bool = False

    def __iter__(self) -> Iterator[Chunk]:
        stretch = self._first()
        blocks = Blocks(
            self.stream.read,
            place=self.place,
            offset=stretch.block.offset,
            row=stretch.row,
            whole=self.whole,
        )
        empty = self.whole or self.moved
        for block in blocks:
            stretch, empty = stretch.next(block), empty and not len(block)
            for i in range(0, len(block), CHUNK_ROWS):
                yield self._chunk(stretch, i, min(i + CHUNK_ROWS, len(block)))
        if empty:
            yield self._chunk(stretch, 0, 0)
        self._note_rest(blocks.n_rest)

    def _first(self) -> _Stretch:
        """Stand at the first record to be read, with the bytes that cursors hash, and no records yet."""
        offset = max(self.start.offset, self.header.end)
        self.stream.seek(0)
        head = self.stream.read(HASHED_BYTES)
        before = max(0, offset - HASHED_BYTES)
        self.stream.seek(before)
        return _Stretch(
            head,
            self.stream.read(offset - before),
            self.start.generation,
            self.start.rows,
            _no_records(offset),
        )

    def _chunk(self, stretch: _Stretch, start: int, stop: int) -> Chunk:
        records = parse(stretch.block, start, stop, columns=self.header.columns, row=stretch.row + start)
        index = [*records.index.tolist(), stop]
        return Chunk(
            place=self.place,
            table=records.table,
            rows=records.index + stretch.row,
            generation=stretch.generation,
            cursor_at=lambda i: self.wrap(stretch.position(index[i])),
            bad=records.bad,
        )

    def _note_rest(self, n_rest: int) -> None:
        if self.stream.is_unfinished:
            self.note(_waiting(self.place, "the end of its gzip is missing"))
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
        offset = block.offset + (int(block.starts[i]) if i < len(block) else len(block.data))
        return Position(
            self.generation,
            offset,
            self.row + i,
            _sha256(self.head[:offset]),
            _sha256(self._last_bytes(offset)),
        )

    def _last_bytes(self, offset: int) -> bytes:
        """Take the last 64 KiB before an offset that lies in the block, or at its end."""
        end = offset - self.block.offset
        return (self.before + self.block.data[max(0, end - HASHED_BYTES) : end])[-HASHED_BYTES:]


def _no_records(offset: int) -> Block:
    nothing = np.array([], np.int64)
    return Block(offset, b"", nothing, nothing)

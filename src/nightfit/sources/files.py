"""Files as a source: one that grows, one that is overwritten, a folder or a glob of them, a log that rotates.

A cursor holds, for every file met, how many unpacked bytes and records were read, and hashes of the first and
the last 64 KiB before that offset. Where these differ, the file was overwritten and is read from its start,
as a new generation. Parquet files (`nightfit.sources.parquet`) are written once, and counted by rows alone.
"""

from __future__ import annotations

import copy
import glob
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nightfit.errors import ConfigError, DataError, GapError
from nightfit.sources import filereading
from nightfit.sources.base import Chunk, Cursor, Dialect, Numbers, step_over
from nightfit.sources.csv import PLAIN
from nightfit.sources.filereading import Note, reading_of, waiting
from nightfit.sources.listing import JSON_LINES, PARQUET, ends_with, find
from nightfit.sources.position import Position, read_ends
from nightfit.sources.rotation import LogWrap, Progress, check_still, go_on, open_log
from nightfit.sources.unpack import opened

if TYPE_CHECKING:
    from nightfit.sources.unpack import Stream


class FileSource:
    """One file, a folder of them, a glob, or a log that rotates; relative paths start at `root`.

    A folder means its files of CSV, JSON lines and Parquet (by the ends of their names), in the order of their
    names, without hidden ones. A file whose name ends in `.gz` is unpacked. With `optional`, a file that is not there
    is noted instead of an error. `rotated` is a glob of the names that a log gets when it is rotated; `on_gap` says
    what to do where the log was read from a file that is not there any more. `dialect` is how CSV files are spelled.

    >>> source = FileSource(name="bookings", path="exports/*.csv", root=Path("/data"))
    >>> list(source.read(None, note=print))
    exports/*.csv should match files, however none is there; nothing was read
    []
    """

    def __init__(
        self,
        *,
        name: str,
        path: str | Path,
        root: Path,
        optional: bool = False,
        rotated: str = "",
        on_gap: str = "stop",
        dialect: Dialect = PLAIN,
    ) -> None:
        self.name = name
        self.path = Path(path).expanduser()
        self.root = root.absolute()
        self.optional = optional
        self.rotated = str(Path(rotated).expanduser()) if rotated else ""
        self.on_gap = on_gap
        self.dialect = dialect
        self.numbers = Numbers()

    def expecting(self, numbers: Numbers) -> FileSource:
        """Return the source with numbers in place of their text; see `Expecting`."""
        source = copy.copy(self)
        source.numbers = numbers
        return source

    def read(self, after: Cursor | None, note: Note) -> Iterator[Chunk]:
        """Yield what lies after the cursor, file by file; see `Source.read`.

        Raises `GapError` for a rotated log none of whose files is the one that was read last.
        """
        cursor: Cursor = after or {"files": {}}
        if "files" not in cursor:
            raise ConfigError(
                f"a source keeps its kind, however '{self.name}' was no file before; give it another name"
            )
        if self.rotated:
            yield from self._read_log(cast("dict[str, dict[str, Any]]", cursor["files"]), note)
            return
        for path in self._listed(note):
            place = self._place(path)
            known = cast("dict[str, dict[str, Any]]", cursor["files"])
            entry, wrap = known.get(place, {}), _Wrap(known, place)
            for chunk in _read_on(path, place, entry, wrap, note=note, numbers=self.numbers, dialect=self.dialect):
                yield chunk
                cursor = chunk.cursor_at(len(chunk.table))

    def _read_log(self, known: dict[str, dict[str, Any]], note: Note) -> Iterator[Chunk]:
        live, place = self.root / self.path, self._place(self.root / self.path)
        if live.is_dir() or glob.has_magic(str(self.path)) or ends_with(live, PARQUET):
            raise ConfigError(
                f"a source with rotated names the log's own file, however '{self.path}' is none; set url to it"
            )
        gap = f"the log '{place}' must go on from where it was read or lie among '{self.rotated}', however neither does"
        with ExitStack() as stack:
            files = open_log(live, self.rotated, self.root, filereading.HASHED_BYTES, stack)
            if not files:
                self._one(live, note)
                return

            def step_over_gap() -> None:
                check_still(files, live, self.rotated, self.root, strictly=True)
                step_over(gap, self.on_gap, note)

            log = go_on(files, Progress.of(known.get(place)), step_over_gap, note)
            check_still(files, live, self.rotated, self.root)
            for i, file in enumerate(log.files):
                wrap, is_over = LogWrap(known, place, log, i), log.is_over(i)
                reading = reading_of(
                    file.stream,
                    place,
                    file.path,
                    log.start(i),
                    wrap,
                    note=note,
                    numbers=self.numbers,
                    dialect=self.dialect,
                    whole=is_over,
                )
                if reading and not log.is_read(i):
                    yield from reading
                    log = log.after(i, reading.reached)

    def _listed(self, note: Note) -> list[Path]:
        try:
            return self._paths(note)
        except OSError as error:
            raise DataError(
                f"the files of source {self.name!r} must be readable, however {self.path} is not: "
                f"{error.strerror}; mend its permissions"
            ) from error

    def _paths(self, note: Note) -> list[Path]:
        found = find(self.path, self.root)
        if found is None:
            return self._one(self.root / self.path, note)
        if not found:
            note(f"{self.path} should match files, however none is there; nothing was read")
        return sorted(found, key=self._place)

    def _one(self, path: Path, note: Note) -> list[Path]:
        if path.is_file() and not path.stat().st_size and not ends_with(path, (*JSON_LINES, *PARQUET)):
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


def read_whole(path: Path, *, note: Note, after: Cursor | None = None, dialect: Dialect = PLAIN) -> Iterator[Chunk]:
    """Yield the records of one file that is complete, after a cursor: a last line without a newline counts.

    A file without records yields one empty chunk, which has its columns. Raises `DataError` for a file that
    is missing, empty, a gzip that was cut short, or a Parquet file without its end; `GapError` for one that is not
    what was read up to the cursor.
    """
    place = str(path)
    wrap, entry = _Wrap({}, place), cast("dict[str, Any]", after["files"])[place] if after else {}
    if ends_with(path, PARQUET):
        from nightfit.sources.parquet import read_whole_parquet

        yield from read_whole_parquet(path, place, entry, wrap)
        return
    start = Position.of(entry)
    with opened(path, place, whole=True) as stream:
        if not read_ends(stream, start.offset, filereading.HASHED_BYTES).are_of(start):
            raise GapError(f"{place} must stay as it is while it is read, however it has changed; read it anew")
        reading = reading_of(
            stream,
            place,
            path,
            start,
            wrap,
            note=note,
            numbers=Numbers(),
            dialect=dialect,
            whole=True,
            hollow=not start.rows,
        )
        if reading is None:
            raise DataError(f"{place} must start with a header line, however it is blank; write it first")
        yield from reading


@dataclass(frozen=True)
class _Wrap:
    """Put the position of one file among those of the others."""

    others: dict[str, dict[str, Any]]
    place: str

    def __call__(self, position: Any) -> Cursor:  # noqa: ANN401 - any dataclass
        return {"files": {**self.others, self.place: asdict(position)}}


def _read_on(
    path: Path, place: str, entry: dict[str, Any], wrap: _Wrap, *, note: Note, numbers: Numbers, dialect: Dialect
) -> Iterator[Chunk]:
    """Yield what lies after a cursor's entry of one file."""
    if ends_with(path, PARQUET):
        from nightfit.sources.parquet import read_parquet_on

        yield from read_parquet_on(path, place, entry, wrap, note)
        return
    after = Position.of(entry)
    with opened(path, place) as stream:
        start = _start(stream, after, place, note)
        if start is None:
            return
        is_new = start.generation != after.generation
        reading = reading_of(
            stream, place, path, start, wrap, note=note, numbers=numbers, dialect=dialect, hollow=is_new
        )
        if reading:
            yield from reading
        else:
            note(waiting(place, "its header line is not complete"))


def _start(stream: Stream, after: Position, place: str, note: Note) -> Position | None:
    """Find where to go on: at the position, at the start of a new generation, or (None) not yet."""
    ends = read_ends(stream, after.offset, filereading.HASHED_BYTES)
    if ends.are_of(after):
        return after
    if stream.is_unfinished and ends.is_short:
        note(waiting(place, "it is shorter than what was read of it, and the end of its gzip is missing"))
        return None
    note(
        f"{place} should only grow, however what was read of it has changed: it was overwritten, "
        "and is read from its start"
    )
    return Position(generation=after.generation + 1)

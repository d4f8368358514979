"""A log that rotates: which of its files were read, how far, and which are new.

A file of the log is known again by the bytes that were read of it, whatever it is called by now and whether it
was packed meanwhile. What matches no position of the cursor was not read yet. So the order of the files, for which
their times are taken, says in which order rows are learned, and never whether they are.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nightfit.errors import TryAgainError
from nightfit.sources.base import Cursor
from nightfit.sources.listing import ends_with, matching
from nightfit.sources.position import Position, sha256
from nightfit.sources.unpack import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from nightfit.jsontypes import Json
    from nightfit.sources.unpack import Stream

_NUMBERED = re.compile(r"\.(\d{1,4})$")
"""app.log.2 is older than app.log.1; more digits are a date."""


@dataclass(frozen=True)
class Progress:
    """How far the files of a log were read, oldest first; the last one is what the log goes on from.

    `next_generation` is that of the next file. `is_whole` unless the log's older files were not kept track of.
    """

    positions: tuple[Position, ...] = ()
    next_generation: int = 0
    is_whole: bool = True

    @classmethod
    def of(cls, entry: dict[str, Any] | None) -> Progress:
        """Read a cursor's entry of the log, which may be that of a file that did not rotate."""
        if entry is None:
            return cls()
        last = Position.of(entry)
        before = tuple(map(Position.of, entry.get("before", [])))
        return cls((*before, last), entry.get("next", last.generation + 1), "before" in entry)

    def to_json(self) -> dict[str, Json]:
        """Write a cursor's entry; it extends that of a file that does not rotate."""
        *before, last = map(asdict, self.positions)
        return {**last, "before": list(before), "next": self.next_generation}


@dataclass
class LogFile:
    """A file of the log, opened; `n_hashed` bytes at either end are what it is known by."""

    path: Path
    stream: Stream
    n_hashed: int
    listed: os.stat_result
    is_live: bool

    @cached_property
    def head(self) -> bytes:
        """The first bytes."""
        self.stream.seek(0)
        return self.stream.read(self.n_hashed)

    @cached_property
    def length(self) -> int:
        """Count its bytes, unpacked: from where the stream stands, so that a gzip is unpacked once."""
        return self.stream.length()

    @property
    def is_unfinished(self) -> bool:
        """Whether it is a gzip without its end."""
        return self.length >= 0 and self.stream.is_unfinished

    @property
    def is_packed(self) -> bool:
        """Whether it is a gzip."""
        return ends_with(self.path, (".gz",))

    def continues(self, position: Position) -> bool:
        """Say whether its start is what was read up to a position."""
        n = min(self.n_hashed, position.offset)
        return sha256(self.head[:n]) == position.head and sha256(self._before(position.offset, n)) == position.tail

    def end(self, generation: int) -> Position:
        """Return the position after all of it."""
        n = min(self.n_hashed, self.length)
        tail = self._before(self.length, n)
        return Position(generation, self.length, 0, sha256(self.head[:n]), sha256(tail))

    def is_copied_from(self, other: LogFile) -> bool:
        """Say whether all of it is the start of another file, of which it is a copy that is being made."""
        return other is not self and other.continues(self.end(0))

    def _before(self, offset: int, n: int) -> bytes:
        self.stream.seek(offset - n)
        return self.stream.read(n)


@dataclass(frozen=True)
class Log:
    """The files of a log, oldest first, each with how far it was read (None: not at all).

    `lost` is the position from which the log should go on, and no file does.
    """

    files: tuple[LogFile, ...]
    positions: tuple[Position | None, ...]
    next_generation: int
    lost: Position | None = None

    def start(self, i: int) -> Position:
        """Return where to go on in a file."""
        return self.positions[i] or Position(generation=self.progress().next_generation)

    def is_read(self, i: int) -> bool:
        """Say whether nothing of a file is left to be read."""
        start, file = self.positions[i], self.files[i]
        return start is not None and file.length == start.offset and not file.is_unfinished

    def is_over(self, i: int) -> bool:
        """Say whether nobody writes a file any more: it was renamed, and a newer one has been begun."""
        file = self.files[i]
        return not file.is_live and any(newer.head for newer in self.files[i + 1 :]) and not file.is_unfinished

    def after(self, i: int, position: Position) -> Log:
        """Return the log once a file was read up to a position; one without records is as good as not read."""
        if self.positions[i] is None and not position.rows:
            return self
        return replace(self, positions=(*self.positions[:i], position, *self.positions[i + 1 :]))

    def progress(self) -> Progress:
        """Return what a cursor keeps: without files that have gone, save one that was lost until there is a newer."""
        kept = [position for position in self.positions if position]
        newest = max((position.generation for position in kept), default=-1)
        if self.lost and newest < self.next_generation:
            kept.append(self.lost)
        return Progress(tuple(kept), max(self.next_generation, newest + 1))


@dataclass(frozen=True)
class LogWrap:
    """Put the position of a log's i-th file among those of its others, and the log among other files."""

    others: dict[str, dict[str, Any]]
    place: str
    log: Log
    i: int

    def __call__(self, position: Position) -> Cursor:
        """Return the cursor at a position of the i-th file."""
        progress = self.log.after(self.i, position).progress()
        return {"files": {**self.others, **({self.place: progress.to_json()} if progress.positions else {})}}


def open_log(live: Path, rotated: str, root: Path, n_hashed: int, stack: ExitStack) -> tuple[LogFile, ...]:
    """Open all files of a log, oldest first; `stack` closes them. The live one may be missing.

    Raises `TryAgainError` for a file that has just gone.
    """
    return tuple(
        LogFile(path, stack.enter_context(opened(path, path.name)), n_hashed, stat, path == live)
        for path, stat in _listed(live, rotated, root).items()
    )


def check_still(files: Sequence[LogFile], live: Path, rotated: str, root: Path, *, strictly: bool = False) -> None:
    """Raise `TryAgainError` if a log was rotated or cut since its files were listed, or (`strictly`) one has grown."""
    now = _listed(live, rotated, root)
    before = {file.path: file.listed for file in files}
    if {p: stat.st_ino for p, stat in now.items()} != {p: stat.st_ino for p, stat in before.items()}:
        raise _moved(live)
    grown = {now[path].st_size - stat.st_size for path, stat in before.items()}
    if min(grown, default=0) < 0 or (strictly and max(grown, default=0) > 0):
        raise _moved(live)


def _listed(live: Path, rotated: str, root: Path) -> dict[Path, os.stat_result]:
    """List the log's files in the order of their times, the live one last."""
    try:
        found = {path: path.stat() for path in matching(rotated, root) if path != live}
        now = {live: live.stat()} if live.exists() else {}
    except FileNotFoundError:
        raise _moved(live) from None
    return dict(sorted(found.items(), key=lambda item: (item[1].st_mtime_ns, *_age(item[0])))) | now


def _moved(live: Path) -> TryAgainError:
    return TryAgainError(f"a log must stay while it is opened, however {live.name} was just rotated; try again")


def _age(path: Path) -> tuple[int, str]:
    """Order the names of files of one time: by their number downwards, by their text where they have none."""
    number = _NUMBERED.search(path.name.removesuffix(".gz"))
    return (-int(number[1]) if number else 0, path.name)


def go_on(
    files: Sequence[LogFile], progress: Progress, step_over_gap: Callable[[], None], note: Callable[[str], None]
) -> Log:
    """Find out how far each of the log's files was read; those that are not to be read yet are left out.

    `step_over_gap` is called where none goes on from the newest position. Raises `TryAgainError` while a gzip that
    lacks its end may yet do.
    """
    found = _found(files, progress.positions)
    waiting = [file for i, file in enumerate(files) if i not in found and _waits(file, files, note)]
    lost = progress.positions[-1] if progress.positions and progress.positions[-1] not in found.values() else None
    packing = [file.path.name for file in waiting if file.is_unfinished]
    if lost and packing:
        raise TryAgainError(f"a log must be whole, however {packing[0]} lacks its end; try again when it is complete")
    if lost:
        step_over_gap()
    next_generation = progress.next_generation
    if not progress.is_whole:
        last = max(found, default=len(files))
        for i in (i for i, file in enumerate(files[:last]) if i not in found and not file.is_live):
            found[i] = files[i].end(next_generation)
            next_generation += 1
    kept = [i for i, file in enumerate(files) if file not in waiting]
    return Log(tuple(files[i] for i in kept), tuple(found.get(i) for i in kept), next_generation, lost)


def _found(files: Sequence[LogFile], positions: Sequence[Position]) -> dict[int, Position]:
    """Find the file of each position, by index.

    Short positions may match several files that start alike, so the longest choose first. Only the newest may be
    that of the live file.
    """
    found: dict[int, Position] = {}
    for position in sorted(positions, key=lambda position: -position.offset):
        is_newest = position is positions[-1]
        fits = [
            i
            for i, file in enumerate(files)
            if i not in found and (is_newest or not file.is_live) and file.continues(position)
        ]
        if fits:
            found[max(fits, key=lambda i: (not files[i].is_packed, i if is_newest else -i))] = position
    return found


def _waits(file: LogFile, files: Sequence[LogFile], note: Callable[[str], None]) -> bool:
    """Say whether a new file is not to be read yet: it is still being packed or copied from another one."""
    if file.is_live:
        return False
    originals = [f for f in files if f.is_live or f.path == file.path.with_suffix("")]
    if file.is_unfinished:
        note(f"{file.path.name} should be complete, however the end of its gzip is missing; it waits")
        return True
    if file.head and any(file.is_copied_from(other) for other in originals):
        note(f"{file.path.name} should be a file of its own, however another one starts with all of it; it waits")
        return True
    return False

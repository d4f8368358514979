"""An output in pieces: each durable, with how far the input had been read after it, so that a killed run goes on.

The pieces lie in a hidden folder beside the output until they are all there. A run that is over within `PIECE_S`
has one piece, which becomes the output by its name alone.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from nightfit.disk import sync_folder
from nightfit.errors import NightfitError, TryAgainError
from nightfit.jsontypes import Json
from nightfit.lock import writer_lock
from nightfit.outputs.base import Progress
from nightfit.outputs.formats import Format, Writer

PIECE_S = 30.0
"""Seconds of work that a kill can cost, about; each piece costs a few syncs and, of Parquet, a copy at the end."""

PROGRESS = "progress.json"


Deliver: TypeAlias = Callable[[list[Path]], None]
"""What becomes of the pieces once they are all there. It may be killed and done again."""


class Pieces:
    """An output as the pieces in a folder.

    `what` says which input and which version they are of; others are thrown away.
    """

    def __init__(
        self, folder: Path, kind: Format, deliver: Deliver, what: Mapping[str, Json], note: Callable[[str], None]
    ) -> None:
        self._folder, self._format, self._deliver, self._what = folder, kind, deliver, dict(what)
        self._sizes: list[int] = []
        self._writer: Writer | None = None
        self.progress = Progress()
        self._since_s = time.monotonic()
        self._take_over(note)

    def _take_over(self, note: Callable[[str], None]) -> None:
        """Go on after an earlier run, if it wrote the same."""
        saved = _saved(self._folder / PROGRESS)
        is_same = saved is not None and saved.get("what") == self._what and self._cut_to(saved["sizes"])
        if saved is None or not is_same:
            if saved is not None:
                note("an earlier run that was cut off had another input, version or config; its rows are scored again")
            self.restart()
            return
        self._sizes = saved["sizes"]
        done = saved["progress"]
        self.progress = Progress(**{**done, "columns": tuple(done["columns"])})
        note(f"an earlier run was cut off; going on after the {self.progress.rows:,} rows that it scored")

    def _cut_to(self, sizes: list[int]) -> bool:
        """Cut what was appended to the first piece by a joining that was killed; say whether all pieces are there."""
        paths = [self._path(i) for i in range(len(sizes))]
        if not all(path.is_file() and path.stat().st_size >= size for path, size in zip(paths, sizes, strict=True)):
            return False
        for path, size in zip(paths, sizes, strict=True):
            os.truncate(path, size)
        return True

    def restart(self) -> None:
        """See `Output`."""
        self.abandon()
        (self._folder / PROGRESS).unlink(missing_ok=True)  # before the pieces that it names
        for path in self._folder.glob("piece-*"):
            path.unlink()
        self._sizes, self.progress = [], Progress()

    def write(self, table: Any, progress: Progress) -> None:  # noqa: ANN401 - pyarrow ships no types
        """See `Output`; now and then, make durable what was written."""
        if self._writer and not self._writer.takes(table):
            self._cut()
        if self._writer is None:
            path = self._path(len(self._sizes))
            self._writer = self._format.open(path, table, is_first=not self._sizes)
        self._writer.write(table)
        self.progress = progress
        if time.monotonic() - self._since_s >= PIECE_S:
            self._cut()

    def abandon(self) -> None:
        """Leave the piece that is being written."""
        if self._writer:
            self._writer.close()
            self._writer = None

    def _cut(self) -> None:
        """End a piece: durable first, then known by the progress."""
        path = self._path(len(self._sizes))
        self.abandon()
        _sync(path)
        sync_folder(self._folder)
        self._sizes.append(path.stat().st_size)
        saved = {"what": self._what, "sizes": self._sizes, "progress": asdict(self.progress)}
        part = self._folder / f"{PROGRESS}.part"
        part.write_text(json.dumps(saved), encoding="utf-8")
        _sync(part)
        part.replace(self._folder / PROGRESS)
        sync_folder(self._folder)
        self._since_s = time.monotonic()

    def finish(self) -> None:
        """See `Output`: end the last piece, and deliver all of them."""
        if self._writer:
            self._cut()
        self._deliver([self._path(i) for i in range(len(self._sizes))])

    @property
    def is_worth_keeping(self) -> bool:
        """Whether a later run could go on from here."""
        return bool(self._sizes)

    def _path(self, i: int) -> Path:
        return self._folder / f"piece-{i:06}{self._format.suffix}"


def _saved(path: Path) -> dict[str, Any] | None:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return saved if isinstance(saved, dict) else None


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def pieces_in(
    folder: Path, kind: Format, deliver: Deliver, what: Mapping[str, Json], note: Callable[[str], None]
) -> Iterator[Pieces]:
    """Give the pieces of a folder, which is made, and removed unless a later run can go on from them.

    That is so after a kill, an interrupt, or a database that was down; not after an error that time does not mend.
    Raises `LockedError` while another run writes there, and `OSError` as the system does.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    with writer_lock(folder):
        pieces = Pieces(folder, kind, deliver, what, note)
        try:
            yield pieces
        except BaseException as error:
            with suppress(OSError):  # on a full disk a piece cannot even be ended
                pieces.abandon()
            is_final = isinstance(error, NightfitError | OSError) and not isinstance(error, TryAgainError)
            if is_final or not pieces.is_worth_keeping:
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)

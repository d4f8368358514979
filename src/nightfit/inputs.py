"""DATA and INPUT of the command line: a file, a folder, a glob or a database table, read once, from its start.

Unlike a night's sources these are taken for complete: a last line without a newline counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nightfit.errors import DataError, UsageError
from nightfit.sources.base import Dialect, from_environment
from nightfit.sources.listing import KINDS, find

if TYPE_CHECKING:
    from nightfit.jsontypes import Json
    from nightfit.sources.base import Chunk, Cursor


@dataclass(frozen=True)
class Typed:
    """DATA or INPUT of the command line: what was typed, the table if it is a database's URL, how CSV is spelled."""

    name: str
    table: str = ""
    dialect: Dialect = Dialect()  # noqa: RUF009 - frozen

    def read(self, after: Cursor | None, note: Callable[[str], None]) -> Generator[Chunk]:  # noqa: ARG002 - it is whole
        """Yield the rows after a cursor of an earlier reading; raises `GapError` if it has changed since."""
        if "://" in self.name:
            from nightfit.sources.sql import read_table

            if not self.table:
                raise UsageError("a database needs --table, however there is none; name the table")
            url = from_environment(self.name, "the url")
            yield from read_table(url, table=self.table, root=Path.cwd(), after=after)
            return
        from nightfit.sources.files import read_whole

        files = files_of(self.name)
        for path in files[_first(files, after) :]:
            start = after if after and _is_of(after, path) else None
            yield from read_whole(path, note=lambda _: None, after=start, dialect=self.dialect)

    def identity(self) -> str:
        """Return a hash that differs from another input's, and from this one's once one of its files has changed.

        A table's does not: its cursor tells.
        """
        names = [] if "://" in self.name else [(str(path), *_stamp(path)) for path in files_of(self.name)]
        return hashlib.sha256(repr((self.name, self.table, self.dialect, str(Path.cwd()), names)).encode()).hexdigest()


def _is_of(after: Cursor, path: Path) -> bool:
    return str(path) in cast("dict[str, Json]", after["files"])


def _first(files: list[Path], after: Cursor | None) -> int:
    return next((i for i, path in enumerate(files) if after and _is_of(after, path)), 0)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()  # who reads it says what is wrong
    return found.st_size, found.st_mtime_ns, found.st_ino


def files_of(data: str) -> list[Path]:
    """Return the files that DATA names; in the order of their names."""
    if not data:
        raise UsageError("data must be a file, a folder or a database, however its name is empty; name it")
    try:
        found = find(data, Path())
    except OSError as error:
        raise DataError(f"{data} must be readable, however: {error.strerror}; mend the path") from None
    if found is None:
        return [Path(data)]
    if not found:
        raise DataError(f"{data} must hold files of {KINDS}, however there is none; mend the path")
    return sorted(found)

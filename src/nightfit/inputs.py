"""DATA and INPUT of the command line: a file, a folder, a glob or a database table, read once, from its start.

Unlike a night's sources these are taken for complete: a last line without a newline counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from nightfit.errors import DataError, UsageError
from nightfit.sources.listing import KINDS, find

if TYPE_CHECKING:
    from nightfit.sources.base import Chunk, Cursor


def chunks_of(data: str, table_name: str) -> Generator[Chunk]:
    """Yield all rows of a file, a folder or a database table that was named on the command line."""
    if "://" in data:
        from nightfit.sources.sql import read_table

        if not table_name:
            raise UsageError("a database needs --table, however there is none; name the table")
        yield from read_table(data, table=table_name, root=Path.cwd())
    else:
        from nightfit.sources.files import read_whole

        for path in _files(data):
            yield from read_whole(path, note=lambda _: None)


def _files(data: str) -> list[Path]:
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


@dataclass(frozen=True)
class Typed:
    """DATA of the command line, as a source that is read once, from its start."""

    name: str
    table: str = ""

    def read(self, after: Cursor | None, note: Callable[[str], None]) -> Iterator[Chunk]:  # noqa: ARG002 - once
        """Yield everything; there is no second night."""
        return chunks_of(self.name, self.table)


def column_hint(name: str, there: Collection[str]) -> str:
    """End a message about a column that is not there with the one that was probably meant."""
    by_lower = {column.lower(): column for column in there}
    near = get_close_matches(name.lower(), by_lower, 1)
    return f"did you mean '{by_lower[near[0]]}'?" if near else f"it has {', '.join(there)}{separator_hint(there)}"


def separator_hint(columns: Collection[str]) -> str:
    """End a message with what is probably wrong if a file has a single column whose name is a whole header."""
    found = [c for c in ";\t|" if len(columns) == 1 and c in next(iter(columns))]
    return f" (columns must be separated by commas; these seem to be by {found[0]!r})" if found else ""

"""Kinds of text files by what differs: where the first record starts, where records end, how they become columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from nightfit.sources.csv import BOM, parse, read_header
from nightfit.sources.jsonlines import parse_lines, read_start
from nightfit.sources.listing import CSV, JSON_LINES, ends_with

if TYPE_CHECKING:
    from pathlib import Path

    from nightfit.sources.base import Dialect, Numbers
    from nightfit.sources.blocks import Block
    from nightfit.sources.csv import Header, Records
    from nightfit.sources.unpack import Seekable

PEEKED_BYTES = 1 << 10
"""Read of a file whose name does not tell its format."""


class ReadHeader(Protocol):
    """Find the columns and the first record; None while there is no header yet."""

    def __call__(self, stream: Seekable, *, place: str, whole: bool = False) -> Header | None:
        """Read from the stream's start."""


class Parse(Protocol):
    """Turn the records [start, stop) of a block into columns; `row` is the number of the first."""

    def __call__(self, block: Block, start: int, stop: int, *, columns: tuple[str, ...], row: int) -> Records:
        """Parse records; those that cannot be are bad ones."""
        ...


@dataclass(frozen=True)
class Format:
    """How text becomes records; `quoted` ones may hold line ends within quotes, `is_sparse` ones name their columns."""

    read_header: ReadHeader
    parse: Parse
    quoted: bool
    is_sparse: bool
    delimiter: str = ","


CSV_FILE = Format(read_header, parse, quoted=True, is_sparse=False)
JSON_LINES_FILE = Format(read_start, parse_lines, quoted=False, is_sparse=True)


def format_of(path: Path, stream: Seekable, numbers: Numbers, dialect: Dialect) -> Format:
    """Tell a file's format by the end of its name; any other is CSV unless its text starts with a brace.

    `numbers` are columns of text that may be read as such; `dialect` is how CSV is spelled.
    """
    if ends_with(path, JSON_LINES) or (not ends_with(path, CSV) and _starts_with_brace(stream)):
        return JSON_LINES_FILE
    return replace(
        CSV_FILE,
        read_header=partial(read_header, dialect=dialect),
        parse=partial(parse, numbers=numbers, dialect=dialect),
        delimiter=dialect.delimiter,
    )


def _starts_with_brace(stream: Seekable) -> bool:
    stream.seek(0)
    return stream.read(PEEKED_BYTES).removeprefix(BOM).lstrip().startswith(b"{")

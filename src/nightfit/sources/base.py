"""What every source promises: the rows after a cursor, in order, in chunks, with the cursor at every row.

A source never keeps state of its own. The cursor that it hands out lives in the checkpoint of the model that
accounted for the rows, so that going back to an old version goes back to its rows as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from nightfit.errors import ConfigError, GapError
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
    """What the `[[sources]]` tables of all kinds have; each kind adds its own keys (`nightfit.sources.configs`)."""

    url: str
    """Where the rows are; its scheme says what kind of source it is. A file, a folder, a glob (CSV, JSON lines,
    Parquet); a database as SQLAlchemy spells it: `sqlite:///shop.db`, `postgresql+psycopg://user@host/shop`;
    `https://...`; `kafka://host:9092/topic`; `redis://host`; `nats://host`. `${NAME}` is taken from the environment, so
    that no password need stand here. Example: `"postgresql+psycopg://me:${SHOP_PASSWORD}@db/shop"`."""
    name: str = ""
    """What the cursor is kept under; made from the url if empty. Rename a source and it is read from its start; rows
    that are known by key are then duplicates. Example: `"shop"`."""
    optional: bool = False
    """Whether the source may be absent: it then has nothing new. Otherwise that is an error (65)."""
    on_gap: Literal["stop", "skip"] = "stop"
    """What to do where the source no longer holds rows that were not read yet (retention, rotation, a database restored
    from an older backup). `"stop"` (65), or `"skip"` them, say so, and go on with what it has."""

    @property
    def part(self) -> str:
        """What of the url's place is read, and names the source besides the url: a table, a stream."""
        return ""

    @property
    def cursor_columns(self) -> tuple[str, ...]:
        """Columns that the source is ordered by, which are never features."""
        return ()


@dataclass(frozen=True)
class Surroundings:
    """What a source may need to know of its pipeline: the key's columns, the target, where relative paths start.

    With `is_look` nobody learns what is read: nothing may be made where the rows are.
    """

    key: tuple[str, ...]
    target: str
    root: Path
    is_look: bool = False


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
    CSV, or numbers if they were expected; typed values for SQL). `rows` (int64, [n]) numbers them within the
    source's present generation, counting from 0 and counting bad records too. `bad` are the records of this
    stretch that could not be read.
    `cursor_at(i)` is the cursor after the first i records of the table, and any bad ones among or directly
    after them; `cursor_at(len(table))` lies after the whole chunk. `generation` goes up when a source starts
    over (a file that was overwritten). `place` is what messages call where the records come from (a file's path,
    or the source's name); (place, generation, row) is the identity of a row without a key. `is_sparse` says that
    records name their own columns (JSON objects): one that none of them has is missing, not lost.
    """

    place: str
    table: pa.Table
    rows: np.ndarray[tuple[int], np.dtype[np.int64]]
    generation: int
    cursor_at: Callable[[int], Cursor]
    bad: tuple[BadRow, ...] = ()
    is_sparse: bool = False


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


@runtime_checkable
class Acknowledging(Protocol):
    """A source whose broker wants to hear how far its rows are accounted for."""

    def acknowledge(self, cursors: Sequence[Cursor]) -> None:
        """Tell the broker that everything before all of these cursors (one for each lineage) is accounted for.

        It is called after the commit, again after a night that found nothing, and for cursors that were acknowledged
        before. Raises `TryAgainError` where the broker cannot be reached: the next night will say it again.
        """


@runtime_checkable
class LookingUp(Protocol):
    """A source that can be asked for rows by their key, wherever its cursor stands."""

    def look_up(self, keys: Sequence[tuple[str, ...]]) -> Iterator[pa.Table]:
        """Yield the rows that have one of the keys (each as text, column by column) and have a target by now.

        The tables hold the key's columns and the target at least. Raises what `Source.read` does.
        """
        ...


@dataclass(frozen=True)
class Numbers:
    """Columns that are known to hold numbers, and the texts that mean "no value" among them."""

    names: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is spelled: what separates its columns, and a number's fraction from its whole part."""

    delimiter: str = ","
    decimal: str = "."


@runtime_checkable
class Expecting(Protocol):
    """A source of text that can read columns straight as numbers, which is faster."""

    def expecting(self, numbers: Numbers) -> Source:
        """Return the source with float64 in place of text wherever a chunk of a column holds plain numbers alone.

        Cleaning must make the same of both: a chunk with anything that it would reject stays text.
        """
        ...


class KeepCursor(str):
    """A note of what only tonight's cursor knows: the cursor is committed even if no row came."""

    __slots__ = ()


def step_over(gap: str, on_gap: str, note: Callable[[str], None]) -> None:
    """Raise `GapError` for rows that a source has no longer, or note it where the config says to skip them.

    `gap` is "rule, however: fact".
    """
    if on_gap == "stop":
        raise GapError(f'{gap}; find the rows, or set on_gap = "skip" for this source to go on without them')
    note(KeepCursor(f"{gap}; they are skipped"))


def from_environment(text: str, what: str) -> str:
    """Replace each `${NAME}` by the environment's, so that no secret need stand in a config.

    Raises `ConfigError` for a name that is not set; `what` says where it is named.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise ConfigError(f"{what} needs ${{{found[1]}}} from the environment, however it is not set; export it")
        return os.environ[found[1]]

    return re.sub(r"\$\{(\w+)\}", value, text)

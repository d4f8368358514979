"""The increment: the rows after each source's cursor, staged once on disk for all models that share the read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nightfit.batch import Array
from nightfit.duration import seconds, spelt
from nightfit.errors import ConfigError, UsageError
from nightfit.kinds import parse
from nightfit.sources.base import BadRow, Chunk, Cursor, Expecting, KeepCursor, LookingUp, Numbers, Source

_DETAIL = 200
"""Characters of a bad record that are kept."""


@dataclass(frozen=True)
class Cut:
    """Where a night of a long history ends: after `n_rows` of each source, or with a period of a time column."""

    n_rows: int | None = None
    column: str | None = None
    every_s: float = 86_400.0

    @classmethod
    def parse(cls, n_rows: int | None, column: str | None, every: str | None) -> Cut | None:
        """Read the command line's `--night-rows`, `--night-column` and `--every`; None if there are none."""
        if every is not None and column is None:
            raise UsageError("--every needs --night-column, however there is none; name the column of times")
        if n_rows is None and column is None:
            return None
        if n_rows is not None and (n_rows < 1 or column is not None):
            raise UsageError(
                "a night ends after --night-rows >= 1 rows or by --night-column, however both or 0 were given"
            )
        every_s = seconds(every or "1d")
        if not every_s:
            raise UsageError(f"--every must be a number and one of s, m, h, d, w, however it is '{every}'; try 1d")
        return cls(n_rows, column, every_s)

    @property
    def text(self) -> str:
        """How nights are cut, in words."""
        if self.n_rows is not None:
            return f"{self.n_rows:,} rows of each source"
        return f"{self.column}, every {spelt(self.every_s)}"

    def periods(self, table: pa.Table) -> Array:
        """Return the number of each row's period, float64 [n], NaN where the row has no time."""
        if self.column not in table.column_names:
            raise ConfigError(
                f"--night-column must name a column of every source, however '{self.column}' is not among "
                f"{', '.join(table.column_names)}",
            )
        seconds, bad = parse(table[self.column].combine_chunks(), "datetime", ("",))
        if len(bad) and bad.all():
            raise ConfigError(
                f"--night-column must name a column of ISO 8601 times, however '{self.column}' holds "
                f"{str(table[self.column][0])!r}; name another, or use --night-rows"
            )
        values = np.asarray(seconds.to_numpy(zero_copy_only=False), np.float64)
        return np.floor(np.where(bad, np.nan, values) / self.every_s)

    def spelt(self, period: float) -> str:
        """Say when a period begins, as ISO 8601 in UTC."""
        return datetime.fromtimestamp(period * self.every_s, UTC).isoformat().removesuffix("+00:00")


@dataclass(frozen=True)
class Part:
    """A staged chunk of n rows: the table lies on disk, everything else is small. `names` are its columns.

    Its records are numbered from `first` on, bad ones included. One that was `looked_up` was not read, but asked for.
    """

    source: str
    place: str
    generation: int
    first: int
    n: int
    bad: tuple[BadRow, ...]
    names: tuple[str, ...]
    path: Path
    is_sparse: bool = False
    looked_up: bool = False

    @property
    def table(self) -> Any:  # noqa: ANN401 - pyarrow ships no types
        """The chunk's table, memory-mapped."""
        return read_table(self.path)

    @property
    def rows(self) -> Array:
        """The numbers of the table's rows within the place's generation, int64 [n]."""
        numbers = np.arange(self.first, self.first + self.n + len(self.bad))
        return np.setdiff1d(numbers, [bad.row for bad in self.bad], assume_unique=True)


@dataclass
class Increment:
    """What was read tonight: staged parts, the cursors reached, and what a person should know about it."""

    cursors: dict[str, Cursor]
    parts: list[Part] = field(default_factory=list)
    looked_up: list[Part] = field(default_factory=list)
    """Rows that were asked for by the keys of pending ones, and bring their labels."""
    n_read: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def keeps_cursors(self) -> bool:
        """Say whether the cursors hold what the next night needs, though no row may have come."""
        return any(isinstance(note, KeepCursor) for note in self.notes)

    @property
    def n_rows(self) -> int:
        """Records read, those that could not be split into columns included."""
        return sum(self.n_read.values())


def read_increment(
    sources: Iterable[Source],
    after: Mapping[str, Cursor],
    folder: Path,
    *,
    cut: Cut | None = None,
    skip: Mapping[str, int] | None = None,
    numbers: Numbers | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Increment:
    """Read every source from its cursor and stage the rows in `folder`.

    With `cut`, each source stops where the night ends; the first `skip[source]` records belong to nights that were
    refused: they are read besides, and the night is cut after them. `numbers` are the columns that all who share the
    read know as such. `progress` is told how many rows came.
    """
    folder.mkdir(parents=True)
    increment = Increment(dict(after))
    sources = [s.expecting(numbers) if numbers and isinstance(s, Expecting) else s for s in sources]
    ends = _Ends(cut, sources, after, skip or {})
    for source in sources:
        increment.n_read[source.name] = 0
        with _reading(source, after, increment.notes.append) as chunks:
            for chunk in ends.stop(source, chunks):
                increment.parts.append(_staged(source, chunk, folder / f"{len(increment.parts):06d}.arrow"))
                increment.cursors[source.name] = chunk.cursor_at(len(chunk.rows))
                increment.n_read[source.name] += len(chunk.rows) + len(chunk.bad)
                progress(len(chunk.rows))
    return increment


def look_up(increment: Increment, sources: Iterable[Source], keys: Sequence[tuple[str, ...]], folder: Path) -> None:
    """Ask the sources that can be asked for the rows of these keys, and stage those that have a target by now."""
    for source in (source for source in sources if keys and isinstance(source, LookingUp)):
        for table in source.look_up(keys):
            path = folder / f"looked-up-{len(increment.looked_up):06d}.arrow"
            write_table(table, path)
            names = tuple(table.column_names)
            part = Part(source.name, source.name, 0, 0, len(table), (), names, path, looked_up=True)
            increment.looked_up.append(part)


def _staged(source: Source, chunk: Chunk, path: Path) -> Part:
    write_table(chunk.table, path)
    bad = tuple(replace(bad, text=bad.text[:_DETAIL]) for bad in chunk.bad)
    first = min([*chunk.rows[:1].tolist(), *(b.row for b in bad)], default=0)
    names = tuple(chunk.table.column_names)
    n = len(chunk.rows)
    return Part(source.name, chunk.place, chunk.generation, first, n, bad, names, path, chunk.is_sparse)


@contextmanager
def _reading(
    source: Source, after: Mapping[str, Cursor], note: Callable[[str], None] = lambda _: None
) -> Iterator[Iterator[Chunk]]:
    """Let go of the source's file or connection at once, wherever the reading ends."""
    chunks = source.read(after.get(source.name), note)
    try:
        yield chunks
    finally:
        if isinstance(chunks, Generator):
            chunks.close()


class _Ends:
    """Stops each source's chunks where the night ends."""

    def __init__(
        self, cut: Cut | None, sources: list[Source], after: Mapping[str, Cursor], skip: Mapping[str, int]
    ) -> None:
        self._cut, self._skip = cut, skip
        self._last_period = self._first_period(sources, after) if cut and cut.column else None

    def _first_period(self, sources: list[Source], after: Mapping[str, Cursor]) -> float:
        """Return the earliest period that any source holds beyond the rows to skip."""
        assert self._cut
        first = np.inf
        for source in sources:
            n_seen = 0
            with _reading(source, after) as chunks:
                for chunk in chunks:
                    new = self._cut.periods(chunk.table)[_n_of_first(chunk, self._skip.get(source.name, 0) - n_seen) :]
                    n_seen += len(chunk.rows) + len(chunk.bad)
                    if np.isfinite(new).any():
                        first = min(first, float(new[np.isfinite(new)][0]))
                        break
        return first

    def stop(self, source: Source, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """Yield chunks up to the end of the night, the last one cut short."""
        n_seen, n_skip = 0, self._skip.get(source.name, 0)
        for chunk in chunks:
            n_table = len(chunk.rows)
            end = self._end(chunk, n_seen, n_skip)
            yield chunk if end == n_table else shortened(chunk, end)
            n_seen += n_table + len(chunk.bad)
            if end < n_table:
                return

    def _end(self, chunk: Chunk, n_seen: int, n_skip: int) -> int:
        n = len(chunk.rows)
        if self._cut is None:
            return n
        if self._cut.n_rows is not None:
            return _n_of_first(chunk, n_skip + self._cut.n_rows - n_seen)
        late = self._cut.periods(chunk.table) > self._last_period
        late[: _n_of_first(chunk, n_skip - n_seen)] = False
        return int(late.argmax()) if late.any() else n


def _n_of_first(chunk: Chunk, n: int) -> int:
    """Return how many of a chunk's first n records are rows of its table; the others are bad."""
    records = np.sort(np.append(chunk.rows, [bad.row for bad in chunk.bad]))
    return int(np.searchsorted(chunk.rows, records[n])) if 0 <= n < len(records) else len(chunk.rows) * (n > 0)


def shortened(chunk: Chunk, n: int) -> Chunk:
    """Return the first n records of a chunk, and the bad ones before the next."""
    bad = tuple(b for b in chunk.bad if n == len(chunk.rows) or b.row < chunk.rows[n])
    return replace(chunk, table=chunk.table.slice(0, n), rows=chunk.rows[:n], bad=bad)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as an Arrow file."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_table(path: Path) -> Any:  # noqa: ANN401 - pyarrow ships no types
    """Return the table of an Arrow file, memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()

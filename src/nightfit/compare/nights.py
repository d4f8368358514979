"""How past data are cut into nights: by rows, by periods of a time column, or as a pipeline's log tells.

A night is a list of pieces of staged tables, as chunks of one source may differ in type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nightfit.batch import Array
from nightfit.sources.increment import read_table


class Cutting(Protocol):
    """Where nights end: after `n_rows` of each source, or, if it is None, with a period."""

    @property
    def n_rows(self) -> int | None:
        """Rows of each source that make a night."""
        ...

    @property
    def text(self) -> str:
        """How nights are cut, in words."""
        ...

    def periods(self, table: Any) -> Array:  # noqa: ANN401 - pyarrow ships no types
        """Return the number of each row's period, float64 [n], NaN where it has none."""
        ...

    def spelt(self, period: float) -> str | None:
        """Say when a period begins, as ISO 8601, if it is one of time."""
        ...


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a staged table; the table is mapped only while somebody holds it."""

    path: Path
    start: int
    num_rows: int

    @property
    def table(self) -> Any:  # noqa: ANN401 - pyarrow ships no types
        """The rows."""
        return read_table(self.path).slice(self.start, self.num_rows)

    def slice(self, start: int, n: int | None = None) -> Piece:
        """Return n rows (all, if it is None) from the start-th on."""
        return Piece(self.path, self.start + start, self.num_rows - start if n is None else n)


def nights(sources: Sequence[Iterable[Piece]], cut: Cutting) -> Iterator[list[Piece]]:
    """Cut the sources' rows, in order, into nights: lists of pieces, as chunks may differ in type.

    A night has `cut.n_rows` rows of each source, or those up to where the period of `cut.column` goes up; a row that
    comes late, or has no time, belongs to the night in which it comes.
    """
    readers = [_Reader(iter(pieces)) for pieces in sources]
    period = -np.inf
    while any(reader.fill() for reader in readers):
        if cut.n_rows is None:
            period = max(period, min(reader.next_period(cut) for reader in readers))
        yield [piece for reader in readers for piece in reader.night(cut, period)]


@dataclass
class _Reader:
    """What is still to come of one source; `held` has been looked at, and is not taken yet."""

    pieces: Iterator[Piece]
    held: list[Piece] = field(default_factory=list)

    def fill(self) -> bool:
        """Hold the next piece that has rows; say whether there is one."""
        while not self.held and (piece := next(self.pieces, None)) is not None:
            self.held = [piece] if piece.num_rows else []
        return bool(self.held)

    def next_period(self, cut: Cutting) -> float:
        """Return the first period to come, infinity if no row has a time."""
        for piece in chain(list(self.held), self._held_on()):
            periods = cut.periods(piece.table)
            if np.isfinite(periods).any():
                return float(periods[np.isfinite(periods)][0])
        return np.inf

    def _held_on(self) -> Iterator[Piece]:
        for piece in self.pieces:
            self.held.append(piece)
            yield piece

    def night(self, cut: Cutting, period: float) -> Iterator[Piece]:
        """Yield a night's pieces: `cut.n_rows` rows, or those before the first of a later period."""
        n_left = np.inf if cut.n_rows is None else cut.n_rows
        while n_left and self.fill():
            piece = self.held.pop(0)
            end = int(min(n_left, piece.num_rows if cut.n_rows else _first_after(cut.periods(piece.table), period)))
            if end:
                yield piece.slice(0, end)
            if end < piece.num_rows:
                self.held.insert(0, piece.slice(end))
                return
            n_left -= end


def _first_after(periods: Array, period: float) -> int:
    late = periods > period
    return int(late.argmax()) if late.any() else len(periods)

"""Nights as a pipeline had them: cut where its log says that each of its nights ended, source by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nightfit.errors import DataError

if TYPE_CHECKING:
    from nightfit.batch import Array
    from nightfit.sources.increment import Increment, Part
    from nightfit.store import Lineage

NIGHT = "nightfit: night"
"""The column that numbers the nights while they are cut; no feature."""


@dataclass(frozen=True)
class LogCut:
    """The nights of a log: how many records of each source each read, and when it was. What came since is one more."""

    reads: Sequence[Mapping[str, int]]
    times: Sequence[str]
    text: str
    n_rows: None = field(default=None, init=False)

    @classmethod
    def of(cls, lineage: Lineage) -> LogCut:
        """Read the nights that a lineage's head grew from.

        Raises `DataError` if it has none, or has left out rows on its way (`--skip-rows`): its nights then say nothing
        of where these lie.
        """
        head = lineage.head()
        chain = list(reversed(lineage.ancestry(head))) if head else []
        skipped = next((m for m in chain if m.act != "night" and m.rows.read), None)
        if skipped is not None or not chain or chain[0].parent is not None:
            fact = f"version {skipped.version} left some out" if skipped else f"{lineage.name} has no whole log"
            raise DataError(
                f"--nights-of-log needs a lineage that has learned all rows from the first on, however {fact}; "
                "use --night-rows or --night-column"
            )
        nights = [m for m in chain if m.act == "night"]
        reads: list[Any] = [m.night["read"] for m in nights]
        return cls(reads, [m.created_at for m in nights], f"the {len(nights)} nights of {lineage.name}'s log")

    def periods(self, table: Any) -> Array:  # noqa: ANN401 - pyarrow ships no types
        """Return the number of each row's night, float64 [n]."""
        return np.asarray(table[NIGHT].to_numpy(), np.float64)

    def spelt(self, period: float) -> str | None:
        """Say when a night was; None of the rows that came since the last."""
        return self.times[int(period)] if period < len(self.times) else None

    def number(self, increment: Increment) -> Mapping[str, Array]:
        """Return, by the name of each staged part's file, the night of each of its rows, float64 [n].

        Raises `DataError` if a source has fewer records than the log tells of: what it had is not there any more.
        """
        numbers: dict[str, Array] = {}
        for source, n_read in increment.n_read.items():
            ends = np.cumsum([night.get(source, 0) for night in self.reads])
            if n_read < ends[-1]:
                raise DataError(
                    f"--nights-of-log needs the rows of all nights, however the log tells of {ends[-1]:,} of {source} "
                    f"and {n_read:,} are there; use --night-rows or --night-column"
                )
            before = 0
            for part in (part for part in increment.parts if part.source == source):
                positions = before + part.rows - part.first
                numbers[part.path.name] = np.searchsorted(ends, positions, side="right").astype(np.float64)
                before += part.n + len(part.bad)
        return numbers


def numbered(part: Part, numbers: Mapping[str, Array]) -> Any:  # noqa: ANN401 - pyarrow ships no types
    """Return a part's table with its column of nights, if there are numbers."""
    return part.table.append_column(NIGHT, pa.array(numbers[part.path.name])) if numbers else part.table

"""What becomes of the rows that a night read: one fate for each, a reason for every reject.

Features, labels and keys lie on disk; in memory are two hashes and a fate of each row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from nightfit.batch import Array, Batch
from nightfit.known import Segment
from nightfit.schema import Schema
from nightfit.sources.increment import read_table


class Fate(IntEnum):
    """What becomes of a row that was read; exactly one of these."""

    LEARNED = 0
    HELD_OUT = 1
    DUPLICATE = 2
    EXCLUDED = 3
    REJECTED = 4


class Reject(NamedTuple):
    """A row that is not used: where it is, and why. `column` and `value` are empty if no single one is to blame."""

    place: str
    row: int
    key: str
    column: str
    reason: str
    value: str


class CleanPart(NamedTuple):
    """A parsed chunk: features, label and key (text) on disk, hashes in memory; `fates` are filled in last.

    `old_hash` is the hash of the values without the columns that are new tonight.
    """

    place: str
    path: Path
    rows: Array
    key_hash: Array
    value_hash: Array
    old_hash: Array
    fates: Array


@dataclass
class CleanNight:
    """A night's rows with their fates; `delivered` names the columns that each source has delivered so far."""

    target: str
    delivered: dict[str, set[str]]
    rejects: list[Reject] = field(default_factory=list)
    parts: list[CleanPart] = field(default_factory=list)
    n_bad: int = 0

    def count(self, fate: Fate) -> int:
        """Return how many rows have a fate; records that could not even be split into columns are rejects."""
        n = sum(int((part.fates == fate).sum()) for part in self.parts)
        return n + self.n_bad if fate is Fate.REJECTED else n

    def encode(self, schema: Schema, *fates: Fate) -> Iterator[Batch]:
        """Yield the rows of the given fates, in order, as one schema sees them."""
        for part, mask in self._select(fates):
            table = read_table(part.path).filter(mask)
            yield schema.encode(table, part.key_hash[mask], table[self.target])

    def grown(self, schema: Schema) -> Schema:
        """Return the schema with the classes and categories of the learned rows, and of no others."""
        labels: set[str] = set()
        values: dict[str, set[str]] = {column.name: set() for column in schema.categorical}
        for part, mask in self._select((Fate.LEARNED,)):
            table = read_table(part.path).filter(mask)
            if schema.task == "classification":
                labels.update(pc.unique(table[self.target]).to_pylist())
            for name, known in values.items():
                if name in table.column_names:
                    known.update(v for v in pc.unique(table[name]).to_pylist() if v is not None)
        return schema.with_classes(labels).with_categories(values)

    def segment(self) -> Segment:
        """Return the identities of the rows that were used or met again; rejects leave none."""
        places = sorted({part.place for part in self.parts})
        kept = [np.isin(part.fates, (Fate.LEARNED, Fate.HELD_OUT, Fate.DUPLICATE)) for part in self.parts]
        pairs = list(zip(self.parts, kept, strict=True))
        return Segment.sort(
            np.concatenate([np.zeros(0, np.uint64), *(p.key_hash[m] for p, m in pairs)]),
            np.concatenate([np.zeros(0, np.uint64), *(p.value_hash[m] for p, m in pairs)]),
            np.concatenate(
                [
                    np.zeros(0, np.int32),
                    *(np.full(m.sum(), places.index(p.place), np.int32) for p, m in pairs),
                ]
            ),
            places,
        )

    def write_rejects(self, path: Path) -> None:
        """Write one JSON object per reject."""
        with path.open("w", encoding="utf-8") as file:
            for reject in self.rejects:
                file.write(json.dumps(reject._asdict(), ensure_ascii=False) + "\n")

    def why_rejected(self, n: int = 3) -> str:
        """Return the most frequent reasons, with an example each."""
        counts = Counter((r.column, r.reason) for r in self.rejects).most_common(n)
        examples = {(r.column, r.reason): r for r in reversed(self.rejects)}
        return "; ".join(f"{describe(examples[kind])} ({count} row{'s' * (count > 1)})" for kind, count in counts)

    def _select(self, fates: tuple[Fate, ...]) -> Iterator[tuple[CleanPart, Array]]:
        for part in self.parts:
            mask = np.isin(part.fates, fates)
            if mask.any():
                yield part, mask


def describe(reject: Reject) -> str:
    """Return a reject as a phrase: the reason, and where it was met."""
    what = f"column '{reject.column}' {reject.reason}" if reject.column else reject.reason
    value = f" ('{reject.value}')" if reject.value else ""
    return f"{what}{value} in row {reject.row + 1} of {reject.place}"


def too_many_rejects(night: CleanNight, n_read: int, limit: float) -> str | None:
    """Return the sentence that stops a night with too many rejects, or None."""
    n = night.count(Fate.REJECTED)
    if n <= limit * n_read:
        return None
    return (
        f"at most {limit:.0%} of a night's rows may be rejected, however {n} of {n_read} were: {night.why_rejected()}; "
        'mend the source, or raise schema.max_reject_share, or run once with --accept "why"'
    )

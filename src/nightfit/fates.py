"""What becomes of the rows that a night read: one fate for each, a reason for every reject.

Features, labels, keys, hashes and rejects lie on disk; in memory is a fate of each row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightfit.ahead import map_ahead
from nightfit.batch import Array, Batch, save_array
from nightfit.schema import Schema
from nightfit.sources.increment import read_table, write_table

_DETAIL = 200
"""Characters of a value or a record that a reject keeps."""


class Fate(IntEnum):
    """What becomes of a row that was read; exactly one of these."""

    LEARNED = 0
    HELD_OUT = 1
    DUPLICATE = 2
    EXCLUDED = 3
    REJECTED = 4
    PENDING = 5


class Reject(NamedTuple):
    """A row that is not used: where it is, and why. `column` and `value` are empty if no single one is to blame."""

    place: str
    row: int
    key: str
    column: str
    reason: str
    value: str


class Rejects:
    """A night's rejects: all of them in a file, one JSON object a line; of each kind a count and an example."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], Reject] = {}
        path.touch()

    def __len__(self) -> int:
        return self._counts.total()

    def __iter__(self) -> Iterator[Reject]:
        with self.path.open(encoding="utf-8") as file:
            yield from (Reject(**json.loads(line)) for line in file)

    def add(self, rejects: Sequence[Reject]) -> None:
        """Keep some more."""
        if not rejects:
            return
        with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            for reject in rejects:
                kept = reject._replace(value=reject.value[:_DETAIL])
                kind = (kept.column, kept.reason)
                self._counts[kind] += 1
                self._examples.setdefault(kind, kept)
                file.write(json.dumps(kept._asdict(), ensure_ascii=False) + "\n")

    def why(self, n: int = 3) -> str:
        """Return the most frequent reasons, with an example each."""
        most = self._counts.most_common(n)
        return "; ".join(f"{describe(self._examples[kind])} ({n} row{'s' * (n > 1)})" for kind, n in most)


class Hashes(NamedTuple):
    """Hashes of rows, uint64 [n] each.

    `values` is a sum over the columns, of which `added` is the part of columns that are new tonight, `targets` that of
    the target (0 where there is none). `rows` are the rows' numbers.
    """

    keys: Array
    values: Array
    added: Array
    targets: Array
    rows: Array


@dataclass(frozen=True)
class CleanPart:
    """Parsed rows of one place: features, target and key (text) on disk, as are their hashes; `fates` are uint8 [n].

    Columns that are `borrowed` lie in the table as it was read, `raw`, and are not written again.
    `since` (float64 [n], seconds since 1970) is set for those that were pending before. Of a part that is `looked_up`
    no row counts: it was not read, but asked for. One without features only brings labels, as does a record of
    a sparse one that has none.
    """

    place: str
    stem: Path
    fates: Array
    has_features: bool = True
    is_sparse: bool = False
    looked_up: bool = False
    since: Array | None = None
    raw: Path | None = None
    borrowed: tuple[str, ...] = ()

    @classmethod
    def staged(cls, stem: Path, table: Any, hashes: Hashes, **more: Any) -> CleanPart:  # noqa: ANN401
        """Write a part to disk."""
        part = cls(stem=stem, **more)
        part.write(table.drop_columns([*part.borrowed]))
        save_array(part._hashes, np.stack(hashes))
        return part

    def write(self, table: Any) -> None:  # noqa: ANN401 - pyarrow ships no types
        """Write (again) what its table holds besides what is borrowed, or all of it."""
        path = self.stem.with_suffix(".arrow")
        write_table(table, path.with_suffix(".part"))  # the old one may be mapped still
        path.with_suffix(".part").replace(path)

    def renew(self, rows: Array, values: Array) -> None:
        """Remember other values (hashes, uint64 [m]) of some rows (indices, int64 [m])."""
        hashes = np.load(self._hashes, mmap_mode="r+", allow_pickle=False)
        hashes[Hashes._fields.index("values"), rows] = values
        hashes.flush()

    @property
    def _hashes(self) -> Path:
        return self.stem.with_suffix(".npy")

    @property
    def table(self) -> Any:  # noqa: ANN401
        """The parsed rows, memory-mapped."""
        table = read_table(self.stem.with_suffix(".arrow"))
        if self.raw is None:
            return table
        raw = read_table(self.raw)
        for name in (name for name in self.borrowed if name not in table.column_names):
            table = table.append_column(name, raw[name])
        return table

    def select(self, names: Sequence[str]) -> Any:  # noqa: ANN401
        """Return those of the columns that are there."""
        table = self.table
        return table.select([name for name in names if name in table.column_names])

    @property
    def hashes(self) -> Hashes:
        """The hashes, memory-mapped."""
        return Hashes(*np.load(self._hashes, mmap_mode="r", allow_pickle=False))


@dataclass
class CleanNight:
    """A night's rows with their fates; `delivered` names the columns that each source has delivered so far."""

    target: str
    delivered: dict[str, set[str]]
    rejects: Rejects
    segment: Path
    """The identities of the rows that were used or met again; rejects and pending rows leave none."""
    parts: list[CleanPart] = field(default_factory=list)
    n_bad: int = 0

    def count(self, fate: Fate) -> int:
        """Return how many rows have a fate; records that could not even be split into columns are rejects."""
        n = sum(int((part.fates == fate).sum()) for part in self.parts if not part.looked_up)
        return n + self.n_bad if fate is Fate.REJECTED else n

    @property
    def n_rejected_tonight(self) -> int:
        """How many of the rows that were read tonight are rejects: a label that never came is not tonight's fault."""
        return self.n_bad + sum(int((p.fates == Fate.REJECTED).sum()) for p in self.parts if self._is_read(p))

    @staticmethod
    def _is_read(part: CleanPart) -> bool:
        return not part.looked_up and part.since is None

    def encode(self, schema: Schema, *fates: Fate) -> Iterator[Batch]:
        """Yield the rows of the given fates, in order, as one schema sees them."""
        names = [*(column.name for column in schema.columns), self.target]

        def encoded(chosen: tuple[CleanPart, Array]) -> Batch:
            part, mask = chosen
            table = part.select(names) if mask.all() else part.select(names).filter(pa.array(mask))
            return schema.encode(table, part.hashes.keys[mask], table[self.target])

        yield from map_ahead(encoded, self.select(*fates))

    def grown(self, schema: Schema) -> Schema:
        """Return the schema with the classes and categories of the learned rows, and of no others."""
        labels = set(schema.classes)
        values = {column.name: set(column.categories) for column in schema.categorical}
        for part, mask in self.select(Fate.LEARNED):
            table = part.select([*values, self.target])
            if schema.task == "classification":
                _add_words(labels, table[self.target], mask)
            for name in values.keys() & set(table.column_names):
                _add_words(values[name], table[name], mask)
        return schema.with_classes(labels).with_categories(values)

    def select(self, *fates: Fate) -> Iterator[tuple[CleanPart, Array]]:
        """Yield the parts that have rows of the given fates, each with the mask of these (bool [n])."""
        for part in self.parts:
            mask = np.isin(part.fates, fates)
            if mask.any() and not part.looked_up:
                yield part, mask


def _add_words(known: set[str], column: Any, mask: Array) -> None:  # noqa: ANN401 - pyarrow ships no types
    """Add the words of the rows of a mask; which rows have them is of no concern where none is new."""
    if not known.issuperset(pc.unique(column.drop_null()).to_pylist()):
        known.update(pc.unique(column.filter(pa.array(mask)).drop_null()).to_pylist())


def describe(reject: Reject) -> str:
    """Return a reject as a phrase: the reason, and where it was met."""
    what = f"column '{reject.column}' {reject.reason}" if reject.column else reject.reason
    value = f" ('{reject.value}')" if reject.value else ""
    return f"{what}{value} in row {reject.row + 1} of {reject.place}"


def too_many_rejects(night: CleanNight, n_read: int, limit: float) -> str | None:
    """Return the sentence that stops a night with too many rejects, or None."""
    n = night.n_rejected_tonight
    if n <= limit * n_read:
        return None
    return (
        f"at most {limit:.0%} of a night's rows may be rejected, however {n} of {n_read} were: {night.rejects.why()}; "
        'mend the source, or raise schema.max_reject_share, or run once with --accept "why"'
    )

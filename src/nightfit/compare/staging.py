"""The nights, cleaned and encoded once for all models: arrays on disk, and how the schema grew from night to night.

Every model's process opens the same files. What is kept of the schema is only what a night appended, so that a
thousand nights with a thousand categories cost no more than the categories.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from nightfit.batch import Batch, Rows, stage, staged, widened
from nightfit.cleaning import adopt, parse_features, target_of
from nightfit.compare.nights import Piece
from nightfit.identity import hash_positions
from nightfit.schema import Rules, Schema, Task
from nightfit.sources.increment import read_table, write_table

_PLAN = "nights.json"


@dataclass(frozen=True)
class Grown:
    """What a night appended to the schema: columns with their kinds, classes, and categories by column."""

    columns: dict[str, Any]
    classes: list[str]
    categories: dict[str, list[str]]

    @classmethod
    def between(cls, old: Schema, new: Schema) -> Grown:
        """Return what the newer schema has and the older one has not."""
        known = {c.name: len(c.categories) for c in old.columns}
        columns = {c.name: c.kind for c in new.columns[len(old.columns) :]}
        listed = {c.name: list(c.categories)[known.get(c.name, 0) :] for c in new.categorical}
        return cls(columns, list(new.classes[len(old.classes) :]), {name: v for name, v in listed.items() if v})

    def apply(self, schema: Schema) -> Schema:
        """Return the schema with what was appended."""
        return schema.with_columns(self.columns).with_classes(self.classes).with_categories(self.categories)


@dataclass(frozen=True)
class StagedNight:
    """A night: its rows, the CPU seconds that preparing them took, what it appended, and when it began (ISO 8601)."""

    rows: int
    shared_s: float
    grown: Grown
    period: str | None = None


@dataclass(frozen=True)
class Staged:
    """Nights on disk, with a digest of all that a model sees of them."""

    folder: Path
    task: Task
    declared: tuple[str, ...]
    """The labels that all models know ahead."""
    nights: tuple[StagedNight, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.nights)

    @property
    def n_rows(self) -> int:
        """All rows."""
        return sum(night.rows for night in self.nights)

    @cached_property
    def schemas(self) -> list[Schema]:
        """The schema of every night, which knows that night's columns, classes and categories."""
        schema, found = self.first, []
        for night in self.nights:
            schema = night.grown.apply(schema)
            found.append(schema)
        return found

    @property
    def first(self) -> Schema:
        """The schema before the first night."""
        return Schema(task=self.task).with_classes(self.declared)

    def rows(self, night: int) -> Rows:
        """Return a night's rows as that night's schema has them."""
        return staged(self.folder / f"{night:06d}")

    def rows_as(self, night: int, schema: Schema) -> Rows:
        """Return a night's rows as a later schema has them: columns that came since are missing."""
        d_num, cat_ids, rows = schema.sizes.d_num, schema.new_cat_ids, self.rows(night)
        now = self.schemas[night].sizes
        if (now.d_num, now.d_cat) == (d_num, len(cat_ids)):
            return rows
        return Rows([widened(block, d_num, cat_ids) for block in rows.chunks()])

    def everything(self, folder: Path) -> Rows:
        """Return all nights' rows as one, in whole blocks."""
        schema = self.schemas[-1]
        return stage((block for i in range(len(self)) for block in self.rows_as(i, schema).chunks()), folder)

    def save(self) -> None:
        """Write down what `opened` needs."""
        plan = {**asdict(self), "folder": str(self.folder)}
        (self.folder / _PLAN).write_text(json.dumps(plan), encoding="utf-8")

    @classmethod
    def opened(cls, folder: Path) -> Staged:
        """Open nights that another process staged."""
        plan = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
        nights = tuple(StagedNight(**{**night, "grown": Grown(**night["grown"])}) for night in plan["nights"])
        return cls(folder, plan["task"], tuple(plan["declared"]), nights, plan["digest"])


def stage_nights(
    nights: Iterable[Sequence[Piece]],
    rules: Rules,
    task: Task,
    declared: Iterable[str],
    folder: Path,
    *,
    period_of: Callable[[Sequence[Piece]], str | None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Staged:
    """Clean and encode nights, each with a schema that has grown by its columns, classes and categories.

    `period_of` says when a night begins, `progress` is told how many rows are ready.
    """
    folder.mkdir()
    known = Schema(task=task).with_classes(declared)
    schema, digest, n_rows, found = known, hashlib.blake2b(digest_size=16), 0, []
    for i, pieces in enumerate(nights):
        started, before = time.process_time(), schema
        schema, rows = _prepare(pieces, schema, rules, n_rows, folder / f"{i:06d}")
        grown, shared_s = Grown.between(before, schema), time.process_time() - started
        found.append(StagedNight(len(rows), shared_s, grown, period_of(pieces)))
        _update(digest, grown, rows)
        n_rows += len(rows)
        progress(n_rows)
    staged = Staged(folder, task, known.classes, tuple(found), digest.hexdigest())
    staged.save()
    return staged


def _update(digest: Any, grown: Grown, rows: Rows) -> None:  # noqa: ANN401 - hashlib's own type has no name
    digest.update(json.dumps([asdict(grown), len(rows)], sort_keys=True).encode())
    for block in rows.chunks():
        for array in (block.x_num, block.x_cat, block.y):
            digest.update(np.ascontiguousarray(array).data)


def _prepare(pieces: Sequence[Piece], schema: Schema, rules: Rules, n_before: int, folder: Path) -> tuple[Schema, Rows]:
    """Grow the schema by a night's columns, classes and categories, and encode the night."""
    schema = adopt(schema, (piece.table for piece in pieces), rules)
    labels: set[str] = set()
    values: dict[str, set[str]] = {column.name: set() for column in schema.categorical}
    parsed = folder / "parsed"
    parsed.mkdir(parents=True)
    for i, piece in enumerate(pieces):
        table = piece.table
        target = target_of(table, rules, schema.task)
        features, _ = parse_features(table, schema, rules.schema.missing)
        write_table(features.append_column(rules.target, target), parsed / f"{i:06d}.arrow")
        if schema.task == "classification":
            labels.update(pc.unique(target).to_pylist())
        for name in values.keys() & set(features.column_names):
            values[name].update(v for v in pc.unique(features[name]).to_pylist() if v is not None)
    schema = schema.with_classes(labels).with_categories(values)

    def batches() -> Iterator[Batch]:
        n = n_before
        for path in sorted(parsed.iterdir()):
            table = read_table(path)
            yield schema.encode(table, hash_positions("", 0, np.arange(n, n + len(table))), table[rules.target])
            n += len(table)

    rows = stage(batches(), folder, keep=True)
    shutil.rmtree(parsed)
    return schema, rows

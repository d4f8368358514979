"""The columns and classes that a model knows, by name, and how clean rows become arrays.

Kinds are inferred when a column first holds values and kept. Columns, categories and classes are only ever appended,
so that every array of every older checkpoint keeps its meaning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from nightfit.batch import UNKNOWN_CLASS, Array, Batch
from nightfit.errors import DataError
from nightfit.jsontypes import Json

if TYPE_CHECKING:
    from nightfit.kinds import Kind

Task: TypeAlias = Literal["classification", "regression"]
TASKS: tuple[Task, ...] = ("classification", "regression")

MAX_CATEGORIES = 10_000
"""Categories of one column that get an embedding of their own; the later ones share that of unseen values."""

MAX_CLASSES = 1_000
"""Values of a target beyond which it is taken for a quantity."""

_CACHED_NUMBERS = 1 << 15

DAY_S, YEAR_S = 86_400.0, 365.2425 * 86_400.0
TIME_FEATURES = ("year_sin", "year_cos", "week_sin", "week_cos", "day_sin", "day_cos")
"""What a time becomes. No trend: tomorrow would lie outside of all that was learned, every night."""


@dataclass(frozen=True)
class SchemaConfig:
    """The `[schema]` table of the config."""

    categorical: tuple[str, ...] = ()
    """Columns that are categories although their values look like numbers. Example: `["zip_code"]`."""
    drop: tuple[str, ...] = ()
    """Columns that are never features: what is known only after the target is. Example: `["refund"]`."""
    missing: tuple[str, ...] = ("",)
    """Texts that mean "no value". Example: `["", "n/a"]`."""
    on_missing_column: Literal["stop", "missing"] = "stop"
    """What to do where a source no longer delivers a column. `"stop"` (65), or take it as `"missing"`."""
    max_reject_share: float = 0.1
    """Share of a night's rows that may be rejected; above it the night stops (65) before anything is learned."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_reject_share <= 1:
            raise ValueError(f"max_reject_share must lie between 0 and 1, however it is {self.max_reject_share}")


@dataclass(frozen=True)
class Rules:
    """What cleaning rows needs of the config."""

    target: str
    key: tuple[str, ...] = ()
    schema: SchemaConfig = SchemaConfig()
    task: Task | None = None
    """None: guessed from the first night that has a target."""
    not_features: frozenset[str] = frozenset()
    """The sources' cursor columns: keys and cursors are never features."""
    holdout: float = 0.1
    """Share of the rows that are never learned, only tested on."""
    key_scope: str = "pipeline"
    """"pipeline": equal keys of two sources are one row; "source": they are not."""
    on_update: str = "reject"
    """What a known key with new values is: "reject", or "learn"."""
    label_wait: str = "30d"
    """How long a row waits for its target, as typed: a number and one of s, m, h, d, w."""
    label_wait_s: float = 30 * 86_400.0
    """The same in seconds; 0: a row without a target is a reject."""
    pending_rows: int = 100_000
    """Rows that may wait at once; beyond it the oldest are rejected."""

    @property
    def no_features(self) -> frozenset[str]:
        """The columns that are never features, whatever they hold: target, key and cursors."""
        return self.not_features | {self.target, *self.key}

    @property
    def waits(self) -> bool:
        """Say whether rows may wait for their target: they need a key by which it finds them."""
        return bool(self.key) and self.label_wait_s > 0 and self.pending_rows > 0


@dataclass(frozen=True)
class Column:
    """One feature column. A categorical one has an id for missing values, one for unseen ones, one per category."""

    name: str
    kind: Kind
    missing_id: int = -1
    unseen_id: int = -1
    categories: Mapping[str, int] = field(default_factory=dict)

    @property
    def values(self) -> dict[int, str]:
        """What each id of a categorical column stands for."""
        known = {i: category for category, i in self.categories.items()}
        return known | {self.missing_id: "(missing)", self.unseen_id: "(unseen)"}


@dataclass(frozen=True)
class Sizes:
    """The widths that a learner is built for, and grown to. `n_outputs`: classes, or 1 for a quantity."""

    d_num: int
    d_cat: int
    n_ids: int
    n_outputs: int


@dataclass(frozen=True)
class Schema:
    """What a model knows of its rows. `classes` are labels as text, in order of appearance; a quantity has none."""

    columns: tuple[Column, ...] = ()
    classes: tuple[str, ...] = ()
    n_ids: int = 0
    task: Task = "classification"

    @property
    def numeric(self) -> list[Column]:
        """The columns that become numbers in `x_num`, in order."""
        return [column for column in self.columns if column.kind != "categorical"]

    @property
    def categorical(self) -> list[Column]:
        """The columns of `x_cat`, in order."""
        return [column for column in self.columns if column.kind == "categorical"]

    @property
    def feature_names(self) -> list[str]:
        """Name the columns of `x_num`: a datetime becomes three circles."""
        return [
            name
            for column in self.numeric
            for name in ([f"{column.name}.{f}" for f in TIME_FEATURES] if column.kind == "datetime" else [column.name])
        ]

    @property
    def circles(self) -> Array:
        """Say which columns of `x_num` (bool [d_num]) are sines and cosines of a time."""
        widths = [(len(TIME_FEATURES), True) if c.kind == "datetime" else (1, False) for c in self.numeric]
        return np.array([is_circle for width, is_circle in widths for _ in range(width)], bool)

    @property
    def sizes(self) -> Sizes:
        """The widths of the arrays that `encode` returns."""
        n_outputs = 1 if self.task == "regression" else len(self.classes)
        return Sizes(len(self.feature_names), len(self.categorical), self.n_ids, n_outputs)

    @property
    def new_cat_ids(self) -> Array:
        """The id (int32 [d_cat]) that a row holds for a column that it was never asked for: missing."""
        return np.array([column.missing_id for column in self.categorical], np.int32)

    @property
    def parent_ids(self) -> Array:
        """For each id (int64 [n_ids]) the one that stood for it before it was known: its column's unseen id."""
        parents = np.arange(self.n_ids)
        for column in self.categorical:
            parents[list(column.categories.values())] = column.unseen_id
        return parents

    def with_columns(self, kinds: Mapping[str, Kind]) -> Schema:
        """Append columns of the given kinds."""
        columns, n_ids = list(self.columns), self.n_ids
        for name, kind in kinds.items():
            if kind == "categorical":
                columns.append(Column(name, kind, missing_id=n_ids, unseen_id=n_ids + 1))
                n_ids += 2
            else:
                columns.append(Column(name, kind))
        return replace(self, columns=tuple(columns), n_ids=n_ids)

    def with_classes(self, labels: Iterable[str]) -> Schema:
        """Append the labels that are new, sorted among themselves; known ones keep their place.

        Raises `DataError` for more than `MAX_CLASSES`: a quantity is no class.
        """
        if self.task == "regression":
            return self
        classes = (*self.classes, *sorted(set(labels) - set(self.classes), key=label_order))
        if len(classes) > MAX_CLASSES:
            raise DataError(
                f"the target must be a class of at most {MAX_CLASSES} values, however it has {len(classes)} of them, "
                f"such as '{classes[0]}' and '{classes[-1]}'; choose another target, put its values into ranges, or if "
                'they are numbers learn it as a quantity (task = "regression")'
            )
        return replace(self, classes=classes)

    def with_categories(self, values: Mapping[str, Iterable[str]]) -> Schema:
        """Append each column's new categories, sorted among themselves, up to `MAX_CATEGORIES`."""
        columns, n_ids = [], self.n_ids
        for column in self.columns:
            room = max(MAX_CATEGORIES - len(column.categories), 0)
            new = sorted(set(values.get(column.name, ())) - set(column.categories))[:room]
            columns.append(
                replace(column, categories={**column.categories, **{v: n_ids + i for i, v in enumerate(new)}})
            )
            n_ids += len(new)
        return replace(self, columns=tuple(columns), n_ids=n_ids)

    def encode(self, table: Any, key_hash: Array, labels: Any) -> Batch:  # noqa: ANN401 - pyarrow ships no types
        """Turn parsed columns (see `kinds.parse`) and targets (labels as text, or numbers; may be null) into a batch.

        Columns of the schema that the table does not have are missing; other columns are ignored.
        """
        n, there = table.num_rows, dict(zip(table.column_names, table.columns, strict=True))
        numbers = [feature for column in self.numeric for feature in _numbers(column, there.get(column.name), n)]
        ids = [_lookup(column, there.get(column.name), n) for column in self.categorical]
        return Batch(
            key_hash=key_hash,
            x_num=_side_by_side(numbers, n),
            x_cat=np.stack(ids, 1) if ids else np.zeros((n, 0), np.int32),
            y=self._targets(labels),
        )

    def _targets(self, labels: Any) -> Array:  # noqa: ANN401
        """Return class indices, int64 [n], or a quantity, float64 [n], NaN where there is none."""
        if self.task == "classification":
            return _map(labels, {label: i for i, label in enumerate(self.classes)}, UNKNOWN_CLASS, UNKNOWN_CLASS)
        column = labels.combine_chunks() if hasattr(labels, "combine_chunks") else labels
        return np.asarray(column.cast("float64").to_numpy(zero_copy_only=False))

    def to_json(self) -> dict[str, Json]:
        """Return the schema as plain JSON; categories are listed with their ids."""
        return {
            "columns": [
                {
                    "name": c.name,
                    "kind": c.kind,
                    **(
                        {
                            "missing_id": c.missing_id,
                            "unseen_id": c.unseen_id,
                            "categories": dict(c.categories),
                        }
                        if c.kind == "categorical"
                        else {}
                    ),
                }
                for c in self.columns
            ],
            "classes": list(self.classes),
            "n_ids": self.n_ids,
            "task": self.task,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schema:
        """Read what `to_json` wrote."""
        columns = tuple(Column(**column) for column in data["columns"])
        return cls(columns, tuple(data["classes"]), data["n_ids"], data["task"])


def label_order(label: str) -> tuple[bool, float, str]:
    """Sort labels as people do: numbers by value, then text ("nan" among it: it has no place among numbers)."""
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    return (True, 0.0, label) if math.isnan(number) else (False, number, label)


def _numbers(column: Column, parsed: Any, n: int) -> list[Array]:  # noqa: ANN401
    values = np.full(n, np.nan) if parsed is None else np.asarray(parsed.to_numpy(), np.float64)
    return time_features(values) if column.kind == "datetime" else [values]


def _side_by_side(columns: list[Array], n: int) -> Array:
    """Return columns (float64 [n]) as rows; what is written at a time stays in the cache."""
    rows = np.empty((n, len(columns)))
    step = max(_CACHED_NUMBERS // max(len(columns), 1), 256)
    for piece in (slice(start, start + step) for start in range(0, n, step)):
        for i, column in enumerate(columns):
            rows[piece, i] = column[piece]
    return rows


def time_features(seconds: Array) -> list[Array]:
    """Turn epoch seconds into `TIME_FEATURES`; the week's circle starts on a Monday (1970-01-05)."""
    circles = [
        2 * np.pi * seconds / YEAR_S,
        2 * np.pi * (seconds / DAY_S - 4) / 7,
        2 * np.pi * seconds / DAY_S,
    ]
    return [wave(circle) for circle in circles for wave in (np.sin, np.cos)]


def _lookup(column: Column, parsed: Any, n: int) -> Array:  # noqa: ANN401
    if parsed is None:
        return np.full(n, column.missing_id, np.int32)
    return _map(parsed, column.categories, column.unseen_id, column.missing_id).astype(np.int32)


def _map(text: Any, ids: Mapping[str, int], other: int, null: int) -> Array:  # noqa: ANN401
    """Map strings to ids by way of their distinct values, of which there are few."""
    import pyarrow as pa

    column = text.combine_chunks() if hasattr(text, "combine_chunks") else text
    encoded = column.dictionary_encode() if not pa.types.is_dictionary(column.type) else column
    if hasattr(encoded, "combine_chunks"):
        encoded = encoded.combine_chunks()
    table = np.array([*(ids.get(word, other) for word in encoded.dictionary.to_pylist()), null], np.int64)
    codes = encoded.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)
    return np.asarray(table[codes])

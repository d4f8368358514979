"""Predict: score a file or a table with a version of a model, keeping its columns and adding the answers.

The forward pass is the scorer's, in numpy; torch is imported only if a device is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from nightfit.ahead import N_THREADS, map_ahead
from nightfit.batch import Array
from nightfit.cleaning import parse_features
from nightfit.errors import DataError, GapError
from nightfit.hints import separator_hint
from nightfit.inputs import Typed
from nightfit.outputs.base import Output, Progress
from nightfit.schema import SchemaConfig
from nightfit.scorer import Scorer
from nightfit.version import Version

if TYPE_CHECKING:
    from nightfit.sources.base import Chunk, Cursor


def predict(
    version: Version,
    data: Typed,
    config: SchemaConfig,
    output: Output,
    *,
    note: Callable[[str], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Progress:
    """Score the rows of an input into an output, in flat memory, after those that the output has already.

    Adds `prediction`, `probability_<class>` (not for a quantity) and `model_version` to the columns of the input.
    Raises `DataError` for columns that are missing (unless they may be) and for records that cannot be split into
    columns.
    """
    with _going_on(data, output, note) as chunks, _mapping(version) as mapped:
        for scored in mapped(_Scoring(version, config), _checked(chunks, version, config, output.progress.columns)):
            output.write(scored.table, scored.after(output.progress))
            progress(output.progress.rows)
    output.finish()
    return output.progress


@contextmanager
def _going_on(data: Typed, output: Output, note: Callable[[str], None]) -> Iterator[Iterator[Chunk]]:
    """Give the chunks after those that the output has, or all where the input has changed since."""
    chunks = data.read(output.progress.reached, note)
    try:
        first = next(chunks, None)
    except GapError as gap:
        note(f"{gap}: what was scored before is scored again")
        output.restart()
        chunks = data.read(None, note)
        first = next(chunks, None)
    with closing(chunks):
        yield chain([] if first is None else [first], chunks)


@contextmanager
def _mapping(version: Version) -> Iterator[Callable[..., Iterator[_Scored]]]:
    """Give what scores chunks: in threads of our own, each with its share of the cores; on a device in turn."""
    if not isinstance(version.predictor, Scorer):
        yield map
        return
    with threadpool_limits(max(1, (os.cpu_count() or 1) // N_THREADS), "blas"):
        yield map_ahead


def _checked(
    chunks: Iterable[Chunk], version: Version, config: SchemaConfig, columns: tuple[str, ...]
) -> Iterator[tuple[Chunk, tuple[str, ...]]]:
    """Yield chunks that can be scored, each with the columns of the first (or those given), as all are written."""
    for chunk in chunks:
        _check(version, chunk, config, columns)
        columns = columns or tuple(chunk.table.column_names)
        yield chunk, columns


class _Scored(NamedTuple):
    """A chunk's table with the answers, how many of its rows are unreadable, the first of them, and its end."""

    table: Any
    columns: tuple[str, ...]
    unreadable: int
    example: str
    reached: Cursor

    def after(self, before: Progress) -> Progress:
        """Add what was scored to what was before."""
        n_rows, n_unreadable = before.rows + len(self.table), before.unreadable + self.unreadable
        return Progress(n_rows, n_unreadable, before.example or self.example, self.columns, self.reached)


def _check(version: Version, chunk: Chunk, config: SchemaConfig, columns: Sequence[str]) -> None:
    """Raise `DataError` for a chunk that cannot be scored, or not into one file with those before it."""
    if chunk.bad:
        raise DataError(
            f"every record must be readable, however row {chunk.bad[0].row + 1} of {chunk.place} is not: "
            f"{chunk.bad[0].reason}; mend the file"
        )
    there = chunk.table.column_names
    if columns and set(there) != set(columns):
        odd = sorted(set(there) ^ set(columns))
        raise DataError(
            f"all files of the input must have the same columns, however {chunk.place} differs from the first in "
            f"{_listed(odd)}; predict them one by one"
        )
    missing = [c.name for c in version.schema.columns if c.name not in there and c.name not in config.drop]
    if missing and config.on_missing_column == "stop":
        raise DataError(
            f"the input must have the columns that the model knows, however {chunk.place} has no {_listed(missing)}"
            f'; add them, or set schema.on_missing_column = "missing"{separator_hint(there)}'
        )
    for name in _answer_names(version):
        if name in there:
            raise DataError(
                f"the input must not have a column '{name}', however {chunk.place} has one; rename it, it is ours"
            )


def _listed(names: Sequence[str], n: int = 5) -> str:
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(map(repr, names[:n])) + more


@dataclass(frozen=True)
class _Scoring:
    """Scores chunks; rows with an unreadable value get no answers."""

    version: Version
    config: SchemaConfig

    def __call__(self, item: tuple[Chunk, tuple[str, ...]]) -> _Scored:
        """Score a chunk into the columns that all are written with."""
        chunk, columns = item
        schema, n = self.version.schema, len(chunk.table)
        known = chunk.table.drop_columns([name for name in self.config.drop if name in chunk.table.column_names])
        features, bad = parse_features(known, schema, self.config.missing)
        unreadable = np.logical_or.reduce([np.zeros(n, bool), *bad.values()])
        batch = schema.encode(features, np.zeros(n, np.uint64), pa.nulls(n, pa.string()))
        table = _with_answers(
            chunk.table.select(columns), self.version, self.version.predictor.predict(batch), unreadable
        )
        return _Scored(table, columns, int(unreadable.sum()), _example(chunk, bad), chunk.cursor_at(n))


def _example(chunk: Chunk, bad: Mapping[str, Array]) -> str:
    for name, mask in bad.items():
        if mask.any():
            i = int(mask.argmax())
            return f"column '{name}' has '{chunk.table[name][i].as_py()}' in row {int(chunk.rows[i]) + 1}"
    return ""


def _answer_names(version: Version) -> list[str]:
    return ["prediction", *(f"probability_{label}" for label in version.schema.classes), "model_version"]


def _with_answers(table: Any, version: Version, predicted: Array, unreadable: Array) -> Any:  # noqa: ANN401
    if predicted.ndim == 1:
        answers = [pa.array(predicted, mask=unreadable)]
    else:
        classes = np.array(version.schema.classes, dtype=object)
        answers = [
            pa.array(classes[predicted.argmax(1)], pa.string(), mask=unreadable),
            *(pa.array(np.round(column, 6), mask=unreadable) for column in predicted.T),
        ]
    answers.append(pa.array(np.full(len(unreadable), version.number)))
    for name, column in zip(_answer_names(version), answers, strict=True):
        table = table.append_column(name, column)
    return table

"""Predict: score a file or a table with a version of a model, keeping its columns and adding the answers.

The forward pass is the scorer's, in numpy; torch is imported only if a device is asked for. The output appears under
its name when it is whole.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from nightfit.batch import Array
from nightfit.cleaning import parse_features
from nightfit.errors import DataError
from nightfit.inputs import separator_hint
from nightfit.outputs import whole_file
from nightfit.schema import SchemaConfig
from nightfit.version import Version

if TYPE_CHECKING:
    from nightfit.sources.base import Chunk


@dataclass
class Counts:
    """What was scored; `unreadable` rows hold a value of another kind and get no prediction."""

    rows: int = 0
    unreadable: int = 0
    example: str = ""


def predict(
    version: Version,
    chunks: Iterable[Chunk],
    config: SchemaConfig,
    output: Path | None,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Counts:
    """Score chunks one by one into a CSV file (standard output if None), in flat memory.

    Adds `prediction`, `probability_<class>` (not for a quantity) and `model_version` to the columns of the input.
    Raises `DataError` for columns that are missing (unless they may be) and for records that cannot be split into
    columns.
    """
    counts = Counts()
    columns: list[str] = []
    with _sink(output) as sink:
        for i, chunk in enumerate(chunks):  # each as CSV of its own: a database's column may change its type
            _check(version, chunk, config, columns)
            columns = columns or chunk.table.column_names
            table = _score(version, chunk, config, counts).select([*columns, *_answer_names(version)])
            pacsv.write_csv(table, sink, pacsv.WriteOptions(include_header=i == 0))
            progress(counts.rows)
    return counts


def _check(version: Version, chunk: Chunk, config: SchemaConfig, columns: list[str]) -> None:
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


def _score(version: Version, chunk: Chunk, config: SchemaConfig, counts: Counts) -> Any:  # noqa: ANN401
    """Return the chunk's table with the answers; rows with an unreadable value get none."""
    known = chunk.table.drop_columns([name for name in config.drop if name in chunk.table.column_names])
    features, bad = parse_features(known, version.schema, config.missing)
    unreadable = np.zeros(chunk.table.num_rows, bool)
    for name, mask in bad.items():
        if mask.any() and not counts.example:
            i = int(mask.argmax())
            counts.example = f"column '{name}' has '{chunk.table[name][i].as_py()}' in row {int(chunk.rows[i]) + 1}"
        unreadable |= mask
    counts.rows += len(unreadable)
    counts.unreadable += int(unreadable.sum())
    labels = pa.nulls(len(unreadable), pa.string())
    batch = version.schema.encode(features, np.zeros(len(unreadable), np.uint64), labels)
    return _with_answers(chunk.table, version, version.predictor.predict(batch), unreadable)


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


@contextmanager
def _sink(output: Path | None) -> Iterator[Any]:
    """Open the output: a file that appears whole, a device, or standard output."""
    if output is not None:
        with whole_file(output) as file:
            yield file
        return
    sys.stdout.flush()
    yield pa.PythonFile(sys.stdout.buffer, mode="w")
    sys.stdout.flush()

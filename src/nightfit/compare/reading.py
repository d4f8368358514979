"""What is compared on: the sources' rows, staged as they came, without those that have no target.

What cannot be read as a number counts as missing; rows without a target are left out before nights are cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow.compute as pc

from nightfit.batch import Array
from nightfit.cleaning import has_only_labels, target_of
from nightfit.compare.logged import numbered
from nightfit.compare.nights import Piece
from nightfit.errors import DataError
from nightfit.hints import column_hint
from nightfit.schema import Rules, Task
from nightfit.sources.increment import Increment, Part, write_table


def check_typed(increment: Increment, typed: Mapping[str, Sequence[str]]) -> None:
    """Raise `DataError` for a column that an option names and no source has: it is misspelt."""
    there = {column for part in increment.parts for column in part.table.column_names}
    for option, names in typed.items():
        for name in names:
            if name not in there:
                hint = column_hint(name, sorted(there))
                raise DataError(f"--{option} must name columns of the data, however '{name}' is none; {hint}")


def check_target(increment: Increment, rules: Rules) -> None:
    """Raise `DataError` if a source lacks the target."""
    for part in increment.parts:
        names = part.table.column_names
        if rules.target not in names:
            raise DataError(
                f"the target must be a column of the data, however '{rules.target}' is none of {part.place}; "
                f"{column_hint(rules.target, names)}"
            )


def count(increment: Increment, rules: Rules, task: Task) -> tuple[set[str], int]:
    """Return all labels, and the number of rows that have a target; raises `DataError` if none has."""
    labels: set[str] = set()
    n = 0
    for part in _with_features(increment, rules):
        column = target_of(part.table, rules, task)
        n += len(column) - column.null_count
        if task == "classification":
            labels.update(label for label in pc.unique(column).to_pylist() if label is not None)
    if not n:
        raise DataError(
            "a comparison needs rows with a target, however the data hold none"
            + (f": no value of '{rules.target}' reads as a number" if task == "regression" else "")
        )
    return labels, n


def _with_features(increment: Increment, rules: Rules) -> Iterator[Part]:
    """Yield the parts but those that hold labels alone, whose rows are elsewhere: nothing is joined here."""
    yield from (part for part in increment.parts if not has_only_labels(part, rules))


def with_target(
    increment: Increment, rules: Rules, task: Task, folder: Path, numbers: Mapping[str, Array]
) -> list[Iterator[Piece]]:
    """Return, for each source, an iterator of its staged rows without those that have no target.

    Where a log cuts nights, `numbers` are those of its nights, by part.
    """

    def pieces(source: str) -> Iterator[Piece]:
        for part in _with_features(increment, rules):
            if part.source == source:
                table, path = numbered(part, numbers), part.path
                has_target = pc.is_valid(target_of(table, rules, task))
                if numbers or not pc.all(has_target).as_py():
                    path = folder / "with_target" / part.path.name
                    path.parent.mkdir(exist_ok=True)
                    table = table.filter(has_target)
                    write_table(table, path)
                yield Piece(path, 0, table.num_rows)

    return [pieces(source) for source in increment.n_read]

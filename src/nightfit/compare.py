"""Compare: several models over the same nights of past data, each night predicted whole before it is learned.

Nothing is held out and no gate decides: this asks which model is better, not whether tonight's is safe. What cannot
be read as a number counts as missing; rows without a target are left out before nights are cut.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from nightfit.batch import Array, Batch, Rows, stage
from nightfit.cleaning import adopt, guess_task, has_only_labels, parse_features, target_of
from nightfit.config import ModelConfig
from nightfit.errors import DataError
from nightfit.identity import hash_positions
from nightfit.inputs import column_hint
from nightfit.jsontypes import Json
from nightfit.metrics import Tally
from nightfit.model import Model
from nightfit.schema import Rules, Schema, Task
from nightfit.sources.base import Source
from nightfit.sources.increment import Cut, Increment, Part, read_increment, read_table, write_table


@dataclass(frozen=True)
class Bench:
    """What is compared, and how. `classes`: "declared" (all labels known ahead) or "observed"."""

    models: Mapping[str, ModelConfig]
    rules: Rules
    cut: Cut
    classes: str = "declared"
    device: str = "cpu"
    seed: int = 0
    typed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Columns by the option that names them: these must be there."""


@dataclass
class _Entrant:
    """One model on its way through the nights, and what it scored."""

    model: Model
    learn_cpu_s: float = 0.0
    predict_cpu_s: float = 0.0
    total: Tally = field(init=False)
    per_night: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.total = Tally(votes=self.model.learner.votes)

    def test(self, rows: Rows, watch: Callable[[Array, Batch], None]) -> None:
        """Predict a night before it is learned; then calibration learns from the outcomes."""
        started = time.process_time()
        tally = Tally(votes=self.model.learner.votes)
        for predicted, block in self.model.predicted(rows):
            for each in (tally, self.total):
                each.add(predicted, block.y)
            watch(predicted, block)
        self.model.learner.observe(rows)
        self.predict_cpu_s += time.process_time() - started
        self.per_night.append(tally.scores())

    def learn(self, rows: Rows, shared_s: float, *, seed: int) -> None:
        """Learn a night. The seconds of cleaning and encoding, which models share here, count for each."""
        started = time.process_time()
        self.model.learn(rows, seed=seed)
        self.learn_cpu_s += time.process_time() - started + shared_s

    def scores(self) -> dict[str, float]:
        """Return the scores over all predicted rows."""
        return {
            **self.total.scores(),
            **self.model.learner.figures,
            "learn_cpu_s": round(self.learn_cpu_s, 3),
            "predict_cpu_s": round(self.predict_cpu_s, 3),
            "rows": self.total.n,
        }


def compare(
    bench: Bench,
    sources: Iterable[Source],
    folder: Path,
    *,
    progress: Callable[[int, int], None] = lambda *_: None,
    watch: Callable[[str, Array, Batch], None] = lambda *_: None,
) -> dict[str, Json]:
    """Replay the sources' rows as nights for every model; `folder` is for staging. Return the JSON of the design.

    `progress` is told how many of how many rows are done, `watch` each model's name with its answers to a block of a
    night, and the block with its outcomes. Raises `DataError` if there are fewer than two nights.
    """
    increment = read_increment(sources, {}, folder / "raw")
    _check_typed(increment, bench.typed)
    _check_target(increment, bench.rules)
    task = bench.rules.task or guess_task((part.table for part in increment.parts), bench.rules)
    labels, n_total = _count(increment, bench.rules, task)
    entrants = {name: _Entrant(_fresh(bench, config, task, labels)) for name, config in bench.models.items()}
    schema, n_scored, n_done, n_nights = next(iter(entrants.values())).model.schema, [], 0, 0
    for n_nights, pieces in enumerate(nights(_with_target(increment, bench.rules, task, folder), bench.cut)):
        started = time.process_time()
        schema, rows = _prepare(pieces, schema, bench.rules, n_done, folder / "night")
        shared_s = time.process_time() - started
        for name, entrant in entrants.items():
            entrant.model.grow(schema)
            if n_nights:
                entrant.test(rows, partial(watch, name))
            entrant.learn(rows, shared_s, seed=bench.seed)
        if n_nights:
            n_scored.append(len(rows))
        n_done += len(rows)
        progress(n_done, n_total)
    if not n_scored:
        raise DataError(
            f"a comparison needs two nights at least, however {n_total} rows with a target make {n_nights + 1}; "
            "take a smaller --night-rows, or another --night-column and --every"
        )
    return {**_result(entrants, n_scored), "left_out": increment.n_rows - n_total}


def _check_typed(increment: Increment, typed: Mapping[str, Sequence[str]]) -> None:
    """Raise `DataError` for a column that an option names and no source has: it is misspelt."""
    there = {column for part in increment.parts for column in part.table.column_names}
    for option, names in typed.items():
        for name in names:
            if name not in there:
                hint = column_hint(name, sorted(there))
                raise DataError(f"--{option} must name columns of the data, however '{name}' is none; {hint}")


def _fresh(bench: Bench, config: ModelConfig, task: Task, labels: Iterable[str]) -> Model:
    model = Model.fresh(config.kind, config.learner, task=task, device=bench.device, seed=bench.seed)
    if bench.classes == "declared":
        model.declare(labels)
    return model


def _check_target(increment: Increment, rules: Rules) -> None:
    """Raise `DataError` if a source lacks the target."""
    for part in increment.parts:
        names = part.table.column_names
        if rules.target not in names:
            raise DataError(
                f"the target must be a column of the data, however '{rules.target}' is none of {part.place}; "
                f"{column_hint(rules.target, names)}"
            )


def _count(increment: Increment, rules: Rules, task: Task) -> tuple[set[str], int]:
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


def _with_features(increment: Increment, rules: Rules) -> Iterator[Part]:
    """Yield the parts but those that hold labels alone, whose rows are elsewhere: nothing is joined here."""
    yield from (part for part in increment.parts if not has_only_labels(part, rules))


def _with_target(increment: Increment, rules: Rules, task: Task, folder: Path) -> list[Iterator[Piece]]:
    """Return, for each source, an iterator of its staged rows without those that have no target."""

    def pieces(source: str) -> Iterator[Piece]:
        for part in _with_features(increment, rules):
            if part.source == source:
                table, path = part.table, part.path
                has_target = pc.is_valid(target_of(table, rules, task))
                if not pc.all(has_target).as_py():
                    path = folder / "with_target" / part.path.name
                    path.parent.mkdir(exist_ok=True)
                    table = table.filter(has_target)
                    write_table(table, path)
                yield Piece(path, 0, table.num_rows)

    return [pieces(source) for source in increment.n_read]


def nights(sources: Sequence[Iterable[Piece]], cut: Cut) -> Iterator[list[Piece]]:
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

    def next_period(self, cut: Cut) -> float:
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

    def night(self, cut: Cut, period: float) -> Iterator[Piece]:
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


def _prepare(pieces: Sequence[Piece], schema: Schema, rules: Rules, n_before: int, folder: Path) -> tuple[Schema, Rows]:
    """Grow the schema by a night's columns, classes and categories, and encode the night."""
    shutil.rmtree(folder, ignore_errors=True)
    schema = adopt(schema, (piece.table for piece in pieces), rules)
    labels: set[str] = set()
    values: dict[str, set[str]] = {column.name: set() for column in schema.categorical}
    folder.mkdir()
    parsed = [folder / f"{i:06d}.arrow" for i in range(len(pieces))]
    for piece, path in zip(pieces, parsed, strict=True):
        table = piece.table
        target = target_of(table, rules, schema.task)
        features, _ = parse_features(table, schema, rules.schema.missing)
        write_table(features.append_column(rules.target, target), path)
        if schema.task == "classification":
            labels.update(pc.unique(target).to_pylist())
        for name in values.keys() & set(features.column_names):
            values[name].update(v for v in pc.unique(features[name]).to_pylist() if v is not None)
    schema = schema.with_classes(labels).with_categories(values)

    def batches() -> Iterator[Batch]:
        n = n_before
        for path in parsed:
            table = read_table(path)
            yield schema.encode(table, hash_positions("", 0, np.arange(n, n + len(table))), table[rules.target])
            n += len(table)

    return schema, stage(batches(), folder)


def _result(entrants: Mapping[str, _Entrant], n_scored: list[int]) -> dict[str, Json]:
    return {
        "task": next(iter(entrants.values())).model.schema.task,
        "rows": sum(n_scored),
        "nights": len(n_scored),
        "models": {name: dict(entrant.scores()) for name, entrant in entrants.items()},
        "per_night": [
            {
                "night": i + 2,
                "rows": n,
                "models": {name: dict(entrant.per_night[i]) for name, entrant in entrants.items()},
            }
            for i, n in enumerate(n_scored)
        ],
    }

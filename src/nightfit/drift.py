"""Which columns moved tonight, against the first night, the night before, and all that was learned so far.

Three sketches stand for these, so that no old row is needed: they are part of the version, as is the detector that
watches the prequential error. Only learned rows are sketched. `Drift.observe` is told of a night before it is learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from nightfit.batch import Array, Batch, Rows
from nightfit.detector import Adwin
from nightfit.jsontypes import Json
from nightfit.learners.base import part
from nightfit.metrics import spread
from nightfit.psi import MOVED, Shift, shift
from nightfit.schema import Schema
from nightfit.sketch import MISSING, Grid, Sketch, Tracked, tracked

Reference: TypeAlias = Literal["learned", "last", "first"]
REFERENCES: dict[Reference, str] = {
    "learned": "all rows learned before",
    "last": "the night before",
    "first": "the first night",
}

FALSE_ALARMS = 0.01
"""The chance that any column of a night passes the noise's bound without any change."""

MIN_MISSING, MAX_MISSING, TIMES_MISSING = 0.01, 0.05, 5
"""The share of missing values has moved by five times the smaller one, at least 1 and at most 5 points."""

MIN_UNSEEN = 0.01
"""Share of a night's values that must be new categories to be worth a word."""

N_BINS, N_CATEGORIES, BIN_ROWS = 10, 20, 10
"""Bins of numbers; of categories, the last for the rare ones; rows that a bin should have in the smaller sample."""

AGAIN, NEAR, NEAR_NIGHTS = 2.0, MOVED / 2, 10
"""What was reported is reported again when it is twice as far, or when it was near (PSI) for so many nights in a row.

That is two weeks of five nights: what comes and goes with the weekday, or sways about the bound, is told once.
"""

N_NAMED, N_KEPT = 5, 50
"""Columns that a sentence names, and of which a night's record keeps figures: those that moved farthest."""

GRID_ROWS, ERROR_ROWS = 10_000, 2_000
"""Rows of a night, evenly spread, that a new column's grid is made from, and whose errors the detector sees."""


class Move(NamedTuple):
    """How far a column is from a reference in one respect: its "values", "missing" ones, or "unseen" categories.

    `before` and `now` are shares of missing or unseen values. `is_far` says that it is beyond noise and worth a word.
    """

    column: str
    reference: Reference
    what: str
    shift: Shift
    before: float = 0.0
    now: float = 0.0

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what is held against the column when this was reported."""
        return self.reference, self.what, self.column

    @property
    def is_far(self) -> bool:
        """Say whether the move is beyond noise, and worth a word."""
        if self.what == "unseen":
            far = self.now >= max(MIN_UNSEEN, self.before)
        elif self.what == "missing":
            least = TIMES_MISSING * min(self.before, self.now)
            far = abs(self.now - self.before) >= min(max(least, MIN_MISSING), MAX_MISSING)
        else:
            far = self.shift.effect >= MOVED
        return far and self.shift.is_significant

    def __str__(self) -> str:
        if self.what == "values":
            return f"{self.column} (PSI {self.shift.psi:.2f} against {REFERENCES[self.reference]})"
        if self.what == "unseen":
            return f"{self.column} ({self.now:.1%} categories never seen before)"
        return f"{self.column} (missing {self.before:.1%} -> {self.now:.1%} against {REFERENCES[self.reference]})"


@dataclass
class Seen:
    """What a night brought.

    `moves`: how far each column is from each reference, farthest first. `news`: of each column that has not been
    reported the farthest move. `rise`: the mean prequential error before and now, if it rose for good.
    """

    moves: list[Move] = field(default_factory=list)
    news: list[Move] = field(default_factory=list)
    rise: tuple[float, float] | None = None

    def alarms(self) -> list[str]:
        """Return a sentence on the columns that moved, and one on the error; neither on a usual night."""
        said = []
        if self.news:
            n_more = len(self.news) - N_NAMED
            named = [*map(str, self.news[:N_NAMED]), *([f"{n_more} more"] if n_more > 0 else [])]
            said.append(f"{len(self.news)} column{'s' * (len(self.news) > 1)} moved: {', '.join(named)}")
        if self.rise:
            said.append("the error on rows before they are learned rose from {:.3f} to {:.3f}".format(*self.rise))
        return said

    def to_json(self) -> dict[str, Json]:
        """Return the figures of a night's record; columns in the order of their farthest move."""
        columns: dict[str, Any] = {}
        for move in self.moves:
            of = columns.setdefault(move.column, {"column": move.column, "effect": round(move.shift.effect, 4)})
            if move.what == "values":
                of.setdefault("psi", {})[move.reference] = round(move.shift.psi, 4)
            elif move.reference == "learned":
                of[move.what] = [round(move.before, 4), round(move.now, 4)]
        return {
            "moved": [move.column for move in self.news],
            "error": list(self.rise) if self.rise else None,
            "columns": [*columns.values()][:N_KEPT],
        }


@dataclass
class Drift:
    """What a version remembers to see the next night's drift.

    `sketches` are those of each reference. `told` is how far each (reference, respect, column) has been since it was
    reported, and for how many nights it has been near. `unit` is the variance of a quantity when it was first met, in
    which its errors are measured.
    """

    grid: Grid = field(default_factory=Grid.none)
    sketches: dict[Reference, Sketch] = field(default_factory=lambda: dict.fromkeys(REFERENCES, Sketch.none()))
    told: dict[tuple[str, str, str], tuple[float, int]] = field(default_factory=dict)
    detector: Adwin = field(default_factory=Adwin)
    unit: float = 0.0

    def observe(self, rows: Rows, schema: Schema) -> Seen:
        """Take a night's rows as the schema, grown for them, sees them, and say what they brought."""
        sample = rows.sample(GRID_ROWS)
        self.grid = self.grid.grown(schema, sample)
        tonight = Sketch.of(rows.chunks(), schema, self.grid)
        moves = sorted(self._moves(tonight, schema), key=lambda move: -move.shift.effect)
        self.sketches = {
            "learned": self.sketches["learned"].merged(tonight),
            "last": tonight,
            "first": self.sketches["first"].adopted(tonight),
        }
        self._forget(self.grid.coarse(schema, sample))
        return Seen(moves, self._news(moves))

    def _forget(self, columns: list[int]) -> None:
        """Let columns begin anew with the next night: what they are now their grid cannot tell apart."""
        if columns:
            self.grid = self.grid.without(columns)
            self.sketches = {name: sketch.without(columns) for name, sketch in self.sketches.items()}

    def _moves(self, tonight: Sketch, schema: Schema) -> Iterator[Move]:
        columns = list(tracked(schema))
        alpha = FALSE_ALARMS / max(len(columns) * (2 * len(REFERENCES) + 1), 1)
        for known in columns:
            for reference, sketch in self.sketches.items():
                yield from _compared(known, reference, tonight, sketch, alpha)

    def _news(self, moves: list[Move]) -> list[Move]:
        """Return the far moves that were not reported yet, one for each column, and remember them."""
        news: dict[str, Move] = {}
        for move in moves:
            level, n_near = self.told.pop(move.key, (0.0, 0))
            n_near = n_near + 1 if move.shift.effect < NEAR and not move.is_far else 0
            if move.is_far and move.shift.effect > AGAIN * level:
                news.setdefault(move.column, move)
            if move.is_far or (level and n_near < NEAR_NIGHTS):
                self.told[move.key] = (max(level, move.shift.effect), n_near)
        return list(news.values())

    def watch(self, answer: Array, batch: Batch) -> tuple[float, float] | None:
        """Take the champion's answers to rows that it has not learned; return its mean errors if they rose for good.

        The first is that of the rows since the last change, the second tonight's.
        """
        errors = self._errors(answer, batch.y)
        cuts, now = self.detector.update(errors), float(errors.mean())
        return (cuts[0], now) if cuts and cuts[0] < now else None

    def _errors(self, answer: Array, y: Array) -> Array:
        """Return errors from 0 to 1, float64 [n]: what the true class was denied, or of a quantity e² / (e² + unit)."""
        if answer.ndim > 1:
            known = y >= 0
            proba = answer[np.arange(len(y)), np.where(known, y, 0)]
            return np.where(known, 1 - proba, 1.0)
        self.unit = self.unit or spread(y) or 1.0
        squares = np.square(answer - y)
        return np.asarray(squares / (squares + self.unit))

    def state(self) -> tuple[dict[str, Json], dict[str, Array]]:
        """Return the state as JSON, and as named arrays."""
        arrays = {"grid.centre": self.grid.centre, "grid.scale": self.grid.scale}
        arrays |= {f"detector.{name}": array for name, array in self.detector.arrays().items()}
        for reference, sketch in self.sketches.items():
            arrays |= {f"{reference}.{name}": array for name, array in sketch.arrays().items()}
        return {"told": [[*key, *value] for key, value in self.told.items()], "unit": self.unit}, arrays

    @classmethod
    def load(cls, state: Mapping[str, Any], arrays: Mapping[str, Array]) -> Drift:
        """Read what `state` returned."""
        return cls(
            Grid(arrays["grid.centre"], arrays["grid.scale"]),
            {reference: Sketch.from_arrays(part(dict(arrays), reference)) for reference in REFERENCES},
            {(reference, what, column): (level, n_near) for reference, what, column, level, n_near in state["told"]},
            Adwin.from_arrays(part(dict(arrays), "detector")),
            state["unit"],
        )


def _compared(known: Tracked, reference: Reference, tonight: Sketch, sketch: Sketch, alpha: float) -> Iterator[Move]:
    """Yield how far a column is from a reference that has it."""
    cells, now, before = _aligned(tonight.column(known.number), sketch.column(known.number))
    n, m = int(now.sum()), int(before.sum())
    if not (n and m):
        return
    there = cells != MISSING
    gone, was_gone = int(now[~there].sum()), int(before[~there].sum())
    missing = shift(np.array([gone, n - gone]), np.array([was_gone, m - was_gone]), alpha=alpha)
    yield Move(known.column.name, reference, "missing", missing, was_gone / m, gone / n)
    if known.column.kind == "datetime" or gone == n or was_gone == m:
        return
    now, before, n, m = now[there], before[there], n - gone, m - was_gone
    is_category = known.column.kind == "categorical"
    bins = (_categories if is_category else _bins)(now / n + before / m, min(n, m))
    counts = (np.bincount(bins, weights=of).astype(np.int64) for of in (now, before))
    yield Move(known.column.name, reference, "values", shift(*counts, alpha=alpha))
    if is_category and reference == "learned":
        yield Move(known.column.name, reference, "unseen", *_unseen(now, before, alpha))


def _unseen(now: Array, before: Array, alpha: float) -> tuple[Shift, float, float]:
    """Compare the share of values that were never seen with what is expected, and return both shares, expected first.

    They are expected as often as those that were seen once (Good 1953). Besides, all c values of one category lie in
    tonight's n of n + m by a chance of (n / (n + m))^c, and there are at most (n + m) / c such categories: a single
    category that is frequent at once stands out, where a few percent of ever new ones are usual.
    """
    n, m = int(now.sum()), int(before.sum())
    new, once = now[before == 0], int((before == 1).sum())
    found = shift(np.array([new.sum(), n - new.sum()]), np.array([once, m - once]), alpha=alpha)
    most = int(new.max(initial=1))
    alone = (n + m) / most * (n / (n + m)) ** most < alpha
    return found._replace(is_significant=found.is_significant or alone), once / m, int(new.sum()) / n


def _aligned(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    """Return the cells of either, ascending, and both counts of each."""
    cells, place = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    counts = np.zeros((2, len(cells)), np.int64)
    counts[0, place[: len(one[0])]], counts[1, place[len(one[0]) :]] = one[1], other[1]
    return cells, counts[0], counts[1]


def _bins(weights: Array, n: int) -> Array:
    """Return each cell's bin (int64 [k]): bins of about equal weight, a heavy cell alone, fewer of a small sample."""
    n_bins = int(np.clip(n // BIN_ROWS, 2, N_BINS))
    middles = (np.cumsum(weights) - weights / 2) / weights.sum()
    return np.unique(np.floor(middles * n_bins), return_inverse=True)[1]


def _categories(weights: Array, n: int) -> Array:
    """Return each category's bin (int64 [k]): one for each frequent one, and the last for all others."""
    place = np.empty(len(weights), np.int64)
    place[np.argsort(-weights, kind="stable")] = np.arange(len(weights))
    rare = weights / weights.sum() * n < BIN_ROWS
    return np.unique(np.where(rare, N_CATEGORIES, np.minimum(place, N_CATEGORIES - 1)), return_inverse=True)[1]

"""Sketches: how the values of each column are distributed, in a few kilobytes that add up.

A sketch counts values by column and cell. A category is a cell. A number's cell is one of a grid that the column's
first values fix: the inverse hyperbolic sine of its distance from their median, in steps of a sixteenth of their spread
near the median and of six percent of the distance far from it. Equal grids make merging exact: a night's sketch is the
sum of those of its blocks, in any order, and a sketch of a year is the sum of its nights. A column that outgrows its
grid starts afresh. A frequent value needs no bin of its own: its cell is one. Of times only whether they are missing
counts: they move every night.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nightfit.batch import Array, Batch
from nightfit.schema import TIME_FEATURES, Column, Schema

STEPS, REACH = 16, 40
"""Cells for each unit of asinh(z), and where it is cut: |z| = 1e17, where float64 has no more digits."""

N_CELLS = 2 * STEPS * REACH + 1

COLUMN_BITS = 32
"""A cell's key is its column's number, shifted by so many bits, plus its number in the column."""

MISSING = (1 << COLUMN_BITS) - 1
"""The cell, in every column, of missing values."""

SPREAD = 0.6745
"""Median distance of a normal distribution from its median, in standard deviations."""

MIN_SPREAD = 1e-6
"""Share of a constant's size (at least 1) that is taken for its spread: cells, before there is anything to go by."""

MIN_ROWS = 50
"""Values beside the median that it takes to say that a grid is too coarse for them."""


class Tracked(NamedTuple):
    """A column, its number in the schema (which it keeps for ever), and its place in `x_num` or `x_cat`."""

    number: int
    column: Column
    place: int


def tracked(schema: Schema) -> Iterator[Tracked]:
    """Yield the columns of a schema; a time's place is that of its first feature."""
    d_num = d_cat = 0
    for index, column in enumerate(schema.columns):
        if column.kind == "categorical":
            yield Tracked(index, column, d_cat)
            d_cat += 1
        else:
            yield Tracked(index, column, d_num)
            d_num += len(TIME_FEATURES) if column.kind == "datetime" else 1


@dataclass(frozen=True)
class Grid:
    """The median and the spread of each column's first values, float64 [n_columns]; NaN where there were none."""

    centre: Array
    scale: Array

    @classmethod
    def none(cls) -> Grid:
        """Return a grid that knows no column."""
        return cls(np.zeros(0), np.zeros(0))

    def grown(self, schema: Schema, sample: Batch) -> Grid:
        """Return the grid with the columns of numbers that have values for the first time, in a sample of rows."""
        unknown = np.full(len(schema.columns) - len(self.centre), np.nan)
        centre, scale = np.append(self.centre, unknown), np.append(self.scale, unknown)
        for index, values in _numbers(schema, sample):
            if np.isnan(centre[index]) and len(values):
                centre[index], distances = _distances(values)
                scale[index] = _spread(distances) or MIN_SPREAD * max(abs(centre[index]), 1.0)
        return Grid(centre, scale)

    def coarse(self, schema: Schema, sample: Batch) -> list[int]:
        """Return the columns whose cells, where the sample's values are, are wider than the values' own spread."""
        return [index for index, values in _numbers(schema, sample) if self._is_coarse(index, values)]

    def _is_coarse(self, index: int, values: Array) -> bool:
        if len(values) < MIN_ROWS:
            return False
        median, distances = _distances(values)
        width = math.hypot(self.scale[index], median - self.centre[index]) / STEPS
        return len(distances) >= MIN_ROWS and width > _spread(distances)

    def without(self, columns: list[int]) -> Grid:
        """Return the grid that waits for new values of some columns."""
        centre = self.centre.copy()
        centre[columns] = np.nan
        return Grid(centre, self.scale)

    def cells(self, index: int, values: Array) -> Array:
        """Return the cell (int64 [n]) of each number (float64 [n]) of a column; `N_CELLS` where it is missing."""
        with np.errstate(over="ignore"):  # an infinity is cut like any other number
            place = np.arcsinh((values - self.centre[index]) / self.scale[index]) * STEPS
        cells = np.floor(np.clip(place, -STEPS * REACH, STEPS * REACH)) + STEPS * REACH
        return np.where(np.isnan(cells), N_CELLS, cells).astype(np.int64)


def _numbers(schema: Schema, sample: Batch) -> Iterator[tuple[int, Array]]:
    """Yield each column of numbers that a grid is for, and its values that are there."""
    for index, column, place in tracked(schema):
        if column.kind not in {"categorical", "datetime"}:
            values = sample.x_num[:, place]
            yield index, values[~np.isnan(values)]


def _distances(values: Array) -> tuple[float, Array]:
    """Return the median, and how far from it the values beside it lie."""
    median = float(np.median(values))
    with np.errstate(over="ignore"):  # two numbers of 1e308 may be infinitely far apart
        return median, np.abs(values[values != median] - median)


def _spread(distances: Array) -> float:
    """Return a robust standard deviation, of values beside the median; 0 where there is none.

    A value that most rows have would make every other robust measure 0, and one outlier the standard deviation large.
    """
    return float(np.median(distances) / SPREAD) if len(distances) else 0.0


@dataclass(frozen=True)
class Sketch:
    """Counts (int64 [k]) of values by cell: keys (int64 [k], ascending) as `COLUMN_BITS` says."""

    keys: Array
    counts: Array

    @classmethod
    def none(cls) -> Sketch:
        """Return a sketch of no rows."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))

    @classmethod
    def of(cls, blocks: Iterable[Batch], schema: Schema, grid: Grid) -> Sketch:
        """Sketch rows, block by block."""
        parts = [part for block in blocks for part in _columns(block, schema, grid)]
        return _summed([np.zeros(0, np.int64), *(p[0] for p in parts)], [np.zeros(0, np.int64), *(p[1] for p in parts)])

    def merged(self, other: Sketch) -> Sketch:
        """Return the sketch of both sketches' rows."""
        return _summed([self.keys, other.keys], [self.counts, other.counts])

    def adopted(self, other: Sketch) -> Sketch:
        """Return the sketch with the columns that only the other one has."""
        return self.merged(other.without(np.unique(self.keys >> COLUMN_BITS)))

    def without(self, columns: Array | list[int]) -> Sketch:
        """Return the sketch of the other columns."""
        kept = ~np.isin(self.keys >> COLUMN_BITS, columns)
        return Sketch(self.keys[kept], self.counts[kept])

    def column(self, index: int) -> tuple[Array, Array]:
        """Return the cells (int64 [k], ascending) of a column, and their counts."""
        low, high = np.searchsorted(self.keys, [index << COLUMN_BITS, (index + 1) << COLUMN_BITS])
        return self.keys[low:high] & MISSING, self.counts[low:high]

    def arrays(self) -> dict[str, Array]:
        """Return the sketch as named arrays."""
        return {"keys": self.keys, "counts": self.counts}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Sketch:
        """Read what `arrays` returned."""
        return cls(arrays["keys"], arrays["counts"])


def _columns(block: Batch, schema: Schema, grid: Grid) -> Iterator[tuple[Array, Array]]:
    """Yield the keys and counts of each column of a block."""
    for index, column, place in tracked(schema):
        if column.kind == "categorical":
            counts, missing = np.bincount(block.x_cat[:, place]), column.missing_id
        else:
            values = block.x_num[:, place]
            is_time = column.kind == "datetime"
            cells = np.where(np.isnan(values), N_CELLS, 0) if is_time else grid.cells(index, values)
            counts, missing = np.bincount(cells), N_CELLS
        cells = np.flatnonzero(counts)
        yield (index << COLUMN_BITS) + np.where(cells == missing, MISSING, cells), counts[cells]


def _summed(keys: list[Array], counts: list[Array]) -> Sketch:
    """Add up the counts of equal keys."""
    unique, place = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.zeros(len(unique), np.int64)
    np.add.at(total, place, np.concatenate(counts))
    return Sketch(unique, total)

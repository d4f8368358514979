"""Sketches: they add up exactly, find what they must, and stay small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfit.batch import Array, Batch
from nightfit.checkpoint import pack, unpack
from nightfit.schema import TIME_FEATURES, Schema
from nightfit.sketch import MISSING, N_CELLS, Grid, Sketch, tracked

SCHEMA = (
    Schema()
    .with_columns({"x": "numeric", "at": "datetime", "c": "categorical", "b": "boolean"})
    .with_categories({"c": ["blue", "red"]})
)
ID = {**SCHEMA.categorical[0].categories, "missing": SCHEMA.categorical[0].missing_id}


def batch(x: Array, c: Array | None = None) -> Batch:
    """Make rows of `SCHEMA` with these numbers; of times, only whether they are missing counts."""
    n = len(x)
    x_num = np.concatenate([x[:, None], np.tile(x[:, None], len(TIME_FEATURES)), np.ones((n, 1))], 1)
    ids = np.full(n, ID["red"]) if c is None else c
    return Batch(np.arange(n, dtype=np.uint64), x_num, ids[:, None].astype(np.int32), np.zeros(n, np.int64))


numbers = st.one_of(st.just(np.nan), st.sampled_from([0.0, 1.0, -1e100, 1e100]), st.floats(-1e6, 1e6))
rows = st.lists(st.tuples(numbers, st.sampled_from(list(ID.values()))), max_size=40)


def made(values: list[tuple[float, int]]) -> Batch:
    """Make rows of pairs of a number and a category's id."""
    return batch(np.array([x for x, _ in values], np.float64), np.array([c for _, c in values], np.int64))


@given(st.lists(rows, min_size=1, max_size=4))
def test_merging_is_one_pass(parts: list[list[tuple[float, int]]]) -> None:
    """The sketches of any pieces, merged, are that of all their rows, whatever is missing; and disk keeps it."""
    pieces, whole = [made(values) for values in parts], made([row for values in parts for row in values])
    grid = Grid.none().grown(SCHEMA, whole)
    merged = Sketch.none()
    for piece in pieces:
        merged = Sketch.of([piece], SCHEMA, grid).merged(merged)
    once = Sketch.of([whole], SCHEMA, grid)
    assert pack(merged.arrays()) == pack(once.arrays()) == pack(Sketch.of(pieces, SCHEMA, grid).arrays())
    assert pack(Sketch.from_arrays(unpack(pack(once.arrays()))).arrays()) == pack(once.arrays())
    for known in tracked(SCHEMA):
        assert once.column(known.number)[1].sum() == len(whole)


def test_missing_values_have_a_cell_of_their_own() -> None:
    """Of every kind of column the missing values are counted, and of a time nothing else."""
    rows = batch(np.array([np.nan, 1.0, 2.0]), np.array([ID["missing"], ID["red"], ID["blue"]]))
    sketch = Sketch.of([rows], SCHEMA, Grid.none().grown(SCHEMA, rows))
    missing = {k.column.name: int(sketch.column(k.number)[1][sketch.column(k.number)[0] == MISSING].sum())
               for k in tracked(SCHEMA)}  # fmt: skip
    assert missing == {"x": 1, "at": 1, "c": 1, "b": 0}
    assert sketch.column(1)[1].tolist() == [2, 1]


def test_frequent_values_have_cells_of_their_own() -> None:
    """A value that half of the rows have shares its cell with none that is an eighth of the spread away."""
    x = np.concatenate([np.zeros(500), np.random.default_rng(0).normal(5, 2, 500)])
    grid = Grid.none().grown(SCHEMA, batch(x))
    cells = grid.cells(0, np.array([0.0, grid.scale[0] / 8, -grid.scale[0] / 8]))
    assert len(set(cells.tolist())) == 3


def test_large_numbers_are_told_apart() -> None:
    """A column of 1e9 ± 1 fills as many cells as one of 0 ± 1; nothing finite falls outside."""
    z = np.random.default_rng(0).normal(size=1_000)
    filled = [len(set(Grid.none().grown(SCHEMA, batch(x)).cells(0, x).tolist())) for x in (z, 1e9 + z)]
    assert abs(filled[0] - filled[1]) <= 2
    cells = Grid.none().grown(SCHEMA, batch(z)).cells(0, np.array([-1e100, 1e100, np.nan]))
    assert cells.tolist() == [0, N_CELLS - 1, N_CELLS]


def test_a_grid_is_kept() -> None:
    """A column's grid is that of its first values, whatever comes later; one without values waits for them."""
    first, later = batch(np.array([1.0, 2.0, 3.0])), batch(np.array([100.0, 200.0]))
    assert Grid.none().grown(SCHEMA, first).grown(SCHEMA, later).centre[0] == 2
    none = Grid.none().grown(SCHEMA, batch(np.array([np.nan])))
    assert np.isnan(none.centre[0])
    assert none.grown(SCHEMA, later).centre[0] == 150


def spread_of(x: Array) -> float:
    """Return the spread that a column's first values give its grid."""
    return float(Grid.none().grown(SCHEMA, batch(x)).scale[0])


def test_a_spread_is_robust() -> None:
    """It is the deviation of a normal column; no outlier and no frequent value makes it 0 or large."""
    z = np.random.default_rng(0).normal(size=10_000)
    assert abs(spread_of(z) - 1) < 0.05
    assert abs(spread_of(np.concatenate([z, [1e300], np.full(3, 1.7e308), np.full(3, -1.7e308)])) - 1) < 0.05
    assert 0.5 < spread_of(np.concatenate([z, np.zeros(100_000), [1e9]])) < 2
    assert 0 < spread_of(np.full(9, 5.0)) < 1e-5


@pytest.mark.parametrize(
    ("scale", "offset", "is_coarse"), [(1, 0, False), (0.5, 3, False), (1e-3, 0, True), (1, 99, True)]
)
def test_a_grid_that_tells_nothing_apart_is_coarse(scale: float, offset: float, is_coarse: bool) -> None:  # noqa: FBT001
    """Values that lie too close together for their place are said to, and their column waits for a new grid."""
    z = np.random.default_rng(0).normal(size=1_000)
    grid = Grid.none().grown(SCHEMA, batch(z))
    assert (0 in grid.coarse(SCHEMA, batch(scale * z + offset))) == is_coarse
    renewed = grid.without([0]).grown(SCHEMA, batch(scale * z + offset))
    assert renewed.coarse(SCHEMA, batch(scale * z + offset)) == []
    assert grid.coarse(SCHEMA, batch(np.array([99.0, 99.1]))) == grid.coarse(SCHEMA, batch(np.full(1_000, 99.0))) == []


def test_sketches_are_small() -> None:
    """A million rows of a million values are a few kilobytes a column."""
    x = np.random.default_rng(0).lognormal(0, 3, 1_000_000)
    rows = batch(x)
    sketch = Sketch.of([rows], SCHEMA, Grid.none().grown(SCHEMA, replace(rows)))
    assert len(pack(sketch.arrays())) < 10_000


def test_a_new_column_is_adopted_whole() -> None:
    """The columns that only the other sketch has come over, and no count of the others."""
    few = SCHEMA.with_columns({})
    rows = batch(np.array([1.0, 2.0]))
    grid = Grid.none().grown(few, rows)
    one = Sketch.of([rows], few, grid)
    older = Sketch(one.keys[one.keys >> 32 < 2], one.counts[one.keys >> 32 < 2])
    adopted = older.adopted(Sketch.of([rows, rows], few, grid))
    assert adopted.column(0)[1].sum() == 2
    assert adopted.column(2)[1].sum() == 4

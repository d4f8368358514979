"""Move one column of one night of hotel bookings, each in turn, and see whether drift names it, and nothing else ever.

The shipped sample, shuffled over nights of 1,000 rows, so that nothing moves but what is moved here: each number by one
standard deviation, up and down; each category that at least a hundredth of the rows have, renamed. Found means: that
night's alarm names this column first. False alarms are nights of shuffled rows, nothing moved, with any alarm. Beside
it stands how often the rows in their real order, by date of arrival, alarm: there columns do move.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from nightfit.batch import Array, Batch, Rows
from nightfit.checkpoint import pack
from nightfit.cleaning import adopt, parse_features, target_of
from nightfit.drift import Drift
from nightfit.identity import hash_positions
from nightfit.schema import Rules, Schema, SchemaConfig
from nightfit.sketch import tracked
from stress.table import Dose, Result

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "hotel_bookings.csv.gz"
RULES = Rules("is_canceled", ("booking_id",), SchemaConfig(categorical=("agent", "company", "is_repeated_guest")))
NIGHT_ROWS, N_BEFORE = 1_000, 5
"""Rows of a night, and nights before the one in which a column is moved."""

SIZES = (NIGHT_ROWS, 100)
"""Rows of the nights in which nothing moves."""

MIN_SHARE = 0.01
"""Share of all rows that a category must have to be renamed, and of the night's rows to have to be found."""

N_ORDERS = {"small": 1, "full": 10}
"""Times that the rows are shuffled."""

FAMILIAR = 30
"""Nights after which the real order's alarms are counted by themselves."""

RENAMED = "<renamed>"


def bookings() -> tuple[Schema, Batch]:
    """Return the sample, encoded; each column of categories has one that no row holds, to rename others to."""
    names = csv.open_csv(SAMPLE).schema.names
    table = csv.read_csv(SAMPLE, convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())))
    schema = adopt(Schema(), [table], RULES)
    features, _ = parse_features(table, schema, RULES.schema.missing)
    labels = target_of(table, RULES, schema.task)
    schema = schema.with_classes(pc.unique(labels).to_pylist())
    values = {c.name: [*pc.unique(features[c.name]).drop_null().to_pylist(), RENAMED] for c in schema.categorical}
    schema = schema.with_categories(values)
    return schema, schema.encode(features, hash_positions("", 0, np.arange(len(table))), labels)


class Moved(NamedTuple):
    """A night with one column moved, by a deviation or in a category of some share of the night."""

    column: str
    how: str
    night: Batch
    share: float = 1.0


def moved(schema: Schema, rows: Batch, night: Batch) -> Iterator[Moved]:
    """Move each column of a night, by the deviation and the categories that it has in all rows."""
    for _, column, place in tracked(schema):
        if column.kind == "numeric":
            sigma = float(np.nanstd(rows.x_num[:, place]))
            for sign in (1, -1):
                x_num = night.x_num.copy()
                x_num[:, place] += sign * sigma
                yield Moved(column.name, f"{sign:+d} sigma", replace(night, x_num=x_num))
        elif column.kind == "categorical":
            shares = np.bincount(rows.x_cat[:, place], minlength=schema.n_ids) / len(rows)
            for category, id_ in column.categories.items():
                if shares[id_] >= MIN_SHARE:
                    x_cat, is_moved = night.x_cat.copy(), night.x_cat[:, place] == id_
                    x_cat[is_moved, place] = column.categories[RENAMED]
                    how = f"{category} renamed"
                    yield Moved(column.name, how, replace(night, x_cat=x_cat), float(is_moved.mean()))


def nights(rows: Batch, order: Array, n: int = NIGHT_ROWS) -> list[Batch]:
    """Cut rows, in an order, into whole nights of n."""
    return [rows.take(order[start : start + n]) for start in range(0, len(order) - n + 1, n)]


def alarms(schema: Schema, drift: Drift, rows: list[Batch]) -> list[list[str]]:
    """Let nights pass, and return the columns that each of them names, in order."""
    return [[move.column for move in drift.observe(Rows([night]), schema).news] for night in rows]


def found(schema: Schema, rows: Batch, order: Array, n_before: int = N_BEFORE) -> list[tuple[Moved, bool]]:
    """Move each column of one night in turn, and say whether the night names it first."""
    drift, (*before, night) = Drift(), nights(rows, order)[: n_before + 1]
    alarms(schema, drift, before)
    return [(m, alarms(schema, deepcopy(drift), [m.night])[0][:1] == [m.column]) for m in moved(schema, rows, night)]


def run(seed: int, dose: Dose) -> list[Result]:
    """Move columns, and count what is found and what is alarmed of without reason."""
    schema, rows = bookings()
    orders = [np.random.default_rng((seed, i)).permutation(len(rows)) for i in range(N_ORDERS[dose])]
    tried = [one for order in orders for one in found(schema, rows, order)]
    quiet = {n: [a for order in orders for a in alarms(schema, Drift(), nights(rows, order, n))] for n in SIZES}
    started, drift = perf_counter(), Drift()
    real = alarms(schema, drift, nights(rows, in_order := np.arange(len(rows))))
    ms = 1_000 * (perf_counter() - started) / len(real)
    later = found(schema, rows, in_order, FAMILIAR)
    common = [ok for m, ok in tried if "renamed" in m.how and m.share >= MIN_SHARE]
    return [
        _share("a column of numbers moved by one deviation", "all first", [ok for m, ok in tried if "sigma" in m.how]),
        _share(f"a category of {MIN_SHARE:.0%} of the night or more renamed", "all first", common),
        _share("a category renamed that is rarer that night", "", [ok for m, ok in tried if m.share < MIN_SHARE]),
        *(_false_alarms(n, alarms_) for n, alarms_ in quiet.items()),
        Result("nights in their real order that alarm", "", _real(real), ok=True),
        _share(f"a column moved in night {FAMILIAR + 1} of these", "", [ok for m, ok in later if m.share >= MIN_SHARE]),
        Result("a night's drift", "", f"{ms:.0f} ms, {len(pack(drift.state()[1])):,} bytes kept", ok=True),
    ]


def _false_alarms(n: int, quiet: list[list[str]]) -> Result:
    n_alarms = sum(map(bool, quiet))
    figure = f"{n_alarms} of {len(quiet):,}"
    return Result(f"shuffled nights of {n:,} rows that alarm", "at most 5 %", figure, ok=20 * n_alarms <= len(quiet))


def _share(what: str, mark: str, ok: list[bool]) -> Result:
    return Result(what, mark, f"{sum(ok)} of {len(ok)}", ok=not mark or all(ok))


def _real(real: list[list[str]]) -> str:
    counts = [f"{sum(map(bool, part))} of {len(part)}" for part in (real[:FAMILIAR], real[FAMILIAR:])]
    return f"{counts[0]}, then {counts[1]}"

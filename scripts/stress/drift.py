"""Move one column of one night of hotel bookings, each in turn, and see whether drift names it, and nothing else ever.

The shipped sample, shuffled over nights of 1,000 rows, so that nothing moves but what is moved here: each number by one
standard deviation, up and down; each category that at least a hundredth of the rows have, renamed. Found means: the
night's alarm names this column first. False alarms are nights of shuffled rows, nothing moved, with any alarm. Beside
it stands how often the rows in their real order, by date of arrival, alarm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from nightfit.batch import Array, Batch
from nightfit.cleaning import adopt, parse_features, target_of
from nightfit.identity import hash_positions
from nightfit.schema import Rules, Schema, SchemaConfig
from nightfit.sketch import tracked

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "hotel_bookings.csv.gz"
RULES = Rules("is_canceled", ("booking_id",), SchemaConfig(categorical=("agent", "company", "is_repeated_guest")))
NIGHT_ROWS, N_BEFORE = 1_000, 5
"""Rows of a night, and nights before the one in which a column is moved."""

MIN_SHARE = 0.01
"""Share of a category that is renamed."""

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
    """A night with one column moved."""

    column: str
    how: str
    night: Batch


def moved(schema: Schema, rows: Batch, night: Batch) -> Iterator[Moved]:
    """Move each column of a night, by the deviation and the categories that it has in all rows."""
    for _, column, place in tracked(schema):
        if column.kind in {"numeric", "boolean"}:
            sigma = float(np.nanstd(rows.x_num[:, place]))
            for sign in (1, -1):
                x_num = night.x_num.copy()
                x_num[:, place] += sign * sigma
                yield Moved(column.name, f"{sign:+d} sigma", replace(night, x_num=x_num))
        elif column.kind == "categorical":
            shares = np.bincount(rows.x_cat[:, place], minlength=schema.n_ids) / len(rows)
            for category, id_ in column.categories.items():
                if shares[id_] >= MIN_SHARE:
                    x_cat = night.x_cat.copy()
                    x_cat[x_cat[:, place] == id_, place] = column.categories[RENAMED]
                    yield Moved(column.name, f"{category} ({shares[id_]:.1%}) renamed", replace(night, x_cat=x_cat))


def nights(rows: Batch, order: Array, n: int) -> Iterator[Batch]:
    """Cut rows, in an order, into whole nights of n."""
    for start in range(0, len(order) - n + 1, n):
        yield rows.take(order[start : start + n])

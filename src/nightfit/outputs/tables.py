"""Predictions as a table of a database: replaced in one transaction, once all of them are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from nightfit.errors import DataError
from nightfit.jsontypes import Json
from nightfit.outputs.base import Output
from nightfit.outputs.formats import Parquet, schema_of, tables_of
from nightfit.outputs.pieces import pieces_in
from nightfit.sources.base import from_environment
from nightfit.sources.database import connected, find_table, listed, parse_url

OURS = ("prediction", "model_version")
"""Columns by which a table is known to hold predictions, which may be replaced."""

N_ROWS = 10_000
"""Rows of one statement."""


@contextmanager
def to_table(
    url: str, name: str, what: Mapping[str, Json], note: Callable[[str], None], progress: Callable[[int], None]
) -> Iterator[Output]:
    """Give a table, which is made if it is not there; what it held is replaced at the end, or not at all.

    Until then the rows lie in the working directory. `progress` is told how many are in the table. Raises
    `DataError` for a table of anything but predictions, and for one that lacks a column; `TryAgainError` where the
    database cannot be reached.
    """
    parsed = parse_url(from_environment(url, "the output's url"), Path.cwd(), writable=True)
    with connected(parsed, "the output", "writable") as connection:
        _check(connection, name, OURS)
    deliver = partial(_replace, parsed, name, progress)
    folder = Path(f".{name.replace('/', '_')[:200]}.parts")
    try:
        with pieces_in(folder, Parquet(), deliver, what, note) as pieces:
            yield pieces
    except OSError as error:
        fact = error.strerror or str(error)
        raise DataError(
            f"rows must be writable to the working directory before they go to a table, however {folder}: {fact}; "
            "run elsewhere"
        ) from None


def _check(connection: sa.Connection, name: str, columns: Sequence[str]) -> sa.TableClause | None:
    """Find the table, if it is there; raise `DataError` if it lacks one of these columns."""
    found = find_table(connection, name)
    if found is None:
        return None
    there = {column["name"] for column in sa.inspect(connection).get_columns(found.name, found.schema)}
    lacking = [column for column in columns if column not in there]
    if lacking:
        raise DataError(
            f"a table that is there must be one of these predictions to be replaced, however {name!r} has no "
            f"{listed(lacking)}; name another with --output-table, or drop it"
        )
    return found


def _replace(url: sa.URL, name: str, progress: Callable[[int], None], pieces: list[Path]) -> None:
    schema, n_rows = schema_of(pieces), 0
    with connected(url, "the output", "writable") as connection, connection.begin():
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # its driver would commit a new table at once
        table = _table(connection, name, schema)
        connection.execute(sa.delete(table))
        for rows in tables_of(pieces, schema):
            for i in range(0, len(rows), N_ROWS):
                connection.execute(sa.insert(table), _as_values(rows.slice(i, N_ROWS)))
            progress(n_rows := n_rows + len(rows))


def _as_values(rows: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - pyarrow ships no types
    """Return rows as a driver takes them: null for NaN, which not every database knows."""
    columns = {
        name: pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    }
    return list(pa.table(columns).to_pylist())


def _table(connection: sa.Connection, name: str, schema: Any) -> sa.TableClause:  # noqa: ANN401
    """Return the table, with columns of its own types if it was there, or of the rows' if it is made."""
    found = _check(connection, name, schema.names)
    if found is not None:
        return sa.table(found.name, *map(sa.column, schema.names), schema=found.schema)
    table = sa.Table(name, sa.MetaData(), *(sa.Column(field.name, _type(field)) for field in schema))
    table.create(connection)
    return table


def _type(field: Any) -> sa.types.TypeEngine[Any]:  # noqa: ANN401, PLR0911 - a case a line
    kind, types = field.type, pa.types
    if types.is_boolean(kind):
        return sa.Boolean()
    if types.is_integer(kind):
        return sa.BigInteger()
    if types.is_floating(kind):
        return sa.Double()
    if types.is_timestamp(kind):
        return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    if types.is_date(kind):
        return sa.Date()
    if types.is_time(kind):
        return sa.Time().with_variant(mysql.TIME(fsp=6), "mysql", "mariadb")
    return sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")

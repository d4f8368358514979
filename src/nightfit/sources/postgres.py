"""Rows of PostgreSQL as blocks of columns through ADBC, where they are the values that psycopg would give.

The second connection imports the first one's snapshot. Rows come by COPY, which takes no parameters: the values that
they are compared with are bound to settings of the transaction (`set_config`), where the statement finds them.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import adbc_driver_manager
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from adbc_driver_postgresql import dbapi  # type: ignore[import-untyped]
from psycopg.conninfo import make_conninfo
from sqlalchemy.dialects.postgresql.base import PGDialect

from nightfit.sources.database import chunk_rows
from nightfit.sources.sqlblocks import Block, NotTheSameError
from nightfit.sources.sqlvalues import ArrowValues, to_array

if TYPE_CHECKING:
    from nightfit.sources.keyset import Keyset, Position


@dataclass(frozen=True)
class _Type:
    """How a type is read: what is selected of a column, the array that this becomes, and the value at a position."""

    pack: Callable[[Any, bool], Any] = lambda array, _: array
    value: Callable[[Any], Any] = lambda value: value
    select: Callable[[sa.ColumnElement[Any]], sa.ColumnElement[Any]] = lambda column: column


@dataclass(frozen=True)
class Reader:
    """Reads rows of a keyset in the snapshot of a connection; `names` are its columns, made by `reader_of`."""

    connection: sa.Connection
    keyset: Keyset
    names: Sequence[str]
    types: Sequence[_Type]
    casts: Sequence[str]
    """The columns' types, as SQL spells them."""

    def blocks(self, after: Position | None, upto: Position | None) -> Iterator[Block]:
        """Yield the rows from `after` to `upto` in blocks of `CHUNK_ROWS`.

        Raises `NotTheSameError`, be it after some blocks.
        """
        statement, settings = self._statement(after, upto)
        try:
            with closing(dbapi.connect(self._conninfo(), autocommit=True)) as adbc, closing(adbc.cursor()) as cursor:
                cursor.execute("SET client_encoding TO 'UTF8'")
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                cursor.execute(f"SET TRANSACTION SNAPSHOT '{self._snapshot()}'")
                for name, value in settings.items():
                    cursor.execute("SELECT set_config($1, $2, true)", (name, value))
                    cursor.fetchall()
                cursor.execute(statement)
                for table in _rechunked(cursor.fetch_record_batch()):
                    yield self._block(table)
        except adbc_driver_manager.Error as error:
            raise NotTheSameError(str(error)) from error

    def _snapshot(self) -> str:
        """Export the snapshot, whose name must be safe to stand in a statement."""
        name = str(self.connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one())
        if not set(name) <= set("0123456789ABCDEF-"):
            raise NotTheSameError(f"a snapshot is called {name}")
        return name

    def _conninfo(self) -> str:
        """Say how the first connection was made, with the very server that it has reached."""
        info = cast("Any", self.connection.connection.driver_connection).info
        return make_conninfo(info.dsn, host=info.host, port=info.port, password=info.password or None)

    def _statement(self, after: Position | None, upto: Position | None) -> tuple[str, dict[str, str]]:
        """Return the statement, and the settings where it finds its values."""
        settings: dict[str, str] = {}

        def setting(name: str, value: object) -> sa.ColumnElement[Any]:
            place = f"nightfit.value{len(settings)}"
            settings[place] = "\\x" + value.hex() if isinstance(value, bytes) else str(value)
            return sa.literal_column(f"CAST(current_setting('{place}') AS {self.casts[self.names.index(name)]})")

        def settled(position: Position) -> Position:
            return tuple(map(setting, self.keyset.order, position))

        conditions = [] if after is None else [self.keyset.not_before(settled(after))]
        if upto is not None:
            conditions.append(self.keyset.not_beyond(settled(upto)))
        # ORDER BY takes a name for that of a result first, hence results go by names that no column has.
        columns = [
            kind.select(sa.column(name)).label(f"nightfit result {i}")
            for i, (name, kind) in enumerate(zip(self.names, self.types, strict=True))
        ]
        statement = self.keyset.rows(*conditions).with_only_columns(*columns, maintain_column_froms=True)
        dialect = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]
        return str(statement.compile(dialect=dialect)), settings

    def _block(self, table: pa.Table) -> Block:
        arrays = dict(zip(self.names, (column.combine_chunks() for column in table.columns), strict=True))
        types = dict(zip(self.names, self.types, strict=True))
        order = self.keyset.order
        return Block(
            pa.table({name: _packed(array, types[name], exact=name in order) for name, array in arrays.items()}),
            tuple(ArrowValues(arrays[name], types[name].value) for name in order),
        )


def reader_of(connection: sa.Connection, keyset: Keyset, names: Sequence[str]) -> Reader | None:
    """Make a reader for rows all of whose columns ADBC reads as psycopg does; None where it does not."""
    if connection.dialect.driver != "psycopg":
        return None
    info = cast("Any", connection.connection.driver_connection).info
    if info.parameter_status("server_encoding") != "UTF8":
        return None
    nothing = connection.execute(sa.select(sa.text("*")).select_from(keyset.relation).where(sa.false()))
    oids = [column[1] for column in cast("Any", nothing.cursor).description]
    nothing.close()
    rows = connection.execute(_TYPE_NAMES, {"oids": oids}).all()
    known = _types(info.timezone) | {oid: _TEXT_OF for oid, _, kind in rows if kind == "e"}
    if not set(oids) <= set(known):
        return None
    casts = {oid: name for oid, name, _ in rows}
    return Reader(connection, keyset, names, [known[oid] for oid in oids], [casts[oid] for oid in oids])


# Without a type modifier (-1, not NULL) a char(4) is called bpchar; "character" would be cut to one.
_TYPE_NAMES = sa.text("""
    SELECT CAST(oid AS bigint), format_type(oid, -1), CAST(typtype AS text) FROM pg_type
    WHERE CAST(oid AS bigint) = ANY(CAST(:oids AS bigint[]))
""")


def _rechunked(reader: Any) -> Iterator[pa.Table]:  # noqa: ANN401 - pyarrow ships no types
    """Cut batches of any size into tables of `CHUNK_ROWS`, the last one of fewer."""
    held, n_rows = [], chunk_rows()
    for batch in reader:
        held.append(batch)
        if sum(map(len, held)) >= n_rows:
            table = pa.Table.from_batches(held)
            n_whole = len(table) // n_rows * n_rows
            for start in range(0, n_whole, n_rows):
                yield table.slice(start, n_rows)
            held = table.slice(n_whole).to_batches()
    if sum(map(len, held)):
        yield pa.Table.from_batches(held)


def _packed(array: Any, kind: _Type, *, exact: bool) -> Any:  # noqa: ANN401
    """Return what `to_array` makes of the values that psycopg gives."""
    return pa.nulls(len(array)) if array.null_count == len(array) else kind.pack(array, exact)


def _via_python(convert: Callable[[Any], Any]) -> Callable[[Any, bool], Any]:
    return lambda array, exact: to_array(
        [None if value is None else convert(value) for value in array.to_pylist()], exact=exact
    )


def _within(first: int, last: int, kind: Any) -> Callable[[Any, bool], Any]:  # noqa: ANN401
    """Refuse times that Python has not, such as infinity and years before Christ: psycopg says what is wrong."""

    def pack(array: Any, _: bool) -> Any:  # noqa: ANN401, FBT001
        bounds = pc.min_max(array.cast(pa.int32() if pa.types.is_date(kind) else pa.int64()))
        if bounds["min"].as_py() < first or bounds["max"].as_py() > last:
            raise NotTheSameError("a time lies beyond what Python has")
        return array.cast(kind)

    return pack


def _as_text(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.cast(column, sa.Text)


_TEXT_OF = _Type(select=_as_text)
_FIRST, _LAST = (dt.date(1, 1, 2) - dt.date(1970, 1, 1)).days, (dt.date(9999, 12, 31) - dt.date(1970, 1, 1)).days
_DAY_US = 86_400_000_000


def _types(zone: dt.tzinfo) -> dict[int, _Type]:
    """Return the types that are read, by their oid; `zone` is what psycopg shows times in."""
    aware = pa.array([dt.datetime(2000, 1, 1, tzinfo=zone)]).type
    whole = _Type(pack=lambda array, _: array.cast(pa.int64()))
    text, as_it_is = _Type(), _Type()
    return {
        16: as_it_is,
        17: _Type(_via_python(bytes)),
        19: text,
        20: whole,
        21: whole,
        23: whole,
        25: text,
        700: _Type(select=lambda column: sa.cast(_as_text(column), sa.Double)),
        701: as_it_is,
        1042: text,
        1043: text,
        1082: _Type(_within(_FIRST, _LAST, pa.date32())),
        1083: _Type(_within(0, _DAY_US - 1, pa.time64("us"))),
        1114: _Type(_within(_FIRST * _DAY_US, _LAST * _DAY_US, pa.timestamp("us"))),
        1184: _Type(
            _within(_FIRST * _DAY_US, _LAST * _DAY_US, aware),
            lambda value: cast("dt.datetime", value).astimezone(zone),
        ),
        1700: _Type(_via_python(Decimal), Decimal, _as_text),
        2950: _Type(value=uuid.UUID, select=_as_text),
    }

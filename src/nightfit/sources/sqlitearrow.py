"""Rows of an SQLite table as blocks of columns through ADBC, where they are the values that sqlite3 would give.

Why a process of its own: ADBC brings a second SQLite. Two of them in one process would let go of each other's locks on
a file (POSIX locks are the process's, and closing any descriptor of the file drops them all), and a writer could then
change pages that are being read.

Why the values are the same: both read the stored values of an ordinary table, of which SQLite has five types. Of each
block, every column has the one type that ADBC says, or null:

* int64: ADBC takes nothing but whole numbers, and stops at others.
* double: ADBC stops at texts and bytes. It takes whole numbers too, which a column declared REAL has not (SQLite itself
  reads them as floats); for other columns, `typeof` says so of each row.
* string: `typeof` says of each row that the text is no number and no bytes, and Arrow that it is UTF-8.

What was found out about the table (that it is one, how its columns are declared) holds for each row that comes with the
same version of the schema.

Why the rows are the same: the first connection keeps its transaction open, which stops every commit to a file with a
rollback journal. With a WAL the process may see commits that the first connection does not. They do no harm, since
writers take turns, so that values rise: rows that are new lie beyond all others, and are read now and not by the next
night. A row that came behind the mark is found by the next night, since the mark counts what was read and not what is
there. If the first connection has to go on, it lacks rows that lie beyond its own end, where the next night starts.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from nightfit.sources.database import chunk_rows
from nightfit.sources.sqlblocks import Block, HandedOverError, NotTheSameError
from nightfit.sources.sqlvalues import ArrowValues

if TYPE_CHECKING:
    from nightfit.sources.keyset import Keyset, Position

MANY_ROWS = 65_536
"""Read before a process is started, which takes as long as to read so many."""

N_TRIES = 3
"""Times that a process is started: a column that was empty up to some row has no type before."""

_PIPE_BYTES = 2**20
_KNOWN_OPTIONS = {"mode", "uri", "timeout"}
_HAS_TABLE_LIST = (3, 37)
_TYPE_NAMES = {pa.string(): "text", pa.float64(): "real", pa.int64(): "integer"}


@dataclass
class Reader:
    """Reads rows of a keyset beside the transaction of a connection, made by `reader_of_table`.

    `reals` are the columns that SQLite gives no whole numbers of.
    """

    connection: sa.Connection
    keyset: Keyset
    names: Sequence[str]
    reals: set[str]
    types: dict[str, Any] = field(default_factory=dict)
    """The type of each column in the last block of the first rows."""

    def first(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Pass on the first rows, and learn what types to expect.

        Raises `HandedOverError` where `others` may be worth its start.
        """
        n_rows = 0
        for block in blocks:
            yield block
            self.types = dict(zip(self.names, block.table.schema.types, strict=True))
            n_rows += len(block)
            if n_rows >= MANY_ROWS:
                raise HandedOverError

    def others(self, after: Position | None) -> Iterator[Block]:
        """Yield the rows from `after` in blocks of `CHUNK_ROWS`.

        Raises `NotTheSameError`, be it after some blocks.
        """
        try:
            with _child(self._request(after)) as child:
                for batch in pa.ipc.open_stream(child.stdout):
                    yield self._block(batch)
                if child.wait():
                    raise NotTheSameError("the process has failed")
        except (OSError, pa.ArrowException) as error:
            raise NotTheSameError(str(error)) from error

    def _request(self, after: Position | None) -> dict[str, Any]:
        conditions = [] if after is None else [self.keyset.not_before(after)]
        statement = self.keyset.rows(*conditions).add_columns(self._is_same().label(_no_name_of(self.names)))
        compiled = statement.compile(dialect=self.connection.dialect)
        values = [compiled.params[name] for name in compiled.positiontup or ()]
        if not all(isinstance(value, int | float | str) for value in values):
            raise NotTheSameError("rows are put in order by bytes")
        return {
            "uri": f"{self.connection.engine.url.database}?mode=ro",
            "statement": str(compiled),
            "values": values,
            "batch_rows": chunk_rows(),
        }

    def _is_same(self) -> sa.ColumnElement[bool]:
        """Say of a row that its values have the expected types, as far as ADBC would not tell."""
        version = self.connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
        conditions = [sa.literal_column("(SELECT schema_version FROM pragma_schema_version)") == _literal(version)]
        for name, kind in self.types.items():
            if kind == pa.string() or (kind == pa.float64() and name not in self.reals):
                column: sa.ColumnClause[Any] = sa.column(name)
                type_name = sa.func.typeof(column)
                conditions.append(sa.or_(column.is_(None), type_name == _literal(f"'{_TYPE_NAMES[kind]}'")))
        return sa.and_(*conditions)

    def _block(self, batch: pa.RecordBatch) -> Block:
        *columns, is_same = batch.columns
        if pc.min(is_same).as_py() != 1:
            raise NotTheSameError("a value has another type, or the table has changed")
        arrays = {name: self._checked(name, array) for name, array in zip(self.names, columns, strict=True)}
        return Block(pa.table(arrays), tuple(ArrowValues(arrays[name]) for name in self.keyset.order))

    def _checked(self, name: str, array: pa.Array) -> pa.Array:
        if array.null_count == len(array):
            return pa.nulls(len(array))
        if array.type != self.types[name]:
            raise NotTheSameError(f"{name} is {array.type} and not {self.types[name]}")
        array.validate(full=True)
        return array


def reader_of_table(connection: sa.Connection, keyset: Keyset, names: Sequence[str]) -> Reader | None:
    """Make a reader for an ordinary table; None for others, and for files that are to be opened in a way of their own.

    What queries, views and generated columns compute may depend on the version of SQLite.
    """
    table, url = keyset.relation, connection.engine.url
    if not isinstance(table, sa.TableClause) or table.schema not in {None, "main"}:
        return None
    if set(url.query) - _KNOWN_OPTIONS or sqlite3.sqlite_version_info < _HAS_TABLE_LIST:
        return None
    quoted = connection.dialect.identifier_preparer.quote_identifier(table.name)
    found = connection.exec_driver_sql(f"PRAGMA main.table_list({quoted})").mappings().all()
    columns = connection.exec_driver_sql(f"PRAGMA main.table_xinfo({quoted})").mappings().all()
    is_plain = [row["type"] for row in found] == ["table"] and not any(column["hidden"] for column in columns)
    if not is_plain or connection.exec_driver_sql("PRAGMA encoding").scalar_one() != "UTF-8":
        return None
    return Reader(connection, keyset, names, {column["name"] for column in columns if _is_real(column["type"])})


def _is_real(declared: str) -> bool:
    """Say whether SQLite's rules make a declared type REAL."""
    return re.search("INT|CHAR|CLOB|TEXT|BLOB", declared, re.IGNORECASE) is None and (
        re.search("REAL|FLOA|DOUB", declared, re.IGNORECASE) is not None
    )


def _literal(text: object) -> sa.ColumnElement[Any]:
    return sa.literal_column(str(text))


def _no_name_of(names: Sequence[str]) -> str:
    return max(names, key=len) + "_"


@contextmanager
def _child(request: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process, and end it in the end, wherever it is."""
    command = [sys.executable, "-P", str(_CHILD)]
    pipe = subprocess.PIPE
    with subprocess.Popen(  # noqa: S603 - our own interpreter and file
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, pipesize=_PIPE_BYTES
    ) as child:
        try:
            assert child.stdin is not None
            child.stdin.write(json.dumps(request).encode())
            child.stdin.close()
            yield child
        finally:
            child.kill()


_CHILD = Path(__file__).with_name("sqlitechild.py")

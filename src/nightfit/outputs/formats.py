"""Formats of a file of predictions: how a piece is written, and how pieces become one file."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from nightfit.errors import DataError
from nightfit.sources.base import CHUNK_ROWS


class Writer(Protocol):
    """A piece that is being written."""

    def takes(self, table: Any) -> bool:  # noqa: ANN401 - pyarrow ships no types
        """Say whether the piece can hold this table too."""
        ...

    def write(self, table: Any) -> None:  # noqa: ANN401
        """Append a table."""
        ...

    def close(self) -> None:
        """Finish the piece."""
        ...


class Format(Protocol):
    """A format of a file."""

    suffix: str

    def open(self, path: Path, table: Any, *, is_first: bool) -> Writer:  # noqa: ANN401
        """Start a piece for tables like this one; the first piece of an output may need a header."""
        ...

    def join(self, pieces: Sequence[Path]) -> Path:
        """Make one file of pieces that are whole, beside them; the same again if it is done again."""
        ...


class CsvWriter:
    """Tables as lines of CSV; each as text of its own, as a database's column may change its type."""

    def __init__(self, path: Path, *, header: bool) -> None:
        self._file, self._header = path.open("wb"), header

    def takes(self, table: Any) -> bool:  # noqa: ANN401, ARG002 - text takes all types
        """See `Writer`."""
        return True

    def write(self, table: Any) -> None:  # noqa: ANN401
        """See `Writer`."""
        write_csv(table, self._file, header=self._header)
        self._header = False

    def close(self) -> None:
        """See `Writer`."""
        self._file.close()


def write_csv(table: Any, file: Any, *, header: bool) -> None:  # noqa: ANN401
    """Write a table as lines of CSV."""
    pacsv.write_csv(table, file, pacsv.WriteOptions(include_header=header))


class Csv:
    """Pieces are stretches of one text."""

    suffix = ".csv"

    def open(self, path: Path, table: Any, *, is_first: bool) -> Writer:  # noqa: ANN401, ARG002
        """See `Format`."""
        return CsvWriter(path, header=is_first)

    def join(self, pieces: Sequence[Path]) -> Path:
        """Append the others to the first: its recorded length tells where to cut if this is done again."""
        first, *others = pieces
        with first.open("ab") as out:
            for path in others:
                with path.open("rb") as piece:
                    shutil.copyfileobj(piece, out, 1 << 20)
        return first


class ParquetWriter:
    """Tables of one schema."""

    def __init__(self, path: Path, schema: Any) -> None:  # noqa: ANN401
        self._schema, self._file = schema, pq.ParquetWriter(path, schema)

    def takes(self, table: Any) -> bool:  # noqa: ANN401
        """See `Writer`."""
        return bool(table.schema.equals(self._schema))

    def write(self, table: Any) -> None:  # noqa: ANN401
        """See `Writer`."""
        self._file.write_table(table)

    def close(self) -> None:
        """See `Writer`."""
        self._file.close()


class Parquet:
    """Pieces are Parquet files; a piece ends where a database's column changes its type."""

    suffix = ".parquet"

    def open(self, path: Path, table: Any, *, is_first: bool) -> Writer:  # noqa: ANN401, ARG002
        """See `Format`."""
        return ParquetWriter(path, table.schema)

    def join(self, pieces: Sequence[Path]) -> Path:
        """Copy the rows of all into a new file, in flat memory; a single one is that file already."""
        if len(pieces) == 1:
            return pieces[0]
        joined, schema = pieces[0].with_name(f"joined{self.suffix}"), schema_of(pieces)
        with pq.ParquetWriter(joined, schema) as writer:
            for table in tables_of(pieces, schema):
                writer.write_table(table)
        return joined


def schema_of(pieces: Iterable[Path]) -> Any:  # noqa: ANN401
    """Return the schema that can hold all pieces: columns whose types have nothing in common become text."""
    schemas = [pq.read_schema(path) for path in pieces]
    return pa.schema([_field(name, [schema.field(name) for schema in schemas]) for name in schemas[0].names])


def _field(name: str, fields: list[Any]) -> Any:  # noqa: ANN401
    try:
        return pa.unify_schemas([pa.schema([field]) for field in fields], promote_options="permissive").field(0)
    except pa.ArrowTypeError:
        return pa.field(name, pa.string())


def tables_of(pieces: Iterable[Path], schema: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield the rows of Parquet pieces, in order and in flat memory, in one schema.

    Raises `DataError` for whole numbers that its floats cannot hold.
    """
    for path in pieces:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=CHUNK_ROWS):
                try:
                    yield pa.Table.from_batches([batch]).cast(schema)
                except pa.ArrowInvalid as error:
                    raise DataError(
                        f"a column of the input must have values of one type, however: {error}; cast it in a view"
                    ) from None

"""Parquet files: written once, read by rows, and known again by their bytes at both ends, the footer among them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from nightfit.errors import DataError, GapError
from nightfit.sources.base import CHUNK_ROWS, Chunk
from nightfit.sources.unpack import opened

if TYPE_CHECKING:
    from pathlib import Path

    from nightfit.sources.base import Cursor

MAGIC = b"PAR1"
HASHED_BYTES = 64 << 10
"""Hashed at the start of a file and before its footer."""
_LENGTH_BYTES = 4
_END_BYTES = _LENGTH_BYTES + len(MAGIC)
_EXACT_DIGITS = 15
"""Decimal digits that a float64 holds; whole numbers of more, which tend to be keys, stay text."""
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class RowPosition:
    """How many rows of a file were read. `digest` is the SHA-256 of its size, its first bytes and its last."""

    generation: int = 0
    rows: int = 0
    digest: str = ""


def read_parquet_on(
    path: Path,
    place: str,
    entry: dict[str, Any],
    wrap: Callable[[RowPosition], Cursor],
    note: Callable[[str], None],
) -> Iterator[Chunk]:
    """Yield what lies after a cursor's entry of one file; a file without its end waits for the next night.

    Raises `DataError` for what is no Parquet file, or has columns that cannot be rows of a table.
    """
    after = RowPosition(**entry)
    with _opened(path, place) as file:
        digest = _digest(file, place)
        if digest is None:
            note(f"{place} should be complete, however its footer is missing; it waits for the next night")
            return
        start = RowPosition(after.generation, after.rows, digest)
        if after.digest not in {"", digest}:
            note(
                f"{place} should stay as it was written, however it has changed: it was overwritten, "
                "and is read from its start"
            )
            start = RowPosition(after.generation + 1, 0, digest)
        yield from _chunks(file, place, start, wrap, hollow=start.generation != after.generation)


def read_whole_parquet(
    path: Path, place: str, entry: dict[str, Any], wrap: Callable[[RowPosition], Cursor]
) -> Iterator[Chunk]:
    """Yield the rows of one file after a cursor's entry, or one empty chunk with its columns if it has none.

    Raises `DataError` if the file lacks its end, `GapError` if it has changed since the entry.
    """
    after = RowPosition(**entry)
    with _opened(path, place, whole=True) as file:
        digest = _digest(file, place)
        if digest is None:
            raise DataError(f"{place} must be a whole Parquet file, however its footer is missing; copy it again")
        if after.digest not in {"", digest}:
            raise GapError(f"{place} must stay as it is while it is read, however it has changed; read it anew")
        yield from _chunks(file, place, RowPosition(0, after.rows, digest), wrap, hollow=not after.rows)


@contextmanager
def _opened(path: Path, place: str, *, whole: bool = False) -> Iterator[Any]:
    with opened(path, place, whole=whole):  # says what is no file, not there or not readable
        pass
    with _sound(place), pa.OSFile(str(path)) as file:
        yield file


@contextmanager
def _sound(place: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        fact = " ".join(str(error).split())
        raise DataError(f"{place} must be a sound Parquet file, however: {fact}; write it again") from None


def _digest(file: Any, place: str) -> str | None:  # noqa: ANN401
    """Hash what tells a file from another one; None while it has no footer."""
    size = file.size()
    start = file.read(min(HASHED_BYTES, size))
    if not MAGIC.startswith(start[: len(MAGIC)]) and start[: len(MAGIC)] != MAGIC:
        raise DataError(f"{place} must be a Parquet file, however it starts otherwise; mend its name or its contents")
    file.seek(max(0, size - _END_BYTES))
    end = file.read()
    n_footer = int.from_bytes(end[:_LENGTH_BYTES], "little") + _END_BYTES
    if not end.endswith(MAGIC) or n_footer + len(MAGIC) > size:
        return None
    file.seek(max(0, size - n_footer - HASHED_BYTES))
    return hashlib.sha256(b"%d " % size + start + file.read()).hexdigest()


def _chunks(
    file: Any,  # noqa: ANN401
    place: str,
    start: RowPosition,
    wrap: Callable[[RowPosition], Cursor],
    *,
    hollow: bool,
) -> Iterator[Chunk]:
    """Yield the rows from `start` on; with `hollow`, an empty chunk where there are none."""
    row = start.rows
    for table in _tables(file, place, row):
        yield _chunk(table, place, start, row, wrap)
        row += len(table)
    if hollow and row == start.rows:
        file.seek(0)
        empty = pa.parquet.read_schema(file).empty_table()
        yield _chunk(as_columns(empty, place), place, start, row, wrap)


def _chunk(table: pa.Table, place: str, start: RowPosition, row: int, wrap: Callable[[RowPosition], Cursor]) -> Chunk:
    return Chunk(
        place=place,
        table=table,
        rows=np.arange(row, row + len(table), dtype=np.int64),
        generation=start.generation,
        cursor_at=lambda i: wrap(RowPosition(start.generation, row + i, start.digest)),
    )


def _tables(file: Any, place: str, n_skip: int) -> Iterator[pa.Table]:  # noqa: ANN401
    """Yield the rows after the first `n_skip`; row groups that lie before are not decoded."""
    file.seek(0)
    parquet = pa.parquet.ParquetFile(file)
    groups: list[int] = []
    for i in range(parquet.num_row_groups):
        n_rows = parquet.metadata.row_group(i).num_rows
        if not groups and n_skip >= n_rows:
            n_skip -= n_rows
        else:
            groups.append(i)
    for batch in parquet.iter_batches(batch_size=CHUNK_ROWS, row_groups=groups) if groups else ():
        table = pa.Table.from_batches([batch]).slice(n_skip)
        n_skip -= min(n_skip, len(batch))
        if len(table):
            yield as_columns(table, place)


def as_columns(table: pa.Table, place: str) -> pa.Table:
    """Turn every column into one of numbers, text, booleans or times.

    Structs become columns named "outer.inner", lists and maps JSON text, times with a zone UTC, durations seconds.
    Raises `DataError` for bytes that are no UTF-8 text, and for names that are met twice.
    """
    columns = list(_flat(zip(table.column_names, table.columns, strict=True)))
    twice = [name for name, n in Counter(name for name, _ in columns).items() if n > 1]
    if twice:
        raise DataError(
            f"the columns of {place} must have different names, however {twice[0]!r} is met more than once; "
            "rename all but one of them in the export"
        )
    return pa.table({name: _column(name, column.combine_chunks(), place) for name, column in columns})


def _flat(columns: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    for name, column in columns:
        if pa.types.is_struct(column.type) and column.type.num_fields:
            names = (f"{name}.{field.name}" for field in column.type)
            yield from _flat(zip(names, column.flatten(), strict=True))
        else:
            yield name, column


def _column(name: str, column: Any, place: str) -> Any:  # noqa: ANN401, PLR0911 - a case a line
    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        return _column(name, column.dictionary_decode(), place)
    if isinstance(kind, pa.BaseExtensionType):
        return _column(name, column.storage, place)
    if types.is_nested(kind):
        return pa.array([None if value is None else _as_json(value) for value in column.to_pylist()], pa.string())
    if types.is_decimal(kind):
        is_key = kind.scale <= 0 and kind.precision > _EXACT_DIGITS
        return pc.cast(column, pa.string() if is_key else pa.float64())
    if types.is_timestamp(kind) and kind.tz:
        return pc.cast(column, pa.timestamp(kind.unit))
    if types.is_duration(kind):
        return pc.divide(pc.cast(pc.cast(column, pa.int64()), pa.float64()), float(_TICKS[kind.unit]))
    if types.is_float16(kind) or types.is_null(kind):
        return pc.cast(column, pa.float32() if types.is_float16(kind) else pa.string())
    if not (types.is_primitive(kind) or types.is_string(kind)):
        return _as_text(name, column, place)
    return column


def _as_json(value: Any) -> str:  # noqa: ANN401
    return json.dumps(value, ensure_ascii=False, default=str)


def _as_text(name: str, column: Any, place: str) -> Any:  # noqa: ANN401
    """Decode large strings, views and bytes."""
    try:
        return pc.cast(column, pa.string())
    except pa.ArrowInvalid:
        raise DataError(
            f"columns of bytes must be UTF-8 text, however {name!r} of {place} is not; drop it in the export"
        ) from None

"""CSV bytes in, columns of text out: the header line, and records split into fields by Arrow.

Columns that are known to hold numbers become floats at once where the text could tell no more.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from nightfit.errors import DataError
from nightfit.kinds import as_text, is_plain
from nightfit.sources.base import BadRow, Dialect, Numbers
from nightfit.sources.blocks import Blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nightfit.sources.blocks import Block, Offsets
    from nightfit.sources.unpack import Seekable

HEADER_BYTES = 64 << 10
"""Read at a time where only the header line is wanted."""
BOM = b"\xef\xbb\xbf"
NO_NUMBERS = Numbers()
PLAIN = Dialect()
_COMMA_NUMBER = r"^(\s*[+-]?\d*),(\d+(?:[eE][+-]?\d+)?\s*)$"


@dataclass(frozen=True)
class Header:
    """The column names of a file, and the byte offset at which its first record starts."""

    columns: tuple[str, ...]
    end: int


@dataclass(frozen=True)
class Records:
    """Parsed records: `table` holds those at `index` (int64, [n], within the block), `bad` the others."""

    table: pa.Table
    index: Offsets
    bad: tuple[BadRow, ...]


def read_header(stream: Seekable, *, place: str, whole: bool = False, dialect: Dialect = PLAIN) -> Header | None:
    r"""Parse the header line; None where it is still being written (with `whole`: where there is none).

    Raises `DataError` for names that are empty, met twice, or not UTF-8.

    >>> import io
    >>> read_header(io.BytesIO(b"ID,TARGET\n1,0\n"), place="new_data.csv")
    Header(columns=('ID', 'TARGET'), end=10)
    """
    offset = len(BOM) if stream.read(len(BOM)) == BOM else 0
    stream.seek(offset)
    blocks = Blocks(
        stream.read, place=place, offset=offset, size=HEADER_BYTES, whole=whole, delimiter=dialect.delimiter
    )
    for block in filter(len, blocks):
        record = block.data[int(block.starts[0]) : int(block.ends[0])]
        return Header(_names(record, place, dialect), block.offset + int(block.ends[0]))
    return None


def parse(
    block: Block,
    start: int,
    stop: int,
    *,
    columns: tuple[str, ...],
    row: int,
    numbers: Numbers = NO_NUMBERS,
    dialect: Dialect = PLAIN,
) -> Records:
    """Split the records [start, stop) of a block into columns of text; `row` is the number of the first.

    If `numbers` hold nothing else, and no record is odd, they become float64, null where missing.
    """
    starts, ends = block.starts[start:stop], block.ends[start:stop]
    bad = dict.fromkeys(_not_utf8(block.data, starts, ends), "text must be UTF-8, however this is not")
    index = _others(len(starts), bad)
    misfits: list[tuple[int, int]] = []
    data = _joined(block.data, starts, ends, index) if len(index) else None
    table = _split(data, columns, misfits, numbers, dialect) if data else None
    for number, n_fields in misfits:
        reason = f"a record must have {len(columns)} fields like the header, however this one has {n_fields}"
        bad[int(index[number])] = reason
    table = empty_table(columns) if table is None else table
    index = _others(len(starts), bad)
    assert len(index) == len(table), f"{len(index)} records were found, however Arrow found {len(table)}"
    return Records(
        table,
        index + start,
        tuple(BadRow(row + i, bad[i], _text(block.data[starts[i] : ends[i]])) for i in sorted(bad)),
    )


def empty_table(columns: tuple[str, ...]) -> pa.Table:
    """Make a table of these columns without rows."""
    return pa.table({name: pa.array([], pa.string()) for name in columns})


def _others(n: int, left_out: Iterable[int]) -> Offsets:
    return np.delete(np.arange(n), list(left_out))


def _text(record: bytes) -> str:
    return record.decode(errors="replace").rstrip("\r\n")


def _names(record: bytes, place: str, dialect: Dialect) -> tuple[str, ...]:
    try:
        record.decode()
    except UnicodeDecodeError as error:
        fact = f"the header line of {place} is not ({error.reason})"
        raise DataError(f"a CSV file must be UTF-8, however {fact}; convert it") from None
    line = pa.py_buffer(record.rstrip(b"\r\n") + b"\n")
    n_fields = len(_table(line, None, dialect).column_names)
    names = tuple(_table(line, tuple(map(str, range(n_fields))), dialect).to_pylist()[0].values())
    _check_names(names, place)
    return names


def _check_names(names: tuple[str, ...], place: str) -> None:
    rule = f"the columns of {place} must have different names that are not empty"
    if "" in names:
        raise DataError(f"{rule}, however column {names.index('') + 1} has none; name it in the header line")
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise DataError(f"{rule}, however {twice[0]!r} is met more than once; rename all but one of them")


def _not_utf8(data: bytes, starts: Offsets, ends: Offsets) -> Iterator[int]:
    """Yield which records cannot be decoded; nearly always all of them can, which one step finds out."""
    if data.isascii():  # the quickest of all checks
        return
    try:
        data[starts[0] : ends[-1]].decode() if len(starts) else None
    except UnicodeDecodeError:
        for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            try:
                data[start:end].decode()
            except UnicodeDecodeError:
                yield i


def _joined(data: bytes, starts: Offsets, ends: Offsets, index: Offsets) -> pa.Buffer:
    """Return the records at `index`, where all of them are without copying."""
    whole = pa.py_buffer(data).slice(starts[0], ends[-1] - starts[0])
    if len(index) == len(starts) and not data.startswith(BOM, starts[0]):
        return whole
    # a blank line first, since Arrow would drop a byte order mark there
    return pa.py_buffer(b"".join([b"\n", *(data[starts[i] : ends[i]] for i in index)]))


def _split(
    data: pa.Buffer, columns: tuple[str, ...], misfits: list[tuple[int, int]], numbers: Numbers, dialect: Dialect
) -> pa.Table:
    """Let Arrow split records into columns; `misfits` takes (number, fields) of those that do not fit.

    Nearly always there are none, and all numbers are plain ones: otherwise it is done again, with more care.
    """
    for hoped in (numbers, NO_NUMBERS) if numbers.names.intersection(columns) else (NO_NUMBERS,):
        try:
            table = _table(data, columns, dialect, lambda _: "error", hoped)
        except pa.ArrowInvalid:
            continue
        if all(is_plain(table[name]) for name in hoped.names.intersection(columns)):  # what is not is rejected as text
            return _with_points(table, dialect)

    def misfit(row: pyarrow.csv.InvalidRow) -> str:
        misfits.append((row.number - 1, row.actual_columns))
        return "skip"

    return _with_points(_table(data, columns, dialect, misfit), dialect)


def _with_points(table: pa.Table, dialect: Dialect) -> pa.Table:
    """Return text columns with a point in numbers that have a decimal comma, which is how all else spells them."""
    if dialect.decimal == ".":
        return table
    for i, column in enumerate(table.columns):
        if column.type == pa.string():
            pointed = pc.replace_substring_regex(column, _COMMA_NUMBER, r"\1.\2")
            table = table.set_column(i, table.column_names[i], pointed)
    return table


@cache
def _null_words(missing: tuple[str, ...]) -> list[str]:
    """Return the words that mean "no value" as they are spelled: as text is trimmed, not all can be met."""
    nulls = as_text(pa.array(missing, pa.string()), missing)
    return [word for word, text in zip(missing, nulls.to_pylist(), strict=True) if text is None]


def _table(
    data: pa.Buffer,
    columns: tuple[str, ...] | None,
    dialect: Dialect,
    misfit: Callable[[pyarrow.csv.InvalidRow], str] | None = None,
    numbers: Numbers = NO_NUMBERS,
) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(data),
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False,  # blocks have threads; Arrow numbers misfits in none, too
            block_size=data.size + 1,
            column_names=columns,
            autogenerate_column_names=columns is None,
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=dialect.delimiter, newlines_in_values=True, invalid_row_handler=misfit
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            check_utf8=False,  # done already, record by record where needed
            column_types={n: pa.float64() if n in numbers.names else pa.string() for n in columns or ()},
            null_values=_null_words(numbers.missing),
            true_values=[],
            false_values=[],
            timestamp_parsers=[],
            strings_can_be_null=False,
            decimal_point=dialect.decimal,
        ),
    )

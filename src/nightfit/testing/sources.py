"""The contract of a source, as a check."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from nightfit.sources.base import CHUNK_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from nightfit.sources.base import Chunk, Cursor, Source

Identity: TypeAlias = tuple[str, int, int]
"""(place, generation, row): what a record is without a key."""
Record: TypeAlias = tuple[Identity, Any]
"""A record with its values by column name, or with (reason, text) where it could not be read."""

N_CUTS = 40
"""Places at which reading is broken off and resumed, evenly spread over what there is."""
N_GROWN = 3
"""Records that a source grows by after it was read."""


def check_source(make: Callable[[], Source], grow: Callable[[int], None]) -> None:
    """Check that a source keeps the contract of `nightfit.sources.base.Source`.

    `make()` gives a fresh source of the same data each time; `grow(n)` appends n good records to that data.
    Raises `AssertionError` that states the rule which was broken.
    """
    grow(7)
    cuts, records = _check_whole_reading(make)
    for cursor, n_read in cuts:
        _check_resumed_reading(make, cursor, records[n_read:])
    _check_broken_off_reading(make, records)
    end = cuts[-1][0]
    grow(N_GROWN)
    _check_growth(make, end, records)


def _check_whole_reading(make: Callable[[], Source]) -> tuple[list[tuple[Cursor, int]], list[Record]]:
    """Check a reading from the start; give its records, and cursors with how many records lie before."""
    source = make()
    assert source.name, "a source must have a name"
    cuts: list[tuple[Cursor, int]] = []
    records: list[Record] = []
    for chunk in source.read(None, _note):
        _check_chunk(chunk)
        before = len(records)
        records += _records(chunk)
        cuts += [(chunk.cursor_at(i), before + _n_accounted(chunk, i)) for i in _spread(len(chunk.table))]
    assert records, "a source must yield the records that grow() has appended"
    _check_numbers(records)
    steps = [cuts[i] for i in _spread(len(cuts) - 1)]
    assert steps[-1][1] == len(records), "cursor_at(len(table)) of the last chunk must lie after all records"
    return steps, records


def _check_chunk(chunk: Chunk) -> None:
    assert len(chunk.table) <= CHUNK_ROWS, f"a chunk must have at most {CHUNK_ROWS} rows"
    assert len(chunk.table) == len(chunk.rows), "every record of a table must have a row number"
    assert str(chunk.rows.dtype) == "int64", "row numbers must be int64"
    assert len(set(chunk.table.column_names)) == chunk.table.num_columns, "columns must have different names"
    assert chunk.place, "a chunk must say which place its records come from"
    assert chunk.cursor_at(0) == chunk.cursor_at(0), "cursor_at must give the same cursor again"


def _check_numbers(records: list[Record]) -> None:
    """Check that the numbers of rows go up by one from 0, bad records included."""
    after: dict[tuple[str, int], int] = {}
    for (place, generation, row), _ in records:
        expected = after.get((place, generation), 0)
        assert row == expected, f"records must be numbered 0, 1, 2..., however {row} came for {expected}"
        after[place, generation] = row + 1


def _check_resumed_reading(make: Callable[[], Source], cursor: Cursor, expected: list[Record]) -> None:
    """Check that from a cursor, kept as JSON, exactly the rest is read, and again the same."""
    kept: Cursor = json.loads(json.dumps(cursor, allow_nan=False))
    assert kept == cursor, "a cursor must survive JSON unchanged"
    for _ in range(2):
        records = _read(make(), kept)
        assert records == expected, (
            f"reading on from a cursor must yield exactly the rest, however it yielded {len(records)} "
            f"records ({_brief(records)}) for {len(expected)} ({_brief(expected)}); the cursor is {kept}"
        )
        assert kept == cursor, "reading must not change the cursor that it was given"


def _check_broken_off_reading(make: Callable[[], Source], expected: list[Record]) -> None:
    """Check that a source keeps no state: a reading that was broken off leaves nothing behind."""
    source = make()
    reading = iter(source.read(None, _note))
    next(reading)
    del reading
    assert _read(source, None) == expected, "a source must read the same after a reading that was broken off"


def _check_growth(make: Callable[[], Source], end: Cursor, known: list[Record]) -> None:
    """Check that what was appended is read, all of it, once, and that nothing else changed."""
    new = _read(make(), end)
    assert len(new) == N_GROWN, f"reading on after grow({N_GROWN}) must yield as many, however {len(new)} came"
    by_identity = dict(known + new)
    assert len(by_identity) == len(known) + len(new), "new records must have identities of their own"
    again = _read(make(), None)
    assert dict(again) == by_identity, "a reading from the start must yield what two readings yielded"
    assert len(again) == len(by_identity), "a record must be yielded once"


def _read(source: Source, after: Cursor | None) -> list[Record]:
    return [record for chunk in source.read(after, _note) for record in _records(chunk)]


def _records(chunk: Chunk) -> list[Record]:
    """List the records of a chunk by number, bad ones among them."""
    good = zip(chunk.rows.tolist(), chunk.table.to_pylist(), strict=True)
    bad = ((record.row, (record.reason, record.text)) for record in chunk.bad)
    return [((chunk.place, chunk.generation, row), value) for row, value in sorted([*good, *bad], key=_first)]


def _first(record: tuple[int, Any]) -> int:
    return record[0]


def _n_accounted(chunk: Chunk, i: int) -> int:
    """Count the records before `cursor_at(i)`: i good ones, and the bad ones up to the next good one."""
    if i == len(chunk.table):
        return i + len(chunk.bad)
    return i + sum(record.row < int(chunk.rows[i]) for record in chunk.bad)


def _spread(n: int) -> list[int]:
    """Take up to `N_CUTS` of 0..n, the first and the last among them."""
    return sorted({round(i * n / N_CUTS) for i in range(N_CUTS + 1)})


def _brief(records: list[Record]) -> str:
    return f"first {records[0]}" if records else "none"


def _note(sentence: str) -> None:
    assert sentence.strip() == sentence != "", "a note must be a sentence"
    assert "\n" not in sentence, "a note must be one line"

"""JSON objects as rows: what HTTP APIs, streams and JSON lines hand out, as columns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from nightfit.sources.sqlvalues import to_array

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def parse_record(data: bytes) -> dict[str, Any] | str:
    """Parse one JSON object; what is none gives the reason why.

    >>> parse_record(b'{"id": 1}'), parse_record(b"[1]")
    ({'id': 1}, 'a record must be a JSON object, however this is a list')
    """
    try:
        record = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"a record must be a JSON object, however: {error}"
    if not isinstance(record, dict):
        return f"a record must be a JSON object, however this is a {type(record).__name__}"
    return record


def to_table(records: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return n >= 0 records as a table: typed columns where all values agree, otherwise text.

    Nested objects become columns named "outer.inner", lists their JSON text; what a record lacks is null.
    """
    flat = [dict(_flat(record)) for record in records]
    names = dict.fromkeys(name for row in flat for name in row)
    if not names:  # pyarrow keeps a length only with a column
        return pa.table({"": pa.nulls(len(flat), pa.string())})
    return pa.table({name: to_array([row.get(name) for row in flat], exact=False) for name in names})


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | dict):
            yield prefix + name, json.dumps(value, ensure_ascii=False)
        else:
            yield prefix + name, value

"""Rows of a database by their key, which comes as text: converted to what the columns hold, so that an index serves."""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from itertools import islice, product
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlalchemy as sa

from nightfit.sources.database import select_all, stream
from nightfit.sources.sqlblocks import block_of

if TYPE_CHECKING:
    import pyarrow as pa

KEYS_AT_ONCE = 500
"""Keys of one statement: databases limit how many values can be bound."""

_INT64 = range(-(2**63), 2**63)


def look_up(
    connection: sa.Connection,
    relation: sa.FromClause,
    names: Sequence[str],
    *,
    key: tuple[str, ...],
    target: str,
    keys: Sequence[tuple[str, ...]],
) -> Iterator[pa.Table]:
    """Yield the rows that have one of the keys, as `nightfit.kinds.as_text` spells them, and a target that is not NULL.

    A key that cannot be converted to what its columns hold is not there.
    """
    columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in key]
    sample = sa.select(*columns).select_from(relation).where(*(c.is_not(None) for c in columns)).limit(1)
    row = connection.execute(sample).first()
    if row is None:
        return
    is_sqlite = connection.dialect.name == "sqlite"
    kinds: list[_Kind] = [_untyped if is_sqlite else _KINDS.get(type(value), _nothing) for value in row]
    values = (value for spelled in dict.fromkeys(keys) for value in product(*map(_converted, kinds, spelled, row)))
    has_target = sa.column(target).is_not(None)
    while batch := list(islice(values, KEYS_AT_ONCE)):
        statement = select_all(relation).where(has_target, _is_one_of(columns, batch))
        for rows in stream(connection, statement):
            yield block_of(names, key, rows).table


def _is_one_of(columns: list[sa.ColumnClause[Any]], batch: list[tuple[Any, ...]]) -> sa.ColumnElement[bool]:
    """Say that the columns hold one of the values; not every database can compare tuples."""
    if len(columns) == 1:
        return columns[0].in_([_bound(value) for (value,) in batch])
    return sa.or_(*(sa.and_(*(c == _bound(v) for c, v in zip(columns, values, strict=True))) for values in batch))


def _bound(value: object) -> Any:  # noqa: ANN401
    """Bind whole numbers as wide ones: the first of a list says how wide all are."""
    return sa.literal(value, sa.BigInteger()) if type(value) is int else sa.literal(value)


_Kind: TypeAlias = Callable[[str, Any], list[Any]]


def _converted(kind: _Kind, text: str, like: Any) -> list[Any]:  # noqa: ANN401
    try:
        return kind(text, like)
    except (ValueError, InvalidOperation, OverflowError):
        return []


def _nothing(_: str, __: object) -> list[Any]:
    return []


def _texts(text: str, _: object) -> list[Any]:
    """List the texts that have this one spelling."""
    if text in {"true", "false"}:
        return [text, text.capitalize(), text.upper()]
    return [text, f"{text}.0"] if re.fullmatch(r"-?\d+", text) else [text]


def _ints(text: str, _: object) -> list[Any]:
    return [int(text)] if re.fullmatch(r"-?\d+", text) and int(text) in _INT64 else []


def _floats(text: str, _: object) -> list[Any]:
    return [float(text)] if math.isfinite(float(text)) else []


def _decimals(text: str, _: object) -> list[Any]:
    return [Decimal(text)] if Decimal(text).is_finite() else []


def _datetimes(text: str, like: dt.datetime) -> list[Any]:
    """Read a time, with a zone where the column has zones; times without one are UTC's."""
    time = dt.datetime.fromisoformat(text)
    time = time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time
    return [time if like.tzinfo else time.astimezone(dt.UTC).replace(tzinfo=None)]


def _untyped(text: str, _: object) -> list[Any]:
    """List what a column of SQLite, each of whose rows may have a type of its own, can hold."""
    numbers = _ints(text, None) or (_floats(text, None) if re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", text) else [])
    return [*_texts(text, None), *numbers]


_KINDS: dict[type, _Kind] = {
    str: _texts,
    bool: lambda text, _: [text == "true"] if text in {"true", "false"} else [],
    int: _ints,
    float: _floats,
    Decimal: _decimals,
    uuid.UUID: lambda text, _: [uuid.UUID(text)],
    dt.date: lambda text, _: [dt.date.fromisoformat(text)],
    dt.datetime: _datetimes,
}
"""How a key's text becomes what a column holds, by the type of a value that it holds."""

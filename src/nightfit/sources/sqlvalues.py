"""Values of a database as columns of a chunk, and as JSON in a cursor."""

from __future__ import annotations

import datetime as dt
import math
import operator
import uuid
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightfit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nightfit.jsontypes import Json


def to_array(values: Sequence[Any], *, exact: bool) -> pa.Array:
    """Make a column: typed where all values agree, otherwise text; with `exact`, decimals stay text."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {Decimal} and not exact:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds <= {int, float} or (len(kinds) == 1 and kinds <= {bool, str, dt.datetime, dt.date, dt.time}):
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError):
            pass  # a number too large, or a time that Arrow has not: text says it as well
    return pa.array([_as_text(value) for value in values], pa.string())


def _as_text(value: object) -> str | None:
    if isinstance(value, memoryview):
        value = bytes(value)
    if value is None or isinstance(value, str):
        return value
    return repr(value) if isinstance(value, float | bytes) else str(value)


class Column(Protocol):
    """The values of one column, none of them null, as the driver gives them."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Any: ...  # noqa: ANN401 - the driver's types

    def since(self, n: int) -> Column:
        """Leave out the first n."""
        ...

    def types(self) -> set[type]:
        """Return the types of the values."""
        ...

    def repeated(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Say which values, from the second on, equal the one before."""
        ...


@dataclass(frozen=True)
class Values:
    """A column whose values are there."""

    values: Sequence[Any]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: int) -> Any:  # noqa: ANN401
        return self.values[i]

    def since(self, n: int) -> Values:
        """See `Column`."""
        return Values(self.values[n:])

    def types(self) -> set[type]:
        """See `Column`."""
        return set(map(type, self.values))

    def repeated(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """See `Column`."""
        pairs = map(operator.eq, self.values, islice(self.values, 1, None))
        return np.fromiter(pairs, np.bool_, max(len(self) - 1, 0))


@dataclass(frozen=True)
class ArrowValues:
    """A column of Arrow's values, each made the driver's by `convert` when it is asked for."""

    array: Any
    convert: Callable[[Any], Any] = lambda value: value

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, i: int) -> Any:  # noqa: ANN401
        return self.convert(self.array[i].as_py())

    def since(self, n: int) -> ArrowValues:
        """See `Column`."""
        return ArrowValues(self.array.slice(n), self.convert)

    def types(self) -> set[type]:
        """See `Column`: all have one."""
        return {type(self[0])} if len(self) else set()

    def repeated(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """See `Column`."""
        equal = pc.equal(self.array.slice(1), self.array.slice(0, max(len(self) - 1, 0)))
        return np.asarray(equal.to_numpy(zero_copy_only=False), np.bool_)


_TAGGED: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "datetime": (dt.datetime, dt.datetime.isoformat, dt.datetime.fromisoformat),
    "date": (dt.date, dt.date.isoformat, dt.date.fromisoformat),
    "decimal": (Decimal, str, Decimal),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "uuid": (uuid.UUID, str, uuid.UUID),
    "float": (float, repr, float),
}
"""Types that JSON has not, by their tag: how they are written, and read again."""


def to_json(value: object) -> Json:
    """Write a value so that `from_json` gives it back with its type.

    >>> to_json(dt.date(2026, 11, 3))
    {'date': '2026-11-03'}
    """
    if isinstance(value, memoryview):
        value = bytes(value)
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    for tag, (kind, write, _) in _TAGGED.items():
        if isinstance(value, kind):
            return {tag: write(value)}
    raise ConfigError(
        f"a cursor or key column must hold numbers, texts or times, however one holds {value!r}; name another"
    )


def from_json(value: Json) -> Any:  # noqa: ANN401 - the driver's types
    """Read what `to_json` wrote."""
    if not isinstance(value, dict):
        return value
    ((tag, text),) = value.items()
    return _TAGGED[tag][2](cast("str", text))

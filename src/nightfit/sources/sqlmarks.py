"""How far a database's rows have been read: marks, what they remember of the rows before them, and their JSON."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from nightfit.errors import ConfigError
from nightfit.jsontypes import Json
from nightfit.sources.base import Cursor
from nightfit.sources.keyset import Position
from nightfit.sources.sqlvalues import Column, from_json, to_json

HASH_BYTES = 8


@dataclass(frozen=True)
class Fence:
    """What was seen of a table while it was being written: its last position, and the transactions that wrote then."""

    at: Position
    writers: tuple[str, ...]


@dataclass(frozen=True)
class Window:
    """The rows that were read beyond `start` (None: all rows), up to the mark's own position and without it.

    `seen` holds the hashes of their positions, in the order of reading.
    """

    start: Position | None
    seen: bytes


@dataclass(frozen=True)
class Mark:
    """How far has been read: `rows` rows, the last `ties` of them at the position `after`."""

    after: Position | None = None
    rows: int = 0
    ties: int = 0
    level: int = 0
    """Rows read with the cursor value of `after`, whatever their key."""
    window: Window | None = None
    fence: Fence | None = None

    @classmethod
    def from_json(cls, cursor: Cursor | None) -> Mark:
        """Read a cursor; those of earlier versions have neither window nor fence.

        Raises `ConfigError` for the cursor of another kind of source.
        """
        if cursor is None:
            return cls()
        if "after" not in cursor:
            raise ConfigError("a source keeps its kind, however a database's cursor is one of files; rename the source")
        rows, ties, level = (cast("int", cursor.get(name, 0)) for name in ("rows", "ties", "level"))
        window, fence = (cast("dict[str, Any] | None", cursor.get(name)) for name in ("window", "fence"))
        return cls(
            _maybe(cursor["after"]),
            rows,
            ties,
            level,
            window=Window(_maybe(window["beyond"]), base64.b64decode(window["seen"])) if window else None,
            fence=Fence(_position(fence["at"]), tuple(fence["writers"])) if fence else None,
        )

    def to_json(self) -> Cursor:
        """Write the mark as a cursor."""
        cursor: Cursor = {
            "after": None if self.after is None else _as_json(self.after),
            "rows": self.rows,
            "ties": self.ties,
            "level": self.level,
        }
        if self.window:
            seen = base64.b64encode(self.window.seen).decode()
            start = self.window.start
            cursor["window"] = {"beyond": None if start is None else _as_json(start), "seen": seen}
        if self.fence:
            cursor["fence"] = {"at": _as_json(self.fence.at), "writers": list(self.fence.writers)}
        return cursor


@dataclass(frozen=True)
class Tail:
    """The positions that were read last, as many as the window of `n` rows before a mark needs; off if n is 0.

    All rows beyond `start` (None: beyond none) are among them.
    """

    n: int = 0
    positions: tuple[Position, ...] = ()
    start: Position | None = None

    def then(self, positions: Iterable[Position], ties: int) -> Tail:
        """Go on to later positions, the last `ties` of which are one mark's."""
        return self._last(self.n + ties, (*self.positions, *positions)) if self.n else self

    def before(self, position: Position) -> Tail:
        """Leave out what does not lie before a position, of which there may be the first few values only."""
        positions, n = self.positions, len(position)
        while positions and positions[-1][:n] == position:
            positions = positions[:-1]
        return self._last(self.n, positions) if self.n else self

    def window(self, after: Position) -> Window | None:
        """Return what a mark at the end of the tail must remember."""
        before = self.before(after)
        return Window(before.start, hashed(before.positions)) if self.n else None

    def _last(self, n: int, positions: tuple[Position, ...]) -> Tail:
        if len(positions) <= n:
            return replace(self, positions=positions)
        start = positions[-n - 1]
        return replace(self, positions=tuple(p for p in positions[-n:] if p != start), start=start)


@dataclass(frozen=True)
class Marks:
    """The marks before, between and after the rows of a chunk; `order` holds their values column by column."""

    start: Mark
    order: Sequence[Column]
    n_cursor: int
    tail: Tail

    def __len__(self) -> int:
        return len(self.order[0])

    def __getitem__(self, i: int) -> Mark:
        if i == 0:
            return self.start
        after = self._position(i - 1)
        ties, level = self._run(i, after), self._run(i, after[: self.n_cursor])
        mark = Mark(after, self.start.rows + i, ties, level, fence=self.start.fence)
        return replace(mark, window=self.tail_at(i, ties).window(after))

    def tail_at(self, i: int, ties: int) -> Tail:
        """Return the tail of the mark after i rows."""
        return self.tail.then((self._position(j) for j in range(max(0, i - self.tail.n - ties - 1), i)), ties)

    def first_tie(self) -> Position | None:
        """Find the first position that two rows share, the last one before the chunk included."""
        if len(self) and self.start.after == self._position(0):
            return self.start.after
        same = np.logical_and.reduce([column.repeated() for column in self.order])
        return self._position(int(same.argmax())) if same.any() else None

    def _position(self, i: int) -> Position:
        return tuple(column[i] for column in self.order)

    def _run(self, i: int, value: Position) -> int:
        """Count the rows up to the i-th that begin with the value, those before the chunk included."""
        n = len(value)
        columns = self.order[:n]
        start = bisect_left(range(i - 1), True, key=lambda j: tuple(column[j] for column in columns) == value)
        if start == 0 and self.start.after is not None and self.start.after[:n] == value:
            return i + (self.start.ties if n == len(self.order) else self.start.level)
        return i - start


def hashed(positions: Iterable[Position]) -> bytes:
    """Hash positions to `HASH_BYTES` each."""
    return b"".join(
        hashlib.blake2b(json.dumps(_as_json(map(_in_utc, position))).encode(), digest_size=HASH_BYTES).digest()
        for position in positions
    )


def split(hashes: bytes) -> list[bytes]:
    """Take apart what `hashed` returns."""
    return [hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES)]


def _in_utc(value: object) -> object:
    """Let a time's hash not depend on the zone that a connection shows it in."""
    is_aware = isinstance(value, dt.datetime) and value.tzinfo is not None
    return cast("dt.datetime", value).astimezone(dt.UTC) if is_aware else value


def _as_json(position: Iterable[Any]) -> list[Json]:
    return [to_json(value) for value in position]


def _maybe(values: Json) -> Position | None:
    return None if values is None else _position(values)


def _position(values: Json) -> Position:
    return tuple(from_json(value) for value in cast("list[Json]", values))

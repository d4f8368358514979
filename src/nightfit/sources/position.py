"""How far a file has been read, known again by what was read rather than by its name or its time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nightfit.sources.unpack import Seekable


@dataclass(frozen=True)
class Position:
    """How far one file has been read: `offset` unpacked bytes, `rows` records (bad ones included).

    `head` and `tail` are the SHA-256 of the first and the last 64 KiB before the offset.
    """

    generation: int = 0
    offset: int = 0
    rows: int = 0
    head: str = hashlib.sha256().hexdigest()
    tail: str = hashlib.sha256().hexdigest()

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Position:
        """Read a cursor's entry of a file, whatever else it holds."""
        return cls(**{field.name: entry[field.name] for field in fields(cls) if field.name in entry})


@dataclass(frozen=True)
class Ends:
    """The first and the last bytes before an offset, fewer of them where the stream is shorter."""

    head: bytes
    tail: bytes
    is_short: bool

    def are_of(self, position: Position) -> bool:
        """Say whether they are what was read up to the position."""
        return (sha256(self.head), sha256(self.tail)) == (position.head, position.tail)


def read_ends(stream: Seekable, offset: int, n_bytes: int) -> Ends:
    """Read the first and the last n bytes before an offset; the stream is left at its start."""
    n = min(n_bytes, offset)
    stream.seek(0)
    head = stream.read(n)
    stream.seek(offset - n)
    tail = stream.read(n)
    stream.seek(0)
    return Ends(head, tail, len(tail) < n)


def sha256(data: bytes) -> str:
    """Return the SHA-256 of data, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()

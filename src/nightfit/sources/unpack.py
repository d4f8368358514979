"""The bytes of a file, unpacked where it is a gzip, up to the size that it had when it was opened.

A file may grow while it is read: what came after the opening is for the next reading.
"""

from __future__ import annotations

import os
import stat
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Protocol

from nightfit.errors import DataError, TryAgainError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

PACKED_BYTES = 1 << 18
"""Of a gzip file, read at a time."""
PIECE_BYTES = 1 << 20
"""Unpacked at a time."""
_GZIP = 31  # zlib's number for a gzip header with the largest window


class Seekable(Protocol):
    """Bytes that can be read from any offset."""

    def seek(self, offset: int, /) -> object:
        """Go to this offset from the start."""

    def read(self, n: int, /) -> bytes:
        """Read exactly the next n bytes, or fewer at the end."""
        ...


class Stream(Seekable, Protocol):
    """The bytes of a file; `is_unfinished` once its end was read to and found to be missing."""

    is_unfinished: bool

    def length(self) -> int:
        """Count all bytes, which are unpacked for it."""
        ...


@contextmanager
def opened(path: Path, place: str, *, whole: bool = False) -> Iterator[Stream]:
    """Open a file and, if its name ends in `.gz`, unpack it.

    With `whole`, a gzip without an end raises `DataError` instead of being unfinished. Raises `DataError` for
    what is no file, is empty, or cannot be read; `TryAgainError` for what has just gone.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{place} must be a file, however it is a folder or a device; name a file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size and whole:
                raise DataError(f"{place} must hold records, however it is empty; write it first")
            is_packed = path.name.lower().endswith(".gz")
            yield _GzipBytes(file, size, place=place, whole=whole) if is_packed else _PlainBytes(file, size)
    except FileNotFoundError:
        if whole:
            raise DataError(f"{place} must exist, however it is not there; mend the path") from None
        raise TryAgainError(f"{place} must stay while it is read, however it has gone; try again") from None
    except OSError as error:
        raise DataError(f"{place} must be readable, however: {error.strerror}; mend its permissions") from error


class _PlainBytes:
    """A file up to the size that it had when it was opened."""

    is_unfinished = False

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def length(self) -> int:
        return self._size

    def seek(self, offset: int, /) -> None:
        self._file.seek(offset)

    def read(self, n: int, /) -> bytes:
        return self._file.read(max(0, min(n, self._size - self._file.tell())))


class _GzipBytes:
    """The unpacked bytes of a gzip file of one or more members, up to the size it had when it was opened.

    A last member without an end makes the stream unfinished, or with `whole` raises `DataError`.
    """

    def __init__(self, file: BinaryIO, size: int, *, place: str, whole: bool) -> None:
        self.is_unfinished = False
        self._file = file
        self._size = size
        self._place = place
        self._whole = whole
        self._restart()

    def length(self) -> int:
        while self.read(PIECE_BYTES):
            pass
        return self._offset

    def seek(self, offset: int, /) -> None:
        if offset < self._offset:
            self._restart()
        while self._offset < offset and self.read(min(PIECE_BYTES, offset - self._offset)):
            pass

    def read(self, n: int, /) -> bytes:
        while len(self._buffer) < n and (piece := next(self._pieces, b"")):
            self._buffer += piece
        taken = bytes(self._buffer[:n])
        del self._buffer[:n]
        self._offset += len(taken)
        return taken

    def _restart(self) -> None:
        self._offset = 0
        self._buffer = bytearray()
        self._pieces = self._unpacked()

    def _unpacked(self) -> Iterator[bytes]:
        unpacker = zlib.decompressobj(wbits=_GZIP)
        try:
            for packed in self._packed():
                unpacker = yield from _members(unpacker, packed)
        except zlib.error as error:
            raise DataError(f"{self._place} must be a sound gzip file, however: {error}; write it again") from None
        self.is_unfinished = not unpacker.eof
        if self.is_unfinished and self._whole:
            raise DataError(f"{self._place} must be a whole gzip file, however its end is missing; copy it again")

    def _packed(self) -> Iterator[bytes]:
        self._file.seek(0)
        while packed := self._file.read(max(0, min(PACKED_BYTES, self._size - self._file.tell()))):
            yield packed


def _members(unpacker: zlib._Decompress, packed: bytes) -> Generator[bytes, None, zlib._Decompress]:
    """Unpack a piece of a gzip file; give the unpacker of the member in which it ends."""
    while packed:
        if unpacker.eof:
            packed = packed.lstrip(b"\0")  # padding that may follow a member
            if not packed:
                break
            unpacker = zlib.decompressobj(wbits=_GZIP)
        piece = unpacker.decompress(packed, PIECE_BYTES)
        packed = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        if piece:
            yield piece
    return unpacker

"""Where records end: those of CSV, as RFC 4180 [1]_ has it, at line ends outside of quotes; JSON lines at each LF.

Cursors need the byte offset of every record, which Arrow does not tell. One rule for quotes holds here and in
Arrow: a quote opens a quoted field only at the field's start, and stands for itself anywhere else outside of
one (as in `5" pipe`).

.. [1] Y. Shafranovich, "Common Format and MIME Type for CSV Files", RFC 4180, 2005.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nightfit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Offsets: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
Codes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint8]]

BLOCK_BYTES = 8 << 20
"""Read at a time: large enough for vectorised work."""
QUOTED_BYTES = 1 << 20
"""A quoted field with line breaks is taken for an unclosed one beyond this."""
RECORD_BYTES = 64 << 20
"""A record longer than this is no record: the file is neither CSV nor JSON lines."""

_CACHED_BYTES = 1 << 18
_LF, _CR, _QUOTE = b'\n\r"'


@dataclass(frozen=True)
class Block:
    """Complete records: `data[starts[i]:ends[i]]` is record i with its line end; blank lines are no records.

    They lie in the first `size` bytes of `data`, whose offset in the file is `offset`.
    """

    offset: int
    data: bytes
    size: int
    starts: Offsets
    ends: Offsets

    def __len__(self) -> int:
        """Count the records."""
        return len(self.starts)


@dataclass
class Blocks:
    """The records that `read` gives from `offset` on; `place` and `row` (of the first) are for messages.

    With `whole`, a last record without a line end is complete; otherwise its length is left in `n_rest`, once
    the iteration is over. Unless `quoted`, quotes mean nothing, and neither does a CR without an LF. Raises
    `DataError` where a quote was opened and never closed.
    """

    read: Callable[[int], bytes]
    place: str
    offset: int = 0
    row: int = 0
    size: int = BLOCK_BYTES
    whole: bool = False
    quoted: bool = True
    delimiter: str = ","
    n_rest: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Block]:
        """Yield blocks that follow one another without a gap; blank lines alone make one without records."""
        rest, offset, row = b"", self.offset, self.row
        while piece := self.read(self.size):
            data = rest + piece
            scan = self._scan(data)
            self._check(data, scan, row)
            end = int(scan.ends[-1]) if len(scan.ends) else 0
            block = _block(offset, data, scan.ends)
            rest, offset, row = data[end:], offset + end, row + len(block)
            if end:
                yield block
        self.n_rest = len(rest)
        if self.whole and rest:
            yield from self._last(rest, offset, row)

    def _last(self, rest: bytes, offset: int, row: int) -> Iterator[Block]:
        if self._scan(rest).is_open:
            raise _unclosed(self.place, row, "the end of the file comes first")
        self.n_rest = 0
        yield _block(offset, rest, np.array([len(rest)], np.int64))

    def _scan(self, data: bytes) -> _Scan:
        return _scan(data, ord(self.delimiter)) if self.quoted else _scan_lines(data)

    def _check(self, data: bytes, scan: _Scan, row: int) -> None:
        swallowed = scan.first_swallowing(len(data))
        if swallowed is not None:
            n = len(_block(0, data, scan.ends[scan.ends <= swallowed]))
            raise _unclosed(self.place, row + n, f"more than {QUOTED_BYTES >> 20} MiB follow")
        if len(data) - (scan.ends[-1] if len(scan.ends) else 0) > RECORD_BYTES:
            raise DataError(
                f"a record must be shorter than {RECORD_BYTES >> 20} MiB, however record "
                f"{row + len(_block(0, data, scan.ends)) + 1} of {self.place} is not; "
                f"is it {'a CSV file' if self.quoted else 'a file of JSON lines'}?"
            )


@dataclass(frozen=True)
class _Scan:
    """Where quoted stretches open and close, where lines end, and which of those ends are ends of records."""

    opens: Offsets
    closes: Offsets
    line_ends: Offsets
    ends: Offsets

    @property
    def is_open(self) -> bool:
        return len(self.opens) > len(self.closes)

    def first_swallowing(self, n_bytes: int) -> int | None:
        """Find the first quote that holds line ends and does not close within `QUOTED_BYTES`."""
        closes = np.append(self.closes, n_bytes) if self.is_open else self.closes
        for i in np.flatnonzero(closes - self.opens > QUOTED_BYTES):
            first, last = np.searchsorted(self.line_ends, [self.opens[i], closes[i]])
            if first != last:
                return int(self.opens[i])
        return None


def _scan(data: bytes, delimiter: int) -> _Scan:
    """Find the ends of records in data that starts at the start of one."""
    array = np.frombuffer(data, np.uint8)
    line_ends = _ends(array)
    if b"\r" in data:
        line_ends = np.sort(np.concatenate([line_ends, _bare_cr_ends(array)]))
    opens, closes = _quoted(array, delimiter) if b'"' in data else (line_ends[:0], line_ends[:0])
    inside = np.searchsorted(opens, line_ends) != np.searchsorted(closes, line_ends)
    return _Scan(opens, closes, line_ends, line_ends[~inside])


def _scan_lines(data: bytes) -> _Scan:
    """Find the ends of lines, whatever they hold."""
    ends = _ends(np.frombuffer(data, np.uint8))
    return _Scan(ends[:0], ends[:0], ends, ends)


def _ends(array: Codes) -> Offsets:
    """Find the ends of lines, piece by piece, which stay in the cache."""
    starts = range(0, len(array), _CACHED_BYTES)
    found = [np.flatnonzero(array[i : i + _CACHED_BYTES] == _LF) + (i + 1) for i in starts]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _bare_cr_ends(array: Codes) -> Offsets:
    """Find the ends of lines that end with CR alone; whether a last one does is not known yet."""
    ends = np.flatnonzero(array[:-1] == _CR) + 1
    bare: Offsets = ends[array[ends] != _LF]
    return bare


def _quoted(array: Codes, delimiter: int) -> tuple[Offsets, Offsets]:
    """Find where quoted stretches open and close: every other quote, unless some stand for themselves.

    A doubled quote inside a field counts as closing and opening again, which changes nothing for line ends.
    """
    quotes = np.flatnonzero(array == _QUOTE)
    opens = quotes[0::2]
    before = np.where(opens > 0, array[opens - 1], _LF)
    if np.isin(before, [_LF, _CR, delimiter, _QUOTE]).all():
        return opens, quotes[1::2]
    return _quoted_one_by_one(array, quotes, delimiter)


def _quoted_one_by_one(array: Codes, quotes: Offsets, delimiter: int) -> tuple[Offsets, Offsets]:
    """Find the same where some quotes stand for themselves, so that each depends on the one before."""
    starts_field = np.isin(np.where(quotes > 0, array[quotes - 1], _LF), [_LF, _CR, delimiter]).tolist()
    positions = quotes.tolist()
    opens: list[int] = []
    closes: list[int] = []
    i = 0
    while i < len(positions):
        if len(opens) == len(closes):
            if starts_field[i]:
                opens.append(positions[i])
        elif i + 1 < len(positions) and positions[i + 1] == positions[i] + 1:
            i += 1
        else:
            closes.append(positions[i])
        i += 1
    return np.array(opens, np.int64), np.array(closes, np.int64)


def _block(offset: int, data: bytes, ends: Offsets) -> Block:
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)]
    short = np.flatnonzero(ends - starts <= 2)  # noqa: PLR2004 - CR LF
    blank = [i for i in short.tolist() if not data[starts[i] : ends[i]].strip(b"\r\n")]
    return Block(offset, data, int(ends[-1]) if len(ends) else 0, np.delete(starts, blank), np.delete(ends, blank))


def _unclosed(place: str, row: int, fact: str) -> DataError:
    return DataError(
        f"a quoted field must be closed by a quote, however one in record {row + 1} of {place} is not "
        f"({fact}); close it, and double the quotes inside of quoted fields"
    )

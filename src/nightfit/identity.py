"""Who a row is: 64-bit hashes of its key and of its values, and what is decided by them alone.

The hash split and the priority of a row in a memory depend on its identity and on nothing else, so that a row that
is read again, by another run or another model, lands on the same side.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from nightfit.batch import Array

if TYPE_CHECKING:
    import pyarrow as pa

_HELD_OUT, _PRIORITY = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)
_WORD, _LONG = 8, 256
_FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
"""Masks of a word's first n bytes."""


def mix(h: Array) -> Array:
    """Scatter uint64 values: the finaliser of splitmix64 (Steele, Lea & Flood, OOPSLA 2014)."""
    h = h ^ (h >> np.uint64(30))
    h *= np.uint64(0xBF58476D1CE4E5B9)  # in place: fresh memory would cost more than the arithmetic
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    return h


def hash_text(text: pa.Array | pa.ChunkedArray) -> Array:
    """Hash strings without nulls to uint64 [n]: the length, then 8 bytes after 8 of their UTF-8 mixed in.

    Longer ones than `_LONG` bytes by BLAKE2. It spreads; it keeps nobody from making up two texts of one hash.
    """
    ends, data = _bytes_of(text)
    at, n = ends[:-1], np.diff(ends)
    padded = np.concatenate([data, np.zeros(8, np.uint8)])
    words = np.ndarray(len(padded) - 7, "<u8", padded, strides=(1,))
    h = mix((words[at] & _FIRST_BYTES[np.minimum(n, _WORD)]) ^ (n.astype(np.uint64) * _PRIORITY))
    rows, k = np.flatnonzero((n > _WORD) & (n <= _LONG)), _WORD
    while len(rows):
        h[rows] = mix(h[rows] ^ (words[at[rows] + k] & _FIRST_BYTES[np.minimum(n[rows] - k, _WORD)]))
        k += _WORD
        rows = rows[n[rows] > k]
    for i in np.flatnonzero(n > _LONG).tolist():
        h[i] = int.from_bytes(blake2b(data[at[i] : at[i] + n[i]].data, digest_size=8).digest(), "little")
    return h


def _bytes_of(text: pa.Array | pa.ChunkedArray) -> tuple[Array, Array]:
    """Return where strings without nulls end (int64 [n + 1], first the start of the first), and their bytes."""
    column = (text.combine_chunks() if hasattr(text, "combine_chunks") else text).cast("large_string")
    if not len(column):
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    _, ends, data = column.buffers()
    ends = np.frombuffer(ends, np.int64, len(column) + 1, 8 * column.offset)
    return ends - ends[0], np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]


@lru_cache
def hash_word(word: str) -> np.uint64:
    """Hash one string as `hash_text` does."""
    import pyarrow as pa

    return np.uint64(hash_text(pa.array([word], pa.string()))[0])


def hash_positions(place: str, generation: int, rows: Array) -> Array:
    """Return the identities of rows without a key: (place, generation, position), never their content."""
    start = hash_word(f"{place}\x1f{generation}")
    return mix(rows.astype(np.uint64) + start)


def is_held_out(key_hash: Array, fraction: float) -> Array:
    """Say which rows (bool [n]) are held out: a fixed share, chosen by the hash of the key."""
    return mix(key_hash ^ _HELD_OUT) < np.uint64(min(int(fraction * 2**64), 2**64 - 1))


def priority(key_hash: Array) -> Array:
    """Rank rows (uint64 [n]) for a bounded memory: the smallest k of all rows so far are a uniform sample."""
    return mix(key_hash ^ _PRIORITY)

"""Who a row is: 64-bit hashes of its key and of its values, and what is decided by them alone.

The hash split and the priority of a row in a memory depend on its identity and on nothing else, so that a row that
is read again, by another run or another model, lands on the same side.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from nightfit.batch import Array

if TYPE_CHECKING:
    import pyarrow as pa

_HELD_OUT, _PRIORITY = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)
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

    It spreads; it keeps nobody from making up two texts of one hash.
    """
    ends, data = _bytes_of(text)
    at, left = ends[:-1] - ends[0], np.diff(ends)
    padded = np.concatenate([data[ends[0] : ends[-1]], np.zeros(8, np.uint8)])
    words = np.ndarray(len(padded) - 7, "<u8", padded, strides=(1,))
    h, rows = mix(left.astype(np.uint64)), np.flatnonzero(left)
    while len(rows):
        word = words[at[rows]] & _FIRST_BYTES[np.minimum(left[rows], 8)]
        h[rows] = mix(h[rows] ^ word)
        at[rows] += 8
        left[rows] -= 8
        rows = rows[left[rows] > 0]
    return h


def _bytes_of(text: pa.Array | pa.ChunkedArray) -> tuple[Array, Array]:
    """Return where strings without nulls end (int64 [n + 1], first the start of the first), and their bytes."""
    column = (text.combine_chunks() if hasattr(text, "combine_chunks") else text).cast("large_string")
    if not len(column):
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    _, ends, data = column.buffers()
    return np.frombuffer(ends, np.int64, len(column) + 1, 8 * column.offset), np.frombuffer(data or b"", np.uint8)


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

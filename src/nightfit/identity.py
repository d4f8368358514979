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


def mix(h: Array) -> Array:
    """Scatter uint64 values: the finaliser of splitmix64 (Steele, Lea & Flood, OOPSLA 2014)."""
    h = h ^ (h >> np.uint64(30))
    h *= np.uint64(0xBF58476D1CE4E5B9)  # in place: fresh memory would cost more than the arithmetic
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    return h


def hash_text(text: pa.Array | pa.ChunkedArray) -> Array:
    """Hash strings without nulls to uint64 [n] (SipHash-2-4 of their UTF-8 bytes, as pandas documents it)."""
    import pandas as pd

    encoded = text.cast("large_binary")  # bytes are hashed as they are, text would be encoded one by one
    values = encoded.to_numpy(zero_copy_only=False) if hasattr(text, "buffers") else encoded.to_numpy()
    hashes: Array = pd.util.hash_array(values, categorize=False)
    return hashes


@lru_cache
def hash_word(word: str) -> np.uint64:
    """Hash one string as `hash_text` does."""
    import pandas as pd

    return np.uint64(pd.util.hash_array(np.array([word], dtype=object), categorize=False)[0])


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

"""The rows met in the last nights: sorted segments of key and value hashes, searched without loading them whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nightfit.batch import Array
from nightfit.errors import CheckpointError

N_NIGHTS = 32
"""Nights in which a row that comes again is recognised."""

_DTYPES: dict[str, np.dtype[Any]] = {"U64": np.dtype("<u8"), "I32": np.dtype("<i4"), "U8": np.dtype("u1")}
_COLUMNS = {"keys": "U64", "values": "U64", "targets": "U64", "places": "I32"}


@dataclass(frozen=True)
class Segment:
    """Identities, sorted by key: `keys`, `values` and `targets` are uint64 [n], `places` (int32 [n]) index `names`.

    `values` hash all values of a row, `targets` are what its target adds to that.
    """

    keys: Array
    values: Array
    targets: Array
    places: Array
    names: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path) -> Segment:
        """Map a segment that `write_segment` wrote; its bytes were verified by the caller.

        Raises `CheckpointError` for a file that never was one.
        """
        try:
            return cls._mapped(np.memmap(path, np.uint8, "r"))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path.name} must be a segment of known rows, however its header is none ({type(error).__name__})"
            ) from None

    @classmethod
    def _mapped(cls, data: Array) -> Segment:
        start = 8 + int(data[:8].view("<u8")[0])  # the format: length of the header, header, tensors
        arrays = {}
        for name, tensor in json.loads(data[8:start].tobytes()).items():
            first, end = tensor["data_offsets"]
            arrays[name] = data[start + first : start + end].view(_DTYPES[tensor["dtype"]])
        names = tuple(json.loads(arrays.pop("names").tobytes()))
        return cls(**arrays, names=names)

    def find(self, keys: Array) -> tuple[Array, Array]:
        """Return which keys are here (bool [n]), and their index (0 where they are not).

        Sorted keys are found with one pass over the pages of a mapped segment.
        """
        if not len(self.keys):
            return np.zeros(len(keys), bool), np.zeros(len(keys), np.int64)
        index = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found = np.asarray(self.keys[index] == keys)
        return found, np.where(found, index, 0)


def write_segment(pieces: Iterable[Segment], names: Sequence[str], path: Path) -> None:
    """Write a night's identities as safetensors, a piece in memory at a time; their keys ascend from piece to piece."""
    n = 0
    parts = {name: path.with_name(f"{path.name}.{name}") for name in _COLUMNS}
    files = {name: part.open("wb") for name, part in parts.items()}
    try:
        for piece in pieces:
            n += len(piece.keys)
            for name, file in files.items():
                file.write(np.ascontiguousarray(getattr(piece, name), _DTYPES[_COLUMNS[name]]).data)
    finally:
        for file in files.values():
            file.close()
    words = json.dumps(names).encode()
    sizes = {name: part.stat().st_size for name, part in parts.items()} | {"names": len(words)}
    with path.open("wb") as out:
        out.write(_header(n, sizes))
        for part in parts.values():
            with part.open("rb") as column:
                shutil.copyfileobj(column, out)
            part.unlink()
        out.write(words)


def _header(n: int, sizes: dict[str, int]) -> bytes:
    """Spell the header of a safetensors file: its length, and JSON padded to a multiple of 8 bytes."""
    header, start = {}, 0
    for name, size in sizes.items():
        shape = [n] if name in _COLUMNS else [size]
        dtype = _COLUMNS.get(name, "U8")
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return np.array([len(text)], "<u8").tobytes() + text


class Met(NamedTuple):
    """What earlier nights know of keys: whether they were met (bool [n]), and the newest night's hashes of them.

    `values` and `targets` are uint64 [n], 0 where the key was not met; `places` (int64 [n]) are for `Known.place`.
    """

    found: Array
    values: Array
    targets: Array
    places: Array


class Known:
    """The segments of the last nights, newest first: files, which are mapped only while they are searched."""

    def __init__(self, segments: Sequence[Path]) -> None:
        self._segments = list(segments[:N_NIGHTS])
        self._names = [Segment.open(path).names for path in self._segments]
        self._places = [name for names in self._names for name in names]

    def find(self, keys: Array) -> Met:
        """Look ascending keys (uint64 [n]) up; of several nights the newest counts: a row met again renews its hash."""
        n = len(keys)
        met = Met(np.zeros(n, bool), np.zeros(n, np.uint64), np.zeros(n, np.uint64), np.zeros(n, np.int64))
        n_names = 0
        for path, names in zip(self._segments, self._names, strict=True):
            segment = Segment.open(path)
            found, index = segment.find(keys)
            rows = np.flatnonzero(found & ~met.found)
            index = index[rows]
            met.found[rows] = True
            met.values[rows], met.targets[rows] = segment.values[index], segment.targets[index]
            met.places[rows] = segment.places[index] + n_names
            n_names += len(names)
        return met

    def place(self, number: int) -> str:
        """Return the name of a place that `find` numbered."""
        return self._places[number]

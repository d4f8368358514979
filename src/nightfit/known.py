"""The rows met in the last nights: sorted segments of key and value hashes, searched without loading them whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nightfit.batch import Array

N_NIGHTS = 32
"""Nights in which a row that comes again is recognised."""

_DTYPES: dict[str, np.dtype[Any]] = {"U64": np.dtype("<u8"), "I32": np.dtype("<i4"), "U8": np.dtype("u1")}


@dataclass(frozen=True)
class Segment:
    """One night's identities, sorted by key: uint64 [n] each; `places` (int32 [n]) index into `names`."""

    keys: Array
    values: Array
    places: Array
    names: tuple[str, ...]

    @classmethod
    def sort(cls, keys: Array, values: Array, places: Array, names: Sequence[str]) -> Segment:
        """Make a segment of rows in any order; of equal keys the last one counts."""
        keys, index = np.unique(keys[::-1], return_index=True)
        return cls(keys, values[::-1][index], places[::-1][index], tuple(names))

    def arrays(self) -> dict[str, Array]:
        """Return the segment as named arrays; the names are JSON in bytes."""
        names = np.frombuffer(json.dumps(self.names).encode(), np.uint8)
        return {"keys": self.keys, "values": self.values, "places": self.places, "names": names}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Segment:
        """Read what `arrays` returned."""
        names = tuple(json.loads(arrays["names"].tobytes()))
        return cls(arrays["keys"], arrays["values"], arrays["places"], names)

    @classmethod
    def open(cls, path: Path) -> Segment:
        """Map a segment that `arrays` made and safetensors wrote; its bytes were verified by the caller."""
        data = np.memmap(path, np.uint8, "r")
        start = 8 + int(data[:8].view("<u8")[0])  # the format: length of the header, header, tensors
        header = json.loads(data[8:start].tobytes())
        header.pop("__metadata__", None)
        arrays = {}
        for name, tensor in header.items():
            first, end = tensor["data_offsets"]
            arrays[name] = data[start + first : start + end].view(_DTYPES[tensor["dtype"]])
        return cls.from_arrays(arrays)

    def find(self, keys: Array) -> tuple[Array, Array]:
        """Return which keys are here (bool [n]), and their index (0 where they are not).

        Sorted keys are found with one pass over the pages of a mapped segment.
        """
        if not len(self.keys):
            return np.zeros(len(keys), bool), np.zeros(len(keys), np.int64)
        index = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found = np.asarray(self.keys[index] == keys)
        return found, np.where(found, index, 0)


class Known:
    """The segments of the last nights, newest first."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = list(segments[:N_NIGHTS])
        self._names = [name for segment in self._segments for name in segment.names]

    def find(self, keys: Array, values: Array) -> tuple[Array, Array, Array]:
        """Return for each row whether its key was met, whether with the same values, and the place's number.

        Of several nights the newest counts: a row met again renews its hash.
        """
        order = np.argsort(keys, kind="stable")
        met, same, place = np.zeros(len(keys), bool), np.zeros(len(keys), bool), np.zeros(len(keys), np.int64)
        n_names = 0
        for segment in self._segments:
            found, index = segment.find(keys[order])
            new = found & ~met[order]
            rows, index = order[new], index[new]
            met[rows], same[rows] = True, segment.values[index] == values[rows]
            place[rows] = segment.places[index] + n_names
            n_names += len(segment.names)
        return met, same, place

    def place(self, number: int) -> str:
        """Return the name of a place that `find` numbered."""
        return self._names[number]

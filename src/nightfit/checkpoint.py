"""What a version is on disk: a folder of files, and a manifest with the hash of each and its own digest.

The manifest's one spelling and tensors as safetensors live here. Files that are private, synced and read without
following links are `disk`'s business, where the folders lie is the store's.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from nightfit import __version__
from nightfit.disk import FileHash
from nightfit.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from nightfit.jsontypes import Json
    from nightfit.sources.base import Cursor
else:
    # msgspec reads these annotations and cannot follow an alias that contains itself.
    Json, Cursor = Any, dict[str, Any]

FORMAT = 1
"""The manifest's format. A newer one may change anything but `format` itself and the rule of the digest."""

MANIFEST = "manifest.json"
WEIGHTS, LEARNING, MEMORY = "model.safetensors", "learning.safetensors", "memory.safetensors"
"""What predicts; what only learning needs; the rows that are kept for replay and for testing."""

DRIFT = "drift.safetensors"
"""How the learned rows are distributed, and the detector of changes in the error."""

PENDING = "pending.arrow"
"""The rows that wait for their label, in the order in which they came."""

EXCLUDED = "excluded.safetensors"
"""The keys that are left out, so that they outlive the version that `--exclude` named."""

SKIPPED = "skipped.safetensors"
"""The keys of rows that waited for a label when `--skip-rows` left them out: part of the state, as its cursors are."""

REJECTS = "rejects.jsonl"
"""The rows that could not be used, and why."""

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SHA256 = re.compile(r"[0-9a-f]{64}")


Act = Literal["night", "promote", "forget"]
"""How an entry came about: it learned, put an older state back into service, or forgot rows by their keys."""


class NewerFormatError(CheckpointError):
    """An intact version that only a newer nightfit can read: not broken, so never quarantined."""


@dataclass(frozen=True)
class RowCounts:
    """Where a night's rows went: each is in exactly one of these. `pending` are those that wait after it."""

    read: int = 0
    learned: int = 0
    held_out: int = 0
    rejected: int = 0
    duplicate: int = 0
    excluded: int = 0
    pending: int = 0

    def conserved(self, pending_before: int) -> bool:
        """Say whether every row that was read, or pending before, is accounted for exactly once.

        >>> RowCounts(read=10, learned=8, held_out=1, pending=2).conserved(pending_before=1)
        True
        """
        return min(asdict(self).values()) >= 0 and pending_before == self.pending_before

    @property
    def pending_before(self) -> int:
        """How many rows must have waited before the night: those with a fate that were not read."""
        gone = self.learned + self.held_out + self.rejected + self.duplicate + self.excluded
        return gone + self.pending - self.read


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a night hands to the store to commit; `files` maps names to contents, or to files to copy."""

    parent: int | None
    status: Literal["accepted", "refused"]
    created_at: str
    cursors: dict[str, Cursor]
    rows: RowCounts
    prequential: dict[str, float]
    verdict: str
    night: dict[str, Json]
    state: dict[str, Json]
    segments: list[str] = field(default_factory=list)
    excluded: list[int] = field(default_factory=list)
    files: dict[str, bytes | Path] = field(default_factory=dict)
    act: Act = "night"
    erased: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A version in JSON: what it is, where it comes from, how far it has read, and what its files must be.

    `parent` is the version whose state this one grew from (None for a lineage's first), `created_at` UTC in
    ISO form, `night` figures for people, `state` the JSON half of the model's state, `segments` the SHA-256
    of the known-key segments, newest first (a night's own is the first), `excluded` the versions whose rows are left
    out, `erased` the files of older versions that this one had deleted, `digest` that of the canonical JSON of all the
    other fields.
    """

    format: int
    nightfit: str
    pipeline: str
    model: str
    version: int
    parent: int | None
    status: Literal["accepted", "refused"]
    created_at: str
    cursors: dict[str, Cursor]
    rows: RowCounts
    prequential: dict[str, float]
    verdict: str
    night: dict[str, Json]
    state: dict[str, Json]
    segments: list[str]
    excluded: list[int] = field(default_factory=list)
    files: dict[str, FileHash]
    act: Act = "night"
    erased: dict[str, list[str]] = field(default_factory=dict)
    digest: str = ""

    @property
    def is_alias(self) -> bool:
        """Say whether this entry only puts its parent back into service, rows, cursors and all."""
        return self.act == "promote" and not self.night.get("skip_rows")

    @property
    def known_segments(self) -> list[str]:
        """The segments of the rows that are known after it: a night that used no row has nothing of its own to know."""
        used = self.rows.learned + self.rows.held_out + self.rows.duplicate
        return self.segments[1:] if self.act == "night" and not used else self.segments


def seal(draft: Draft, files: dict[str, FileHash], *, pipeline: str, model: str, version: int) -> Manifest:
    """Make a draft the manifest that goes to disk, as reading it back will give it; raises as `encode`."""
    taken = {f.name: getattr(draft, f.name) for f in fields(draft) if f.name != "files"}
    named: dict[str, Any] = {
        "format": FORMAT,
        "nightfit": __version__,
        "pipeline": pipeline,
        "model": model,
        "version": version,
    }
    return decode(encode(Manifest(**named, **taken, files=files)))


def encode(manifest: Manifest) -> bytes:
    """Spell a manifest as indented JSON, its digest computed anew.

    Raises `ValueError` for NaN and infinities, which JSON has not, and `TypeError` for what is no JSON at
    all. The standard library writes the numbers, as msgspec turns NaN into null and refuses integers over 64
    bits (the state of a random generator has 128).
    """
    body = {f.name: getattr(manifest, f.name) for f in fields(manifest) if f.name != "digest"}
    raw = json.loads(json.dumps(body, default=asdict, allow_nan=False))
    return _pretty(raw | {"digest": _digest(raw)})


def decode(data: bytes, *, name: str = "a manifest") -> Manifest:
    """Read a manifest; `name` is what messages call it.

    A byte that differs from the one spelling of `encode` is rot, even where the values would be the same.
    Raises `CheckpointError` for anything but an intact manifest, and its `NewerFormatError` for an intact one
    of a format that this nightfit does not know.
    """
    try:
        raw = json.loads(data.decode(), parse_constant=_refuse)
        honest = isinstance(raw, dict) and raw.get("digest") == _digest(raw)
        spelled = honest and _pretty(raw) == data
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} must be JSON, however it does not parse: {error}") from None
    if honest and isinstance(raw.get("format"), int) and raw["format"] > FORMAT:
        raise NewerFormatError(
            f"{name} must have format {FORMAT} or older to be read by nightfit {__version__}, however it has "
            f"format {raw['format']}; upgrade to the nightfit that wrote it ({raw.get('nightfit')})"
        )
    if not spelled:
        raise CheckpointError(f"{name} must match its own digest, however it does not: it changed on disk")
    return _typed(raw, name)


def _typed(raw: dict[str, Json], name: str) -> Manifest:
    import msgspec

    try:
        manifest = msgspec.convert(raw, Manifest)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{name} must have the fields of format {FORMAT}, however: {error}") from None
    for text, legal in [(n, FILE_NAME) for n in manifest.files] + [(s, SHA256) for s in manifest.segments]:
        if not legal.fullmatch(text) or text == MANIFEST:
            raise CheckpointError(f"{name} must name plain files and hashes, however it names {text!r}")
    return manifest


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _compact(raw: dict[str, Any], *, sort_keys: bool) -> bytes:
    text = json.dumps(raw, sort_keys=sort_keys, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")  # a lone surrogate becomes its own JSON escape


def _digest(raw: dict[str, Any]) -> str:
    rest = {name: value for name, value in raw.items() if name != "digest"}
    return hashlib.sha256(_compact(rest, sort_keys=True)).hexdigest()


def _pretty(raw: dict[str, Any]) -> bytes:
    import msgspec

    try:
        return msgspec.json.format(_compact(raw, sort_keys=False), indent=2) + b"\n"
    except msgspec.DecodeError:  # a lone surrogate (a file name that is no Unicode), which msgspec refuses
        return json.dumps(raw, allow_nan=False, indent=2).encode() + b"\n"


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Spell named arrays as safetensors: equal arrays give equal bytes, whatever their order or layout.

    >>> import numpy as np
    >>> unpack(pack({"weight": np.ones((2, 3))}))["weight"].shape
    (2, 3)
    """
    import numpy as np
    from safetensors.numpy import save

    if "__metadata__" in arrays:
        raise ValueError("an array may have any name but '__metadata__', which safetensors keeps for itself")
    return save({name: np.asarray(arrays[name], order="C") for name in sorted(arrays)})


def unpack(data: bytes, *, name: str = "a tensor file") -> dict[str, np.ndarray]:
    """Read what `pack` wrote, as arrays of one's own; raises `CheckpointError` for anything else."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(sorted(load(data).items()))
    except (SafetensorError, LookupError, ValueError, TypeError, AttributeError, ImportError) as error:
        raise CheckpointError(f"{name} must be safetensors, however: {error}") from None

"""Where a lineage stands before the night: its head, what was refused since, and what is left out or known.

Only the lineage is asked here; the night's rows come later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nightfit.batch import Array
from nightfit.checkpoint import EXCLUDED, PENDING, Manifest, unpack
from nightfit.errors import CheckpointError, UsageError
from nightfit.known import N_NIGHTS, Known, Segment
from nightfit.pending import Pending

if TYPE_CHECKING:
    from nightfit.sources.base import Cursor
    from nightfit.store import Lineage


@dataclass(frozen=True)
class Standing:
    """Where a lineage stands before the night: its head with that head's files, and what was refused since."""

    name: str
    lineage: Lineage
    head: Manifest | None
    files: dict[str, bytes]
    refused: tuple[Manifest, ...]
    newest: Manifest | None = None
    """The newest entry, be it refused: what is excluded there holds on."""
    onto: int | None = None
    """What `commit` is to find as the head: the same version, unless the tensors of a newer one were deleted."""
    alarms: tuple[str, ...] = ()
    """What a person must know of versions that were set aside."""

    @classmethod
    def of(cls, lineage: Lineage, name: str) -> Standing:
        """Look a lineage up; versions that do not verify are set aside, which needs the pipeline's lock."""
        alarms: list[str] = []
        found = lineage.usable_head(lambda _, why: alarms.append(f"{why}; it is set aside"))
        head, files = found or (None, dict[str, bytes]())
        number = head.version if head else None
        refused: list[Manifest] = []
        for manifest in lineage.newest_first():
            if number is not None and manifest.version <= number:
                break
            if manifest.status == "refused" and manifest.parent == number:
                refused.insert(0, manifest)
        newest = lineage.head()
        onto = newest.version if newest else None
        return cls(name, lineage, head, files, tuple(refused), lineage.newest(), onto, tuple(alarms))

    @property
    def cursors(self) -> dict[str, Cursor]:
        """How far the head has read each source."""
        return self.head.cursors if self.head else {}

    @property
    def numbers(self) -> frozenset[str]:
        """The columns that the head knows as numbers."""
        schema: Any = self.head.state["schema"] if self.head else {"columns": []}
        return frozenset(column["name"] for column in schema["columns"] if column["kind"] == "numeric")

    @property
    def skip(self) -> dict[str, int]:
        """How many rows of each source the refused nights read: a night of a long history is cut after them."""
        return dict(self.refused[-1].night["read"]) if self.refused else {}  # type: ignore[arg-type]

    @property
    def segments(self) -> list[str]:
        """The identities of the nights before, newest first; the head's own only if it used a row."""
        return self.head.known_segments if self.head else []

    @property
    def pending(self) -> Pending:
        """The rows that wait for their label."""
        return Pending.of(self.files)

    @property
    def version(self) -> int | None:
        """The head's version."""
        return self.head.version if self.head else None

    def segment(self, sha: str) -> Segment:
        """Map a segment of the lineage; raises `CheckpointError` if it does not verify."""
        return Segment.open(self.lineage.segments.file(sha))

    def known(self, alarm: Callable[[str], None]) -> Known:
        """Return the identities of the last nights; a rotten segment costs that night's check, not the version."""
        segments = []
        for sha in self.segments[:N_NIGHTS]:
            try:
                path = self.lineage.segments.file(sha)
                Segment.open(path)
                segments.append(path)
            except CheckpointError as error:
                alarm(f"{error}; rows of that night that come again will not be recognised")
        return Known(segments)

    def excluded(self, asked: int | None) -> list[int]:
        """Return the versions whose rows are left out: those of the nights before, and the one that is asked for.

        Raises `UsageError` for one whose rows the head has learned, `CheckpointError` for one that is not there.
        """
        before = self.newest.excluded if self.newest else []
        if asked is None or asked in before:
            return before
        act = self.lineage.manifest(asked).act
        if act != "night":
            raise UsageError(f"--exclude must name a version that read rows, however version {asked} is a {act}")
        if self.head and any(manifest.version == asked for manifest in self.lineage.ancestry(self.head)):
            raise UsageError(
                "--exclude must name a version that was refused or rolled back, however version "
                f"{self.head.version} of {self.lineage.name} has learned version {asked}'s rows; roll back first"
            )
        return sorted([*before, asked])

    def excluded_keys(self, asked: int | None) -> Array:
        """Return the keys (uint64, sorted) of the rows that the excluded versions were the first to read."""
        keys = np.zeros(0, np.uint64)
        if self.newest and EXCLUDED in self.newest.files:
            keys = unpack(self.lineage.load(self.newest, [EXCLUDED])[EXCLUDED], name=EXCLUDED)["keys"]
        if asked is None or (self.newest and asked in self.newest.excluded):
            return keys
        return np.union1d(keys, self._first_read_by(asked))

    def _first_read_by(self, version: int) -> Array:
        """Return the keys that a version was the first to read: not its ancestry, nor older ones beside it."""
        manifest = self.lineage.manifest(version)
        waiting = Pending.of(self.lineage.load(manifest, [PENDING] if PENDING in manifest.files else []))
        new = np.setdiff1d(waiting.key_hashes, self.pending.key_hashes)
        keys = np.union1d(self.segment(manifest.segments[0]).keys, new)  # those that it brought labels for, too
        older = (m.segments[:1] for m in self.lineage.newest_first() if m.version < version)
        for sha in {*manifest.segments[1:], *(sha for shas in older for sha in shas)} - {manifest.segments[0]}:
            try:
                keys = np.setdiff1d(keys, self.segment(sha).keys, assume_unique=True)
            except CheckpointError:  # pruned long ago, or rotten: its rows are not known any more
                continue
        return keys

"""The lineages on disk: an append-only log of versions for each model, where committing is one rename.

Nothing here is ever changed in place: a version that does not verify is renamed and kept, numbers are never
used twice, and what nightfit did not write is left alone. Readers need no lock; whoever writes holds the
pipeline's.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nightfit.checkpoint import EXCLUDED, FILE_NAME, MANIFEST, Manifest, encode, seal
from nightfit.disk import disk_errors, private_folder, sync_folder, write_file
from nightfit.errors import CheckpointError, TryAgainError
from nightfit.names import MARKS, SEGMENTS, is_record, legal, number_of
from nightfit.segments import Segments
from nightfit.versions import PipelineFolder, Versions, is_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from nightfit.checkpoint import Draft


@dataclass(frozen=True)
class Store:
    """All pipelines below one folder, which may be a link; nothing below it may."""

    root: Path

    def pipeline(self, name: str) -> Pipeline:
        """Give a pipeline, which need not exist yet; raises `ConfigError` for a name that cannot be one."""
        return Pipeline(folder=self.root / legal(name, "a pipeline"))


@dataclass(frozen=True)
class Pipeline(PipelineFolder):
    """The lineages of one pipeline."""

    def lineage(self, model: str) -> Lineage:
        """Give a model's lineage, which need not exist yet; raises as `Store.pipeline`."""
        return Lineage(pipeline=self, model=legal(model, "a model"))


@dataclass(frozen=True)
class Lineage(Versions):
    """One model's versions, oldest first; the head is the newest accepted one.

    >>> import pathlib
    >>> Store(pathlib.Path("checkpoints")).pipeline("bookings").lineage("deep").head() is None
    True
    """

    @property
    def segments(self) -> Segments:
        """The identities of the rows of its nights."""
        return Segments(self.folder / SEGMENTS, self.name, self.pipeline.staging)

    def usable_head(
        self, on_broken: Callable[[int, str], None], *, quarantine: bool = True
    ) -> tuple[Manifest, dict[str, bytes]] | None:
        """Load the newest accepted version that verifies, and tell `on_broken` of the newer ones that do not.

        Those are renamed, never deleted, which needs the pipeline's lock; with `quarantine=False` nothing is
        touched. Records (`*.jsonl`), which may be larger than memory, are checked but not loaded.
        Raises `NewerFormatError` as `head` does.
        """

        def broken(version: int, reason: str) -> None:
            if quarantine:
                self._quarantine(version)
            on_broken(version, reason)

        for manifest in self.accepted(broken):
            if mark := next((mark for mark in MARKS if self.was(mark, manifest.version)), None):
                on_broken(manifest.version, f"{self.title(manifest.version)} was {mark}, and cannot be gone on from")
                continue
            try:
                return manifest, self._load_state(manifest)
            except CheckpointError as error:
                broken(manifest.version, str(error))
        return None

    def _load_state(self, manifest: Manifest) -> dict[str, bytes]:
        for name in filter(is_record, manifest.files):
            self.check(manifest, name)
        return self.load(manifest, [name for name in manifest.files if not is_record(name)])

    def _quarantine(self, version: int) -> None:
        target, taken = self.folder / f"{version:06d}.quarantined", 1
        while os.path.lexists(target):
            taken += 1
            target = self.folder / f"{version:06d}.quarantined-{taken}"
        with disk_errors(self.folder):
            self.path(version).rename(target)
            sync_folder(self.folder)

    def commit(self, draft: Draft, *, onto: int | None) -> Manifest:
        """Make the draft the next version, in one atomic step; `onto` is the head that the caller expects.

        Until the rename nothing is visible, and after it everything is there. Needs the pipeline's lock.
        Raises `TryAgainError` where the head is another by now or the disk fails or is full, `ConfigError`
        where we may not write, and `ValueError` for figures that are not finite.
        """
        head = self.head()
        if (head.version if head else None) != onto:
            raise TryAgainError(
                f"{self.name} must still have the head {onto} to commit onto it, however its head is "
                f"{head.version if head else None}; another run came between, so run again"
            )
        with disk_errors(self.folder):
            private_folder(self.pipeline.folder)
            private_folder(self.folder)
            manifest = self._publish(draft)
            sync_folder(self.folder)
        return manifest

    def _publish(self, draft: Draft) -> Manifest:
        staging = self.pipeline.staging()
        try:
            version = self._next()
            manifest = self._write(staging, draft, version)
            staging.rename(self.path(version))
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        return manifest

    def _write(self, staging: Path, draft: Draft, version: int) -> Manifest:
        for name in draft.files:
            if not FILE_NAME.fullmatch(name) or name in {MANIFEST, *MARKS}:
                raise ValueError(f"a file of a version must have a plain name, however one is called {name!r}")
        files = {name: write_file(staging / name, content) for name, content in draft.files.items()}
        manifest = seal(draft, files, pipeline=self.pipeline.folder.name, model=self.model, version=version)
        write_file(staging / MANIFEST, encode(manifest))
        sync_folder(staging)
        return manifest

    def _next(self) -> int:
        taken = sorted((number_of(name), name) for name in self.names())
        folders = (number for number, name in reversed(taken) if number and is_folder(self.folder / name))
        version = 1 + next(folders, 0)
        while os.path.lexists(self.path(version)):  # a link or a file of a stranger
            version += 1
        return version

    def newest(self) -> Manifest | None:
        """Give the newest entry that can be read, whatever its status."""
        return next(self.newest_first(), None)

    def excluding(self, on_broken: Callable[[int, str], None]) -> Manifest | None:
        """Give the newest entry, whose excluded keys hold on: refused ones whose keys do not verify are set aside.

        That needs the pipeline's lock. An accepted one is given as it is: whether it verifies, `usable_head` finds out.
        """
        for manifest in self.newest_first():
            try:
                if manifest.status == "refused" and EXCLUDED in manifest.files:
                    self.check(manifest, EXCLUDED)
            except CheckpointError as error:
                self._quarantine(manifest.version)
                on_broken(manifest.version, str(error))
            else:
                return manifest
        return None

    def resolve(self, manifest: Manifest) -> Manifest:
        """Give the entry whose state this one has: where it only put another back into service, that one.

        As far as it can be read: an entry has all files of what it put back.
        """
        with suppress(CheckpointError):
            while manifest.is_alias and manifest.parent is not None:
                manifest = self.manifest(manifest.parent)
        return manifest

    def ancestry(self, manifest: Manifest) -> list[Manifest]:
        """List a version and those that its state grew from, newest first, as far as they can be read."""
        chain = [manifest]
        with suppress(CheckpointError):
            while (parent := chain[-1].parent) is not None and 0 < parent < chain[-1].version:
                chain.append(self.read(parent))
        return chain

"""The versions of a lineage as they lie on disk: reading, checking and listing them needs no lock.

What is read is checked against its hash on the very bytes that are returned, and no link is followed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nightfit.checkpoint import (
    MANIFEST,
    Manifest,
    NewerFormatError,
    decode,
)
from nightfit.disk import (
    FileHash,
    disk_errors,
    hash_file,
    private_folder,
    read_file,
    real_folder,
    sync_folder,
    write_file,
)
from nightfit.errors import CheckpointError
from nightfit.names import (
    MARKS,
    STAGING,
    Item,
    Mark,
    is_version,
    item_of,
    ranges,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@dataclass(frozen=True)
class Entry:
    """A version of a lineage. What cannot be read counts as quarantined and has no manifest."""

    version: int
    status: Literal["accepted", "refused", "quarantined"]
    manifest: Manifest | None


@dataclass(frozen=True)
class PipelineFolder:
    """What the versions of one pipeline lie in, with its staging folder."""

    folder: Path

    def staging(self) -> Path:
        """Make a fresh private folder for unfinished work, on the file system of the versions."""
        with disk_errors(self.folder):
            private_folder(self.folder)
            private_folder(self.folder / STAGING)
            folder = Path(tempfile.mkdtemp(dir=self.folder / STAGING))
            folder.chmod(0o700)
            return folder

    def leftovers(self) -> list[Path]:
        """List what lies in staging."""
        folder = self.folder / STAGING
        with disk_errors(folder):
            return sorted(folder.iterdir()) if real_folder(folder) else []

    def clear_staging(self) -> None:
        """Remove what interrupted runs left, following no link; call it under the pipeline's lock only."""
        for path in self.leftovers():
            with disk_errors(path):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


@dataclass(frozen=True)
class Versions:
    """One model's versions, oldest first."""

    pipeline: PipelineFolder
    model: str

    @property
    def folder(self) -> Path:
        """Where the versions lie."""
        return self.pipeline.folder / self.model

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.pipeline.folder.name}/{self.model}"

    def items(self) -> list[Item]:
        """List everything in the folder, ascending, foreign things included; links are foreign."""
        with disk_errors(self.folder):
            if not (real_folder(self.pipeline.folder) and real_folder(self.folder)):
                return []
            with os.scandir(self.folder) as found:
                return sorted(map(item_of, found), key=lambda item: (item.version, item.name))

    def numbers(self) -> list[int]:
        """List the numbers of what is named like a version, ascending: a long history costs no more than its names."""
        return sorted(int(name) for name in self.names() if is_version(name))

    def names(self) -> list[str]:
        """List the names in the folder, in no order."""
        with disk_errors(self.folder):
            there = real_folder(self.pipeline.folder) and real_folder(self.folder)
            return os.listdir(self.folder) if there else []  # noqa: PTH208 - names alone, of which there are many

    def has(self, version: int) -> bool:
        """Say whether there is a version of this number, and no link or file of a stranger."""
        return is_folder(self.path(version))

    def _newest_numbers(self) -> Iterator[int]:
        return filter(self.has, reversed(self.numbers()))

    def entries(self) -> list[Entry]:
        """List the versions ascending, from their manifests alone."""
        return [self._entry(item) for item in self.items() if item.version]

    def _entry(self, item: Item) -> Entry:
        if item.kind == "version":
            with suppress(CheckpointError):
                manifest = self.read(item.version)
                return Entry(item.version, manifest.status, manifest)
        return Entry(item.version, "quarantined", None)

    def newest_first(self) -> Iterator[Manifest]:
        """Yield the manifests that can be read, accepted and refused, from the newest back, one read at a time."""
        for version in self._newest_numbers():
            with suppress(CheckpointError):
                yield self.read(version)

    def head(self) -> Manifest | None:
        """Give the newest accepted version whose manifest can be read; its files are not looked at.

        Raises `NewerFormatError` where a newer nightfit has written here since.
        """
        return next(self.accepted(lambda _version, _reason: None), None)

    def accepted(self, on_broken: Callable[[int, str], None]) -> Iterator[Manifest]:
        """Yield the accepted versions, newest first, and tell `on_broken` of those whose manifest cannot be read."""
        for version in self._newest_numbers():
            try:
                manifest = self.read(version)
            except NewerFormatError:
                raise
            except CheckpointError as error:
                on_broken(version, str(error))
            else:
                if manifest.status == "accepted":
                    yield manifest

    def manifest(self, version: int) -> Manifest:
        """Read a version's manifest; raises `CheckpointError`, with a list of those there are, without it."""
        if not self.path(version).is_dir():
            there = ranges(entry.version for entry in self.entries() if entry.manifest)
            raise CheckpointError(
                f"{self.name} must have the version that is asked for, however {version} is not among "
                f"those it has: {there}; `nightfit log` shows them"
            )
        return self.read(version)

    def read(self, version: int) -> Manifest:
        """Read a version's manifest; raises `CheckpointError` for one that is missing, broken or a copy."""
        name = self.title(version)
        manifest = decode(read_file(self.path(version) / MANIFEST), name=name)
        said = (manifest.pipeline, manifest.model, manifest.version)
        if said != (self.pipeline.folder.name, self.model, version):
            raise CheckpointError(f"{name} must say so itself, however its manifest says it is {said}: a copy?")
        return manifest

    def path(self, version: int) -> Path:
        """Say where a version lies."""
        return self.folder / f"{version:06d}"

    def title(self, version: int) -> str:
        """Say what messages call a version."""
        return f"version {version} of {self.name}"

    def load(self, manifest: Manifest, names: Iterable[str] | None = None) -> dict[str, bytes]:
        """Read a version's files (all, or those named), each checked on the very bytes that are returned.

        Raises `CheckpointError` for a file that is missing, a link, or not what the manifest says.
        """
        return {name: self._load(manifest, name) for name in (manifest.files if names is None else names)}

    def _load(self, manifest: Manifest, name: str) -> bytes:
        if name not in manifest.files:
            has = ", ".join(manifest.files) or "none"
            raise CheckpointError(f"{self.title(manifest.version)} must have {name!r}, however its files are: {has}")
        try:
            data = read_file(self.path(manifest.version) / name)
        except CheckpointError:
            if mark := next((mark for mark in MARKS if self.was(mark, manifest.version)), None):
                raise CheckpointError(
                    f"{self.title(manifest.version)} must have {name!r}, however it was {mark}, and the file is gone "
                    "for good; choose a newer version"
                ) from None
            raise
        self._compare(manifest, name, FileHash(hashlib.sha256(data).hexdigest(), len(data)))
        return data

    def check(self, manifest: Manifest, name: str) -> None:
        """Hash one file of a version in flat memory; raises as `load`."""
        self._compare(manifest, name, hash_file(self.path(manifest.version) / name))

    def _compare(self, manifest: Manifest, name: str, found: FileHash) -> None:
        if found != manifest.files[name]:
            raise CheckpointError(
                f"{self.title(manifest.version)} must be what was committed, however {name} has "
                f"{found.size} bytes of hash {found.sha256[:12]} instead of {manifest.files[name].size} of "
                f"{manifest.files[name].sha256[:12]}: it changed on disk"
            )

    def was(self, mark: Mark, version: int) -> bool:
        """Say whether a version was pruned (its manifest and records are left), or its rows were erased."""
        return os.path.lexists(self.path(version) / mark)

    def strip(self, version: int, names: Iterable[str], mark: Mark) -> None:
        """Delete files of a version for good; the mark comes first, so that it is never taken for damage.

        Needs the pipeline's lock, and may be done again; raises as `commit`.
        """
        folder = self.path(version)
        with disk_errors(folder):
            if not real_folder(folder):
                return
            if not self.was(mark, version):
                write_file(folder / mark, b"")
                sync_folder(folder)
            for name in names:
                (folder / name).unlink(missing_ok=True)
            sync_folder(folder)


def is_folder(path: Path) -> bool:
    """Say whether it is a folder, and no link to one."""
    return path.is_dir() and not path.is_symlink()

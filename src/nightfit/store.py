"""The lineages on disk: an append-only log of versions for each model, where committing is one rename.

Nothing here is ever changed in place: a version that does not verify is renamed and kept, numbers are never
used twice, and what nightfit did not write is left alone. Readers need no lock; whoever writes holds the
pipeline's.
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
    EXCLUDED,
    FILE_NAME,
    MANIFEST,
    Manifest,
    NewerFormatError,
    decode,
    encode,
    seal,
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
from nightfit.errors import CheckpointError, TryAgainError
from nightfit.names import (
    MARKS,
    SEGMENTS,
    STAGING,
    Item,
    Mark,
    is_record,
    is_version,
    item_of,
    legal,
    number_of,
    ranges,
)
from nightfit.segments import Segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nightfit.checkpoint import Draft


@dataclass(frozen=True)
class Entry:
    """A version of a lineage. What cannot be read counts as quarantined and has no manifest."""

    version: int
    status: Literal["accepted", "refused", "quarantined"]
    manifest: Manifest | None


@dataclass(frozen=True)
class Store:
    """All pipelines below one folder, which may be a link; nothing below it may."""

    root: Path

    def pipeline(self, name: str) -> Pipeline:
        """Give a pipeline, which need not exist yet; raises `ConfigError` for a name that cannot be one."""
        return Pipeline(folder=self.root / legal(name, "a pipeline"))


@dataclass(frozen=True)
class Pipeline:
    """The lineages of one pipeline and its staging folder."""

    folder: Path

    def lineage(self, model: str) -> Lineage:
        """Give a model's lineage, which need not exist yet; raises as `Store.pipeline`."""
        return Lineage(pipeline=self, model=legal(model, "a model"))

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
class Lineage:
    """One model's versions, oldest first; the head is the newest accepted one.

    >>> import pathlib
    >>> Store(pathlib.Path("checkpoints")).pipeline("bookings").lineage("deep").head() is None
    True
    """

    pipeline: Pipeline
    model: str

    @property
    def folder(self) -> Path:
        """Where the versions lie."""
        return self.pipeline.folder / self.model

    @property
    def segments(self) -> Segments:
        """The identities of the rows of its nights."""
        return Segments(self.folder / SEGMENTS, self.name, self.pipeline.staging)

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
        return sorted(int(name) for name in self._names() if is_version(name))

    def _names(self) -> list[str]:
        with disk_errors(self.folder):
            there = real_folder(self.pipeline.folder) and real_folder(self.folder)
            return os.listdir(self.folder) if there else []  # noqa: PTH208 - names alone, of which there are many

    def has(self, version: int) -> bool:
        """Say whether there is a version of this number, and no link or file of a stranger."""
        return _is_folder(self.path(version))

    def _newest_numbers(self) -> Iterator[int]:
        return filter(self.has, reversed(self.numbers()))

    def entries(self) -> list[Entry]:
        """List the versions ascending, from their manifests alone."""
        return [self._entry(item) for item in self.items() if item.version]

    def _entry(self, item: Item) -> Entry:
        if item.kind == "version":
            with suppress(CheckpointError):
                manifest = self._read(item.version)
                return Entry(item.version, manifest.status, manifest)
        return Entry(item.version, "quarantined", None)

    def newest_first(self) -> Iterator[Manifest]:
        """Yield the manifests that can be read, accepted and refused, from the newest back, one read at a time."""
        for version in self._newest_numbers():
            with suppress(CheckpointError):
                yield self._read(version)

    def head(self) -> Manifest | None:
        """Give the newest accepted version whose manifest can be read; its files are not looked at.

        Raises `NewerFormatError` where a newer nightfit has written here since.
        """
        return next(self._accepted(lambda _version, _reason: None), None)

    def _accepted(self, on_broken: Callable[[int, str], None]) -> Iterator[Manifest]:
        for version in self._newest_numbers():
            try:
                manifest = self._read(version)
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
        return self._read(version)

    def _read(self, version: int) -> Manifest:
        name = self._title(version)
        manifest = decode(read_file(self.path(version) / MANIFEST), name=name)
        said = (manifest.pipeline, manifest.model, manifest.version)
        if said != (self.pipeline.folder.name, self.model, version):
            raise CheckpointError(f"{name} must say so itself, however its manifest says it is {said}: a copy?")
        return manifest

    def path(self, version: int) -> Path:
        """Say where a version lies."""
        return self.folder / f"{version:06d}"

    def _title(self, version: int) -> str:
        return f"version {version} of {self.name}"

    def load(self, manifest: Manifest, names: Iterable[str] | None = None) -> dict[str, bytes]:
        """Read a version's files (all, or those named), each checked on the very bytes that are returned.

        Raises `CheckpointError` for a file that is missing, a link, or not what the manifest says.
        """
        return {name: self._load(manifest, name) for name in (manifest.files if names is None else names)}

    def _load(self, manifest: Manifest, name: str) -> bytes:
        if name not in manifest.files:
            has = ", ".join(manifest.files) or "none"
            raise CheckpointError(f"{self._title(manifest.version)} must have {name!r}, however its files are: {has}")
        try:
            data = read_file(self.path(manifest.version) / name)
        except CheckpointError:
            if mark := next((mark for mark in MARKS if self.was(mark, manifest.version)), None):
                raise CheckpointError(
                    f"{self._title(manifest.version)} must have {name!r}, however it was {mark}, and the file is gone "
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
                f"{self._title(manifest.version)} must be what was committed, however {name} has "
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

        for manifest in self._accepted(broken):
            if mark := next((mark for mark in MARKS if self.was(mark, manifest.version)), None):
                on_broken(manifest.version, f"{self._title(manifest.version)} was {mark}, and cannot be gone on from")
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
        taken = sorted((number_of(name), name) for name in self._names())
        folders = (number for number, name in reversed(taken) if number and _is_folder(self.folder / name))
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
                chain.append(self._read(parent))
        return chain


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()

"""The segments of a lineage: files of the identities that its nights met, each kept once under its SHA-256.

What is in them is `known`'s business; here they are bytes that verify or do not.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nightfit.checkpoint import SHA256
from nightfit.disk import disk_errors, hash_file, private_folder, read_file, real_folder, sync_folder, write_file
from nightfit.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Segments:
    """A folder of segments, which need not exist yet; `name` is the lineage's, `staging` makes a private folder."""

    folder: Path
    name: str
    staging: Callable[[], Path]

    def add(self, source: Path) -> str:
        """Keep a copy of a segment of known keys durably, once, and give its SHA-256; needs the pipeline's lock.

        Raises `TryAgainError` where the disk fails or is full, `ConfigError` where we may not write.
        """
        with disk_errors(self.folder):
            sha = hash_file(source).sha256
            for folder in (self.folder.parent.parent, self.folder.parent, self.folder):
                private_folder(folder)
            try:
                self.check(sha)
            except CheckpointError:
                self._write(sha, source)
            sync_folder(self.folder)
        return sha

    def _write(self, sha: str, source: Path) -> None:
        staging = self.staging()
        try:
            write_file(staging / "segment", source)
            (staging / "segment").rename(self._path(sha))
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def read(self, sha: str) -> bytes:
        """Read a segment, checked on the very bytes returned; raises `CheckpointError` for a broken one."""
        data = read_file(self._path(sha))
        self._compare(sha, hashlib.sha256(data).hexdigest())
        return data

    def check(self, sha: str) -> None:
        """Hash a segment in flat memory; raises as `read`."""
        self._compare(sha, hash_file(self._path(sha)).sha256)

    def file(self, sha: str) -> Path:
        """Give the file of a segment that verifies, for those who map it; raises as `read`."""
        self.check(sha)
        return self._path(sha)

    def _compare(self, sha: str, found: str) -> None:
        if found != sha:
            raise CheckpointError(f"segment {sha} of {self.name} must hash to its name, however it hashes to {found}")

    def _path(self, sha: str) -> Path:
        if not SHA256.fullmatch(sha):
            raise CheckpointError(f"a segment of {self.name} must be named by a SHA-256, however this is {sha!r}")
        return self.folder / f"{sha}.safetensors"

    def count(self) -> int:
        """Count the segments."""
        return len(self._files())

    def keep(self, shas: set[str]) -> None:
        """Delete the segments that are not named; needs the pipeline's lock."""
        with disk_errors(self.folder):
            gone = [path for path in self._files() if path.stem not in shas]
            for path in gone:
                path.unlink()
            if gone:
                sync_folder(self.folder)

    def _files(self) -> list[Path]:
        with disk_errors(self.folder):
            if not real_folder(self.folder):
                return []
            return [path for path in self.folder.iterdir() if SHA256.fullmatch(path.stem)]

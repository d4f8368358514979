"""Files and folders as a store needs them: private, durable, hashed, and read without following a link.

What the operating system refuses becomes an error that says what to do.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nightfit.errors import CheckpointError, ConfigError, NightfitError, TryAgainError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from pathlib import Path

_PART = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ELOOP,
    errno.ENOTDIR,
    errno.ENOENT,
    errno.ENAMETOOLONG,
}
_BROKEN = {errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENXIO, errno.EIO}


@dataclass(frozen=True)
class FileHash:
    """What a file must hash to, and its size in bytes."""

    sha256: str
    size: int


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn what the operating system refuses below `where` into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise _explained(error, where) from error


def _explained(error: OSError, where: Path) -> NightfitError:
    fact = f"nightfit must be able to use {str(where)!r}, however: {error.strerror or error}"
    if error.errno in _FORBIDDEN:
        return ConfigError(f"{fact} ({error.filename}); mend its owner, permissions or links, or change `store`")
    todo = "free or grant space there" if error.errno in _FULL else "check the disk (dmesg)"
    return TryAgainError(f"{fact}; {todo} and run again: a night that did not commit is simply done again")


def private_folder(folder: Path) -> None:
    """Create a folder and the missing ones above it, durably, mode 0700 under any umask.

    Raises `ConfigError` where the folder is a link or no folder, and `OSError` as the system does.
    """
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    for path in reversed(missing):
        with suppress(FileExistsError):
            path.mkdir(0o700)
            path.chmod(0o700)
        sync_folder(path.parent)
    real_folder(folder)


def real_folder(folder: Path) -> bool:
    """Say whether the folder exists; raises `ConfigError` where something else, or a link, has its name."""
    try:
        mode = folder.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(mode):
        raise ConfigError(f"{str(folder)!r} must be a folder, however it is a link or a file; move it away")
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. A failed fsync is never tried again: it would lie."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, content: bytes | Path) -> FileHash:
    """Create a file of mode 0600 with these bytes, or with a copy of that file's, durably; give its hash."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    hasher, size = hashlib.sha256(), 0
    with os.fdopen(os.open(path, flags, 0o600), "wb") as out:
        os.fchmod(out.fileno(), 0o600)
        for part in _parts(content):
            hasher.update(part)
            size += out.write(part)
        out.flush()
        os.fsync(out.fileno())
    return FileHash(sha256=hasher.hexdigest(), size=size)


def _parts(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as source:
        while part := source.read(_PART):
            yield part


def read_file(path: Path) -> bytes:
    """Read a regular file whole, following no link; raises as `hash_file`."""
    with _broken_or_explained(path), _opened(path) as file:
        return file.read()


def hash_file(path: Path) -> FileHash:
    """Hash a regular file in flat memory, following no link.

    Raises `CheckpointError` where it is missing, broken or no file, `ConfigError` where we may not read it.
    """
    with _broken_or_explained(path), _opened(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileHash(sha256=digest, size=file.tell())


@contextmanager
def _broken_or_explained(path: Path) -> Iterator[None]:
    with disk_errors(path):
        try:
            yield
        except OSError as error:
            if error.errno not in _BROKEN:
                raise
            raise CheckpointError(f"{str(path)!r} must be a file, however: {error.strerror}") from None


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(path.name, flags, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no regular file")
    with os.fdopen(handle, "rb") as file:
        yield file

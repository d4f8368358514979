"""One writer per folder, above all a pipeline's: a lock that dies with its holder, so that none can go stale.

The kernel holds it (flock); the file only tells the loser whom to wait for. It is taken before heavy imports,
so that a second run ends at once.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nightfit.disk import disk_errors, private_folder
from nightfit.errors import LockedError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK = ".lock"

_held: set[int] = set()


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of who may write to this folder, which is created where it is missing.

    Raises `LockedError` at once where another process holds it, `ConfigError` where we may not write there.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as root, writer_lock(pathlib.Path(root) / "bookings"):
    ...     "no other run can start here"
    'no other run can start here'
    """
    with disk_errors(folder):
        handle = _locked(folder)
    _held.add(handle)
    try:
        yield
    finally:
        if handle in _held:  # not so in a forked child
            _held.remove(handle)
            os.close(handle)


def holder(folder: Path) -> int | None:
    """Return the process that holds the lock of a folder, without touching it; None if none does, or nobody can tell.

    Linux lists them; to try the lock would turn a night away that begins just then.
    """
    try:
        inode = (folder / LOCK).stat().st_ino
        held = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    words = [line.split() for line in held]
    return next((int(w[4]) for w in words if w[1] == "FLOCK" and w[5].endswith(f":{inode}")), None)


def _locked(folder: Path) -> int:
    private_folder(folder)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _take(handle, folder)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _take(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "another one"
        raise LockedError(
            f"one run at a time may write to {str(folder)!r}, however process {pid} does; wait for it to end"
        ) from None
    os.fchmod(handle, 0o600)
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


def _let_go() -> None:
    # A forked child shares the lock and would hold it on after its parent's death.
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)

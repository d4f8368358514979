from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from nightfit.errors import ConfigError, LockedError
from nightfit.lock import writer_lock

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import pathlib, sys, time
from nightfit.lock import writer_lock
with writer_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
FORK = HOLD.replace(
    '    print("held", flush=True)',
    '    import os\n    os.write(1, b"held\\n" if os.fork() else b"child\\n")',  # in one piece: both write at a time
)


def a_holder(folder: Path, script: str = HOLD, lines: int = 1) -> subprocess.Popen[str]:
    """Start a process that holds the lock, and wait until it does."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    assert {process.stdout.readline().strip() for _ in range(lines)} <= {"held", "child"}
    return process


def kill(process: subprocess.Popen[str], *, group: bool) -> None:
    """Kill -9 a process, or its children as well."""
    (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()


def test_the_second_run_ends_at_once_and_names_the_first(tmp_path: Path) -> None:
    """While one process holds the lock another fails within a second, with exit code 75 and the pid."""
    holder = a_holder(tmp_path)
    try:
        before = time.monotonic()
        with (
            pytest.raises(LockedError, match=rf"however process {holder.pid} does") as caught,
            writer_lock(tmp_path),
        ):
            pass
        assert time.monotonic() - before < 1
        assert caught.value.exit_code == 75
    finally:
        kill(holder, group=True)
        assert holder.stdout
        holder.stdout.close()


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    """After kill -9 nobody has to remove anything."""
    for _ in range(3):
        holder = a_holder(tmp_path)
        kill(holder, group=False)
        assert holder.stdout
        holder.stdout.close()
        with writer_lock(tmp_path):
            pass


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A worker that outlives a killed trainer does not keep the next one out."""
    holder = a_holder(tmp_path, FORK, lines=2)
    try:
        kill(holder, group=False)
        with writer_lock(tmp_path):
            pass
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        assert holder.stdout
        holder.stdout.close()


def test_the_lock_is_released_and_taken_again(tmp_path: Path) -> None:
    """It excludes a second holder in the same process too, and is free after success and after an error."""
    with writer_lock(tmp_path), pytest.raises(LockedError), writer_lock(tmp_path):
        pass
    with pytest.raises(ZeroDivisionError), writer_lock(tmp_path):
        raise ZeroDivisionError
    with writer_lock(tmp_path):
        pass


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_lock_is_private(tmp_path: Path, umask: int) -> None:
    """Its folders have mode 0700 and its file 0600, whatever the umask."""
    before = os.umask(umask)
    try:
        with writer_lock(tmp_path / "store" / "bookings"):
            pass
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("store", "store/bookings", "store/bookings/.lock")
    ]
    assert modes == [0o700, 0o700, 0o600]


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Neither the folder nor the file may be a link to somewhere else."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / ".lock").symlink_to("elsewhere")
    for folder in ("link", "real"):
        with pytest.raises(ConfigError, match="link"), writer_lock(tmp_path / folder):
            pass
    assert not (tmp_path / "real" / "elsewhere").exists()

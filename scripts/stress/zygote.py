"""Runs of `nightfit` in processes that are forked when everything is imported already, so that a run takes a blink.

A child stops itself before the command begins: time to attach strace, whose counts of calls then begin with the command
and are the same in every run.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PTRACER = 0x59616D61


class Ended(NamedTuple):
    """How a run ended: its exit code (negative: the signal that killed it), what it said, when, and when it asked.

    Times are of the monotonic clock. What it asked for is the lock; one that never did asked when it ended.
    """

    code: int
    said: str
    at_s: float
    asked_s: float


class Zygote:
    """The process that forks; `start` and `go` begin a run, `wait` ends it."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder, self._ended = process, folder, dict[int, Ended]()

    def _ask(self, **what: object) -> Any:  # noqa: ANN401 - whatever the answer is
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, cwd: Path, *arguments: str, die_at: int = 0) -> int:
        """Fork a child that stands still before `nightfit ARGUMENTS`; return its id.

        With `die_at` it will kill itself instead of its n-th sync or rename.
        """
        pid: int = self._ask(cwd=str(cwd), arguments=arguments, folder=str(self._folder), die_at=die_at)
        return pid

    def go(self, pid: int) -> None:
        """Let a child begin."""
        os.kill(pid, signal.SIGCONT)

    def wait(self, pid: int) -> Ended:
        """Wait until a child has ended."""
        while pid not in self._ended:
            ended, code, at_s = self._ask()
            said, asked = self._folder / f"{ended}.said", self._folder / f"{ended}.asked"
            asked_s = float(asked.read_text()) if asked.exists() else at_s
            self._ended[ended] = Ended(code, said.read_text(errors="replace").strip(), at_s, asked_s)
            asked.unlink(missing_ok=True)  # ids of processes come again
        return self._ended.pop(pid)

    def run(self, cwd: Path, *arguments: str, die_at: int = 0) -> Ended:
        """Run `nightfit ARGUMENTS` from its beginning to its end, or till it dies as `start` says."""
        pid = self.start(cwd, *arguments, die_at=die_at)
        self.go(pid)
        return self.wait(pid)


@functools.cache
def zygote() -> Zygote:
    """Give the process that has imported everything: one for all stresses, which ends with this process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads do not survive a fork
    folder = tempfile.TemporaryDirectory(prefix="nightfit-zygote-")
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    atexit.register(folder.cleanup)
    atexit.register(process.communicate)  # its stdin ends, and it; before the folder goes
    return Zygote(process, Path(folder.name))


def _serve() -> None:
    """Fork a child, or wait for one, as each line asks."""
    from sklearn import linear_model  # noqa: F401

    from nightfit import cli, nightly  # noqa: F401
    from nightfit.learners import deep, partial_fit  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        answer = _forked(**asked) if asked else _waited()
        print(json.dumps(answer), flush=True)


def _waited() -> tuple[int, int, float]:
    pid, status = os.wait()
    return pid, os.waitstatus_to_exitcode(status), time.monotonic()


def _forked(cwd: str, arguments: list[str], folder: str, die_at: int) -> int:
    pid = os.fork()
    if not pid:
        _mortal(die_at)
        _child(cwd, arguments, folder)
    os.waitpid(pid, os.WUNTRACED)
    return pid


def _mortal(die_at: int) -> None:
    """Let the process kill itself at its n-th sync or rename."""
    calls = count(1)

    def dying(call: Callable[..., None]) -> Callable[..., None]:
        def maybe(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 - whatever the call takes
            if next(calls) == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            call(*arguments, **named)

        return maybe

    os.fsync, os.rename = dying(os.fsync), dying(os.rename)


def _child(cwd: str, arguments: list[str], folder: str) -> None:
    import ctypes

    from nightfit.cli import main

    nothing = os.open(os.devnull, os.O_RDWR)
    said = os.open(f"{folder}/{os.getpid()}.said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number, file in enumerate((nothing, said, said)):
        os.dup2(file, number)
    tempfile._name_sequence = map("{:08}".format, count())  # type: ignore[attr-defined]  # noqa: SLF001 - names that a second run has, too
    os.chdir(cwd)
    flock = fcntl.flock

    def asking(handle: int, how: int) -> None:
        Path(folder, f"{os.getpid()}.asked").write_text(str(time.monotonic()))
        flock(handle, how)

    fcntl.flock = asking  # type: ignore[assignment]
    sys.argv = ["nightfit", *arguments]
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)  # let strace attach, whoever started it
    os.kill(os.getpid(), signal.SIGSTOP)
    code = 1
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001 - a bug, told as the interpreter tells it
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()

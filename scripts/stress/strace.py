"""What a run asks of the kernel: the calls that change a store, in their order, and faults put into any one of them.

A fault is aimed at the k-th of the calls of one name on one path: the same one in every run, of whichever thread.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from stress.zygote import Ended, Zygote

WRITING = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "truncate", "fallocate")
SYNCING = ("fsync", "fdatasync")
NAMING = (
    *("rename", "renameat", "renameat2", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir"),
    *("link", "linkat", "symlink", "symlinkat", "chmod", "fchmod", "fchmodat", "openat"),
)
CALLS = (*WRITING, *SYNCING, *NAMING)

_LINE = re.compile(r"(\d+) +(\w+)\((.*)")
_PATH = re.compile(r'\d+<(/[^>]*)>|AT_FDCWD<[^>]*>|"((?:[^"\\]|\\.)*)"')
_DATA = re.compile(r', "(?:[^"\\]|\\.)*"(\.\.\.)?, \d+')


class Call(NamedTuple):
    """One call: its name, the paths it is about (of its descriptors first), and as strace spells it."""

    name: str
    paths: tuple[str, ...]
    text: str


class Point(NamedTuple):
    """A place for a fault: the k-th call of this name about this path."""

    name: str
    path: str
    k: int


def parse(line: str) -> Call | None:
    """Read a line of strace's; None for what is no call that changes anything, or the second half of one."""
    match = _LINE.match(line)
    if not match or match[2] not in CALLS or (match[2] == "openat" and "O_CREAT" not in line):
        return None
    name, arguments = match[2], match[3].partition(" = ")[0]
    if name in WRITING:
        arguments = _DATA.sub("", arguments)
    return Call(name, tuple(a or b for a, b in _PATH.findall(arguments) if a or b), line)


def traced(zygote: Zygote, cwd: Path, arguments: tuple[str, ...], *options: str) -> tuple[Ended, list[Call]]:
    """Run a command under strace, with more of its options; return how it ended, and its calls."""
    trace, pid = cwd.parent / "trace", zygote.start(cwd, *arguments)
    command = ["strace", "-f", "-y", "-s", "4096", "-o", str(trace), "-e", f"trace={','.join(CALLS)}", *options]
    strace = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    assert strace.stderr
    said = strace.stderr.readline()
    while "attached" not in said:
        if not said:
            raise RuntimeError("strace must be able to attach, however it ended; is ptrace allowed here?")
        said = strace.stderr.readline()
    zygote.go(pid)
    ended = zygote.wait(pid)
    strace.communicate()
    return ended, [call for line in trace.read_text(errors="replace").splitlines() if (call := parse(line))]


def points(calls: list[Call], within: Path) -> list[Point]:
    """List the places for a fault in what a run did below a folder."""
    seen, found = Counter[tuple[str, str]](), list[Point]()
    for call in calls:
        below = [path for path in call.paths if path.startswith(f"{within}/") or path == str(within)]
        seen.update({(call.name, path) for path in call.paths})
        if below:
            found.append(Point(call.name, below[0], seen[call.name, below[0]]))
    return found

"""Several units side by side: a process that loads the libraries once and forks one child for each unit.

A child asks after each short stretch of work whether it may go on, and of those that wait the one with the most left to
do goes first: so that all cores are busy to the end, and no more children run than there are cores. What comes out is
told in lines of JSON; results lie in the units' folders. The crew ends with the process that started it.

usage: python -m nightfit.compare.crew, with the plan's path as the first line of its input
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

STRETCH_S = 0.2
"""Seconds of work after which a child asks: switching costs a thousandth of that."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""What tells libraries to compute on one thread: children take turns on the cores, and CPU figures stay comparable."""

TRY_AGAIN = 75

_LIBRARIES = ("nightfit.compare.entrant", "nightfit.learners.deep", "nightfit.learners.partial_fit")


@dataclass
class _Child:
    """A unit's process: what it says comes through `says`, and it goes on for each byte that is written to `go`."""

    pid: int
    says: int
    go: int
    rows: int = 0
    spent_s: float = 0.0
    started_at: float = 0.0
    text: bytes = b""

    def left_s(self, total: int) -> float:
        """Estimate what is left of its work; without any knowledge, the most."""
        return self.spent_s / self.rows * (total - self.rows) if self.rows else float("inf")


class Crew:
    """Children by the number of their unit. `tell` is told what they say."""

    def __init__(self, plan: Mapping[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
        self._plan, self._tell = plan, tell
        self._children: dict[int, _Child] = {}
        self._waiting: set[int] = set()

    def work(self, parent: int) -> None:
        """Bring all units to their ends, unless the process that reads from us (a pipe to it: `parent`) has died."""
        for k in range(len(self._plan["units"])):
            self._children[k] = self._fork(k)
            self._waiting.add(k)
        while self._children:
            self._let_go_on()
            by_pipe = {child.says: k for k, child in self._children.items()}
            for pipe in select.select([parent, *by_pipe], [], [])[0]:
                if pipe == parent:
                    self._end()
                    return
                self._hear(by_pipe[pipe])

    def _let_go_on(self) -> None:
        while self._waiting and len(self._children) - len(self._waiting) < self._plan["jobs"]:
            total = self._plan["n_rows"]
            k = max(self._waiting, key=lambda each: self._children[each].left_s(total))
            self._waiting.remove(k)
            self._children[k].started_at = time.monotonic()
            with suppress(BrokenPipeError):  # it has died, and we shall hear of it
                os.write(self._children[k].go, b"+")

    def _hear(self, k: int) -> None:
        """Take what a child says; the end of it without a last word is its death."""
        child = self._children[k]
        heard = os.read(child.says, 65_536)
        child.text += heard
        *lines, child.text = child.text.split(b"\n")
        for line in lines:
            said = json.loads(line)
            child.rows = said.get("rows", child.rows)
            child.spent_s += time.monotonic() - child.started_at
            self._waiting.add(k)
            self._tell({"unit": k, **said})
        if not heard:
            self._bury(k)

    def _bury(self, k: int) -> None:
        child = self._children.pop(k)
        self._waiting.discard(k)
        status = os.waitpid(child.pid, 0)[1]
        said: dict[str, Any] = {"unit": k}
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            said |= {"failed": f"its process was ended by {name}, as when memory runs out", "code": TRY_AGAIN}
        elif status:  # after what it said itself, if it could
            said |= {"failed": f"its process ended with {os.waitstatus_to_exitcode(status)}", "code": 1}
        self._tell(said)
        os.close(child.says)
        os.close(child.go)

    def _end(self) -> None:
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)

    def _fork(self, k: int) -> _Child:
        says, saying = os.pipe()
        going, go = os.pipe()
        pid = os.fork()
        if pid:
            os.close(saying)
            os.close(going)
            return _Child(pid, says, go)
        for other in self._children.values():  # so that a pipe ends with its one child
            os.close(other.says)
            os.close(other.go)
        os.close(says)
        os.close(go)
        code = 1
        try:
            _Worker(self._plan, k, saying, going).run()
            code = 0
        finally:
            os._exit(code)  # nothing of the parent's is flushed or cleaned up twice


class _Worker:
    """A child's side: it works on one unit, in stretches."""

    def __init__(self, plan: Mapping[str, Any], k: int, saying: int, going: int) -> None:
        self._plan, self._k, self._saying, self._going = plan, k, saying, going

    def run(self) -> None:
        """Wait for the word, then bring the unit to its end; what it fails of is said."""
        from nightfit.compare.bench import Unit
        from nightfit.compare.entrant import go_through
        from nightfit.compare.failure import failure
        from nightfit.compare.staging import Staged

        self._wait()
        try:
            planned = self._plan["units"][self._k]
            staged = Staged.opened(Path(self._plan["folder"]))
            unit, folder = Unit.from_json(planned["unit"]), Path(planned["folder"])
            go_through(unit, staged, folder, tell=self._behind, saves=self._plan["saves"])
        except Exception as error:  # noqa: BLE001 - what one model fails of is none of the others'
            self._say(failure(error))

    def _behind(self, n_rows: int) -> None:
        if time.monotonic() - self._since >= STRETCH_S:
            self._say({"rows": n_rows})
            self._wait()

    def _wait(self) -> None:
        if not os.read(self._going, 1):
            os._exit(1)  # the crew has died
        self._since = time.monotonic()

    def _say(self, what: Mapping[str, Any]) -> None:
        os.write(self._saying, json.dumps(what).encode() + b"\n")


def main() -> None:
    """Load the libraries, wait for the plan, and work on it."""
    said = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is none of our lines
    for name in _LIBRARIES:
        import_module(name)
    if path := sys.stdin.readline().strip():
        plan = json.loads(Path(path).read_text(encoding="utf-8"))
        Crew(plan, lambda line: _print(said, line)).work(sys.stdin.fileno())


def _print(to: TextIO, line: Mapping[str, Any]) -> None:
    print(json.dumps(line), file=to, flush=True)


def arguments() -> Sequence[str]:
    """Return what starts a crew: this interpreter, without the present folder among its paths."""
    return (sys.executable, "-P", "-m", "nightfit.compare.crew")


if __name__ == "__main__":
    main()

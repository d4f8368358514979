"""Our side of a crew: it is started before the rows are read, so that its libraries load meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from nightfit.compare.crew import THREADS, arguments
from nightfit.compare.failure import Failure

if TYPE_CHECKING:
    from nightfit.compare.bench import Unit
    from nightfit.compare.staging import Staged


@contextmanager
def crew() -> Iterator[subprocess.Popen[str]]:
    """Start a crew, and end it with whatever ends us: it lives as long as its input is open."""
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(  # noqa: S603 - ourselves
        arguments(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,  # an interrupt at the terminal is ours to pass on
    ) as process:
        try:
            yield process
        finally:
            _pipe(process.stdin).close()


def work(
    process: subprocess.Popen[str],
    units: Mapping[Unit, Path],
    staged: Staged,
    jobs: int,
    progress: Callable[[int, int], None],
    *,
    saves: bool,
) -> dict[str, Failure]:
    """Let the crew bring the units to their ends, and return what models failed of, by name.

    They save where they stand if their folders outlive the run.
    """
    names = [unit.name for unit in units]
    plan = {
        "units": [{"unit": unit.to_json(), "folder": str(folder)} for unit, folder in units.items()],
        "folder": str(staged.folder),
        "n_rows": staged.n_rows,
        "jobs": jobs,
        "saves": saves,
    }
    path = staged.folder / "plan.json"
    path.write_text(json.dumps(plan), encoding="utf-8")
    _pipe(process.stdin).write(f"{path}\n")
    _pipe(process.stdin).flush()
    done, failed = dict.fromkeys(range(len(names)), 0), dict[str, Failure]()
    for line in _pipe(process.stdout):
        said = json.loads(line)
        done[said["unit"]] = said.get("rows", staged.n_rows)
        progress(sum(done.values()), staged.n_rows * len(names))
        if "failed" in said:
            failed.setdefault(names[said["unit"]], Failure(said["failed"], said["code"]))
    return failed


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe

"""Kill a night at each system call that changes the store: the next run must come to what an undisturbed one comes to.

The same trace tells whether a commit is durable in the one safe order: each file synced, then renamed into place, then
the folder that names it synced.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from stress.night import Fault, Night
from stress.strace import SYNCING, WRITING, Call
from stress.table import Dose, Result, chance
from stress.zygote import zygote

KILL = Fault("signal=KILL", frozenset({-9}))
MARK = "100 %: the next run ends with the undisturbed run's hashes"


def unsafe(calls: Sequence[Call], store: Path) -> list[str]:
    """Return what is wrong with the order of writes, syncs and renames of what was renamed into the store."""
    wrong = []
    for i, call in enumerate(calls):
        if not (call.name.startswith("rename") and _is_published(call.paths[-1], store)):
            continue
        source, target = call.paths[0], call.paths[-1]
        changed = {path for before in calls[:i] for path in _changed(before) if Path(path).is_relative_to(source)}
        unsynced = [path for path in sorted(changed) if not _is_synced(calls[:i], path)]
        wrong += [f"{path} is not synced before the rename to {target}" for path in unsynced]
        if not any(c.name in SYNCING and c.paths[0] == os.path.dirname(target) for c in calls[i:]):  # noqa: PTH120
            wrong.append(f"the folder of {target} is not synced after the rename")
    return wrong


def _is_published(path: str, store: Path) -> bool:
    return path.startswith(f"{store}/") and not path.startswith(f"{store}/.staging/")


def _changed(call: Call) -> Iterator[str]:
    """Yield the files that a call writes to, and the folders in which it makes names."""
    if call.name in WRITING:
        yield call.paths[0]
    elif call.name in {"openat", "mkdir"}:
        yield os.path.dirname(call.paths[-1])  # noqa: PTH120


def _is_synced(calls: Sequence[Call], path: str) -> bool:
    """Say whether a sync of the path comes after the last change to it."""
    last = max(i for i, call in enumerate(calls) if path in _changed(call))
    return any(call.name in SYNCING and call.paths[0] == path for call in calls[last:])


def stress(folder: Path, models: str, *, seed: int, n_points: int | None) -> tuple[Night, int, list[str]]:
    """Kill at all points of a night, or at some; return it, how often it was killed, and what was wrong."""
    night = Night(folder, models, zygote())
    chosen = night.points if n_points is None else chance(seed, models).sample(night.points, n_points)
    return night, len(chosen), [what for point in chosen for what in night.broken(point, KILL)]


def run(seed: int, dose: Dose) -> list[Result]:
    """Kill the baseline's nights, and in the full dose those of both learners."""
    nights = ["[models.linear]\n", "[models.deep]\n"] if dose == "full" else ["[models.linear]\n"]
    found = []
    for models in nights:
        with tempfile.TemporaryDirectory(prefix="nightfit-syscalls-") as folder:
            night, n, wrong = stress(Path(folder).resolve(), models, seed=seed, n_points=None if dose == "full" else 8)
            order = unsafe(night.calls, night.pipeline.folder)
        name = " ".join(models.split())
        figure = "; ".join(wrong[:3]) or f"{n} of {n}"
        found += [
            Result(f"SIGKILL at {n} of {len(night.points)} calls, {name}", MARK, figure, ok=not wrong),
            Result(
                f"order of a commit's calls, {name}",
                "file synced, renamed, folder synced",
                "; ".join(order[:3]) or "all so",
                ok=not order,
            ),
        ]
    return found

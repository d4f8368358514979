"""Kill a night at each system call that changes the store: the next run must come to what an undisturbed one comes to.

The same trace tells whether a commit is durable in the one safe order: each file synced, then renamed into place, then
the folder that names it synced.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from stress.pipeline import TRAIN, Copies, eventful, unreadable
from stress.strace import SYNCING, WRITING, Call, Point, fault, points, traced
from stress.table import Dose, Result, chance
from stress.zygote import Zygote, zygote

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


class Night:
    """A night that can be repeated, with a fault in it, from the same beginning."""

    def __init__(self, folder: Path, models: str, zygote: Zygote) -> None:
        self.pipeline, self._zygote = eventful(folder / "p", models), zygote
        self.copies = Copies(self.pipeline, folder / "before")
        self.before = self.pipeline.state()
        ended, self.calls = traced(zygote, self.pipeline.root, TRAIN)
        assert not ended.code, ended.said
        self.after = self.pipeline.state()
        self.points = points(self.calls, self.pipeline.folder)

    def kill(self, point: Point) -> list[str]:
        """Kill a night at a point, and run the next; return what is wrong then."""
        self.copies.restore()
        killed, _ = traced(self._zygote, self.pipeline.root, TRAIN, *fault(point, "signal=KILL"))
        if killed.code != -signal.SIGKILL:
            return [f"{point}: was not reached, the run ended with {killed.code}: {killed.said}"]
        wrong = unreadable(self.pipeline)
        if self.pipeline.state() not in self._whole:
            wrong.append("what the killed run left is neither nothing nor whole versions")
        again = self._zygote.run(self.pipeline.root, *TRAIN)
        if again.code:
            wrong.append(f"the next run ended with {again.code}: {again.said}")
        if self.pipeline.state() != self.after:
            wrong.append("the next run came to other weights, rows or files")
        if left := [str(path) for path in (self.pipeline.folder / ".staging").iterdir()]:
            wrong.append(f"the next run left {left}")
        return [f"{point}: {what}" for what in wrong]

    @property
    def _whole(self) -> list[dict[str, object]]:
        """List the states that a run may leave: each model has had its night, or not."""
        states = [self.before]
        for name in sorted({*self.after} - {*self.before}):
            states += [{**state, name: self.after[name]} for state in states]
        return states


def stress(folder: Path, models: str, *, seed: int, n_points: int | None) -> tuple[Night, int, list[str]]:
    """Kill at all points of a night, or at some; return it, how often it was killed, and what was wrong."""
    with zygote() as ready:
        night = Night(folder, models, ready)
        chosen = night.points if n_points is None else chance(seed, models).sample(night.points, n_points)
        return night, len(chosen), [what for point in chosen for what in night.kill(point)]


def run(seed: int, dose: Dose) -> list[Result]:
    """Kill the baseline's nights, and in the full dose those of both learners."""
    nights = ["[models.linear]\n", "[models.deep]\n[models.linear]\n"] if dose == "full" else ["[models.linear]\n"]
    found = []
    for models in nights:
        with tempfile.TemporaryDirectory(prefix="nightfit-syscalls-") as folder:
            night, n, wrong = stress(Path(folder).resolve(), models, seed=seed, n_points=None if dose == "full" else 12)
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

"""One night that can be had again and again from the same beginning, with a fault in it, and what must hold then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stress.pipeline import TRAIN, Copies, eventful, unreadable
from stress.strace import Point, points, traced
from stress.zygote import Ended, Zygote


class Fault(NamedTuple):
    """What strace does to a call (`signal=KILL`, `error=ENOSPC`), and how the run may end after it."""

    what: str
    codes: frozenset[int]


class Night:
    """A night with everything in it, what it does undisturbed, and what it must come to whatever happened before."""

    def __init__(self, folder: Path, models: str, zygote: Zygote) -> None:
        self.pipeline, self._zygote = eventful(folder / "p", models), zygote
        self.copies = Copies(self.pipeline, folder / "before")
        self._before = self.pipeline.state()
        ended, self.calls = traced(zygote, self.pipeline.root, TRAIN)
        assert not ended.code, ended.said
        self._after = self.pipeline.state()
        self.points = points(self.calls, self.pipeline.folder)
        assert self.points, "a night changes the store, however its trace has no call that does"

    def broken(self, point: Point, fault: Fault) -> list[str]:
        """Have the night with a fault at a point, and the next run; return what is wrong then."""
        self.copies.restore()
        options = ("-P", point.path, "-e", f"inject={point.name}:{fault.what}:when={point.k}")
        ended, _ = traced(self._zygote, self.pipeline.root, TRAIN, *options)
        return [f"{fault.what} at {point}: {what}" for what in self.judge(ended, fault.codes)]

    def judge(self, ended: Ended, codes: frozenset[int]) -> Iterator[str]:
        """Yield what is wrong with how a run ended and what it left, and with the run after it."""
        yield from self.spoken(ended, codes)
        yield from self.harm()
        yield from self.next_run()

    def run(self) -> Ended:
        """Have the night as it is."""
        return self._zygote.run(self.pipeline.root, *TRAIN)

    def spoken(self, ended: Ended, codes: frozenset[int]) -> Iterator[str]:
        """Yield what is wrong with how a run ended, and with what it said."""
        if ended.code not in codes:
            yield f"ended with {ended.code}: {ended.said[-300:]}"
        if ended.code > 0 and not (ended.said.startswith("nightfit: ") and "\n" not in ended.said):
            yield f"did not say so in one line: {ended.said[-300:]}"

    def harm(self) -> Iterator[str]:
        """Yield what is wrong with the versions that are there: each model has had its night or not, and all verify."""
        yield from unreadable(self.pipeline)
        states = [self._before]
        for name in sorted({*self._after} - {*self._before}):
            states += [{**state, name: self._after[name]} for state in states]
        if self.pipeline.state() not in states:
            yield "what is left is neither nothing nor a whole version"

    def next_run(self) -> Iterator[str]:
        """Yield what is wrong with the next run: it must come to what an undisturbed one comes to."""
        again = self.run()
        if again.code:
            yield f"the next run ended with {again.code}: {again.said}"
        if self.pipeline.state() != self._after:
            yield "the next run came to other weights, rows or files"
        if left := [str(path) for path in (self.pipeline.folder / ".staging").iterdir()]:
            yield f"the next run left {left}"

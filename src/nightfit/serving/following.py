"""Follow the heads of lineages: look often, load beside what serves, check, and swap one reference.

It only reads. What does not verify is told once and passed over; while the store cannot be read, what serves goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from nightfit.errors import NightfitError
from nightfit.serving.served import Failure, Served, is_to_try, newest_good
from nightfit.serving.telemetry import Metrics, log

if TYPE_CHECKING:
    from nightfit.learners.base import LearnerConfig
    from nightfit.schema import Rules
    from nightfit.store import Lineage

POLL_S = 0.2
"""Seconds between two looks at the store's folders."""


_TICK_NS = 100_000_000
"""Nanoseconds for which a folder's time of change may hide another change: clocks of file systems tick coarsely."""


class Follower:
    """The versions in service, by model, kept up to date by a thread."""

    def __init__(
        self,
        lineages: Mapping[str, Lineage],
        rules: Rules,
        metrics: Metrics,
        learners: Mapping[str, LearnerConfig] = MappingProxyType({}),
    ) -> None:
        self.default = next(iter(lineages))
        self._lineages, self._rules, self._metrics, self._learners = lineages, rules, metrics, learners
        self._served: dict[str, Served] = {}
        self._stamps: dict[str, tuple[int, int]] = {}
        self._failed: dict[str, dict[int, Failure]] = {name: {} for name in lineages}
        self._newest: dict[str, int] = {}
        self._unreadable: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="nightfit-follower", daemon=True)

    @property
    def names(self) -> list[str]:
        """The models, the default one first."""
        return list(self._lineages)

    @property
    def pipeline(self) -> str:
        """The pipeline's name."""
        return self._lineages[self.default].pipeline.folder.name

    @property
    def is_ready(self) -> bool:
        """Say whether every model has a version in service."""
        return len(self._served) == len(self._lineages)

    def lineage(self, name: str) -> Lineage:
        """Return a model's lineage."""
        return self._lineages[name]

    def get(self, name: str) -> Served | None:
        """Return the version of a model that is in service now."""
        return self._served.get(name)

    def start(self) -> None:
        """Load what there is, then follow."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            self.look()

    def look(self) -> None:
        """Look at every lineage once."""
        for name, lineage in self._lineages.items():
            try:
                self._look_at(name, lineage)
            except Exception as error:  # noqa: BLE001 - whatever lies in the store, what serves goes on
                if name not in self._unreadable:
                    log("store_unreadable", model=name, reason=str(error))
                self._unreadable.add(name)
            else:
                if name in self._unreadable:
                    log("store_readable", model=name)
                self._unreadable.discard(name)

    def _look_at(self, name: str, lineage: Lineage) -> None:
        old, failed = self._served.get(name), self._failed[name]
        stamp = _stamp(lineage, may_be_absent=old is None)
        if stamp == self._stamps.get(name) and not any(is_to_try(lineage, version, failed) for version in failed):
            return
        self._tell_nights(name, lineage)
        before = dict(failed)
        new = newest_good(lineage, self._rules, old, failed, self._learners.get(name))
        for version, failure in sorted(failed.items()):
            if version not in before or before[version].reason != failure.reason:
                self._metrics.reloads.labels(name, "failure").inc()
                log("version_refused", model=name, version=version, reason=failure.reason)
        if new is not None and new is not old:
            self._served[name] = new
            self._failed[name] = {version: failure for version, failure in failed.items() if version > new.number}
            self._metrics.swap(old, new)
            log("version_served", model=name, version=new.number, before=old.number if old else None)
        if time.time_ns() - stamp[0] > _TICK_NS:
            self._stamps[name] = stamp

    def _tell_nights(self, name: str, lineage: Lineage) -> None:
        """Count the entries that came since the last look; those from before the start only set the mark."""
        newest = self._newest.get(name)
        versions = [item.version for item in lineage.items() if item.kind == "version"]
        for version in (v for v in versions if newest is not None and v > newest):
            try:
                self._metrics.night(lineage.manifest(version))
            except NightfitError:
                continue
        self._newest[name] = max(versions, default=0)


def _stamp(lineage: Lineage, *, may_be_absent: bool) -> tuple[int, int]:
    """Return what changes whenever a version appears: a rename into the folder touches it."""
    try:
        found = lineage.folder.stat()
    except FileNotFoundError:
        if may_be_absent:
            return 0, 0
        raise
    return found.st_mtime_ns, found.st_ino

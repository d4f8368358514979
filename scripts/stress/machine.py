"""Do anything in any order to one pipeline - deliver, train, kill, damage, go back, prune - beside a model of its rows.

The model knows what was delivered, and what each version said when it was committed. Whatever happened: the version in
service is the newest one that may serve, and verifies; along its ancestry each row up to its cursor has one fate, that
which follows from the rows alone.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import ClassVar

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as explore

from nightfit.acts import promote, rollback
from nightfit.checkpoint import Manifest
from nightfit.errors import NightfitError
from nightfit.pending import Pending
from nightfit.prune import prune
from nightfit.store import Lineage
from nightfit.verify import verify
from stress.flips import damaged
from stress.pipeline import TRAIN, Pipeline, Row
from stress.table import Dose, Result, chance
from stress.zygote import Zygote, zygote

CONFIG = """name = "p"
target = "y"
key = "id"
task = "classification"
label_wait = "9999d"
[[sources]]
url = "a.csv"
[store]
keep = 4
[schema]
max_reject_share = 1.0
[gate]
min_rows = 20
[models.linear]
"""
KINDS = {"new": 12, "again": 3, "unreadable": 1, "unlabelled": 2, "label": 1}
RANDOM = st.integers(0, 1 << 32).map(chance)
"""Not hypothesis's own kind, which draws 1.8e308 as a normal number."""
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def fates(rows: list[Row]) -> dict[str, int]:
    """Count the fates that rows must have, whatever nights they were read in; used ones are learned or held out."""
    bad = sum(row[1] == "n/a" for row in rows)
    there = {row[0] for row in rows if row[1] != "n/a"}
    used = len({row[0] for row in rows if row[1] != "n/a" and row[3] is not None})
    waiting = len(there) - used
    return {
        "read": len(rows),
        "rejected": bad,
        "used": used,
        "pending": waiting,
        "duplicate": len(rows) - bad - used - waiting,
        "excluded": 0,
    }


class Machine(RuleBasedStateMachine):
    """A pipeline of one file and the baseline, and what must be true of it."""

    zygote: ClassVar[Zygote]
    did: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        """Start with a file of a few rows, and no version."""
        self.folder = Path(tempfile.mkdtemp(prefix="nightfit-machine-"))
        self.pipeline = Pipeline(self.folder / "p", CONFIG)
        self.pipeline.start()
        self.rows: list[Row] = []
        self._append([(i, round(i * 0.7 % 3 - 1, 2), "a", i % 2) for i in range(60)])
        self.committed: dict[int, Manifest] = {}
        self.broken: set[int] = set()

    def teardown(self) -> None:
        """Remove what the example left."""
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @property
    def lineage(self) -> Lineage:
        """The baseline's versions."""
        return self.pipeline.lineages()[0]

    @rule(n=st.integers(1, 60), draw=RANDOM, flipped=st.booleans())
    def deliver(self, *, n: int, draw: Random, flipped: bool) -> None:
        """Append rows: new ones, old ones again, unreadable ones, and some whose label comes later or never."""
        self.did["deliveries"] += 1
        rows: list[Row] = []
        for _ in range(n):
            kind, key = draw.choices([*KINDS], [*KINDS.values()])[0], len(self.rows) + len(rows)
            x = round(draw.gauss(0, 1), 3)
            new: Row = (key, x, draw.choice("abc"), int((x > 0) != flipped))
            before = [*self.rows, *rows]
            waiting = [row for row in before if row[3] is None]
            if kind == "again" and before:
                rows.append(draw.choice(before))
            elif kind == "unreadable" and len(before) > 50 * sum(row[1] == "n/a" for row in before):
                # so few that the first night, however many rows it has, takes the column for numbers
                rows.append((key, "n/a", "a", 0))
            elif kind == "unlabelled":
                rows.append((*new[:3], None))
            elif kind == "label" and waiting:
                first = draw.choice(waiting)
                told = {row[3] for row in before if row[0] == first[0]} - {None}
                rows.append((*first[:3], told.pop() if told else draw.choice([0, 1])))
            else:
                rows.append(new)
        self._append(rows)

    @rule(accept=st.booleans())
    def train(self, *, accept: bool) -> None:
        """Have a night; what was accepted accounts for every row."""
        self.did["nights"] += 1
        (result,) = self.pipeline.train_here(accept="a test" if accept else None)
        self._record()
        if result.status == "accepted":
            head = self.lineage.head()
            assert head is not None
            assert sum(manifest.rows.read for manifest in self._chain(head.version)) == len(self.rows)

    @rule(moment=st.integers(1, 30))
    def kill(self, *, moment: int) -> None:
        """Kill a night at one of its syncs and renames, if it has so many."""
        ended = self.zygote.run(self.pipeline.root, *TRAIN, die_at=moment)
        self.did["kills"] += ended.code < 0
        assert ended.code in {-9, 0, 3}, ended.said
        self._record()

    @precondition(lambda self: self.committed)
    @rule(draw=RANDOM, cut=st.booleans())
    def damage(self, *, draw: Random, cut: bool) -> None:
        """Damage a file of a version, the newest one as often as all others."""
        versions = sorted({*self.committed} - self.broken)
        if not versions:
            return
        folder = self.lineage.path(draw.choice([draw.choice(versions), versions[-1]]))
        paths = [path for path in sorted(folder.iterdir()) if path.stat().st_size]
        path = draw.choice(paths)
        path.write_bytes(damaged(path.read_bytes(), draw, cut=cut))
        self.broken.add(int(folder.name))
        self.did["damages"] += 1

    @precondition(lambda self: self.committed)
    @rule(draw=RANDOM, one_back=st.booleans())
    def go_back(self, *, draw: Random, one_back: bool) -> None:
        """Put a version into service again, the one before or any; what cannot be is refused, and changes nothing."""
        with suppress(NightfitError):
            if one_back:
                _, is_new = rollback(self.lineage, now=NOW)
            else:
                _, is_new = promote(self.lineage, draw.choice([*self.committed]), now=NOW)
            self.did["steps back"] += is_new
        self._record()

    @rule(keep=st.integers(1, 4))
    def prune(self, *, keep: int) -> None:
        """Prune; a lineage whose ancestors are damaged may refuse."""
        with suppress(NightfitError):
            self.did["versions pruned"] += len(prune(self.lineage, keep, thorough=True))

    def _append(self, rows: list[Row]) -> None:
        with (self.pipeline.root / "a.csv").open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        self.rows += rows

    def _record(self) -> None:
        """Remember what new versions say; numbers are never used twice."""
        for item in self.lineage.items():
            if item.kind == "version" and item.version not in {*self.committed, *self.broken}:
                assert item.version > max(self.committed, default=0)
                self.committed[item.version] = self.lineage.manifest(item.version)

    def _chain(self, version: int) -> Iterator[Manifest]:
        """Yield a version and those that its state grew from, as they were when they were committed."""
        at: int | None = version
        while at is not None:
            yield self.committed[at]
            at = self.committed[at].parent

    @invariant()
    def the_newest_that_may_serve_does(self) -> None:
        """Check that the head is the newest accepted version that nothing happened to, and is what it was."""
        lineage = self.lineage
        fit = [v for v, m in self.committed.items() if m.status == "accepted" and v not in self.broken]
        fit = [version for version in fit if not lineage.was("pruned", version)]
        found = lineage.usable_head(lambda _, __: None, quarantine=False)
        assert (found[0] if found else None) == (self.committed[max(fit)] if fit else None)

    @invariant()
    def every_row_has_one_fate(self) -> None:
        """Check that the counts along the head's ancestry are those that follow from the rows up to its cursor."""
        found = self.lineage.usable_head(lambda _, __: None, quarantine=False)
        if not found:
            return
        chain, sums = list(self._chain(found[0].version)), Counter[str]()
        for manifest, parent in zip(chain, [*chain[1:], None], strict=True):
            assert manifest.rows.conserved(parent.rows.pending if parent else 0)
            sums.update(asdict(manifest.rows))
        counts = {name: sums[name] for name in ("read", "rejected", "duplicate", "excluded")}
        counts |= {"used": sums["learned"] + sums["held_out"], "pending": found[0].rows.pending}
        assert counts == fates(self.rows[: sums["read"]])
        assert len(Pending.of(found[1])) == counts["pending"]

    @invariant()
    def damage_is_all_that_is_found(self) -> None:
        """Check that `verify` has nothing to say but of what was damaged."""
        errors = {finding.version for finding in verify(self.lineage) if finding.level == "error"}
        assert errors <= self.broken


def run(seed: int, dose: Dose) -> list[Result]:
    """Explore sequences of up to thirty steps."""
    n = 2000 if dose == "full" else 6
    Machine.did.clear()
    asked = settings(
        max_examples=n, stateful_step_count=30, deadline=None, database=None, suppress_health_check=[*HealthCheck]
    )
    Machine.zygote = zygote()
    explore(hypothesis.seed(seed)(Machine), settings=asked)
    return [
        Result(
            f"{n} sequences of 30 steps, at random",
            "one fate for each row, the head verifies",
            ", ".join(f"{count:,} {what}" for what, count in Machine.did.items()),
            ok=True,  # what is not so is raised
        )
    ]

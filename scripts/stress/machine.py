"""Do anything in any order to one pipeline - deliver, train, kill, damage - and hold it against a model of its rows.

The model knows what was delivered and what each version said when it was committed. Whatever happened: the version in
service verifies and is the newest that may serve, each row up to its cursor has exactly one fate along its ancestry, and
the counts are those that follow from the rows alone.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from nightfit.checkpoint import Manifest
from stress.pipeline import CONFIG, Pipeline, Row
from stress.zygote import Zygote

COLUMNS = ("id", "x", "c", "y")
N_FLIPS = 8


class Machine(RuleBasedStateMachine):
    """A pipeline of one file and the baseline, and what must be true of it."""

    zygote: ClassVar[Zygote]
    steps: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        """Start with a file without rows."""
        self.folder = Path(tempfile.mkdtemp(prefix="nightfit-machine-"))
        config = CONFIG.partition("[[sources]]")
        rest = '[[sources]]\nurl = "a.csv"\n[gate]\nmin_rows = 20\n[models.linear]\n'
        self.pipeline = Pipeline(self.folder / "p", f'{config[0]}label_wait = "9999d"\n{rest}')
        self.pipeline.start()
        self.delivered: list[Row] = []
        self.committed: dict[int, Manifest] = {}
        self.broken: set[int] = set()
        self.n_nights = 0

    def teardown(self) -> None:
        """Remove what the example left."""
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @rule(n=st.integers(1, 30), draw=st.randoms(use_true_random=False), flipped=st.booleans())
    def deliver(self, n: int, draw: Random, flipped: bool) -> None:  # noqa: FBT001 - hypothesis's
        """Append rows: new ones, old ones again, unreadable ones, and some whose label comes later or never."""
        rows: list[Row] = []
        for i in range(len(self.delivered), len(self.delivered) + n):
            x = round(draw.gauss(0, 1), 3)
            new: Row = (i, x, draw.choice("abc"), int((x > 0) != flipped))
            old = draw.choice(self.delivered + rows) if self.delivered else new
            kind = draw.random()
            rows.append(
                old if kind < 0.15 else (i, "n/a", "a", 0) if kind < 0.2 else (*new[:3], None) if kind < 0.3 else new
            )  # noqa: PLR2004
        with (self.pipeline.root / "a.csv").open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        self.delivered += rows

"""What a model with a seed has scored so far: night by night, and over all rows.

Scores of nights are numbers; of rows it keeps which were right (a bit each), and the losses of a sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nightfit.batch import Array, Batch
from nightfit.metrics import Tally, row_hits, row_losses

SAMPLED = 2_000
"""Rows of a night, evenly spread, whose losses are kept for the detector of drifts."""


@dataclass
class NightScore:
    """What a night came to. What is not scored has no loss; seconds are of its rows, whenever these were learned."""

    rows: int
    mean_loss: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    predict_s: float = 0.0
    predict_cpu_s: float = 0.0
    learn_s: float = 0.0
    learn_cpu_s: float = 0.0


@dataclass
class Ledger:
    """What was scored; `hits` and `sampled` are of the scored nights, in order."""

    nights: list[NightScore] = field(default_factory=list)
    total: Tally = field(default_factory=Tally)
    hits: list[Array] = field(default_factory=list)
    sampled: list[Array] = field(default_factory=list)
    first_loss: float | None = None
    """The mean loss on the first night's rows right after they were learned."""
    last_loss: float | None = None
    """The same at the end."""
    peak_mib: float | None = None
    disk_bytes: int | None = None
    retrain_s: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    """What the learner tells of itself in the end, besides scores."""
    n_sampled: list[int] = field(default_factory=list)

    def score(self, night: NightScore, tally: Tally, hits: Array, losses: Array) -> None:
        """Take in a predicted night: which rows were right (bool [n]; none of a quantity), and their losses."""
        night.mean_loss = tally.mean_loss
        night.scores = tally.scores()
        self.hits.append(np.packbits(hits))
        step = max(len(losses) // SAMPLED, 1)
        self.sampled.append(losses[::step].astype(np.float32))
        self.n_sampled.append(len(self.sampled[-1]))

    @property
    def scored(self) -> list[tuple[int, NightScore]]:
        """The nights that were scored, with their numbers."""
        return [(i, night) for i, night in enumerate(self.nights) if night.mean_loss is not None]

    def right(self) -> Array:
        """Return which of the scored rows were right, bool [n]; none of a quantity."""
        sizes = [night.rows for _, night in self.scored]
        pairs = zip(self.hits, sizes, strict=True)
        return np.concatenate([np.zeros(0, bool), *(np.unpackbits(h, count=n).view(bool) for h, n in pairs if len(h))])

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return it as JSON and named arrays."""
        plain = {name: getattr(self, name) for name in _PLAIN} | {"votes": self.total.votes}
        plain["nights"] = [asdict(night) for night in self.nights]
        arrays = {f"total.{name}": a for name, a in self.total.arrays().items()}
        arrays["hits"] = np.concatenate([np.zeros(0, np.uint8), *self.hits])
        arrays["sampled"] = np.concatenate([np.zeros(0, np.float32), *self.sampled])
        return plain, arrays

    @classmethod
    def load(cls, plain: Mapping[str, Any], arrays: Mapping[str, Array]) -> Ledger:
        """Read what `state` returned."""
        ledger = cls(**{name: plain[name] for name in _PLAIN})
        ledger.nights = [NightScore(**night) for night in plain["nights"]]
        total = {n.removeprefix("total."): a for n, a in arrays.items() if "total." in n}
        ledger.total = Tally.from_arrays(total, votes=plain["votes"])
        widths = [math.ceil(night.rows / 8) for _, night in ledger.scored] if len(arrays["hits"]) else []
        ledger.hits = (
            np.split(arrays["hits"], np.cumsum(widths)[:-1]) if widths else [np.zeros(0, np.uint8)] * len(ledger.scored)
        )
        ledger.sampled = np.split(arrays["sampled"], np.cumsum(ledger.n_sampled)[:-1]) if ledger.n_sampled else []
        return ledger


_PLAIN = ("first_loss", "last_loss", "peak_mib", "disk_bytes", "retrain_s", "figures", "n_sampled")


@dataclass
class Marks:
    """What the rows of one night show while they are predicted, block by block."""

    tally: Tally
    hits: list[Array] = field(default_factory=list)
    losses: list[Array] = field(default_factory=list)

    def add(self, predicted: Array, block: Batch) -> None:
        """Take in a block and what was said of it."""
        self.tally.add(predicted, block.y)
        self.hits.append(row_hits(predicted, block.y))
        self.losses.append(row_losses(predicted, block.y))

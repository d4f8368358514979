"""What ranks tell each other of a learner: all of it, as a message, and at the end that their weights are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nightfit.errors import ConfigError
from nightfit.learners.base import KINDS, Arrays, Learner
from nightfit.ranks import here

if TYPE_CHECKING:
    from torch import Tensor

    from nightfit.batch import Rows
    from nightfit.jsontypes import Json
    from nightfit.ranks import Message
    from nightfit.schema import Task

NORMALISER, STATE, EXTRA = "normaliser", "state", "extra"
"""What the names of a message's arrays start with."""


class Descending(Learner, Protocol):
    """A learner that learns by steps which ranks can take together."""

    def descend(self, rows: Rows, *, n_rows: int, seed: int) -> Arrays:
        """Take the night's steps with this rank's share of its `n_rows`; return a digest of the weights at the end."""
        ...


def as_message(learner: Learner, task: Task, **more: Json) -> Message:
    """Return all that a learner is, so that another rank can make it: its options, its state, its normaliser's."""
    arrays, extra, data = learner.state()
    kind = next(name for name, config in KINDS.items() if isinstance(learner.config, config))
    named = {NORMALISER: learner.normaliser.arrays(), STATE: arrays, EXTRA: extra}
    values = {"kind": kind, "config": asdict(learner.config), "task": task, "data": data, **more}
    return values, {f"{of}.{name}": array for of, each in named.items() for name, array in each.items()}


def descend_together(learner: Descending, task: Task, rows: Rows, *, seed: int) -> None:
    """Let all ranks take a night's steps, each with its share of the rows."""
    n = len(rows)
    work = partial(learner.descend, n_rows=n, seed=seed)
    _check_same(here().each("learn", rows, work, lambda: as_message(learner, task, n_rows=n, seed=seed)))


def digest(weights: Tensor) -> Arrays:
    """Return a digest of weights, uint8 [32]."""
    return {"digest": np.frombuffer(hashlib.sha256(weights.cpu().numpy().tobytes()).digest(), np.uint8)}


def _check_same(ends: Sequence[Arrays]) -> None:
    """Raise `ConfigError` if not all ranks ended at the same weights, to the bit."""
    other = next((rank for rank, end in enumerate(ends) if (end["digest"] != ends[0]["digest"]).any()), 0)
    if other:
        raise ConfigError(
            f"all ranks must end at the same weights, however rank {other} has others than rank 0; start them on "
            "machines of one kind, with the same torch"
        )

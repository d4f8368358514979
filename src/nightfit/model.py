"""A model: schema, normaliser and learner (and the memory it is tested on), saved, compared and served as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nightfit.batch import Array, Batch, Rows
from nightfit.jsontypes import Json
from nightfit.learners.arithmetic import send
from nightfit.learners.base import (
    MEMORY,
    Arrays,
    Learner,
    LearnerConfig,
    MlpConfig,
    ModuleConfig,
    ReferenceConfig,
    part,
)
from nightfit.learners.shared import as_message
from nightfit.memory import Memory
from nightfit.metrics import Tally, row_losses
from nightfit.normaliser import Normaliser
from nightfit.ranks import Message, here
from nightfit.schema import Schema, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HOLDOUT_ROWS = 10_000

LARGEST_WEIGHT = 1_000.0
"""A weight beyond which learning has exploded: inputs are standardised and clamped."""

PREDICT_ROWS = 8_192
"""Rows that are predicted at a time: the activations of an ensemble's hidden layers are many times a row's size."""


def make_learner(config: LearnerConfig, normaliser: Normaliser, *, task: Task, device: str, seed: int) -> Learner:
    """Return a learner that has learned nothing; only its own libraries are imported."""
    if isinstance(config, MlpConfig):
        from nightfit.learners.deep import DeepLearner

        return DeepLearner(config, normaliser, task=task, device=device, seed=seed)
    if isinstance(config, ReferenceConfig):
        from nightfit.learners.references import make_reference

        return make_reference(config, normaliser, task=task, device=device, seed=seed)
    if isinstance(config, ModuleConfig):
        from nightfit.learners.module import ModuleLearner

        return ModuleLearner(config, normaliser, task=task, device=device, seed=seed)
    if config.is_imported:
        from nightfit.learners.foreign import make_foreign

        return make_foreign(config, normaliser, task=task)
    if config.is_linear:
        from nightfit.learners.partial_fit import PartialFitLearner

        return PartialFitLearner(config, normaliser, task=task)
    from nightfit.learners.estimator import EstimatorLearner

    return EstimatorLearner(config, normaliser, task=task)


def predicted(learner: Learner, rows: Rows) -> Iterator[tuple[Array, Batch]]:
    """Yield a learner's answers to a night of any size, in order, with the rows that it answers."""
    for block in rows.chunks():
        for start in range(0, len(block), PREDICT_ROWS):
            piece = block.take(slice(start, start + PREDICT_ROWS))
            yield learner.predict(piece), piece


def tallied(learner: Learner, rows: Rows) -> Arrays:
    """Return what a learner scores on rows, as a `Tally`'s arrays."""
    tally = Tally()
    for answer, block in predicted(learner, rows):
        tally.add(answer, block.y)
    return tally.arrays()


def take_moments(normaliser: Normaliser, rows: Rows) -> Arrays:
    """Let a normaliser take the moments of rows; return all that it has then."""
    for block in rows.chunks():
        normaliser.update(send(block.x_num, normaliser.count.device))
    return normaliser.arrays()


@dataclass
class Model:
    """What a checkpoint holds of one model. `n_nights` counts the nights that it learned from."""

    kind: str
    schema: Schema
    normaliser: Normaliser
    learner: Learner
    holdout: Memory
    n_nights: int = 0

    @classmethod
    def fresh(
        cls,
        kind: str,
        config: LearnerConfig,
        *,
        task: Task = "classification",
        device: str = "cpu",
        seed: int = 0,
    ) -> Model:
        """Return a model that knows no column and no class."""
        normaliser = Normaliser(0)
        learner = make_learner(config, normaliser, task=task, device=device, seed=seed)
        model = cls(kind, Schema(task=task), normaliser, learner, Memory(HOLDOUT_ROWS))
        model.grow(model.schema)
        return model

    def grow(self, schema: Schema) -> None:
        """Make room for what the schema has appended; what the model says about old rows stays as it is."""
        self.schema = schema
        self.normaliser.grow(schema.sizes.d_num, torch.from_numpy(schema.circles))
        self.learner.grow(schema.sizes, schema.parent_ids, schema.new_cat_ids)
        self.holdout.grow(schema.sizes.d_num, schema.new_cat_ids)

    def declare(self, labels: Iterable[str]) -> None:
        """Take labels as known ahead, as `partial_fit(classes=...)` does."""
        self.grow(self.schema.with_classes(labels))
        self.learner.declare(len(self.schema.classes))

    def predict(self, batch: Batch) -> Array:
        """Return the probability of each class of the schema, float64 [n, K], or the values of a quantity [n]."""
        return self.learner.predict(batch)

    def predict_rows(self, rows: Rows) -> Array:
        """Return `predict` of a whole night, in memory."""
        none = np.zeros(0 if self.schema.task == "regression" else (0, len(self.schema.classes)))
        return np.concatenate([none, *(predicted for predicted, _ in self.predicted(rows))])

    def predicted(self, rows: Rows) -> Iterator[tuple[Array, Batch]]:
        """Yield `predict` of a night of any size, in order, with the rows that it answers."""
        return predicted(self.learner, rows)

    def losses(self, rows: Rows) -> Array:
        """Return each row's loss, float64 [n]."""
        return np.concatenate([np.zeros(0), *(row_losses(answer, block.y) for answer, block in self.predicted(rows))])

    def tally(self, rows: Rows) -> Tally:
        """Return what the model scores on a night of any size."""
        tally = Tally(votes=self.learner.votes)
        for counted in here().each("tally", rows, partial(tallied, self.learner), self._message):
            tally.join(Tally.from_arrays(counted))
        return tally

    def _message(self) -> Message:
        return as_message(self.learner, self.schema.task)

    def learn(self, rows: Rows, *, seed: int) -> None:
        """Take the rows' moments, then fine-tune. `seed` and the number of nights before make the random state.

        Without rows it does nothing.
        """
        if not len(rows):
            return
        for moments in here().each("moments", rows, partial(take_moments, self.normaliser), self._message)[1:]:
            self.normaliser.join(moments)
        self.learner.learn(rows, seed=seed * 100_003 + self.n_nights)
        self.n_nights += 1

    def forget(self, keys: Array) -> int:
        """Delete the rows of these keys (hashes, uint64) from every memory, and return how many were there."""
        return self.learner.forget(keys) + self.holdout.forget(keys)

    def is_finite(self) -> bool:
        """Say whether every number that predicts is finite."""
        return all(np.isfinite(a).all() for a in self.state()[1]["model"].values() if a.dtype.kind == "f")

    def ailment(self) -> str:
        """Say why its weights cannot be used, whatever they predict; empty if they can."""
        if not self.is_finite():
            return "its weights are not finite: learning has diverged"
        largest = max((float(np.abs(w).max()) for w in self.learner.weights() if w.size), default=0.0)
        if largest <= LARGEST_WEIGHT:
            return ""
        return f"its largest weight is {largest:.3g}, beyond {LARGEST_WEIGHT:,.0f}: learning has exploded"

    def state(self) -> tuple[dict[str, Json], dict[str, Arrays]]:
        """Return the model as JSON, and as arrays by file.

        "model" predicts, "learning" only learns, "memory" holds rows: what may have to be forgotten lies apart.
        """
        arrays, extra, data = self.learner.state()
        model = {f"normaliser.{name}": a for name, a in self.normaliser.arrays().items()}
        model |= {f"learner.{name}": a for name, a in arrays.items()}
        state: dict[str, Json] = {
            "kind": self.kind,
            "schema": self.schema.to_json(),
            "learner": data,
            "n_nights": self.n_nights,
        }
        memory = {name.removeprefix(MEMORY): extra.pop(name) for name in list(extra) if name.startswith(MEMORY)}
        memory |= {f"holdout.{name}": a for name, a in self.holdout.arrays().items()}
        return state, {"model": model, "learning": extra, "memory": memory}

    @classmethod
    def load(
        cls,
        state: Mapping[str, Any],
        files: Mapping[str, Arrays],
        config: LearnerConfig,
        *,
        device: str = "cpu",
        seed: int = 0,
    ) -> Model:
        """Read what `state` returned, onto any device."""

        def make(normaliser: Normaliser, task: Task) -> Learner:
            return make_learner(config, normaliser, task=task, device=device, seed=seed)

        return cls.restore(state, files, make)

    @classmethod
    def restore(
        cls, state: Mapping[str, Any], files: Mapping[str, Arrays], make: Callable[[Normaliser, Task], Learner]
    ) -> Model:
        """Read what `state` returned around a learner of one's own; the memory may be left out, and is empty then."""
        normaliser = Normaliser.from_arrays(part(files["model"], "normaliser"))
        schema = Schema.from_json(state["schema"])
        kept = files.get("memory", {})
        extra = {MEMORY + name: a for name, a in kept.items() if not name.startswith("holdout.")}
        learner = make(normaliser, schema.task)
        learner.load(part(files["model"], "learner"), {**files["learning"], **extra}, state["learner"])
        holdout = Memory.from_arrays(HOLDOUT_ROWS, part(dict(kept), "holdout")) if kept else Memory(HOLDOUT_ROWS)
        holdout.grow(schema.sizes.d_num, schema.new_cat_ids)
        return cls(state["kind"], schema, normaliser, learner, holdout, state["n_nights"])

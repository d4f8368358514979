"""scikit-learn's incremental estimators, and chains of them, on the same cleaned rows as every other learner.

What each needs (dense, non-negative or binary features) it makes of the one layout of the rows. Its state is arrays;
answers are calibrated as those of nightfit's own learners are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from nightfit.batch import BLOCK_ROWS, Array, Batch, Rows
from nightfit.errors import ConfigError
from nightfit.jsontypes import Json
from nightfit.learners.base import Arrays, PartialFitConfig, part
from nightfit.learners.calibrated import Calibrated
from nightfit.learners.chain import Chain
from nightfit.learners.estimators.part import quiet
from nightfit.learners.layout import Layout
from nightfit.moments import standardise
from nightfit.quantity import TargetScale
from nightfit.schema import Sizes, Task
from nightfit.scorer import Forward, calibration_in, voted

if TYPE_CHECKING:
    from nightfit.normaliser import Normaliser

DENSE_NUMBERS = 1 << 24
"""Numbers of a dense matrix that are in memory at a time: 128 MiB."""

LEAST_SHARE = 1e-12
"""The least probability of a class that was learned."""


class EstimatorLearner(Calibrated):
    """A chain of estimators behind the persisted normaliser."""

    def __init__(self, config: PartialFitConfig, normaliser: Normaliser, *, task: Task = "classification") -> None:
        super().__init__(task)
        self.config, self.normaliser, self._task = config, normaliser, task
        self._chain, self._layout = Chain(config, task), Layout()
        self._seen = np.zeros(0, bool)
        self.votes = task == "classification" and self._chain.head.votes

    def _has_learned(self) -> bool:
        return bool(self._seen.any())

    def observe(self, rows: Rows) -> None:
        """Let calibration learn; votes have none."""
        if not self.votes:
            super().observe(rows)

    def predict(self, batch: Batch) -> Array:
        """Return probabilities, float64 [n, K], votes [n, K] or values of a quantity, float64 [n]."""
        return voted(self._raw_or_prior(batch)) if self.votes else super().predict(batch)

    def learn(self, rows: Rows, *, seed: int) -> None:
        """Go on learning; where there is nothing to calibrate nothing is rehearsed."""
        self._chain.head.start_counting()
        if self.votes:
            self._learn_and_count(rows, seed=seed)
        else:
            super().learn(rows, seed=seed)
        self.figures = self._chain.head.figures

    def _raw(self, batch: Batch) -> Array:
        z = standardise(self.normaliser.arrays(), batch.x_num)
        return _forward(self._chain, self._layout, self._seen, is_quantity=self._task == "regression")(z, batch.x_cat)

    def _learn(self, rows: Rows, *, seed: int) -> None:
        """Make the passes over the rows, shuffled; one class alone leaves nothing to tell apart."""
        target = self._calibration if isinstance(self._calibration, TargetScale) else None
        n_classes = 0 if target else len(self._seen)
        if not target and n_classes < 2:  # noqa: PLR2004
            return
        self._seen = self._seen | (True if target else rows.class_counts(n_classes) > 0)
        parents = self._layout.meet()
        with threadpool_limits(1), quiet():
            self._chain.begin(seed, n_features=self._layout.width, n_classes=n_classes, parents=parents)
            for epoch in range(self.config.passes):
                for x, y in self._matrices(rows, seed * self.config.passes + epoch):
                    self._chain.learn(x, target.standard(y) if target else y, with_steps=not epoch)
            self._chain.settle()

    def _matrices(self, rows: Rows, seed: int) -> Iterator[tuple[Array, Array]]:
        moments, n = self.normaliser.arrays(), _n_dense(self._layout)
        for block in rows.shuffled(BLOCK_ROWS, seed=seed):
            for start in range(0, len(block), n):
                piece = block.take(slice(start, start + n))
                yield self._layout.matrix(standardise(moments, piece.x_num), piece.x_cat), piece.y

    def _convert(self, factor: float, shift: float) -> None:
        self._chain.head.convert(factor, shift)

    def grow(self, sizes: Sizes, parent_ids: Array, missing_ids: Array) -> None:  # noqa: ARG002 - no memory
        """Take note of what is new; the estimators make room for it when they learn the first rows with it."""
        self._layout.grow(sizes, parent_ids)
        self._seen = np.concatenate([self._seen, np.zeros(sizes.n_outputs - len(self._seen), bool)])
        self._calibration.grow(sizes.n_outputs)

    def forget(self, keys: Array) -> int:  # noqa: ARG002 - no memory
        """Return 0: it keeps no rows."""
        return 0

    def weights(self) -> Iterable[Array]:
        """Return the weights of all estimators of the chain."""
        return list(self._chain.weights())

    def memory(self) -> Batch | None:
        """Return None: it keeps no rows."""
        return None

    def state(self) -> tuple[Arrays, Arrays, dict[str, Json]]:
        """Return the estimators' arrays, the layout and calibration; what only learning needs; names and options."""
        arrays, extra = self._chain.arrays()
        arrays |= {f"layout.{name}": a for name, a in self._layout.arrays().items()}
        arrays |= {"seen": self._seen.copy(), "n_classes": np.array([self._chain.head.n_classes])}
        return {**arrays, **self._calibration.arrays()}, extra, description(self.config)

    def load(self, arrays: Arrays, extra: Arrays, data: Mapping[str, Json]) -> None:
        """Take over what `state` returned.

        Raises `ConfigError` if the config now asks for another estimator, or for one of another shape.
        """
        if data.get("estimator", "sgd") != self.config.estimator:
            raise ConfigError(
                f"a lineage keeps its estimator, however it is '{self.config.estimator}' now and was "
                f"'{data.get('estimator', 'sgd')}'; set it back, or give the new model another name"
            )
        self._layout = Layout.from_arrays(part(arrays, "layout"))
        self._seen = arrays["seen"].copy()
        self._calibration = calibration_in(arrays)
        with threadpool_limits(1):
            _fill(self._chain, self._layout, {**arrays, **extra})


def description(config: PartialFitConfig) -> dict[str, Json]:
    """Return what makes the estimators again."""
    return {"estimator": config.estimator, "options": dict(config.options)}


def forward(data: Mapping[str, Json], arrays: Mapping[str, Array]) -> tuple[Forward, bool]:
    """Return what computes the raw answers of a kept chain, as a `Scorer` takes it, and whether they are votes."""
    config = PartialFitConfig(estimator=str(data["estimator"]), options=data["options"])  # type: ignore[arg-type]
    is_quantity = TargetScale.is_in(arrays)
    chain = Chain(config, "regression" if is_quantity else "classification")
    layout = Layout.from_arrays(part(dict(arrays), "layout"))
    _fill(chain, layout, arrays)
    return _forward(chain, layout, arrays["seen"], is_quantity=is_quantity), chain.head.votes and not is_quantity


def _fill(chain: Chain, layout: Layout, arrays: Mapping[str, Array]) -> None:
    chain.load(arrays, n_features=layout.width, n_classes=int(arrays["n_classes"][0]))


def _forward(chain: Chain, layout: Layout, seen: Array, *, is_quantity: bool) -> Forward:
    def raw(z: Array, x_cat: Array) -> Array:
        if not len(z):
            return np.zeros(0) if is_quantity else np.zeros((0, len(seen)))
        n = _n_dense(layout)
        pieces = (slice(i, i + n) for i in range(0, len(z), n))
        answers = np.concatenate([chain.answer(layout.matrix(z[piece], x_cat[piece])) for piece in pieces])
        return answers if is_quantity else _shares(answers, seen)

    return raw


def _n_dense(layout: Layout) -> int:
    return max(DENSE_NUMBERS // layout.width, 1)


def _shares(p: Array, seen: Array) -> Array:
    """Return probabilities [n, K] of all classes; those that were never learned have no share."""
    p = np.concatenate([p, np.zeros((len(p), len(seen) - p.shape[1]))], 1)
    p = np.where(seen, np.maximum(p, LEAST_SHARE), 0.0)
    return np.asarray(p / p.sum(1, keepdims=True))

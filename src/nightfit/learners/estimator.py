"""scikit-learn's incremental estimators, and chains of them, on the same cleaned rows as every other learner.

What each needs (dense, non-negative or binary features) it makes of the one layout of the rows. Its state is arrays;
answers are calibrated as those of nightfit's own learners are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from nightfit.batch import Array, Batch, Rows
from nightfit.errors import ConfigError
from nightfit.jsontypes import Json
from nightfit.learners.base import Arrays, PartialFitConfig, part
from nightfit.learners.chain import Chain
from nightfit.learners.dense import Dense, by_pieces, shares
from nightfit.learners.estimators.part import quiet
from nightfit.learners.layout import Layout
from nightfit.moments import standardise
from nightfit.quantity import TargetScale
from nightfit.schema import Task
from nightfit.scorer import Forward, calibration_in

if TYPE_CHECKING:
    from nightfit.normaliser import Normaliser


class EstimatorLearner(Dense):
    """A chain of estimators behind the persisted normaliser."""

    def __init__(self, config: PartialFitConfig, normaliser: Normaliser, *, task: Task = "classification") -> None:
        super().__init__(normaliser, task)
        self.config, self._chain = config, Chain(config, task)
        self.votes = task == "classification" and self._chain.head.votes

    def learn(self, rows: Rows, *, seed: int) -> None:
        """Go on learning, and measure."""
        self._chain.head.start_counting()
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

    def _convert(self, factor: float, shift: float) -> None:
        self._chain.head.convert(factor, shift)

    def weights(self) -> Iterable[Array]:
        """Return the weights of all estimators of the chain."""
        return list(self._chain.weights())

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
    if is_quantity:
        return by_pieces(layout, chain.answer, np.zeros(0))
    return by_pieces(layout, lambda x: shares(chain.answer(x), seen), np.zeros((0, len(seen))))

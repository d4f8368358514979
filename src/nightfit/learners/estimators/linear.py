"""Linear estimators at the end of a chain: SGD, and the passive-aggressive rule, which is SGD by another step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import SGDClassifier, SGDRegressor

from nightfit.batch import Array
from nightfit.learners.estimators.part import Head, Kept, padded

CORRECTION = 0.05
"""Share of its own error that a row's step takes away from a quantity's answer, at most, as in `partial_fit`."""

_OURS = frozenset({"loss", "random_state", "warm_start", "early_stopping", "average", "shuffle", "fit_intercept"})


class _Linear(Head):
    ours = _OURS
    kept = (
        Kept("coef_", ".f", inherits=True, is_weight=True), Kept("intercept_", ".", is_weight=True), Kept("t_"),
    )  # fmt: skip

    def _made(self, loss: Mapping[str, Any], **options: Any) -> Any:  # noqa: ANN401
        cls = SGDClassifier if self.task == "classification" else SGDRegressor
        return cls(**{**options, **self.options, **loss, "shuffle": False, "random_state": self.seed})

    def fit(self, x: Array, y: Array) -> None:
        """Take a step for each row."""
        if self.task == "classification":
            self.model.partial_fit(x, y, classes=np.arange(self.n_classes))
        else:
            self.model.partial_fit(x, y, sample_weight=self.sample_weights(x))

    def sample_weights(self, x: Array) -> Array | None:  # noqa: ARG002 - of some only
        """Return how much each row counts in a quantity; None: all the same."""
        return None

    def arrays(self) -> dict[str, Array]:
        """Return weights, [rows, n_features] of a quantity too."""
        arrays = super().arrays()
        return {name: np.atleast_2d(a) if name == "coef_" else a for name, a in arrays.items()}

    def _put(self, kept: Kept, array: Array) -> None:
        super()._put(kept, array[0] if kept.name == "coef_" and self.task == "regression" else array)

    def grown(self, n_features: int, n_classes: int, parents: Array) -> dict[str, Array]:
        """From two classes to more the one vector w becomes -w and w: the same odds between the two as before."""
        arrays = super().grown(n_features, n_classes, parents)
        if self.task == "classification" and n_classes > max(self.n_classes, 2):
            for name in ("coef_", "intercept_"):
                old = arrays[name]
                both = np.concatenate([-old, old]) if len(old) == 1 else old
                arrays[name] = padded(both, 0, n_classes)
        return arrays

    def scores(self, x: Array) -> Array:
        """Return each class's score, [n, n_classes]."""
        found = self.model.decision_function(x)
        return np.stack([-found, found], 1) if found.ndim == 1 else np.asarray(found)

    def convert(self, factor: float, shift: float) -> None:
        """Rescale the weights."""
        if self.model is not None:
            self.model.coef_ = factor * self.model.coef_
            self.model.intercept_ = factor * self.model.intercept_ + shift


class Sgd(_Linear):
    """Logistic regression, one class against the rest, or least squares."""

    def make(self, n_features: int) -> Any:  # noqa: ANN401, ARG002
        """Return SGDClassifier or SGDRegressor with a constant step."""
        loss = {"loss": "log_loss" if self.task == "classification" else "squared_error"}
        return self._made(loss, learning_rate="constant", eta0=0.01, alpha=1e-4)

    def sample_weights(self, x: Array) -> Array | None:
        """Bound a row's step by its width (normalised least mean squares: Nagumo & Noda 1967)."""
        return np.asarray(np.minimum(1, CORRECTION / (self.model.eta0 * (1 + np.square(x).sum(1)))))

    def answer(self, x: Array) -> Array:
        """Return probabilities, or values."""
        if self.task == "regression":
            return np.asarray(self.model.predict(x))
        return np.asarray(0.5 * (1 + np.tanh(self.scores(x) / 2)))  # the logistic function, without overflow


class PassiveAggressive(_Linear):
    """The smallest change of the weights that puts a row right, bounded (Crammer et al., JMLR 2006, PA-I).

    It gives no probabilities: of classes it votes for one.
    """

    votes = True
    ours = _OURS | {"learning_rate", "penalty", "alpha"}

    def make(self, n_features: int) -> Any:  # noqa: ANN401, ARG002
        """Return SGDClassifier or SGDRegressor with `learning_rate="pa1"`; `eta0` bounds a step."""
        loss = "hinge" if self.task == "classification" else "epsilon_insensitive"
        return self._made({"loss": loss, "penalty": None, "learning_rate": "pa1"}, eta0=1.0)

    def answer(self, x: Array) -> Array:
        """Return values, or scores of classes squeezed between 0 and 1: the largest is the vote."""
        if self.task == "regression":
            return np.asarray(self.model.predict(x))
        scores = self.scores(x)
        return np.asarray(0.5 * (1 + scores / (1 + np.abs(scores))))

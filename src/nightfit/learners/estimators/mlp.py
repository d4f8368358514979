"""scikit-learn's multilayer perceptron at the end of a chain, with Adam's moments kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from nightfit.batch import Array
from nightfit.learners.estimators.part import Head, padded

NEW_CLASS = -3.0
"""A new class starts at so much log-odds below the rarest known one: it is not there until it is learned."""


class Perceptron(Head):
    """MLPClassifier or MLPRegressor, by Adam. Its arrays are float32, as its rows are: half the time of float64."""

    kept = ()
    ours = frozenset({"solver", "random_state", "warm_start", "early_stopping", "shuffle", "verbose"})

    def make(self, n_features: int) -> Any:  # noqa: ANN401, ARG002 - the same for all
        """Return the estimator; rows come shuffled."""
        cls = MLPClassifier if self.task == "classification" else MLPRegressor
        options = {"hidden_layer_sizes": (64, 64), "batch_size": 64, "learning_rate_init": 2e-3, **self.options}
        return cls(**{**options, "solver": "adam", "shuffle": False, "random_state": self.seed})

    def read(self, x: Array) -> Array:
        """Return rows as float32."""
        return x.astype(np.float32)

    def fit(self, x: Array, y: Array) -> None:
        """Make one pass over the rows."""
        batch_size, x = self.model.batch_size, x.astype(np.float32, copy=False)
        self.model.batch_size = batch_size if batch_size == "auto" else min(batch_size, len(x))
        if self.task == "classification":
            self.model.partial_fit(x, y, classes=np.arange(self.n_classes))
        else:
            self.model.partial_fit(x, y.astype(np.float32))
        self.model.batch_size, self.model.loss_curve_ = batch_size, []

    def answer(self, x: Array) -> Array:
        """Return probabilities, or values."""
        answers = (self.model.predict_proba if self.task == "classification" else self.model.predict)(self.read(x))
        return np.asarray(answers, np.float64)

    def arrays(self) -> dict[str, Array]:
        """Return weights by layer, and Adam's two averages of each."""
        if self.model is None:
            return {}
        adam = self.model._optimizer  # noqa: SLF001 - scikit-learn has no other way to it
        layers = self.model.coefs_ + self.model.intercepts_
        named = {f"{kind}.{i}": np.array(a) for kind, of in _kinds(layers, adam) for i, a in enumerate(of)}
        return named | {"adam.step": np.array(adam.t)}

    def load(self, arrays: Mapping[str, Array], n_features: int, n_classes: int) -> None:
        """Take over what `arrays` returned; Adam's averages may be left out."""
        super().load(arrays, n_features, n_classes)
        if not arrays:
            return
        model, adam = self.model, self.model._optimizer  # noqa: SLF001
        n = len(model.coefs_)
        for kind, of in _kinds(model.coefs_ + model.intercepts_, adam):
            if f"{kind}.0" in arrays:
                self._check_shapes(kind, of, arrays)
                of[:] = [arrays[f"{kind}.{i}"].copy() for i in range(len(of))]
                if kind == "layer":
                    model.coefs_, model.intercepts_ = of[:n], of[n:]
        adam.t = int(arrays["adam.step"]) if "adam.step" in arrays else 0

    def _check_shapes(self, kind: str, of: list[Array], arrays: Mapping[str, Array]) -> None:
        there = [a.shape for name, a in arrays.items() if name.rpartition(".")[0] == kind]
        if sorted(there) != sorted(a.shape for a in of):
            self._refuse_shape(kind, sorted(a.shape for a in of), sorted(there))

    def grown(self, n_features: int, n_classes: int, parents: Array) -> dict[str, Array]:
        """Pad the first layer's inputs and the last one's outputs, and Adam's averages alike.

        Two classes are one logistic output w; of more they become -w/2 and w/2 of a softmax: the same odds.
        """
        arrays, n = self.arrays(), len(self.model.coefs_)
        outputs = {f"{n - 1}": 1, f"{2 * n - 1}": 0}
        for name, array in arrays.items():
            kind, _, place = name.partition(".")
            if place == "0":
                array = arrays[name] = padded(array, 0, n_features, parents=parents)  # noqa: PLW2901
            if place in outputs and self.task == "classification" and n_classes > max(self.n_classes, 2):
                arrays[name] = _with_outputs(kind, array, outputs[place], n_classes)
        return arrays

    def convert(self, factor: float, shift: float) -> None:
        """Rescale the last layer; gradients are factor^2 of what they were, and those at the last layer factor."""
        if self.model is None:
            return
        n, arrays = len(self.model.coefs_), self.arrays()
        for name in [name for name in arrays if name != "adam.step"]:
            kind, _, place = name.partition(".")
            is_last = int(place) in (n - 1, 2 * n - 1)
            power = {"layer": int(is_last), "adam1": 2 - is_last, "adam2": 2 * (2 - is_last)}[kind]
            arrays[name] = arrays[name] * np.float32(factor**power)
        arrays[f"layer.{2 * n - 1}"] += np.float32(shift)
        self.load(arrays, self.n_features, self.n_classes)

    def weights(self) -> Any:  # noqa: ANN401
        """Yield the layers."""
        if self.model is not None:
            yield from self.model.coefs_ + self.model.intercepts_


def _kinds(layers: list[Array], adam: Any) -> list[tuple[str, list[Array]]]:  # noqa: ANN401
    return [("layer", layers), ("adam1", adam.ms), ("adam2", adam.vs)]


def _with_outputs(kind: str, array: Array, axis: int, n: int) -> Array:
    """Return an output layer's array (or an average of its gradients) for n classes."""
    if array.shape[axis] == 1:
        half = {"layer": 0.5, "adam1": 1.0, "adam2": 1.0}[kind]
        sign = 1.0 if kind == "adam2" else -1.0
        array = np.concatenate([sign * half * array, half * array], axis)
    is_bias = kind == "layer" and not axis
    return padded(array, axis, n, float(array.min()) + NEW_CLASS if is_bias else 0.0)

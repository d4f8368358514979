"""A chain: feature steps, each with running moments of what it gives, and an estimator that learns at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from nightfit.batch import Array
from nightfit.errors import ConfigError
from nightfit.learners.base import OF_CLASSES, PartialFitConfig, part
from nightfit.learners.estimators.bayes import Bernoulli, Gaussian, Multinomial
from nightfit.learners.estimators.clusters import ClusterShares
from nightfit.learners.estimators.linear import PassiveAggressive, Sgd
from nightfit.learners.estimators.mlp import Perceptron
from nightfit.learners.estimators.part import Head, Step
from nightfit.learners.estimators.steps import Clusters, Dictionary, Pca
from nightfit.moments import CLAMP, merged, no_moments, scale
from nightfit.schema import Task

if TYPE_CHECKING:
    from nightfit.learners.estimators.part import Part

_STEPS: Mapping[str, type[Step]] = {"pca": Pca, "dictionary": Dictionary, "kmeans": Clusters}
_HEADS: Mapping[str, type[Head]] = {
    "sgd": Sgd, "pa": PassiveAggressive, "gnb": Gaussian, "multinomial_nb": Multinomial, "bernoulli_nb": Bernoulli,
    "sk_mlp": Perceptron, "kmeans": ClusterShares,
}  # fmt: skip

LEAST_SCALE = 0.1
"""A step's features are divided by their deviations, but by no less than this share of the largest: a component that
hardly varies is mostly rounding."""


class Chain:
    """The estimators that a config names, in their order."""

    def __init__(self, config: PartialFitConfig, task: Task) -> None:
        *steps, last = config.names
        if task == "regression" and last in OF_CLASSES:
            raise ConfigError(
                f"estimator '{last}' learns classes, however the target is a quantity; take sgd, pa, sk_mlp or kmeans, "
                'or set task = "classification"'
            )
        options = dict(config.options_of(len(steps)))
        if last == "sgd":
            options = {"alpha": config.alpha, "eta0": config.learning_rate, **options}
        self.steps = [_STEPS[name](name, task, config.options_of(i)) for i, name in enumerate(steps)]
        self.head = _HEADS[last](last, task, options)
        self._moments = [no_moments(0) for _ in steps]

    @property
    def _parts(self) -> list[tuple[str, Part]]:
        return [*((f"step{i}", step) for i, step in enumerate(self.steps)), ("head", self.head)]

    def begin(self, seed: int, *, n_features: int, n_classes: int, parents: Array) -> None:
        """Begin a night: make room, and let what is random in it depend on the seed."""
        for i, (_, each) in enumerate(self._parts):
            if not i:
                each.grow(n_features, n_classes, parents)
            elif each.has_started:
                each.grow(each.n_features, n_classes, np.zeros(0, np.int64))
            else:
                each.n_classes = n_classes
            each.begin(seed)

    def learn(self, x: Array, y: Array, *, with_steps: bool) -> None:
        """Let every step learn the rows, then the head what the steps make of them."""
        for i, step in enumerate(self.steps):
            step.n_features = x.shape[1]
            if with_steps:
                step.learn(x, y)
            found = step.transform(x)
            if with_steps:
                before = self._moments[i] if len(self._moments[i]["count"]) else no_moments(found.shape[1])
                self._moments[i] = merged(before, found)
            x = self._scaled(i, found)
        self.head.n_features = x.shape[1]
        self.head.learn(x, y)

    def _scaled(self, i: int, x: Array) -> Array:
        moments = self._moments[i]
        deviation = scale(moments) * (moments["m2"] > 0)
        least = LEAST_SCALE * float(deviation.max()) or 1.0
        centred = (x - moments["origin"]) - moments["mean"]
        return np.asarray(np.clip(centred / np.maximum(deviation, least), -CLAMP, CLAMP))

    def settle(self) -> None:
        """End a night."""
        for _, each in self._parts:
            each.settle()

    def answer(self, x: Array) -> Array:
        """Return the head's answers to rows [n, n_features]."""
        for i, step in enumerate(self.steps):
            x = self._scaled(i, step.transform(x))
        return self.head.answer(x)

    def weights(self) -> Iterator[Array]:
        """Yield what learning moves."""
        yield from chain.from_iterable(each.weights() for _, each in self._parts)

    def arrays(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return what answering needs, and what only learning needs, by name."""
        named = {f"{name}.{a}": array for name, each in self._parts for a, array in each.arrays().items()}
        named |= {f"moments{i}.{name}": a.copy() for i, m in enumerate(self._moments) for name, a in m.items()}
        only = {name for name in named if self._learns_only(name)}
        return {n: a for n, a in named.items() if n not in only}, {n: named[n] for n in only}

    def _learns_only(self, name: str) -> bool:
        place, _, attribute = name.partition(".")
        each = dict(self._parts).get(place)
        names = {kept.name for kept in each.kept if kept.learns_only} if each else set()
        return attribute in names or attribute.startswith("adam")

    def load(self, arrays: Mapping[str, Array], *, n_features: int, n_classes: int) -> None:
        """Take over what `arrays` returned; what only learning needs may be left out."""
        for i, (name, each) in enumerate(self._parts):
            if i:
                n_features = len(arrays.get(f"moments{i - 1}.count", ()))
            each.load(part(dict(arrays), name), n_features, n_classes)
        self._moments = [part(dict(arrays), f"moments{i}") or no_moments(0) for i in range(len(self.steps))]

"""MiniBatchKMeans as a learner of its own: a row is answered by what the rows of its cluster were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightfit.batch import Array
from nightfit.learners.estimators.part import Head, padded
from nightfit.learners.estimators.steps import Clusters
from nightfit.schema import Task


class ClusterShares(Head):
    """Of each cluster the classes' counts, or the sum of a quantity, over all rows that came to it.

    The answer is the cluster's shares (or its mean), with one row more that is as all rows are.
    """

    kept = ()

    def __init__(self, name: str, task: Task, options: Mapping[str, Any]) -> None:
        self._clusters = Clusters(name, task, options)
        super().__init__(name, task, {})
        self._sums = self._counts = np.zeros(0)
        self._inertia, self._n = 0.0, 0

    def _check(self) -> None:
        """Do nothing: the clusters have checked their options."""

    def make(self, n_features: int) -> Any:  # noqa: ANN401
        """Return MiniBatchKMeans."""
        return self._clusters.make(n_features)

    @property
    def has_started(self) -> bool:
        """Say whether it has clusters."""
        return self._clusters.has_started

    def begin(self, seed: int) -> None:
        """Begin a night."""
        self._clusters.begin(seed)

    def learn(self, x: Array, y: Array) -> None:
        """Move the centres, then count the rows' classes, or sum their values, by the nearest one."""
        self._clusters.learn(x, y)
        self.fit(x, y)

    def fit(self, x: Array, y: Array) -> None:
        """Count rows by their cluster."""
        distances = self._clusters.transform(x)
        nearest, n = distances.argmin(1), distances.shape[1]
        self._inertia, self._n = self._inertia + float(np.square(distances.min(1)).sum()), self._n + len(x)
        if not len(self._counts):
            self._counts, self._sums = np.zeros(n), np.zeros((n, self._width))
        self._counts = self._counts + np.bincount(nearest, minlength=n)
        values = y[:, None] if self.task == "regression" else np.eye(self.n_classes)[y]
        np.add.at(self._sums, nearest, values)

    @property
    def _width(self) -> int:
        return 1 if self.task == "regression" else self.n_classes

    def start_counting(self) -> None:
        """Start the inertia of a night."""
        self._inertia, self._n = 0.0, 0

    @property
    def figures(self) -> dict[str, float]:
        """The inertia: the mean squared distance of the night's rows to their centres."""
        return {"inertia": self._inertia / self._n} if self._n else {}

    def answer(self, x: Array) -> Array:
        """Return each row's cluster's shares, or its mean."""
        all_rows = self._sums.sum(0) / self._counts.sum()
        answers = (self._sums + all_rows) / (self._counts[:, None] + 1)
        found = answers[self._clusters.nearest(x)]
        return np.asarray(found[:, 0] if self.task == "regression" else found)

    def convert(self, factor: float, shift: float) -> None:
        """Convert the sums."""
        self._sums = factor * self._sums + shift * self._counts[:, None]

    def arrays(self) -> dict[str, Array]:
        """Return centres and sums."""
        found = self._clusters.arrays()
        return {**found, "sums": self._sums.copy(), "counts": self._counts.copy()} if found else {}

    def load(self, arrays: Mapping[str, Array], n_features: int, n_classes: int) -> None:
        """Take over what `arrays` returned."""
        self.n_features, self.n_classes = n_features, n_classes
        if arrays:
            centres = {name: a for name, a in arrays.items() if name not in ("sums", "counts")}
            self._clusters.load(centres, n_features, n_classes)
            self._sums, self._counts = arrays["sums"].copy(), arrays["counts"].copy()

    def grow(self, n_features: int, n_classes: int, parents: Array) -> None:
        """Make room at the ends."""
        self._clusters.grow(n_features, n_classes, parents)
        self.n_features, self.n_classes = n_features, n_classes
        if self.has_started:
            self._sums = padded(self._sums, 1, self._width)

    def settle(self) -> None:
        """End a night."""
        self.load(self.arrays(), self.n_features, self.n_classes)

    def weights(self) -> Any:  # noqa: ANN401
        """Yield the centres."""
        return self._clusters.weights()

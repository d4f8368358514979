"""Feature steps: principal components, a sparse dictionary, distances to clusters, each learned night by night."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import IncrementalPCA, MiniBatchDictionaryLearning

from nightfit.batch import Array
from nightfit.learners.estimators.part import Kept, Step

N_COMPONENTS = 16
"""Components, atoms or clusters, unless options say otherwise."""


class Pca(Step):
    """Principal components; at most as many as there were features on the first night that was learned."""

    ours = frozenset({"copy", "batch_size"})
    kept = (
        Kept("components_", ".f", is_weight=True), Kept("mean_", "f"), Kept("singular_values_", "."),
        Kept("explained_variance_", "."), Kept("var_", "f", learns_only=True),
        Kept("n_samples_seen_", learns_only=True),
    )  # fmt: skip
    _n: int | None = None

    def make(self, n_features: int) -> Any:  # noqa: ANN401
        """Return IncrementalPCA."""
        options = {"n_components": N_COMPONENTS, **self.options}
        self._n = self._n or min(options["n_components"], n_features)
        return IncrementalPCA(**{**options, "n_components": self._n})

    @property
    def least_rows(self) -> int:
        """Rows that the first night needs."""
        return max(self._n or self.options.get("n_components", N_COMPONENTS), 2)

    def _check(self) -> None:
        super()._check()
        self._n = None

    def _prepare(self, arrays: Mapping[str, Array]) -> None:
        self._n = len(arrays["components_"])

    def fit(self, x: Array, y: Array) -> None:  # noqa: ARG002
        """Merge rows into the components."""
        self.model.partial_fit(x)

    def transform(self, x: Array) -> Array:
        """Return the components' values."""
        return np.asarray(self.model.transform(x))


class Dictionary(Step):
    """Atoms of which each row is a sparse sum (Mairal et al., ICML 2009).

    Features are how like each atom a row is, less a threshold: as good as the sum's own coefficients, and one product
    (Coates & Ng, ICML 2011).
    """

    ours = frozenset({"random_state", "n_jobs", "shuffle", "dict_init", "callback", "max_iter", "verbose"})
    kept = (
        Kept("components_", ".f", is_weight=True), Kept("_A", "..", learns_only=True),
        Kept("_B", "f.", learns_only=True), Kept("n_steps_", learns_only=True),
    )  # fmt: skip
    batch_rows = 256

    def make(self, n_features: int) -> Any:  # noqa: ANN401, ARG002
        """Return MiniBatchDictionaryLearning, with coordinate descent in place of a Python loop over rows."""
        options = {
            "n_components": N_COMPONENTS, "fit_algorithm": "cd", "transform_algorithm": "threshold",
            "batch_size": self.batch_rows, **self.options,
        }  # fmt: skip
        self.batch_rows = options["batch_size"]
        return MiniBatchDictionaryLearning(**{**options, "random_state": self.seed})

    def begin(self, seed: int) -> None:
        """Draw anew where atoms that nothing uses are replaced."""
        super().begin(seed)
        if self.model is not None:
            self.model._random_state = np.random.RandomState(self.seed)  # noqa: SLF001 - scikit-learn's

    def fit(self, x: Array, y: Array) -> None:  # noqa: ARG002
        """Take a step."""
        self.model.partial_fit(x)

    def transform(self, x: Array) -> Array:
        """Return the features."""
        return np.asarray(self.model.transform(x))


class Clusters(Step):
    """Clusters by mini-batches (Sculley, WWW 2010); features are the distances to their centres."""

    ours = frozenset({"random_state", "compute_labels", "init", "verbose", "max_iter"})
    kept = (
        Kept("cluster_centers_", ".f", is_weight=True), Kept("_counts", ".", learns_only=True),
        Kept("n_steps_", learns_only=True), Kept("_n_since_last_reassign", learns_only=True),
    )  # fmt: skip
    batch_rows = 1024

    def make(self, n_features: int) -> Any:  # noqa: ANN401, ARG002
        """Return MiniBatchKMeans."""
        options = {"n_clusters": N_COMPONENTS, "batch_size": self.batch_rows, "n_init": 1, **self.options}
        self.batch_rows = options["batch_size"]
        return MiniBatchKMeans(**{**options, "compute_labels": False, "random_state": self.seed})

    @property
    def least_rows(self) -> int:
        """Rows that the first night needs."""
        return max(int(self.options.get("n_clusters", N_COMPONENTS)), 1)

    def begin(self, seed: int) -> None:
        """Draw anew where clusters that nothing is near are moved."""
        super().begin(seed)
        if self.model is not None:
            self.model._random_state = np.random.RandomState(self.seed)  # noqa: SLF001 - scikit-learn's

    def _complete(self) -> None:
        self.model._batch_size = self.batch_rows  # noqa: SLF001 - it was that of the dummy rows

    def fit(self, x: Array, y: Array) -> None:  # noqa: ARG002
        """Move the centres."""
        self.model.partial_fit(x)

    def transform(self, x: Array) -> Array:
        """Return the distances to the centres."""
        return np.asarray(self.model.transform(x))

    def nearest(self, x: Array) -> Array:
        """Return the cluster of each row, int64 [n]."""
        return np.asarray(self.model.predict(x), np.int64)

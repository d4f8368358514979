"""The linear baseline: scikit-learn's SGD, logistic or least squares, by `partial_fit`, on the same cleaned rows.

Its weights are kept as our own arrays, in blocks (bias, numbers, missing flags, categories) that only ever grow at
their ends, so that new columns, categories and classes cost nothing of what it knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import SGDClassifier, SGDRegressor

from nightfit.batch import BLOCK_ROWS, Array, Batch, Rows
from nightfit.jsontypes import Json
from nightfit.learners.base import Arrays, PartialFitConfig
from nightfit.learners.calibrated import Calibrated
from nightfit.moments import standardise
from nightfit.normaliser import Normaliser
from nightfit.quantity import TargetScale
from nightfit.schema import Sizes, Task
from nightfit.scorer import calibration_in, linear_raw

CORRECTION = 0.05
"""Share of its own error that a row's step takes away from a quantity's answer, at most.

Half of that share is what the noise of the last rows adds to the error (docs/design.md has the figures).
"""


class PartialFitLearner(Calibrated):
    """One weight vector per class (one for all when there are two), trained one against the rest, calibrated.

    For a quantity there is one, trained on standardised targets.
    """

    def __init__(self, config: PartialFitConfig, normaliser: Normaliser, *, task: Task = "classification") -> None:
        super().__init__(task)
        self.config, self.normaliser = config, normaliser
        self._seen = np.zeros(0, bool)
        self._weights = _zeros(0, Sizes(0, 0, 0, 0))

    def _has_learned(self) -> bool:
        return bool(self._seen.any())

    def _raw(self, batch: Batch) -> Array:
        arrays = {**self._weights, "seen": self._seen, **self._calibration.arrays()}
        return linear_raw(arrays)(standardise(self.normaliser.arrays(), batch.x_num), batch.x_cat)

    def _learn(self, rows: Rows, *, seed: int) -> None:
        """Make the passes over the rows, shuffled."""
        target = self._calibration if isinstance(self._calibration, TargetScale) else None
        if target is None:
            self._seen = self._seen | (rows.class_counts(len(self._seen)) > 0)
            if len(self._seen) < 2:  # noqa: PLR2004 - one class leaves nothing to tell apart
                return
        self._seen = self._seen | (target is not None)
        n, epochs = self.config.passes, range(self.config.passes)
        for block in (block for epoch in epochs for block in rows.shuffled(BLOCK_ROWS, seed=seed * n + epoch)):
            x = self._matrix(block)
            sgd = self._classify(x, block.y) if target is None else self._regress(x, target.standard(block.y))
            self._weights = _split(np.atleast_2d(sgd.coef_), self._weights)

    def _classify(self, x: csr_matrix, y: Array) -> SGDClassifier:
        """Take scikit-learn's estimator as it was left one pass on: continued, never restarted."""
        classes = np.arange(len(self._seen))
        sgd = SGDClassifier(loss="log_loss", **self._options())
        sgd.classes_, sgd.coef_ = classes, self._coef()
        sgd.intercept_ = np.zeros(len(sgd.coef_))
        return _started(sgd).partial_fit(x, y, classes=classes)

    def _regress(self, x: csr_matrix, z: Array) -> SGDRegressor:
        """Do the same for a quantity, with steps that suit the width of a row.

        A row's step changes its own answer by eta |x|^2 of the error: a hundred columns would make it overshoot, a few
        hundred diverge. That share is held to `CORRECTION` (normalised least mean squares: Nagumo & Noda 1967).
        """
        sgd = SGDRegressor(loss="squared_error", **self._options())
        sgd.coef_, sgd.intercept_ = self._coef()[0], np.zeros(1)
        lengths = np.asarray(x.multiply(x).sum(1))[:, 0]  # at least 1, the bias
        return _started(sgd).partial_fit(
            x, z, sample_weight=np.minimum(1, CORRECTION / (self.config.learning_rate * lengths))
        )

    def _options(self) -> dict[str, Any]:
        c = self.config
        return {
            "alpha": c.alpha, "learning_rate": "constant", "eta0": c.learning_rate,
            "fit_intercept": False, "shuffle": False,
        }  # fmt: skip

    def _coef(self) -> Array:
        return np.ascontiguousarray(np.concatenate(list(self._weights.values()), 1))

    def _convert(self, factor: float, shift: float) -> None:
        self._weights = {name: factor * block for name, block in self._weights.items()}
        self._weights["bias"] = self._weights["bias"] + shift

    def _matrix(self, batch: Batch) -> csr_matrix:
        """Lay rows out as a sparse matrix: a one for the bias, numbers, missing flags, one-hot categories."""
        z = standardise(self.normaliser.arrays(), batch.x_num).astype(np.float64)
        n, d_num = z.shape
        missing = np.isnan(z)
        ids = batch.x_cat.astype(np.int64) + 1 + 2 * d_num
        values = np.concatenate([np.ones((n, 1)), np.where(missing, 0, z), missing, np.ones(ids.shape)], 1)
        columns = np.concatenate([np.tile(np.arange(1 + 2 * d_num), (n, 1)), ids], 1)
        filled = values != 0
        starts = np.concatenate([[0], np.cumsum(filled.sum(1))])
        width = sum(block.shape[1] for block in self._weights.values())
        return csr_matrix((values[filled], columns[filled].astype(np.int32), starts.astype(np.int32)), (n, width))

    def grow(self, sizes: Sizes, parent_ids: Array, missing_ids: Array) -> None:  # noqa: ARG002 - no memory
        """Append zero weights; a new category takes over the weight of the id that stood for it until now.

        From two classes to three, the one vector w becomes -w and w: the same odds between the two as before.
        """
        old, n_rows = self._weights, sizes.n_outputs
        if not isinstance(self._calibration, TargetScale):
            n_rows = {1: 0, 2: 1}.get(n_rows, n_rows)
        if len(old["bias"]) == 1 and n_rows > 1:
            old = {name: np.concatenate([-block, block]) for name, block in old.items()}
        grown = _zeros(n_rows, sizes)
        for name, block in old.items():
            grown[name][: block.shape[0], : block.shape[1]] = block
        new = np.arange(old["w_cat"].shape[1], sizes.n_ids)
        grown["w_cat"][:, new] = grown["w_cat"][:, parent_ids[new]]
        self._weights = grown
        self._seen = np.concatenate([self._seen, np.zeros(sizes.n_outputs - len(self._seen), bool)])
        self._calibration.grow(sizes.n_outputs)

    def forget(self, keys: Array) -> int:  # noqa: ARG002 - no memory
        """Return 0: it keeps no rows."""
        return 0

    def weights(self) -> Iterable[Array]:
        """Return the weight blocks."""
        return self._weights.values()

    def memory(self) -> Batch | None:
        """Return None: it keeps no rows."""
        return None

    def state(self) -> tuple[Arrays, Arrays, dict[str, Json]]:
        """Return weights and calibration."""
        return {**self._weights, "seen": self._seen, **self._calibration.arrays()}, {}, {}

    def load(self, arrays: Arrays, extra: Arrays, data: Mapping[str, Json]) -> None:  # noqa: ARG002 - the protocol's
        """Take over what `state` returned."""
        self._weights = {name: arrays[name] for name in self._weights}
        self._seen = arrays["seen"]
        self._calibration = calibration_in(arrays)


def _started(sgd: Any) -> Any:  # noqa: ANN401 - scikit-learn ships no types
    """Make an estimator believe that it was fitted before."""
    sgd.t_, sgd.n_features_in_ = 1.0, sgd.coef_.shape[-1]
    return sgd


def _zeros(n_rows: int, sizes: Sizes) -> Arrays:
    widths = {"bias": 1, "w_num": sizes.d_num, "w_missing": sizes.d_num, "w_cat": sizes.n_ids}
    return {name: np.zeros((n_rows, width)) for name, width in widths.items()}


def _split(coef: Array, like: Arrays) -> Arrays:
    ends = np.cumsum([block.shape[1] for block in like.values()])[:-1]
    return {name: block.copy() for name, block in zip(like, np.split(coef, ends, 1), strict=True)}

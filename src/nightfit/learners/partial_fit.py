"""The linear baseline: scikit-learn's SGD logistic regression, by `partial_fit`, on the same cleaned rows.

Its weights are kept as our own arrays, in blocks (bias, numbers, missing flags, categories) that only ever grow at
their ends, so that new columns, categories and classes cost nothing of what it knows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import SGDClassifier

from nightfit.batch import BLOCK_ROWS, Array, Batch, Rows
from nightfit.calibration import Calibration
from nightfit.jsontypes import Json
from nightfit.learners.base import Arrays, PartialFitConfig
from nightfit.learners.calibrated import Calibrated
from nightfit.moments import standardise
from nightfit.normaliser import Normaliser
from nightfit.schema import Sizes
from nightfit.scorer import linear_proba


class PartialFitLearner(Calibrated):
    """One weight vector per class (one for all when there are two), trained one against the rest, calibrated."""

    def __init__(self, config: PartialFitConfig, normaliser: Normaliser) -> None:
        self.config, self.normaliser = config, normaliser
        self._calibration = Calibration()
        self._seen = np.zeros(0, bool)
        self._weights = _zeros(0, Sizes(0, 0, 0, 0))

    def _has_learned(self) -> bool:
        return bool(self._seen.any())

    def _raw_proba(self, batch: Batch) -> Array:
        arrays = {**self._weights, "seen": self._seen}
        z = standardise(self.normaliser.arrays(), batch.x_num)
        return linear_proba(arrays, z, batch.x_cat, self._calibration.prior)

    def _learn(self, rows: Rows, *, seed: int) -> None:
        """Make one pass over the rows, shuffled."""
        n_classes = len(self._seen)
        self._seen = self._seen | (np.bincount(rows.y, minlength=n_classes) > 0)
        if n_classes < 2:  # noqa: PLR2004 - one class leaves nothing to tell apart
            return
        for block in rows.shuffled(BLOCK_ROWS, seed=seed):
            sgd = self._estimator(n_classes)
            sgd.partial_fit(self._matrix(block), block.y, classes=np.arange(n_classes))
            self._weights = _split(sgd.coef_, self._weights)

    def _estimator(self, n_classes: int) -> SGDClassifier:
        """Return scikit-learn's estimator as it was left: continued, never restarted."""
        sgd = SGDClassifier(
            loss="log_loss",
            alpha=self.config.alpha,
            learning_rate="constant",
            eta0=self.config.learning_rate,
            fit_intercept=False,
            shuffle=False,
        )
        sgd.classes_ = np.arange(n_classes)
        sgd.coef_ = np.ascontiguousarray(np.concatenate(list(self._weights.values()), 1))
        sgd.intercept_ = np.zeros(len(sgd.coef_))
        sgd.t_, sgd.n_features_in_ = 1.0, sgd.coef_.shape[1]
        return sgd

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
        old, n_rows = self._weights, {0: 0, 1: 0, 2: 1}.get(sizes.n_classes, sizes.n_classes)
        if len(old["bias"]) == 1 and n_rows > 1:
            old = {name: np.concatenate([-block, block]) for name, block in old.items()}
        grown = _zeros(n_rows, sizes)
        for name, block in old.items():
            grown[name][: block.shape[0], : block.shape[1]] = block
        new = np.arange(old["w_cat"].shape[1], sizes.n_ids)
        grown["w_cat"][:, new] = grown["w_cat"][:, parent_ids[new]]
        self._weights = grown
        self._seen = np.concatenate([self._seen, np.zeros(sizes.n_classes - len(self._seen), bool)])
        self._calibration.grow(sizes.n_classes)

    def state(self) -> tuple[Arrays, Arrays, dict[str, Json]]:
        """Return weights and calibration; only learning needs the step count."""
        return {**self._weights, "seen": self._seen, **self._calibration.arrays()}, {}, {}

    def load(self, arrays: Arrays, extra: Arrays, data: Mapping[str, Json]) -> None:  # noqa: ARG002 - the protocol's
        """Take over what `state` returned."""
        self._weights = {name: arrays[name] for name in self._weights}
        self._seen = arrays["seen"]
        self._calibration = Calibration.from_arrays(arrays)


def _zeros(n_rows: int, sizes: Sizes) -> Arrays:
    widths = {"bias": 1, "w_num": sizes.d_num, "w_missing": sizes.d_num, "w_cat": sizes.n_ids}
    return {name: np.zeros((n_rows, width)) for name, width in widths.items()}


def _split(coef: Array, like: Arrays) -> Arrays:
    ends = np.cumsum([block.shape[1] for block in like.values()])[:-1]
    return {name: block.copy() for name, block in zip(like, np.split(coef, ends, 1), strict=True)}

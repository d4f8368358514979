"""Naive Bayes: Gaussian on signed features, multinomial on non-negative ones, Bernoulli on binary ones.

All three keep counts and sums, so that a night more is the same as if all rows had come at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB

from nightfit.batch import Array
from nightfit.learners.estimators.part import Head, Kept

VAR_SMOOTHING = 1e-9

LEAST_VARIANCE = 1e-9
"""Of a feature that does not vary; scikit-learn's own floor is 0 on a night on which none does."""


class _Bayes(Head):
    def fit(self, x: Array, y: Array) -> None:
        """Count."""
        self.model.partial_fit(x, y, classes=np.arange(self.n_classes))

    def answer(self, x: Array) -> Array:
        """Return the posterior of each class."""
        with np.errstate(all="ignore"):
            return np.asarray(self.model.predict_proba(self.read(x)), np.float64)


class Gaussian(_Bayes):
    """A normal distribution for each class and feature."""

    ours = frozenset({"priors"})
    kept = (
        Kept("theta_", "kf"), Kept("var_", "kf", fill=LEAST_VARIANCE), Kept("class_count_", "k"), Kept("epsilon_"),
    )  # fmt: skip

    def make(self, n_features: int) -> Any:  # noqa: ANN401, ARG002 - the same for all
        """Return GaussianNB."""
        return GaussianNB(**{"var_smoothing": VAR_SMOOTHING, **self.options})

    def fit(self, x: Array, y: Array) -> None:
        """Merge means and variances."""
        super().fit(x, y)
        self.model.var_ = np.maximum(self.model.var_, LEAST_VARIANCE)

    def _complete(self) -> None:
        count = self.model.class_count_
        self.model.class_prior_ = count / count.sum()


class _Discrete(_Bayes):
    ours = frozenset({"class_prior"})
    kept = (Kept("feature_count_", "kf"), Kept("class_count_", "k"), Kept("feature_log_prob_", "kf"))

    def _complete(self) -> None:
        count = self.model.class_count_
        with np.errstate(divide="ignore"):
            self.model.class_log_prior_ = np.log(count) - np.log(count.sum())


class Multinomial(_Discrete):
    """Shares of features in each class; a number counts by how far above the mean it lies, and how far below."""

    def make(self, n_features: int) -> Any:  # noqa: ANN401, ARG002
        """Return MultinomialNB."""
        return MultinomialNB(**self.options)

    def read(self, x: Array) -> Array:
        """Return two non-negative features, side by side, of each: its positive part and its negative one."""
        return np.stack([np.maximum(x, 0), np.maximum(-x, 0)], 2).reshape(len(x), -1)

    def n_read(self, n_features: int) -> int:
        """Return twice as many."""
        return 2 * n_features


class Bernoulli(_Discrete):
    """How often each feature is there in each class; a number is there where it lies above the mean."""

    ours = frozenset({"class_prior", "binarize"})

    def make(self, n_features: int) -> Any:  # noqa: ANN401, ARG002
        """Return BernoulliNB."""
        return BernoulliNB(**{**self.options, "binarize": None})

    def read(self, x: Array) -> Array:
        """Return which features are positive."""
        return (x > 0).astype(np.float64)

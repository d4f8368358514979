"""scikit-learn's face of the deep learner: a classifier and a regressor for notebooks, pipelines and searches.

Behind it is the model of a night, with its normaliser, optimiser and replay memory; a call of `partial_fit` is a night.
Columns are numbers and stay the same from call to call, as scikit-learn demands; what takes in new columns, categories
and classes is a pipeline (`nightfit train`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets, unique_labels

from nightfit.batch import Array
from nightfit.face import Face


class IncrementalMLPClassifier(ClassifierMixin, Face):  # type: ignore[misc] # scikit-learn ships no types
    """Learn classes, and go on learning: `partial_fit` is a night, and so is `fit` if `warm_start` is set.

    An ensemble of small networks and a linear model reads numbers, which it standardises itself (NaN: missing),
    replays old rows, and calibrates what it answers. On the CPU the same calls and `random_state` give the same bits.

    Parameters: `d_hidden`, `n_blocks`, `n_members`, `n_frequencies`, `n_epochs`, `batch_size`, `learning_rate`,
    `weight_decay` and `memory_rows` are the keys of `[models.deep]`, with the same defaults (docs/config.md).
    `n_epochs` counts the passes of a call that continues; one that starts anew makes 20, or as many as 500,000 visits
    of rows allow. `random_state`: int, RandomState or None. `device`: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Attributes: `classes_`, sorted, [K]; `n_features_in_`, and `feature_names_in_` where X has names.

    Examples:
        >>> x = np.random.default_rng(0).normal(size=(300, 2))
        >>> model = IncrementalMLPClassifier(random_state=0).fit(x[:200], x[:200, 0] > 0)
        >>> bool(model.partial_fit(x[200:], x[200:, 0] > 0).score(x, x[:, 0] > 0) > 0.95)
        True
    """

    _task = "classification"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn rows X [n, d] and their classes y [n], from the start unless `warm_start` is set.

        `sample_weight` [n]: by what the rows' losses are multiplied, over its mean in this call; 0 leaves a row out.
        """
        return self._call(X, y, None, sample_weight, anew=not self._continues)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Go on learning from rows that were not learned before; the first call names all classes that will come.

        Going over the same rows again and again is what `n_epochs` does; `sample_weight` as in `fit`.
        """
        anew = not self.__sklearn_is_fitted__()
        if anew and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit, however they are not; pass them")
        return self._call(X, y, classes, sample_weight, anew=anew, observe=not anew)

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each row [n]."""
        places = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[places])

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each of `classes_`, float64 [n, K]."""
        return self._answers(X)

    def _call(
        self,
        X: Any,
        y: Any,
        classes: Any,
        sample_weight: Any,
        *,
        anew: bool,
        observe: bool = False,
    ) -> Self:
        x, y = self._checked(X, y, anew=anew)
        outcomes = self._encoded(y, classes, anew=anew)
        return self._night(x, outcomes, sample_weight, len(self.classes_), anew=anew, observe=observe)

    def _encoded(self, y: Array, classes: Any, *, anew: bool) -> Array:
        """Return each row's place in `classes_`, int64 [n]; learning that starts anew settles what they are."""
        check_classification_targets(y)
        known = unique_labels(y if classes is None else classes)
        if anew:
            self.classes_ = known
        elif classes is not None and not np.array_equal(known, self.classes_):
            raise ValueError(f"classes must stay {self.classes_}, however they are {known}; leave them out")
        places = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        if (strange := self.classes_[places] != y).any():
            raise ValueError(
                f"y must hold classes of the first call, {self.classes_}, however it holds {y[strange][0]!r}; name all "
                "classes in the first partial_fit, or start anew (pipelines of `nightfit train` take in new ones)"
            )
        return np.asarray(places, np.int64)

    def _attributes(self) -> dict[str, Any]:
        """Return what is kept besides parameters and the model."""
        labels = {"dtype": self.classes_.dtype.str, "values": self.classes_.tolist()}
        return super()._attributes() | {"classes_": labels}

    def _take_attributes(self, kept: Mapping[str, Any]) -> None:
        """Read what `attributes` returned."""
        super()._take_attributes(kept)
        self.classes_ = np.array(kept["classes_"]["values"], kept["classes_"]["dtype"])


class IncrementalMLPRegressor(RegressorMixin, Face):  # type: ignore[misc]
    """Learn a quantity, and go on learning: `partial_fit` is a night, and so is `fit` if `warm_start` is set.

    An ensemble of small networks and a linear model reads numbers, which it standardises itself (NaN: missing),
    replays old rows, and shrinks its answers as far as the past says. On the CPU the same calls and `random_state` give
    the same bits.

    Parameters: `d_hidden`, `n_blocks`, `n_members`, `n_frequencies`, `n_epochs`, `batch_size`, `learning_rate`,
    `weight_decay` and `memory_rows` are the keys of `[models.deep]`, with the same defaults (docs/config.md).
    `n_epochs` counts the passes of a call that continues; one that starts anew makes 20, or as many as 500,000 visits
    of rows allow. `random_state`: int, RandomState or None. `device`: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Attributes: `n_features_in_`, and `feature_names_in_` where X has names.

    Examples:
        >>> x = np.random.default_rng(0).normal(size=(300, 2))
        >>> model = IncrementalMLPRegressor(random_state=0).fit(x[:200], 3 * x[:200, 0])
        >>> bool(model.partial_fit(x[200:], 3 * x[200:, 0]).score(x, 3 * x[:, 0]) > 0.9)
        True
    """

    _task = "regression"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn rows X [n, d] and their values y [n], from the start unless `warm_start` is set.

        `sample_weight` [n]: by what the rows' losses are multiplied, over its mean in this call; 0 leaves a row out.
        """
        return self._call(X, y, sample_weight, anew=not self._continues)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Go on learning from rows that were not learned before; `sample_weight` as in `fit`."""
        anew = not self.__sklearn_is_fitted__()
        return self._call(X, y, sample_weight, anew=anew, observe=not anew)

    def predict(self, X: Any) -> Array:
        """Return each row's value, float64 [n]."""
        return self._answers(X)

    def _call(self, X: Any, y: Any, sample_weight: Any, *, anew: bool, observe: bool = False) -> Self:
        x, y = self._checked(X, y, anew=anew)
        return self._night(x, np.asarray(y, np.float64), sample_weight, 1, anew=anew, observe=observe)

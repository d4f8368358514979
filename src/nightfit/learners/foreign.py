"""Estimators by their import path that learn as scikit-learn's do, by `partial_fit`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from nightfit.batch import Array, Rows
from nightfit.errors import ConfigError, NotKeptError
from nightfit.jsontypes import Json
from nightfit.learners.base import Arrays, PartialFitConfig
from nightfit.learners.estimators.part import quiet
from nightfit.learners.importing import OF_RIVER, imported, their_code
from nightfit.learners.keeping import kept, load_skops, restored
from nightfit.learners.outside import Outside, outside_raw, shaped
from nightfit.quantity import TargetScale
from nightfit.schema import Task
from nightfit.scorer import Forward

if TYPE_CHECKING:
    from nightfit.learners.river import RiverLearner
    from nightfit.normaliser import Normaliser

WEIGHTS = ("coef_", "intercept_", "coefs_", "intercepts_")
"""Where scikit-learn's estimators have what learning moves."""

ESTIMATOR = "estimator"


class ForeignLearner(Outside):
    """An estimator with `partial_fit`, as it is, on the dense matrix; `_unkept` is why it cannot be kept, if so."""

    def __init__(self, config: PartialFitConfig, normaliser: Normaliser, cls: type, *, task: Task) -> None:
        super().__init__(config.estimator, normaliser, task)
        self.config, self._cls = config, cls
        self._model = self._made()
        load_skops(self.path)
        self.votes = task == "classification" and not hasattr(self._model, "predict_proba")
        self._data: Array | None = None
        self._unkept: NotKeptError | None = None

    def _made(self) -> Any:  # noqa: ANN401 - theirs
        with their_code(self.path):
            model = self._cls(**self.config.options)
            found = _kind(model)
        wanted = "regressor" if self._is_quantity else "classifier"
        if found not in {None, wanted}:
            raise ConfigError(f"a target of this task needs a {wanted}, however '{self.path}' is a {found}")
        return model

    def _begin(self, seed: int) -> None:  # noqa: ARG002 - it is seeded every night
        self._model = self._made()

    def _learn_known(self, rows: Rows, seed: int) -> None:
        """Make the passes, then go on from what can be kept alone: so a break between nights cannot matter."""
        is_first = not self._has_learned()
        with threadpool_limits(1), quiet(), their_code(self.path):
            self._sow(seed)
            for epoch in range(self.config.passes):
                for x, y in self._known(rows, seed * self.config.passes + epoch):
                    self._model.partial_fit(x, y, **(self._classes() if is_first else {}))
                    is_first = False
        self._settle()

    def _classes(self) -> dict[str, Array]:
        """Return all classes, if it wants to know them at its first rows."""
        wants = not self._is_quantity and "classes" in inspect.signature(self._model.partial_fit).parameters
        return {"classes": np.arange(self.n_outputs)} if wants else {}

    def _sow(self, seed: int) -> None:
        """Let what is random in it depend on the seed, unless its options say from what."""
        takes = hasattr(self._model, "get_params") and "random_state" in self._model.get_params()
        if takes and "random_state" not in self.config.options:
            self._model.set_params(random_state=seed % 2**32)

    def _settle(self) -> None:
        try:
            self._data = kept(self._model, self.path, self.config.trusted)
        except NotKeptError as error:
            self._unkept = error
        else:
            self._model = restored(self._data, self.path, self._cls, self.config.trusted)

    def _answer(self, x: Array) -> Array:
        return _answers(self._model, self.path, 0 if self._is_quantity else self.n_outputs)(x)

    def weights(self) -> Iterable[Array]:
        """Return the weights of an estimator that has them where scikit-learn's do; what is not finite is infinite."""
        found = [getattr(self._model, name, []) for name in WEIGHTS]
        arrays = [np.asarray(a) for each in found for a in (each if isinstance(each, list) else [each])]
        return [np.nan_to_num(a, nan=np.inf) for a in arrays if a.dtype.kind == "f"]

    def state(self) -> tuple[Arrays, Arrays, dict[str, Json]]:
        """Return the estimator besides, as skops writes it; raises `NotKeptError` if it cannot."""
        if self._unkept:
            raise self._unkept
        arrays, extra, data = super().state()
        if self._data is None:  # nothing was learned, but whether that could be kept is asked before the first night
            kept(self._model, self.path, self.config.trusted)
            return arrays, extra, data
        return {**arrays, ESTIMATOR: self._data.copy()}, extra, data

    def load(self, arrays: Arrays, extra: Arrays, data: Mapping[str, Json]) -> None:
        """Take over what `state` returned."""
        super().load(arrays, extra, data)
        if ESTIMATOR in arrays:
            self._data = arrays[ESTIMATOR].copy()
            self._model = restored(self._data, self.path, self._cls, self.config.trusted)


def make_foreign(config: PartialFitConfig, normaliser: Normaliser, *, task: Task) -> ForeignLearner | RiverLearner:
    """Return a learner around what the config names; raises `ConfigError` if that is no class that learns."""
    cls = _class(config.estimator)
    if hasattr(cls, OF_RIVER):
        from nightfit.learners.river import RiverLearner

        return RiverLearner(config, normaliser, cls, task=task)
    return ForeignLearner(config, normaliser, cls, task=task)


def foreign_forward(arrays: Mapping[str, Array], config: PartialFitConfig) -> tuple[Forward, bool]:
    """Return what computes the raw answers of a kept estimator, as a `Scorer` takes it, and whether they are votes."""
    is_quantity, path = TargetScale.is_in(arrays), config.estimator
    n_outputs = 0 if is_quantity else int(arrays["n_outputs"][0])
    if ESTIMATOR not in arrays:
        return lambda z, _: np.zeros((len(z), n_outputs)), False
    model = restored(arrays[ESTIMATOR], path, _class(path), config.trusted)
    votes = not is_quantity and not hasattr(model, "predict_proba")
    return outside_raw(_answers(model, path, n_outputs), arrays), votes


def _class(path: str) -> type:
    found = imported(path)
    if not isinstance(found, type) or not any(hasattr(found, name) for name in ("partial_fit", OF_RIVER)):
        raise ConfigError(f"an estimator must be a class with partial_fit, however '{path}' is none; name another")
    return found


def _kind(model: Any) -> str | None:  # noqa: ANN401
    """Return what scikit-learn takes an estimator for; None for one that does not say."""
    if not hasattr(model, "__sklearn_tags__"):
        return None
    kind: str | None = model.__sklearn_tags__().estimator_type
    return kind


def _answers(model: Any, path: str, n_classes: int) -> Callable[[Array], Array]:  # noqa: ANN401
    """Return what answers a matrix: probabilities or votes [n, n_classes], or a quantity [n] where there are none."""
    said_of = model.predict_proba if n_classes and hasattr(model, "predict_proba") else model.predict
    known = np.asarray(getattr(model, "classes_", np.arange(n_classes)), np.int64)

    def answer(x: Array) -> Array:
        with np.errstate(all="ignore"), their_code(path):
            said = said_of(x)
        if not n_classes:
            return shaped(path, said, (len(x),))
        if said_of == model.predict:
            return np.eye(n_classes)[shaped(path, said, (len(x),)).astype(np.int64)]
        p = np.zeros((len(x), n_classes))
        p[:, known] = shaped(path, said, (len(x), len(known)))
        return p

    return answer

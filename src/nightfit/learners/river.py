"""River's models by their import path, for `compare` alone: their only form on disk is pickle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from river import base
from threadpoolctl import threadpool_limits

from nightfit.batch import Array, Rows
from nightfit.errors import ConfigError, NotKeptError
from nightfit.jsontypes import Json
from nightfit.learners.base import Arrays, PartialFitConfig
from nightfit.learners.estimators.part import quiet
from nightfit.learners.importing import their_code
from nightfit.learners.outside import Outside, shaped
from nightfit.schema import Task

if TYPE_CHECKING:
    from nightfit.normaliser import Normaliser


class RiverLearner(Outside):
    """A model of River's: rows are dicts of the matrix's columns, by name; answered in blocks where it takes them.

    They are learned one by one: `learn_many` makes one step of a block, be it a whole night (docs/design.md has the
    figures).
    """

    grows = True

    def __init__(self, config: PartialFitConfig, normaliser: Normaliser, cls: type, *, task: Task) -> None:
        super().__init__(config.estimator, normaliser, task)
        self.config, self._cls = config, cls
        self._model = self._made()
        self.votes = task == "classification" and not self._has_probabilities()

    def _made(self) -> Any:  # noqa: ANN401 - River's
        with their_code(self.path):
            model = self._cls(**self.config.options)
        wanted = base.Regressor if self._is_quantity else base.Classifier
        if not isinstance(model, wanted):
            raise ConfigError(f"a target of this task needs a River {wanted.__name__}, however '{self.path}' is none")
        return model

    def _has_probabilities(self) -> bool:
        try:
            self._made().predict_proba_one({})
        except NotImplementedError:
            return False
        except Exception:  # noqa: BLE001 - it has them, but not of a row without any value
            return True
        return True

    def _begin(self, seed: int) -> None:  # noqa: ARG002 - `options` may have one
        self._model = self._made()

    def _learn_known(self, rows: Rows, seed: int) -> None:
        with threadpool_limits(1), quiet(), their_code(self.path):
            for epoch in range(self.config.passes):
                for x, y in self._known(rows, seed * self.config.passes + epoch):
                    for row, target in zip(_dicts(x), y.tolist(), strict=True):
                        self._model.learn_one(row, target)

    def _answer(self, x: Array) -> Array:
        with np.errstate(all="ignore"), their_code(self.path):
            return self._values(x) if self._is_quantity else self._probabilities(x)

    def _values(self, x: Array) -> Array:
        if hasattr(self._model, "predict_many"):
            found = self._model.predict_many(_frame(x)).to_numpy()
        else:
            found = np.array([self._model.predict_one(row) for row in _dicts(x)])
        return shaped(self.path, found, (len(x),))

    def _probabilities(self, x: Array) -> Array:
        """Return shares, float64 [n, n_outputs]; none of a row of which it says nothing."""
        p = np.zeros((len(x), self.n_outputs))
        if hasattr(self._model, "predict_proba_many") and not self.votes:
            found = self._model.predict_proba_many(_frame(x))
            p[:, [int(c) for c in found.columns]] = found.to_numpy()
        else:
            for i, row in enumerate(_dicts(x)):
                said = {self._model.predict_one(row): 1.0} if self.votes else self._model.predict_proba_one(row)
                for label, share in said.items():
                    if label is not None:
                        p[i, int(label)] = share
        return p

    def weights(self) -> Iterable[Array]:
        """Return none: no gate judges it."""
        return []

    def state(self) -> tuple[Arrays, Arrays, dict[str, Json]]:
        """Raise `NotKeptError`: River's models have no form on disk but pickle."""
        raise NotKeptError(
            f"a model that is trained must be kept, however '{self.path}' is River's, whose only form on disk "
            "is pickle; use it in `compare`"
        )


def _dicts(x: Array) -> Iterator[dict[str, float]]:
    """Yield rows [n, width] as River takes them."""
    names = _names(x)
    for row in x.tolist():
        yield dict(zip(names, row, strict=True))


def _frame(x: Array) -> pd.DataFrame:
    return pd.DataFrame(x, columns=_names(x))


def _names(x: Array) -> list[str]:
    return [f"x{i}" for i in range(x.shape[1])]

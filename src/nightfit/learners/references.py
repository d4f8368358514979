"""References that a comparison holds the models against: constants, and models that are trained anew every night.

They keep their rows in memory and have no checkpoint: they are for `compare` alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from threadpoolctl import threadpool_limits

from nightfit.batch import Array, Batch, Rows, concat
from nightfit.calibration import Calibration
from nightfit.errors import ConfigError, NotKeptError
from nightfit.learners.base import MlpConfig, ReferenceConfig, patient
from nightfit.learners.calibrated import Calibrated
from nightfit.memory import Memory
from nightfit.moments import standardise
from nightfit.quantity import TargetScale
from nightfit.schema import Sizes, Task

if TYPE_CHECKING:
    from nightfit.normaliser import Normaliser

MAX_CODES = 254
"""Categories of a column that a tree tells apart, the most frequent ones: scikit-learn's limit."""

N_TREES = 100
"""Boosting rounds: the libraries' own default."""


class Reference(Calibrated):
    """What all of them share: nothing of them is kept."""

    def __init__(self, config: ReferenceConfig, normaliser: Normaliser, *, task: Task, device: str, seed: int) -> None:
        super().__init__(task)
        self.config, self.normaliser, self._task = config, normaliser, task
        self._device, self._seed = device, seed

    def _has_learned(self) -> bool:
        return False

    def _raw(self, batch: Batch) -> Array:
        return self._calibration.prior_rows(len(batch))

    def _learn(self, rows: Rows, *, seed: int) -> None:
        """Do nothing: the counts are all there is."""

    def _convert(self, factor: float, shift: float) -> None:
        """Do nothing: it is trained anew before it answers again."""

    def grow(self, sizes: Sizes, parent_ids: Array, missing_ids: Array) -> None:  # noqa: ARG002 - of some only
        """Take note of new classes."""
        self._calibration.grow(sizes.n_outputs)

    def forget(self, keys: Array) -> int:  # noqa: ARG002 - a comparison forgets nothing
        """Return 0."""
        return 0

    def weights(self) -> Iterable[Array]:
        """Return none: it is never judged by a gate."""
        return []

    def memory(self) -> Batch | None:
        """Return None: its rows are not for replay."""
        return None

    def state(self) -> NoReturn:
        """Raise `NotKeptError`: it cannot be kept."""
        raise NotKeptError(
            f"'{self.config.name}' is a reference for `compare`, however it was to be kept; take another"
        )

    def load(self, arrays: Mapping[str, Array], extra: Mapping[str, Array], data: object) -> NoReturn:  # noqa: ARG002
        """Raise `NotKeptError`: it cannot be kept."""
        self.state()


class Constant(Reference):
    """The same answer to every row: the shares of classes (the mean) of all rows so far, or of the last night's."""

    def observe(self, rows: Rows) -> None:
        """Do nothing: constants are taken as they are."""

    def learn(self, rows: Rows, *, seed: int) -> None:  # noqa: ARG002 - nothing is random
        """Count; of the last night's alone each class counts half a row besides, so that none is impossible."""
        if self.config.name == "no_change":
            n = len(self._calibration.counts) if isinstance(self._calibration, Calibration) else 0
            self._calibration = Calibration(np.full(n, 0.5)) if self._task == "classification" else TargetScale()
        self._calibration.count(block.y for block in rows.chunks())

    def predict(self, batch: Batch) -> Array:
        """Return the shares [n, K], or the mean [n]."""
        answers = self._calibration.prior_rows(len(batch))
        return self._calibration.apply(answers) if self._task == "regression" else answers


class Retrained(Reference):
    """Trained anew every night on all rows so far, or on those of the last `config.window` nights."""

    def __init__(self, config: ReferenceConfig, normaliser: Normaliser, *, task: Task, device: str, seed: int) -> None:
        super().__init__(config, normaliser, task=task, device=device, seed=seed)
        self._nights = list[Memory]()
        self._sizes = (Sizes(0, 0, 0, 0), np.zeros(0, np.int64), np.zeros(0, np.int32))

    def grow(self, sizes: Sizes, parent_ids: Array, missing_ids: Array) -> None:
        """Append columns to the rows that it keeps."""
        super().grow(sizes, parent_ids, missing_ids)
        self._sizes = (sizes, parent_ids, missing_ids)
        for night in self._nights:
            night.grow(sizes.d_num, missing_ids)

    def learn(self, rows: Rows, *, seed: int) -> None:
        """Keep a night's rows, and train on all that are kept."""
        self._nights = [*self._nights, Memory(0)][-self.config.window :]
        super().learn(rows, seed=seed)

    def _learn(self, rows: Rows, *, seed: int) -> None:
        blocks = list(rows.chunks())
        tonight = self._nights[-1]
        tonight.batch = concat([tonight.batch, *blocks] if len(tonight) else blocks)
        self._fit(concat(night.batch for night in self._nights if len(night)), seed)

    @abstractmethod
    def _fit(self, batch: Batch, seed: int) -> None:
        """Train on rows."""


class Boosted(Retrained):
    """Gradient-boosted trees: scikit-learn's histograms, or LightGBM."""

    _model: Any = None
    _codes: tuple[Array, ...] = ()
    _classes: Array = np.zeros(0, np.int64)

    def _has_learned(self) -> bool:
        return self._model is not None

    def _fit(self, batch: Batch, seed: int) -> None:
        target = self._calibration if isinstance(self._calibration, TargetScale) else None
        if target is None:
            self._classes, y = np.unique(batch.y, return_inverse=True)
        else:
            y = target.standard(batch.y)
        self._codes = tuple(_frequent(ids) for ids in batch.x_cat.T)
        self._model = None
        if target is not None or len(self._classes) > 1:
            train = _train_hgb if self.config.name == "hgb" else _train_lightgbm
            with threadpool_limits(1):
                self._model = train(self._matrix(batch), y, len(self._codes), len(self._classes), seed % 2**31)

    def _matrix(self, batch: Batch) -> Array:
        """Lay out codes of categories, then numbers; NaN is missing, or a rare category."""
        columns = [_coded(ids, codes) for ids, codes in zip(batch.x_cat.T, self._codes, strict=False)]
        z = standardise(self.normaliser.arrays(), batch.x_num)
        return np.column_stack([*columns, z, np.zeros(len(batch))])

    def _raw(self, batch: Batch) -> Array:
        answers = np.asarray(self._model(self._matrix(batch)), np.float64)
        if self._task == "regression":
            return answers
        proba = np.zeros((len(batch), self._sizes[0].n_outputs))
        proba[:, self._classes] = answers
        return proba


class Scratch(Retrained):
    """The deep learner from scratch: as many passes as a fresh model makes beside a warm one."""

    def _fit(self, batch: Batch, seed: int) -> None:
        from nightfit.learners.deep import DeepLearner

        config = patient(MlpConfig(), len(batch))
        self._deep = DeepLearner(config, self.normaliser, task=self._task, device=self._device, seed=self._seed)
        self._deep.grow(*self._sizes)
        self._deep.learn(Rows([batch]), seed=seed)

    def learn(self, rows: Rows, *, seed: int) -> None:
        """Train on all rows; it calibrates itself."""
        self._nights = [*self._nights, Memory(0)][-self.config.window :]
        self._learn_and_count(rows, seed=seed)

    def observe(self, rows: Rows) -> None:
        """Do nothing: what would learn from it is gone by tomorrow."""

    def grow(self, sizes: Sizes, parent_ids: Array, missing_ids: Array) -> None:
        """Make room in the network that answers, too."""
        super().grow(sizes, parent_ids, missing_ids)
        if self._nights:
            self._deep.grow(sizes, parent_ids, missing_ids)

    def predict(self, batch: Batch) -> Array:
        """Return the network's answers; the prior before the first night."""
        return self._deep.predict(batch) if self._nights else super().predict(batch)


def make_reference(config: ReferenceConfig, normaliser: Normaliser, *, task: Task, device: str, seed: int) -> Reference:
    """Return a reference that has learned nothing; raises `ConfigError` where its library is not installed."""
    if config.name == "lightgbm":
        _check_lightgbm()
    kinds: dict[str, type[Reference]] = {"hgb": Boosted, "lightgbm": Boosted, "deep_scratch": Scratch}
    return kinds.get(config.name, Constant)(config, normaliser, task=task, device=device, seed=seed)


def _check_lightgbm() -> None:
    try:
        import lightgbm  # noqa: F401
    except ImportError:
        raise ConfigError(
            "lightgbm needs its library, however it is not installed; pip install 'nightfit[lightgbm]'"
        ) from None


def _frequent(ids: Array) -> Array:
    """Return a column's most frequent ids, sorted."""
    found, counts = np.unique(ids, return_counts=True)
    return np.sort(found[np.argsort(-counts, kind="stable")[:MAX_CODES]])


def _coded(ids: Array, codes: Array) -> Array:
    """Return the place of each id among the codes, NaN where it has none."""
    place = np.minimum(np.searchsorted(codes, ids), len(codes) - 1)
    return np.where(codes[place] == ids, place, np.nan)


def _train_hgb(x: Array, y: Array, n_cat: int, n_classes: int, seed: int) -> Any:  # noqa: ANN401
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    cls = HistGradientBoostingClassifier if n_classes else HistGradientBoostingRegressor
    is_cat = np.arange(x.shape[1]) < n_cat
    model = cls(max_iter=N_TREES, categorical_features=is_cat, early_stopping=False, random_state=seed).fit(x, y)
    return model.predict_proba if n_classes else model.predict


def _train_lightgbm(x: Array, y: Array, n_cat: int, n_classes: int, seed: int) -> Any:  # noqa: ANN401
    import lightgbm

    options: dict[str, Any] = {"objective": "regression"}
    if n_classes:
        options = {"objective": "multiclass", "num_class": n_classes}
    data = lightgbm.Dataset(x, y, categorical_feature=list(range(n_cat)), params={"verbosity": -1})
    return lightgbm.train({"verbosity": -1, "num_threads": 1, "seed": seed, **options}, data, N_TREES).predict

"""What scikit-learn's face of the deep learner shares: parameters, the model of a night behind them, how it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from nightfit import __version__
from nightfit.atomic import whole_file
from nightfit.batch import UNKNOWN_CLASS, Array, Batch, Rows
from nightfit.checkpoint import pack, unpack
from nightfit.device import choose
from nightfit.errors import CheckpointError, NightfitError
from nightfit.identity import mix
from nightfit.learners.base import Arrays, MlpConfig, part, patient
from nightfit.model import Model
from nightfit.tables import build

if TYPE_CHECKING:
    import os

    from sklearn.utils import Tags

    from nightfit.schema import Task

FORMAT = 1
"""Of the files that `save` writes."""

_SEEDS = 2**31 - 1
_OPTIONS = tuple(field.name for field in fields(MlpConfig) if field.name != "d_embedding")  # there are no categories
_KEPT = ("n_features_in_", "_seed", "_n_seen", "_known")


class Face(BaseEstimator):  # type: ignore[misc] # scikit-learn ships no types
    """The parameters, the model behind them, and how it is kept; what is asked of it is `estimators`' business."""

    _task: ClassVar[Task]
    _model: Model
    _known: list[int]

    def __init__(
        self,
        *,
        d_hidden: int = 64,
        n_blocks: int = 2,
        n_members: int = 7,
        n_frequencies: int = 8,
        n_epochs: int = 3,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-4,
        memory_rows: int = 20_000,
        warm_start: bool = False,
        random_state: Any = None,  # an int, numpy's RandomState, or None
        device: str = "auto",
    ) -> None:
        self.d_hidden = d_hidden
        self.n_blocks = n_blocks
        self.n_members = n_members
        self.n_frequencies = n_frequencies
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.memory_rows = memory_rows
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and state to a file of safetensors, whole or not at all; no pickle.

        Raises `ValueError` for parameters and labels that have no place in JSON, `DataError` where it cannot write.
        """
        check_is_fitted(self)
        told = {"format": FORMAT, "nightfit": __version__, "estimator": type(self).__name__}
        content = self._packed(told | {"params": self.get_params(), "kept": self._attributes()})
        with whole_file(Path(path)) as file:
            file.write(content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote: the estimator goes on (on the CPU: to the bit) as the saved one would.

        Raises `CheckpointError` for a file that is none of this class, and `OSError` for one that cannot be read.
        """
        arrays = unpack(Path(path).read_bytes(), name=str(path))
        told = _told(arrays)
        if (told.get("format"), told.get("estimator")) != (FORMAT, cls.__name__):
            is_newer = told.get("format", 0) > FORMAT
            way_out = f"upgrade to the nightfit that wrote it ({told['nightfit']})" if is_newer else "load it with that"
            raise CheckpointError(
                f"{cls.__name__}.load reads what its save wrote (format {FORMAT}), however {path} holds "
                f"{told.get('estimator', 'something else')} (format {told.get('format')}); {way_out}"
            )
        made = cls(**told["params"])
        made._take_attributes(told["kept"])
        made._unpack(arrays, told)
        return made

    def __sklearn_is_fitted__(self) -> bool:
        """Say whether it has learned."""
        return hasattr(self, "_model")

    def __sklearn_tags__(self) -> Tags:
        """Say that values may be missing."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, the model among them as bytes that any torch and any device can read."""
        state = dict(super().__getstate__())
        if "_model" in state:
            del state["_settled"]
            state["_model"] = self._packed({})
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed = state.pop("_model", None)
        super().__setstate__(state)
        if packed is not None:
            arrays = unpack(packed)
            self._unpack(arrays, _told(arrays))

    def _packed(self, told: Mapping[str, Any]) -> bytes:
        state, files = self._model.state()
        config, _ = self._settled
        text = _json({**told, "state": state, "config": asdict(config)})
        named = {f"{file}.{name}": array for file, arrays in files.items() for name, array in arrays.items()}
        return pack(named | {"json": np.frombuffer(text.encode(), np.uint8)})

    def _unpack(self, arrays: Arrays, told: Mapping[str, Any]) -> None:
        files = {name: part(arrays, name) for name in ("model", "learning", "memory")}
        self._restore(told["state"], files, MlpConfig(**told["config"]))

    def _restore(self, state: Mapping[str, Any], files: Mapping[str, Arrays], config: MlpConfig) -> None:
        with _value_errors():
            device = choose(self.device).name
            self._model = Model.load(state, files, config, device=device, seed=self._seed)
        self._settled = config, device

    def _attributes(self) -> dict[str, Any]:
        """Return what is kept besides parameters and the model."""
        names = {name: getattr(self, name) for name in _KEPT}
        has_names = hasattr(self, "feature_names_in_")
        return names | ({"feature_names_in_": self.feature_names_in_.tolist()} if has_names else {})

    def _take_attributes(self, kept: Mapping[str, Any]) -> None:
        """Read what `attributes` returned."""
        for name in _KEPT:
            setattr(self, name, kept[name])
        if "feature_names_in_" in kept:
            self.feature_names_in_ = np.array(kept["feature_names_in_"], object)

    def _config(self) -> MlpConfig:
        """Return the parameters as the learner's options; raises `ValueError` for what makes no sense."""
        with _value_errors():
            return build(MlpConfig, {name: _plain(getattr(self, name)) for name in _OPTIONS})

    def _night(
        self,
        x: Array,
        y: Array,
        sample_weight: Any,
        n_classes: int,
        *,
        anew: bool,
        observe: bool,
    ) -> Self:
        """Learn rows [n, d] and their outcomes [n] (class indices, or a quantity).

        `observe`: they were never learned, so that answers to them say how far answers can be trusted.
        """
        weight, config = None, self._config()
        if sample_weight is not None:
            x, y, weight = _weighted(x, y, sample_weight)
        if anew:
            self._start(patient(config, len(x)), x.shape[1], n_classes)
        elif self._settled != (config, choose(self.device).name):
            self._restore(*self._model.state(), config)
        keys = mix(np.arange(self._n_seen, self._n_seen + len(x), dtype=np.uint64))
        batch = Batch(keys, x, np.zeros((len(x), 0), np.int32), y, weight)
        if observe:
            self._observe(batch)
        self._model.learn(Rows([batch]), seed=self._seed)
        self._n_seen += len(x)
        if self._task == "classification":
            self._known = np.union1d(self._known, y).tolist()
        return self

    def _observe(self, batch: Batch) -> None:
        """Let mixing weights and calibration learn; that a class was never learned is no fault of theirs."""
        is_known = np.isin(batch.y, self._known) if self._task == "classification" else np.ones(len(batch), bool)
        self._model.learner.observe(Rows([batch.take(is_known)]))

    def _start(self, config: MlpConfig, d_num: int, n_classes: int) -> None:
        """Make a model that has learned nothing."""
        self._seed = int(check_random_state(self.random_state).randint(_SEEDS))
        self._n_seen, self._known = 0, []
        with _value_errors():
            device = choose(self.device).name
            model = Model.fresh("mlp", config, task=self._task, device=device, seed=self._seed)
            model.grow(model.schema.with_columns({f"x{i}": "numeric" for i in range(d_num)}))
            if self._task == "classification":
                model.declare(str(i) for i in range(n_classes))
        self._model, self._settled = model, (config, device)

    def _answers(self, X: Any) -> Array:
        """Return probabilities [n, K] or values [n]."""
        check_is_fitted(self)
        x = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        none = np.full(len(x), UNKNOWN_CLASS)
        return self._model.predict_rows(Rows([Batch(none.astype(np.uint64), x, np.zeros((len(x), 0), np.int32), none)]))

    def _checked(self, X: Any, y: Any, *, anew: bool) -> tuple[Array, Array]:
        """Return checked rows and outcomes; X's columns are those of the first call, unless learning starts anew."""
        x, y = validate_data(
            self, X, y, reset=anew, dtype=np.float64, ensure_all_finite="allow-nan",
            y_numeric=self._task == "regression",
        )  # fmt: skip
        return x, y

    @property
    def _continues(self) -> bool:
        """Say whether `fit` goes on where the call before ended."""
        return self.warm_start and self.__sklearn_is_fitted__()


def _weighted(x: Array, y: Array, sample_weight: Any) -> tuple[Array, Array, Array | None]:
    """Return the rows that count, with how much they do (mean 1; None: all the same)."""
    weight = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
    used = weight > 0
    if not used.any():  # scikit-learn says so itself from 1.9 on
        raise ValueError("sample_weight must be above zero for some row, however all are zero; leave it out")
    x, y, weight = x[used], y[used], weight[used] / weight[used].mean()
    return x, y, weight if np.ptp(weight) else None


@contextmanager
def _value_errors() -> Iterator[None]:
    """Raise what nightfit calls its errors as the one that scikit-learn's users expect."""
    try:
        yield
    except NightfitError as error:
        raise ValueError(str(error)) from None


def _plain(value: Any) -> Any:
    """Return numpy's scalars, of which searches make parameters, as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _json(told: Mapping[str, Any]) -> str:
    def spelled(value: object) -> object:
        if isinstance(value, np.generic):
            return value.item()
        raise ValueError(
            f"what is saved must be numbers or text, however a parameter or a label is {type(value).__name__}; change "
            "it (set_params(random_state=None) is enough for a random state)"
        )

    return json.dumps(told, default=spelled)


def _told(arrays: Arrays) -> dict[str, Any]:
    """Take the JSON out of what `_packed` made."""
    found: dict[str, Any] = json.loads(arrays.pop("json", np.frombuffer(b"{}", np.uint8)).tobytes())
    return found

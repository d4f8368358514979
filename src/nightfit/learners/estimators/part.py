"""One scikit-learn estimator whose state lies in named arrays between nights, and grows.

An estimator is made anew for every night and filled with what was kept: scikit-learn allocates its own attributes on a
dummy row, then the kept arrays take their places. So nothing that is not kept can matter, and a night goes on from a
checkpoint exactly as it would have without the break.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, NoReturn

import numpy as np

from nightfit.batch import Array
from nightfit.errors import ConfigError
from nightfit.schema import Task


@dataclass(frozen=True)
class Kept:
    """An attribute that is kept: its name (dots lead inside), and what each of its axes counts.

    `axes`: one letter for each axis, "f" features, "k" classes, "." anything else. `fill`: what new places hold.
    `inherits`: a new category's place holds what stood for it until now. `is_weight`: learning moves it, and it must
    stay of a size that makes sense. `learns_only`: predicting does without.
    """

    name: str
    axes: str = ""
    fill: float = 0.0
    inherits: bool = False
    is_weight: bool = False
    learns_only: bool = False


class Part(ABC):
    """A scikit-learn estimator. `options`: keyword arguments of its class."""

    kept: ClassVar[tuple[Kept, ...]]
    ours: ClassVar[frozenset[str]] = frozenset()
    """Options that nightfit sets itself."""
    batch_rows: int | None = None
    """Rows that `partial_fit` takes at a time; None: as many as come."""

    def __init__(self, name: str, task: Task, options: Mapping[str, Any]) -> None:
        self.name, self.task, self.options = name, task, options
        self.model: Any = None
        self.n_features = self.n_classes = 0
        self.seed = 0
        if fixed := self.ours & options.keys():
            raise ConfigError(f"options of '{name}' must leave what nightfit sets, however one is '{min(fixed)}'")
        self._check()

    def _check(self) -> None:
        """Raise `ConfigError` for options that scikit-learn does not take."""
        try:
            self._start(1, 2)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"options of '{self.name}' must be legal, however scikit-learn says: {error}") from None
        self.model, self.n_classes = None, 0

    @abstractmethod
    def make(self, n_features: int) -> Any:  # noqa: ANN401 - scikit-learn ships no types
        """Return scikit-learn's estimator, which has learned nothing; `random_state` is `self.seed`."""

    @abstractmethod
    def fit(self, x: Array, y: Array) -> None:
        """Call `partial_fit` on rows [n, n_features] of the layout that it reads."""

    @property
    def least_rows(self) -> int:
        """Rows that it needs to start."""
        return 1

    @property
    def has_started(self) -> bool:
        """Say whether it has learned."""
        return self.model is not None

    def read(self, x: Array) -> Array:
        """Return signed features as it needs them."""
        return x

    def n_read(self, n_features: int) -> int:
        """Return the width of what `read` makes of so many features."""
        return n_features

    def begin(self, seed: int) -> None:
        """Begin a night: what is random in it depends on the seed alone."""
        self.seed = seed % 2**32
        if self.model is not None:
            self.model.random_state = self.seed

    def learn(self, x: Array, y: Array) -> None:
        """Go on learning from rows; a first block that is too small is repeated."""
        x = self.read(x)
        if self.model is None:
            self.model = self.make(x.shape[1])
            if len(x) < self.least_rows:
                again = np.resize(np.arange(len(x)), self.least_rows)
                x, y = x[again], y[again]
        step = self.batch_rows or len(x)
        for i in range(0, len(x), step):
            self.fit(np.ascontiguousarray(x[i : i + step]), y[i : i + step])

    def arrays(self) -> dict[str, Array]:
        """Return what is kept, as copies."""
        if self.model is None:
            return {}
        return {kept.name: np.array(_get(self.model, kept.name)) for kept in self.kept}

    def load(self, arrays: Mapping[str, Array], n_features: int, n_classes: int) -> None:
        """Take over what `arrays` returned; what only learning needs may be left out."""
        self.n_features, self.n_classes = n_features, n_classes
        if not arrays:
            self.model = None
            return
        self._prepare(arrays)
        self._start(self.n_read(n_features), n_classes)
        for kept in self.kept:
            if kept.name in arrays:
                self._put(kept, arrays[kept.name])
        self._complete()

    def _prepare(self, arrays: Mapping[str, Array]) -> None:  # noqa: B027 - few need it
        """Note what the arrays' shapes say, before the estimator is made."""

    def _complete(self) -> None:  # noqa: B027 - few need it
        """Set what follows from the arrays."""

    def _start(self, n_features: int, n_classes: int) -> None:
        self.model, self.n_classes = self.make(n_features), n_classes
        with quiet():
            self.fit(np.zeros((self.least_rows, n_features)), np.zeros(self.least_rows, np.int64))

    def _put(self, kept: Kept, array: Array) -> None:
        """Put an array in its place; raises `ConfigError` if the options now ask for another shape."""
        there = _get(self.model, kept.name)
        if np.shape(there) != array.shape:
            self._refuse_shape(kept.name, np.shape(there), array.shape)
        is_by_column = isinstance(there, np.ndarray) and there.flags.f_contiguous
        _set(self.model, kept.name, array.copy("F" if is_by_column else "C") if array.ndim else array.item())

    def _refuse_shape(self, name: str, now: object, was: object) -> NoReturn:
        raise ConfigError(
            f"a lineage keeps its estimator's shape, however {self.name}'s {name} is {now} now and was {was}; set the "
            "options back, or give the new model another name"
        )

    def grow(self, n_features: int, n_classes: int, parents: Array) -> None:
        """Make room for features and classes at the ends. `parents`: of each new feature, or -1 (int64 [n])."""
        if self.model is None:
            self.n_features, self.n_classes = n_features, n_classes
        elif (n_features, n_classes) != (self.n_features, self.n_classes):
            self.load(self.grown(n_features, n_classes, parents), n_features, n_classes)

    def grown(self, n_features: int, n_classes: int, parents: Array) -> dict[str, Array]:
        """Return what is kept, padded."""
        arrays, sizes = self.arrays(), {"f": self.n_read(n_features), "k": n_classes}
        for kept in self.kept:
            for axis, letter in enumerate(kept.axes):
                if letter in sizes:
                    inherited = parents if letter == "f" and kept.inherits else None
                    arrays[kept.name] = padded(arrays[kept.name], axis, sizes[letter], kept.fill, inherited)
        return arrays

    def settle(self) -> None:
        """End a night: go on from what is kept alone."""
        self.load(self.arrays(), self.n_features, self.n_classes)

    def weights(self) -> Iterator[Array]:
        """Yield what learning moves."""
        if self.model is not None:
            yield from (np.asarray(_get(self.model, kept.name)) for kept in self.kept if kept.is_weight)


class Step(Part):
    """A feature step."""

    @abstractmethod
    def transform(self, x: Array) -> Array:
        """Return new features, float64 [n, m], of rows."""


class Head(Part):
    """What learns at the end of a chain."""

    votes: ClassVar[bool] = False
    """Whether its classes are votes, and no probabilities."""

    @property
    def figures(self) -> dict[str, float]:
        """What it measures besides its answers, by name: of the rows that it learned last."""
        return {}

    def start_counting(self) -> None:
        """Start the figures of a night."""

    @abstractmethod
    def answer(self, x: Array) -> Array:
        """Return probabilities, float64 [n, n_classes], or standardised values, float64 [n]."""

    def convert(self, factor: float, shift: float) -> None:
        """Let every answer v to a quantity become factor v + shift."""
        raise NotImplementedError


def padded(array: Array, axis: int, n: int, fill: float = 0.0, parents: Array | None = None) -> Array:
    """Return an array with an axis made n long; with `parents` a new place holds what theirs does (-1: `fill`)."""
    n_old = array.shape[axis]
    if n == n_old:
        return array
    moved = np.moveaxis(array, axis, 0)
    new = np.full((n - n_old, *moved.shape[1:]), fill, array.dtype)
    if parents is not None:
        new[parents >= 0] = moved[parents[parents >= 0]]
    return np.ascontiguousarray(np.moveaxis(np.concatenate([moved, new]), 0, axis))


@contextmanager
def quiet() -> Iterator[None]:
    """Learn without a word: classes that were never seen have a log of 0, small batches are meant."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _get(model: Any, name: str) -> Any:  # noqa: ANN401
    return reduce(getattr, name.split("."), model)


def _set(model: Any, name: str, value: Any) -> None:  # noqa: ANN401
    path, _, last = name.rpartition(".")
    setattr(_get(model, path) if path else model, last, value)

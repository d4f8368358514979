"""What learners that nightfit does not know from inside share: they cannot grow, so what they read stays as it began.

They read the dense matrix of the first night that told two classes (or values) apart. A category that came later is
read as one that was never seen; columns that came later are not read. Rows of classes that came later are not learned:
such a class is answered by its share of all rows so far.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from nightfit.batch import Array, Batch, Rows
from nightfit.errors import ConfigError
from nightfit.jsontypes import Json
from nightfit.learners.base import IMPORTED, Arrays, part
from nightfit.learners.dense import Dense, by_pieces, shares
from nightfit.learners.importing import check_named
from nightfit.learners.layout import Layout
from nightfit.moments import scale, standardise
from nightfit.quantity import TargetScale
from nightfit.schema import Sizes, Task
from nightfit.scorer import Forward, calibration_in

if TYPE_CHECKING:
    from nightfit.normaliser import Normaliser


class Outside(Dense):
    """A learner by its import path. `n_outputs`: the classes that it began with, 1 for a quantity; 0 before it began.

    `_unit`: what is 0 and what is 1 of a quantity to it, float64 [2]. `_told`: the features of each kind and the
    classes that it began with, or that people were told of since, int64 [3].
    """

    grows = False
    """Whether it makes room for new columns and classes itself."""

    def __init__(self, path: str, normaliser: Normaliser, task: Task) -> None:
        super().__init__(normaliser, task)
        self.path, self.n_outputs = path, 0
        self._unit, self._told, self._sizes = np.array([0.0, 1.0]), np.zeros(3, np.int64), np.zeros(3, np.int64)

    @abstractmethod
    def _begin(self, seed: int) -> None:
        """Make what learns, for the layout's width and `n_outputs`."""

    @abstractmethod
    def _learn_known(self, rows: Rows, seed: int) -> None:
        """Go on learning from a night's rows, as `_known` yields them; some of them are of known classes."""

    @abstractmethod
    def weights(self) -> Iterable[Array]:
        """Return what learning moves, where that is known."""

    @abstractmethod
    def _answer(self, x: Array) -> Array:
        """Return probabilities, float64 [n, n_outputs], or a quantity in its first unit, float64 [n], of rows."""

    def _learn(self, rows: Rows, *, seed: int) -> None:
        """Begin once there is something to tell apart; go on with the rows of classes that it began with."""
        if not self.n_outputs and not self._can_begin():
            return
        begins = not self.n_outputs
        if begins or self.grows:
            self._layout.meet()
            self._told, self.n_outputs = self._sizes.copy(), int(self._sizes[2])
        if begins:
            self._unit = _unit(self._calibration)
            self._begin(seed)
        counts = np.ones(1) if self._is_quantity else rows.class_counts(len(self._seen))[: self.n_outputs]
        if counts.any():
            self._learn_known(rows, seed)
            self._seen = self._seen | np.pad(counts > 0, (0, len(self._seen) - len(counts)))
        self._note()

    @property
    def _is_quantity(self) -> bool:
        return self._task == "regression"

    def _can_begin(self) -> bool:
        target = self._calibration
        return bool(target.moments["m2"][0] > 0) if isinstance(target, TargetScale) else len(self._seen) > 1

    def _known(self, rows: Rows, seed: int) -> Iterator[tuple[Array, Array]]:
        """Yield matrices with their targets: rows of later classes are left out, a quantity is in its first unit."""
        target, (zero, one) = self._calibration, self._unit
        for x, y in self._matrices(rows, seed):
            if isinstance(target, TargetScale):
                mean, deviation = _unit(target)
                yield x, (target.standard(y) * deviation + mean - zero) / one
            elif (is_known := y < self.n_outputs).any():
                yield x[is_known], y[is_known]

    def _note(self) -> None:
        """Tell, once, of columns and classes that came too late."""
        self.notes = []
        if (self._sizes > self._told).any():
            why = (
                "however there are new ones, which it does not learn; to have them learned add a model of another name"
            )
            self.notes = [f"'{self.path}' keeps the columns and classes that it began with, {why}"]
            self._told = self._sizes.copy()

    def _convert(self, factor: float, shift: float) -> None:
        """Do nothing: it keeps the unit that it began with."""

    def grow(self, sizes: Sizes, parent_ids: Array, missing_ids: Array) -> None:
        """Take note of what is new, to say that it is not learned."""
        super().grow(sizes, parent_ids, missing_ids)
        self._sizes = np.array([sizes.d_num, sizes.d_cat, sizes.n_outputs])

    def _raw(self, batch: Batch) -> Array:
        z = standardise(self.normaliser.arrays(), batch.x_num)
        return outside_raw(self._answer, self._arrays())(z, batch.x_cat)

    def _arrays(self) -> Arrays:
        layout = {f"layout.{name}": a for name, a in self._layout.arrays().items()}
        own = {"seen": self._seen.copy(), "unit": self._unit.copy(), "n_outputs": np.array([self.n_outputs])}
        return {**layout, **own, **self._calibration.arrays()}

    def state(self) -> tuple[Arrays, Arrays, dict[str, Json]]:
        """Return layout and calibration, what was told, and the import path."""
        return self._arrays(), {"told": self._told.copy(), "sizes": self._sizes.copy()}, {IMPORTED: self.path}

    def load(self, arrays: Arrays, extra: Arrays, data: Mapping[str, Json]) -> None:
        """Take over what `state` returned; raises `ConfigError` if the config now names other code."""
        check_named(data.get(IMPORTED), self.path, "its version")
        self._layout = Layout.from_arrays(part(arrays, "layout"))
        self._seen, self._unit = arrays["seen"].copy(), arrays["unit"].copy()
        self._told, self._sizes = extra["told"].copy(), extra["sizes"].copy()
        self.n_outputs = int(arrays["n_outputs"][0])
        self._calibration = calibration_in(arrays)


def outside_raw(answer: Callable[[Array], Array], arrays: Mapping[str, Array]) -> Forward:
    """Return the forward pass around what answers a matrix: as a `Scorer` takes it, and as the learner itself does.

    Where it says nothing, or nothing finite, of a row, the answer is that to a row of which nothing is known.
    """
    layout, seen, (zero, one) = Layout.from_arrays(part(dict(arrays), "layout")), arrays["seen"], arrays["unit"]
    calibration = calibration_in(arrays)
    if isinstance(calibration, TargetScale):
        mean, deviation = _unit(calibration)

        def values(x: Array) -> Array:
            found = (answer(x) * one + zero - mean) / deviation
            return np.where(np.isfinite(found), found, 0.0)

        return by_pieces(layout, values, np.zeros(0))
    prior = calibration.prior
    late = np.where(seen, 0.0, prior)

    def probabilities(x: Array) -> Array:
        found = answer(x)
        says_nothing = ~(np.isfinite(found).all(1) & (found.sum(1) > 0))
        found[says_nothing] = prior[: found.shape[1]]
        return np.asarray(shares(found, seen) * (1 - late.sum()) + late)

    return by_pieces(layout, probabilities, np.zeros((0, len(seen))))


def shaped(path: str, answers: Array, shape: tuple[int, ...]) -> Array:
    """Return answers as float64 [*shape] of one's own; raises `ConfigError` for any other shape."""
    found = np.array(answers, np.float64)
    if found.shape != shape:
        raise ConfigError(f"answers of '{path}' must be {list(shape)}, however they are {list(found.shape)}; mend it")
    return found


def _unit(calibration: object) -> Array:
    """Return a quantity's mean and deviation so far, float64 [2]."""
    if not isinstance(calibration, TargetScale):
        return np.array([0.0, 1.0])
    return np.concatenate([calibration.moments["origin"] + calibration.moments["mean"], scale(calibration.moments)])

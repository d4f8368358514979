"""What the ranks but the first do: they wait for orders, and carry each out on their share of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from nightfit.learners.base import KINDS, Learner, MlpConfig, part
from nightfit.learners.shared import EXTRA, NORMALISER, STATE
from nightfit.model import make_learner, take_moments, tallied
from nightfit.normaliser import Normaliser

if TYPE_CHECKING:
    from nightfit.learners.base import Arrays
    from nightfit.learners.shared import Descending
    from nightfit.ranks import Order, Together


def follow(ranks: Together, device: str) -> None:
    """Carry out orders until rank 0 says that the night is over."""
    make_learner(
        MlpConfig(), Normaliser(0), task="classification", device=device, seed=0
    )  # imports, while rank 0 reads
    for order in ranks.orders():
        ranks.answer(_TASKS[order.task](order, device))


def _learn(order: Order, device: str) -> Arrays:
    learner = cast("Descending", _learner(order, device))
    return learner.descend(order.rows, n_rows=order.values["n_rows"], seed=order.values["seed"])


def _tally(order: Order, device: str) -> Arrays:
    return tallied(_learner(order, device), order.rows)


def _moments(order: Order, device: str) -> Arrays:
    d_num = len(order.arrays[f"{NORMALISER}.count"])
    return take_moments(Normaliser(d_num).to(device), order.rows)


_TASKS: Mapping[str, Callable[[Order, str], Arrays]] = {"learn": _learn, "tally": _tally, "moments": _moments}


def _learner(order: Order, device: str) -> Learner:
    """Make rank 0's learner."""
    values, arrays = order.values, order.arrays
    normaliser = Normaliser.from_arrays(part(arrays, NORMALISER))
    config = KINDS[values["kind"]](**values["config"])
    learner = make_learner(config, normaliser, task=values["task"], device=device, seed=0)
    learner.load(part(arrays, STATE), part(arrays, EXTRA), values["data"])
    return learner

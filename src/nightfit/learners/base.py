"""What every learner promises, and the options of nightfit's own.

A learner continues, never restarts: `learn` goes on from where it is. Saved and loaded between two nights, it does
exactly (on the CPU: bit for bit) what it would have done without the break.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from nightfit.batch import Array, Batch, Rows
from nightfit.jsontypes import Json

if TYPE_CHECKING:
    from nightfit.normaliser import Normaliser
    from nightfit.schema import Sizes

Arrays: TypeAlias = dict[str, Array]


@dataclass(frozen=True)
class MlpConfig:
    """Options of `kind = "mlp"`, the deep learner."""

    d_hidden: int = 64
    """Units of each hidden layer."""
    n_blocks: int = 2
    """Hidden layers."""
    d_embedding: int = 8
    """Numbers that stand for one category."""
    n_frequencies: int = 8
    """Sines and cosines of each number, at most, that some members read."""
    n_epochs: int = 3
    """Passes over the new rows each night; more in a small night."""
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    memory_rows: int = 20_000
    """Old rows that are kept for replay: half a sample of all, half the latest; 0 learns strictly new rows only."""

    def __post_init__(self) -> None:
        for name in ("d_hidden", "n_blocks", "d_embedding", "n_epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, however it is {getattr(self, name)}")
        for name in ("n_frequencies", "memory_rows"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, however it is {getattr(self, name)}")
        _check_rates(learning_rate=self.learning_rate, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class PartialFitConfig:
    """Options of `kind = "partial_fit"`, the scikit-learn baseline."""

    estimator: str = "sgd"
    """Which estimator; "sgd" is logistic regression by stochastic gradient descent, or least squares of a quantity."""
    alpha: float = 1e-4
    """Strength of the L2 penalty."""
    learning_rate: float = 0.01
    """Step size, the same every night: scikit-learn's decaying default is too large for standardised rows at first
    and too small to follow a change after years (docs/design.md has the figures)."""

    def __post_init__(self) -> None:
        if self.estimator != "sgd":
            raise ValueError(f"estimator must be 'sgd', however it is '{self.estimator}'")
        _check_rates(learning_rate=self.learning_rate, alpha=self.alpha)


def _check_rates(*, learning_rate: float, **penalty: float) -> None:
    if not 0 < learning_rate < 1:  # above 1 a step leaves the weights' own scale
        raise ValueError(f"learning_rate must lie between 0 and 1, however it is {learning_rate}")
    for name, value in penalty.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, however it is {value}")


LearnerConfig: TypeAlias = MlpConfig | PartialFitConfig
KINDS: Mapping[str, type[LearnerConfig]] = {"mlp": MlpConfig, "partial_fit": PartialFitConfig}


class Learner(Protocol):
    """Learns from raw rows through the model's normaliser, whose moments the model has updated before."""

    normaliser: Normaliser
    notes: Sequence[str]
    """What people should know of how it learned last, as sentences."""

    def observe(self, rows: Rows) -> None:
        """Let mixing weights and calibration learn from the outcomes of rows that were predicted, not yet learned."""
        ...

    def learn(self, rows: Rows, *, seed: int) -> None:
        """Go on learning from the rows; the same rows, state and seed give the same bits on the CPU."""
        ...

    def predict(self, batch: Batch) -> Array:
        """Return the probability of each class, float64 [n, K], or the value of a quantity, float64 [n].

        Rows of probabilities sum to 1 (K = 0 before the first class).
        """
        ...

    def grow(self, sizes: Sizes, parent_ids: Array, missing_ids: Array) -> None:
        """Make room for what the schema has appended; predictions on rows without it do not change.

        `parent_ids`: int64 [n_ids], for each id the one that stood for it until now. `missing_ids`: int32 [d_cat],
        for each categorical column the id that rows from before it hold.
        """
        ...

    def declare(self, n_classes: int) -> None:
        """Take the first classes as known ahead: each counts as seen half a time by the class prior."""
        ...

    def forget(self, keys: Array) -> int:
        """Delete the rows of these keys (hashes, uint64) from every memory, and return how many; weights stay."""
        ...

    def weights(self) -> Iterable[Array]:
        """Return what learning moves: the weights that answer, and those that it goes on from."""
        ...

    def memory(self) -> Batch | None:
        """Return the rows that are kept for replay, each once; None if there are none."""
        ...

    def state(self) -> tuple[Arrays, Arrays, dict[str, Json]]:
        """Return what predicting needs, what only learning needs, and the rest as JSON.

        Arrays that hold rows are among the second, and their names start with `MEMORY`.
        """
        ...

    def load(self, arrays: Arrays, extra: Arrays, data: Mapping[str, Json]) -> None:
        """Take over what `state` returned; the arrays that hold rows may be left out, and are empty then."""
        ...


MEMORY = "memory."
"""What the names of a learner's arrays that hold rows start with: they are kept in a file of their own."""


def part(arrays: Arrays, name: str) -> Arrays:
    """Return the arrays of one part of a model, without their prefix."""
    return {key.partition(".")[2]: a for key, a in arrays.items() if key.startswith(f"{name}.")}

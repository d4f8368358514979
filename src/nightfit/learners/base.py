"""What every learner promises, and the options of nightfit's own.

A learner continues, never restarts: `learn` goes on from where it is. Saved and loaded between two nights, it does
exactly (on the CPU: bit for bit) what it would have done without the break.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from nightfit.batch import Array, Batch, Rows
from nightfit.jsontypes import Json
from nightfit.names import is_import_path

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
    n_members: int = 7
    """Networks in the ensemble; the linear model is one more member of it. A third of them, rounded up, learns a sample
    of all old rows besides new ones, a third, rounded down, new rows alone, the others the latest rows too: one learns
    as the first do, and two learn no new rows alone."""
    d_embedding: int = 8
    """Numbers that stand for one category."""
    n_frequencies: int = 8
    """Sines and cosines of each number, that some members of the ensemble read, at most: beyond 32 numbers there are
    fewer, beyond 256 none, by the first night that is learned."""
    n_epochs: int = 3
    """Passes over the new rows each night; more in a small night."""
    batch_size: int = 256
    """Rows of a step; under torchrun those of all ranks together."""
    learning_rate: float = 2e-3
    """Step size of AdamW, between 0 and 1."""
    weight_decay: float = 1e-4
    """Strength of the weight decay of AdamW, from 0."""
    memory_rows: int = 20_000
    """Old rows kept in the checkpoint for replay: half a uniform sample of all, half the latest; `0` learns strictly
    new rows only."""

    def __post_init__(self) -> None:
        for name in ("d_hidden", "n_blocks", "n_members", "d_embedding", "n_epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, however it is {getattr(self, name)}")
        for name in ("n_frequencies", "memory_rows"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, however it is {getattr(self, name)}")
        _check_rates(learning_rate=self.learning_rate, weight_decay=self.weight_decay)


STEPS = ("pca", "dictionary", "kmeans")
"""Feature steps of a chain, by their short names."""

ESTIMATORS = ("sgd", "pa", "gnb", "multinomial_nb", "bernoulli_nb", "sk_mlp", "kmeans")
"""What learns: scikit-learn's incremental estimators by their short names, each also as the end of a chain."""

OF_CLASSES = ("gnb", "multinomial_nb", "bernoulli_nb")
"""Those that learn classes only."""


@dataclass(frozen=True)
class PartialFitConfig:
    """Options of `kind = "partial_fit"`: a scikit-learn estimator, or a chain of feature steps and one."""

    estimator: str = "sgd"
    """A short name, or several joined by `+`; a table named by a short name needs no `estimator`. Or the import path of
    a class with `partial_fit`. Example: `"pca+sgd"`."""
    alpha: float = 1e-4
    """Of `sgd`: strength of the L2 penalty."""
    learning_rate: float = 0.01
    """Of `sgd`: step size, the same every night."""
    n_epochs: int = 0
    """Passes over the new rows each night; `0`: three for `sk_mlp`, one for the others."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Keyword arguments of the class (not of `sgd` alone); of a chain, a table of them for each name. Example: `{
    hidden_layer_sizes = [64] }`."""
    trusted: tuple[str, ...] = ()
    """Of an import path: types that may be made again from a checkpoint, besides the class itself and what skops
    trusts. Example: `["sklearn.neural_network._stochastic_optimizers.AdamOptimizer"]`."""

    def __post_init__(self) -> None:
        if wrong := _wrong_estimator(self.estimator):
            raise ValueError(wrong)
        _check_rates(learning_rate=self.learning_rate, alpha=self.alpha)
        if self.n_epochs < 0:
            raise ValueError(f"n_epochs must be at least 0, however it is {self.n_epochs}")
        names = self.names
        if names[-1] != "sgd" and (self.alpha, self.learning_rate) != (1e-4, 0.01):
            raise ValueError(f"alpha and learning_rate are sgd's, however the estimator is '{names[-1]}'; use options")
        if len(names) > 1 and (wrong := next((name for name in self.options if name not in names), "")):
            raise ValueError(f"options of a chain must be tables named {', '.join(names)}, however one is '{wrong}'")
        if self.trusted and not self.is_imported:
            raise ValueError(f"trusted is for an import path, however the estimator is '{self.estimator}'; take it out")
        if self.is_linear and self.options:
            raise ValueError("sgd has alpha, learning_rate and n_epochs, however options are given; use those")

    @property
    def names(self) -> tuple[str, ...]:
        """The short names of the chain: feature steps, then what learns."""
        return tuple(self.estimator.split("+"))

    @property
    def is_linear(self) -> bool:
        """Say whether it is the linear baseline, which is scored without scikit-learn."""
        return self.estimator == "sgd"

    @property
    def is_imported(self) -> bool:
        """Say whether it is named by an import path."""
        return is_import_path(self.estimator)

    @property
    def passes(self) -> int:
        """Passes over the new rows each night."""
        return self.n_epochs or (3 if self.names[-1] == "sk_mlp" else 1)

    def options_of(self, i: int) -> Mapping[str, Any]:
        """Return the keyword arguments of the chain's i-th estimator."""
        found: Mapping[str, Any] = self.options if len(self.names) == 1 else self.options.get(self.names[i], {})
        return found


def is_estimator(name: str) -> bool:
    """Say whether a name is a short name of an estimator, or a chain of them."""
    return not _wrong_estimator(name)


def _wrong_estimator(estimator: str) -> str:
    """Say what is wrong with an estimator's name; empty if nothing is."""
    if is_import_path(estimator):
        return ""
    *steps, last = estimator.split("+")
    for name, legal, what in [*((step, STEPS, "a feature step") for step in steps), (last, ESTIMATORS, "estimator")]:
        if name not in legal:
            near = get_close_matches(name, legal, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            also = " (or package.module:Class alone)" if legal == ESTIMATORS else ""
            return f"{what} must be one of {', '.join(legal)}{also}, however it is '{name}'{hint}"
    return ""


@dataclass(frozen=True)
class ModuleConfig:
    """Options of `kind = "module"`: a PyTorch module of one's own."""

    module: str = ""
    """Needed: the import path of what makes it: `make(d_in, d_out, **options)` returns an `nn.Module`. Example:
    `"my_models:make"`."""
    n_epochs: int = 3
    """Passes over the new rows each night."""
    batch_size: int = 256
    """Rows of a step."""
    learning_rate: float = 2e-3
    """Step size of AdamW, between 0 and 1."""
    weight_decay: float = 1e-4
    """Strength of the weight decay of AdamW, from 0."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Keyword arguments of what makes it. Example: `{ d_hidden = 128 }`."""

    def __post_init__(self) -> None:
        if not is_import_path(self.module):
            raise ValueError(f"module must be an import path as package.module:make, however it is '{self.module}'")
        for name in ("n_epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, however it is {getattr(self, name)}")
        _check_rates(learning_rate=self.learning_rate, weight_decay=self.weight_decay)


def _check_rates(*, learning_rate: float, **penalty: float) -> None:
    if not 0 < learning_rate < 1:  # above 1 a step leaves the weights' own scale
        raise ValueError(f"learning_rate must lie between 0 and 1, however it is {learning_rate}")
    for name, value in penalty.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, however it is {value}")


REFERENCE = "reference"
"""The kind of a reference, which no config can name."""

REFERENCES = ("prior", "no_change", "hgb", "lightgbm", "deep_scratch")
"""What `compare` holds models against: constants, and models that are trained anew every night."""


@dataclass(frozen=True)
class ReferenceConfig:
    """A reference, for `compare` alone. `window`: the nights that it is trained on; 0: all."""

    name: str
    window: int = 0


def reference(text: str) -> ReferenceConfig | None:
    """Return the reference that a name such as "hgb" or "hgb:30" stands for; None if it stands for none."""
    name, colon, window = text.partition(":")
    if not colon:
        return ReferenceConfig(name) if name in REFERENCES else None
    is_window = window.isdecimal() and int(window) > 0
    return ReferenceConfig(name, int(window)) if name in REFERENCES[2:] and is_window else None


EPOCHS, VISITS = 20, 500_000
"""Passes over its rows that a fresh model makes, unless that is more than so many rows: a warm one has had as many by
replay, night after night. With the three of a night it looks worse for want of them alone (docs/design.md)."""


def patient(config: MlpConfig, n_rows: int) -> MlpConfig:
    """Return the options with the passes that are due to so many rows."""
    return replace(config, n_epochs=max(config.n_epochs, min(EPOCHS, VISITS // n_rows)))


LearnerConfig: TypeAlias = MlpConfig | PartialFitConfig | ModuleConfig | ReferenceConfig
KINDS: Mapping[str, type[MlpConfig | PartialFitConfig | ModuleConfig]] = {
    "mlp": MlpConfig,
    "partial_fit": PartialFitConfig,
    "module": ModuleConfig,
}


def import_path(config: LearnerConfig | None) -> str:
    """Return the import path of the code that a config names; empty if it names none."""
    if isinstance(config, PartialFitConfig) and config.is_imported:
        return config.estimator
    return config.module if isinstance(config, ModuleConfig) else ""


class Learner(Protocol):
    """Learns from raw rows through the model's normaliser, whose moments the model has updated before."""

    normaliser: Normaliser
    notes: Sequence[str]
    """What people should know of how it learned last, as sentences."""
    figures: Mapping[str, float]
    """What it measures besides its answers, by name, of the rows that it learned last: the inertia of clusters."""
    votes: bool
    """Whether its answers are votes, 1 for one class of a row and 0 for the others: they have no log loss."""

    @property
    def config(self) -> LearnerConfig:
        """Its options."""
        ...

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

        Arrays that hold rows are among the second, and their names start with `MEMORY`. Raises `NotKeptError` if it
        has no state that can be kept.
        """
        ...

    def load(self, arrays: Arrays, extra: Arrays, data: Mapping[str, Json]) -> None:
        """Take over what `state` returned; the arrays that hold rows may be left out, and are empty then."""
        ...


IMPORTED = "imported"
"""The key of a learner's JSON that says which import path it needs."""

MEMORY = "memory."
"""What the names of a learner's arrays that hold rows start with: they are kept in a file of their own."""


def part(arrays: Arrays, name: str) -> Arrays:
    """Return the arrays of one part of a model, without their prefix."""
    return {key.partition(".")[2]: a for key, a in arrays.items() if key.startswith(f"{name}.")}

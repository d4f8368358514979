"""The keys that stand above the config's tables, and those of `[store]`, each with what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nightfit.duration import seconds
from nightfit.names import NAME

_SEEDS = 2**32


@dataclass(frozen=True)
class TopConfig:
    """The keys that stand above the tables, as TOML spells them."""

    name: str
    """Names the pipeline, and a folder: `<store>/<name>/<model>/<version>/`. 1 to 64 of a-z, 0-9, `_` and `-`. Example:
    `"bookings"`."""
    target: str
    """The column to predict: a class, or a quantity. Example: `"is_canceled"`."""
    task: Literal["auto", "classification", "regression"] = "auto"
    """What the target is: a class, or a quantity. `"classification"`: at most 1,000 different values, more stop the
    night (65); `"regression"`: the target is a number, what reads as none is a reject; `"auto"`: looks at the first
    night's targets, once. They are a quantity if they are numbers and one of them is not whole, or there are more than
    50 different ones. A lineage keeps its task."""
    key: str | tuple[str, ...] = ()
    """Column or columns that identify a row, never a feature. Without one, a row is known by its place: (file,
    generation, position). Example: `"booking_id"`."""
    root: str = "."
    """What relative paths are relative to (those of SQLite too). It is itself relative to the config's folder."""
    seed: int = 0
    """Seed of everything random, from 0: same seed, same rows, same bits on the CPU."""
    holdout: float = 0.1
    """Share of the rows, chosen by a hash of the key, that are never learned by anything, only tested on. From 0 up to,
    not including, 1."""
    key_scope: Literal["pipeline", "source"] = "pipeline"
    """What equal keys of two sources are. `"pipeline"`: one row; `"source"`: two."""
    on_update: Literal["reject", "learn"] = "reject"
    """What becomes of a row whose key came before with other values. `"reject"` it, or `"learn"` it as a new one."""
    label_wait: str = "30d"
    """How long a row whose target is still missing waits for it. A number and one of `s`, `m`, `h`, `d`, `w`; with
    `"0d"`, and without a `key`, such a row is a reject."""
    pending_rows: int = 100_000
    """Rows that may wait for their target at once. Beyond it the oldest are rejected."""
    fresh_every: int = 30
    """Nights after which a model trained from scratch is scored beside the warm one; 0: never. It learns the replay
    memory and tonight's rows, and both are scored on the same held-out rows; `log` and `show` say which is better, and
    it is never served. It costs that night up to 500,000 rows of learning (20 passes over up to 20,000 replayed rows
    and tonight's: 6 s of CPU for 16,600 rows of 27 columns, where the night itself, of 5,000 rows, takes 0.9 s);
    `linear`, which keeps no rows, skips it and says so."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name must be 1 to 64 of a-z, 0-9, _ and -, however it is '{self.name}'; it names a folder"
            )
        if not self.target or self.target in self.keys:
            raise ValueError(f"target must be a column that is no key, however it is '{self.target}'")
        if not 0 <= self.seed < _SEEDS:
            raise ValueError(f"seed must lie between 0 and {_SEEDS - 1}, however it is {self.seed}")
        if not 0 <= self.holdout < 1:
            raise ValueError(f"holdout must lie between 0 and 1, however it is {self.holdout}")
        if seconds(self.label_wait) is None:
            raise ValueError(f"label_wait must be a number and one of s, m, h, d, w, however it is '{self.label_wait}'")
        for name in (name for name in ("pending_rows", "fresh_every") if getattr(self, name) < 0):
            raise ValueError(f"{name} must be at least 0, however it is {getattr(self, name)}")

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's columns; the config may write a single one as text."""
        return ((self.key,) if self.key else ()) if isinstance(self.key, str) else self.key


@dataclass(frozen=True)
class StoreConfig:
    """The `[store]` table; a text in its place is the path."""

    path: str = "checkpoints"
    """Where versions are kept: `<path>/<name>/<model>/<version>/`, relative to `root`."""
    keep: int = 30
    """Versions of each model whose tensors are kept, counted from the newest; manifests are kept for ever. The head,
    what it grew from, and what was refused since are kept besides, and so are rejects. Applied after every commit, and
    by `nightfit prune`; at least 1."""

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ValueError(f"keep must be at least 1, however it is {self.keep}")

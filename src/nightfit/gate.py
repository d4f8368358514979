"""The gate: a candidate is served unless there is evidence that it is worse than the champion.

It sees paired losses, never models: what the candidate and the champion lose on the same held-out rows, tonight's and
those of earlier nights. All intervals are one-sided 95 %.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from nightfit.batch import Array
from nightfit.jsontypes import Json
from nightfit.metrics import Interval, paired_interval

Reason: TypeAlias = Literal["first", "accepted", "worse", "forgetting", "broken", "confirmed", "override"]


@dataclass(frozen=True)
class GateConfig:
    """The `[gate]` table of the config. Margins are shares of the champion's loss."""

    margin: float = 0.01
    """The candidate may be this much worse before it counts as worse."""
    forgetting_margin: float = 0.05
    """The same for rows of earlier nights alone."""
    min_rows: int = 200
    """Held-out rows below which nothing is evidence."""

    def __post_init__(self) -> None:
        if not (self.margin >= 0 and self.forgetting_margin >= 0 and self.min_rows >= 2):  # noqa: PLR2004 - a spread needs two
            raise ValueError("gate margins must be at least 0 and min_rows at least 2, however they are less")


_NONE = np.zeros(0)

LEAST_LOSS = 0.01
"""Margins are shares of at least this loss: one percent of next to nothing is no difference that anyone notices.

In nats; for a quantity, whose loss is the squared error, in variances of the target.
"""

TINY = 1e-300
"""What is divided by where there is no loss at all: no change is then 0 %, and any is very many."""

_REFUSING = {"forgetting", "worse"}


@dataclass(frozen=True)
class Evidence:
    """Paired losses, float64 [n] each, of candidate and champion on the same rows.

    `loss` is what people call them; `least_loss` what margins are shares of at least. `kept_*`: what the candidate that
    an earlier night refused for forgetting, and the champion, lose on the rows that have come since; empty if there is
    no such candidate.
    """

    finite: bool
    tonight_candidate: Array = field(default_factory=lambda: _NONE)
    tonight_champion: Array = field(default_factory=lambda: _NONE)
    memory_candidate: Array = field(default_factory=lambda: _NONE)
    memory_champion: Array = field(default_factory=lambda: _NONE)
    kept_candidate: Array = field(default_factory=lambda: _NONE)
    kept_champion: Array = field(default_factory=lambda: _NONE)
    has_champion: bool = True
    loss: str = "log loss"
    least_loss: float = LEAST_LOSS


@dataclass(frozen=True)
class Decision:
    """Whether the candidate is accepted, why, in one sentence, and the figures under it."""

    accepted: bool
    reason: Reason
    verdict: str
    figures: dict[str, Json]


def decide(evidence: Evidence, config: GateConfig, *, override: str | None = None) -> Decision:
    """Decide whether the candidate becomes the head. `override`: a person's reason to accept it anyway."""
    if not _is_finite(evidence):
        why = "its weights, or what it predicts, are not finite: learning has diverged"
        return Decision(False, "broken", f"refused: {why}", {})
    figures = _figures(evidence)
    reason, why = _judge(evidence, figures, config)
    told: dict[str, Json] = {**_json(figures), **({"override": override} if override else {})}
    if reason not in _REFUSING:
        return Decision(True, reason, f"accepted: {why}", told)
    if override:
        return Decision(True, "override", f"accepted by hand ({override}), against the gate: {why}", told)
    return Decision(False, reason, f"refused{' for now' * (reason == 'forgetting')}: {why}", told)


def _is_finite(e: Evidence) -> bool:
    return e.finite and all(np.isfinite(losses).all() for losses in (e.tonight_candidate, e.memory_candidate))


def _figures(e: Evidence) -> dict[str, Interval]:
    """Return the intervals of candidate minus champion on each set of rows."""
    tonight, memory = e.tonight_candidate - e.tonight_champion, e.memory_candidate - e.memory_champion
    sets = {
        "tonight": tonight,
        "memory": memory,
        "pooled": np.concatenate([tonight, memory]),
        "kept": e.kept_candidate - e.kept_champion,
    }
    return {name: paired_interval(difference) for name, difference in sets.items()}


def _judge(e: Evidence, figures: dict[str, Interval], config: GateConfig) -> tuple[Reason, str]:
    """Go through the rules in their order; the first that applies decides."""
    kept, pooled = figures["kept"], figures["pooled"]
    champion = np.concatenate([e.tonight_champion, e.memory_champion])
    if not e.has_champion:
        return "first", "it is the first"
    if kept.n >= config.min_rows and kept.mean < 0:
        return "confirmed", _confirmed(kept, e)
    if pooled.n < config.min_rows:
        return "accepted", f"not enough evidence, {pooled.n:,} held-out rows of the {config.min_rows} needed"
    if _forgets(e, figures["tonight"], figures["memory"], config):
        return "forgetting", _forgetting(figures, e, config)
    if pooled.low > config.margin * _base(champion, e):
        return "worse", f"it is worse, {_change(pooled, champion, e)} on {pooled.n:,} held-out rows"
    return "accepted", f"{_change(pooled, champion, e)} on {pooled.n:,} held-out rows"


def _forgets(e: Evidence, tonight: Interval, memory: Interval, config: GateConfig) -> bool:
    """Better tonight, but with evidence worse on earlier nights: a poisoned night, or a real change.

    Later rows tell which; until they speak for the change it is refused. (To refuse only once would let a poisoned
    night in with the next rows, however few: the rows held out tonight are then mostly poisoned ones.)
    """
    if memory.n < config.min_rows or tonight.n == 0:
        return False
    return tonight.mean < 0 and memory.low > config.forgetting_margin * _base(e.memory_champion, e)


def _base(champion: Array, e: Evidence) -> float:
    """Return the champion's loss, of which margins and changes are shares."""
    return max(float(champion.mean()), e.least_loss, TINY)


def _change(interval: Interval, champion: Array, e: Evidence) -> str:
    """Say how much the loss changes, with its interval, as shares of the champion's loss."""
    base = _base(champion, e)
    if interval.n < 2:  # noqa: PLR2004 - a spread needs two
        return f"{e.loss} {interval.mean / base:+.1%} on one row"
    return f"{e.loss} {interval.mean / base:+.1%} ({interval.low / base:+.1%} to {interval.high / base:+.1%})"


def _forgetting(figures: dict[str, Interval], e: Evidence, config: GateConfig) -> str:
    tonight, memory, kept = (figures[name] for name in ("tonight", "memory", "kept"))
    if kept.n >= config.min_rows:
        change = _change(kept, e.kept_champion, e)
        then = f"and the candidate kept before has {change} on the {kept.n:,} rows that came since"
    else:
        left = f"{config.min_rows - kept.n:,} more" if kept.n else f"{config.min_rows:,}"
        then = f"it is kept, and wins if it predicts the next rows better, of which {left} are needed"
    return (
        f"{_change(tonight, e.tonight_champion, e)} tonight, but {_change(memory, e.memory_champion, e)} "
        f"on {memory.n:,} rows of earlier nights; {then}"
    )


def _confirmed(kept: Interval, e: Evidence) -> str:
    return (
        f"the change is real, the candidate refused before has {_change(kept, e.kept_champion, e)} "
        f"on the {kept.n:,} rows that came since"
    )


def _json(figures: dict[str, Interval]) -> dict[str, Json]:
    """Return intervals that have rows; bounds without evidence are null, for JSON knows no infinity."""
    return {
        name: {key: value if np.isfinite(value) else None for key, value in asdict(interval).items()}
        for name, interval in figures.items()
        if interval.n
    }

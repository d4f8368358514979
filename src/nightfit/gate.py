"""The gate: a candidate is served unless there is evidence that it is worse than the champion.

It sees paired losses, never models: what the candidate and the champion lose on the same held-out rows, tonight's and
those of earlier nights. All intervals are one-sided 95 %. What a user demands besides is in `demands`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from nightfit.batch import Array
from nightfit.demands import count_flips, floor_missed, slice_intervals, too_many_flips, unknown_floor
from nightfit.jsontypes import Json
from nightfit.metrics import Interval, paired_interval

Reason: TypeAlias = Literal[
    "first", "accepted", "worse", "forgetting", "broken", "confirmed", "floor", "slice", "flips", "override"
]


@dataclass(frozen=True)
class GateConfig:
    """The `[gate]` table of the config. Margins are shares of the champion's loss."""

    margin: float = 0.01
    """The candidate may be this much worse before it counts as worse."""
    forgetting_margin: float = 0.05
    """The candidate may be this much worse on rows of earlier nights alone."""
    min_rows: int = 200
    """Held-out rows below which nothing is evidence."""
    max_negative_flips: float = 1.0
    """Share of the held-out rows that the champion may have right and the candidate wrong; above it, with evidence, the
    candidate is refused. `1.0` allows all. On real streams sound nights flip 2 %, at most 11 %; `show` has the figure
    of each night. A quantity has no flips."""
    slices: tuple[str, ...] = ()
    """Categorical columns with no value of which a candidate may be worse. One that with evidence is worse on the
    held-out rows with one value of them (at least `min_rows` of these) is refused, naming that value. The more values,
    the more evidence is asked of each (Bonferroni). No such column, or one that is not categorical, is an error (78).
    Example: `["country"]`."""
    slice_margin: float = 0.05
    """The candidate may be this much worse on a slice before it counts as worse there."""
    floors: Mapping[str, float] = field(default_factory=dict)
    """Scores that no version may be past, the first included, however the champion does. At least this `accuracy`,
    `macro_f1` or `r2`, at most this `log_loss`, `calibration_error`, `rmse` or `mae`, on all held-out rows, tonight's
    and earlier ones. With fewer than `min_rows` of them it is not asked. Example: `{ accuracy = 0.7, log_loss = 0.6
    }`."""

    def __post_init__(self) -> None:
        for name in ("margin", "forgetting_margin", "slice_margin"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, however it is {getattr(self, name)}")
        if self.min_rows < 2:  # noqa: PLR2004 - a spread needs two
            raise ValueError(f"min_rows must be at least 2, however it is {self.min_rows}")
        if not 0 <= self.max_negative_flips <= 1:
            raise ValueError(f"max_negative_flips must lie between 0 and 1, however it is {self.max_negative_flips}")
        if wrong := unknown_floor(self.floors):
            raise ValueError(wrong)


_NONE = np.zeros(0)

LEAST_LOSS = 0.01
"""Margins are shares of at least this loss: one percent of next to nothing is no difference that anyone notices.

In nats; for a quantity, whose loss is the squared error, in variances of the target.
"""

TINY = 1e-300
"""What is divided by where there is no loss at all: no change is then 0 %, and any is very many."""

NOT_FINITE = "what it predicts is not finite: learning has diverged"

OVERRULED: frozenset[Reason] = frozenset({"forgetting", "worse"})
"""Reasons that rows to come may overrule: earlier nights are behind them, which may be of a concept that has ended."""

_REFUSING = {"forgetting", "worse", "floor", "slice", "flips"}


@dataclass(frozen=True)
class Evidence:
    """Paired losses, float64 [n] each, of candidate and champion on the same rows; without a champion the candidate's.

    `loss` is what people call them; `least_loss` what margins are shares of at least. `right_*`: which rows (bool [n],
    tonight's, then the memory's) each of them has right; empty for a quantity. `slices`: the rows (indices, int [m]) of
    each value of a column. `scores` and `champion_scores` are those of all these rows.
    `kept_*`: what a candidate that an earlier night refused, and the champion, lose on the rows that have come
    since; empty if there is no such candidate. `broken`: why the candidate can be no use at all.
    """

    tonight_candidate: Array = field(default_factory=lambda: _NONE)
    tonight_champion: Array = field(default_factory=lambda: _NONE)
    memory_candidate: Array = field(default_factory=lambda: _NONE)
    memory_champion: Array = field(default_factory=lambda: _NONE)
    kept_candidate: Array = field(default_factory=lambda: _NONE)
    kept_champion: Array = field(default_factory=lambda: _NONE)
    right_candidate: Array = field(default_factory=lambda: _NONE.astype(bool))
    right_champion: Array = field(default_factory=lambda: _NONE.astype(bool))
    slices: Mapping[str, Array] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    champion_scores: Mapping[str, float] = field(default_factory=dict)
    has_champion: bool = True
    loss: str = "log loss"
    least_loss: float = LEAST_LOSS
    broken: str = ""


@dataclass(frozen=True)
class Decision:
    """Whether the candidate is accepted, why, in one sentence, and the figures under it.

    `starts_anew`: earlier nights' held-out rows are of a concept that has ended, and must judge no later night.
    """

    accepted: bool
    reason: Reason
    verdict: str
    figures: dict[str, Json]
    starts_anew: bool = False


def decide(evidence: Evidence, config: GateConfig, *, override: str | None = None) -> Decision:
    """Decide whether the candidate becomes the head. `override`: a person's reason to accept it anyway."""
    broken = evidence.broken or _not_finite(evidence)
    if broken:
        return Decision(False, "broken", f"refused: {broken}", {})
    figures = _figures(evidence) if evidence.has_champion else {}
    reason, why = _judge(evidence, figures, config) if figures else ("first", "it is the first")
    n = len(evidence.tonight_candidate) + len(evidence.memory_candidate)
    if reason not in _REFUSING and n >= config.min_rows:
        reason, why = _missed(evidence, config, n) or (reason, why)
    told: dict[str, Json] = {**_json(figures), **_more(evidence), **({"override": override} if override else {})}
    if reason not in _REFUSING:
        return Decision(True, reason, f"accepted: {why}", told, starts_anew=reason == "confirmed")
    if override:
        said = f"accepted by hand ({override}), against the gate: {why}"
        return Decision(True, "override", said, told, starts_anew=reason == "forgetting")
    return Decision(False, reason, f"refused{' for now' * (reason == 'forgetting')}: {why}", told)


def confirms(kept: Interval, config: GateConfig) -> bool:
    """Say whether rows that came since speak for the kept candidate: what it learned is the concept that holds now."""
    return kept.n >= config.min_rows and kept.mean < 0


def _not_finite(e: Evidence) -> str:
    if all(np.isfinite(losses).all() for losses in (e.tonight_candidate, e.memory_candidate)):
        return ""
    return NOT_FINITE


def _figures(e: Evidence) -> dict[str, Interval]:
    """Return the intervals of candidate minus champion on each set of rows."""
    tonight, memory = e.tonight_candidate - e.tonight_champion, e.memory_candidate - e.memory_champion
    sets = {"tonight": tonight, "memory": memory, "pooled": _pooled(e), "kept": e.kept_candidate - e.kept_champion}
    return {name: paired_interval(difference) for name, difference in sets.items()}


def _pooled(e: Evidence) -> Array:
    """Return the differences of tonight's rows and the memory's, which slices index."""
    return np.concatenate([e.tonight_candidate - e.tonight_champion, e.memory_candidate - e.memory_champion])


def _champion(e: Evidence) -> Array:
    return np.concatenate([e.tonight_champion, e.memory_champion])


def _judge(e: Evidence, figures: dict[str, Interval], config: GateConfig) -> tuple[Reason, str]:
    """Go through the rules in their order; the first that applies decides."""
    kept, pooled = figures["kept"], figures["pooled"]
    champion = _champion(e)
    if confirms(kept, config):
        return "confirmed", _confirmed(kept, e)
    if pooled.n < config.min_rows:
        return "accepted", f"not enough evidence, {pooled.n:,} held-out rows of the {config.min_rows} needed"
    if _forgets(e, figures["tonight"], figures["memory"], config):
        return "forgetting", _forgetting(figures, e, config)
    if pooled.low > config.margin * _base(champion, e):
        change = _change(pooled, champion, e)
        return "worse", f"it is worse, {change} on {pooled.n:,} held-out rows; {_then(kept, e, config)}"
    verdict = "it is better" if pooled.high < 0 else "no evidence that it is worse"
    return "accepted", f"{verdict}, {_change(pooled, champion, e)} on {pooled.n:,} held-out rows"


def _missed(e: Evidence, config: GateConfig, n: int) -> tuple[Reason, str] | None:
    """Return the first demand that is missed; slices and flips compare with a champion."""
    if missed := floor_missed(config.floors, e.scores, e.champion_scores):
        return "floor", f"{missed}, on {n:,} held-out rows"
    if not e.has_champion:
        return None
    if missed := _worst_slice(e, config):
        return "slice", missed
    flipped = too_many_flips(count_flips(e.right_candidate, e.right_champion), config.max_negative_flips)
    return ("flips", flipped) if flipped else None


def _worst_slice(e: Evidence, config: GateConfig) -> str:
    """Name the slice that is worse by the largest share, if there is evidence that it is worse."""
    worst, said = config.slice_margin, ""
    for name, interval in slice_intervals(_pooled(e), e.slices).items():
        champion = _champion(e)[e.slices[name]]
        share = interval.low / _base(champion, e)
        if share > worst:
            worst = share
            said = f"it is worse where {name}, {_change(interval, champion, e)} on {interval.n:,} held-out rows"
    return said


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
    now, before = _change(tonight, e.tonight_champion, e), _change(memory, e.memory_champion, e)
    return (
        f"it is better on tonight's rows, {now}, but worse on {memory.n:,} of earlier nights, {before}; "
        f"{_then(kept, e, config)}"
    )


def _then(kept: Interval, e: Evidence, config: GateConfig) -> str:
    """Say what later rows have said of the candidate that is kept, and what they are to say yet."""
    if kept.n >= config.min_rows:
        change = _change(kept, e.kept_champion, e)
        return f"the candidate kept before has {change} on the {kept.n:,} rows that came since, now this one is kept"
    left = f"{config.min_rows - kept.n:,} more" if kept.n else f"{config.min_rows:,}"
    return f"it is kept, and wins if it predicts the next rows better, of which {left} are needed"


def _confirmed(kept: Interval, e: Evidence) -> str:
    return (
        f"the change is real, the candidate refused before has {_change(kept, e.kept_champion, e)} "
        f"on the {kept.n:,} rows that came since; the holdout memory starts anew"
    )


def _more(e: Evidence) -> dict[str, Json]:
    """Return what is reported besides the intervals: scores, rows that flipped, slices."""
    told: dict[str, Json] = {"scores": _finite(e.scores)} if e.scores else {}
    if not e.has_champion:
        return told
    told |= {"champion_scores": _finite(e.champion_scores)} if e.champion_scores else {}
    if len(e.right_champion):
        flips = count_flips(e.right_candidate, e.right_champion)
        told["flips"] = {"positive": flips.positive, **_json({"negative": flips.negative})}
    if e.slices:
        told["slices"] = _json(slice_intervals(_pooled(e), e.slices))
    return told


def _finite(scores: Mapping[str, float]) -> dict[str, Json]:
    return {name: value for name, value in scores.items() if np.isfinite(value)}


def _json(figures: dict[str, Interval]) -> dict[str, Json]:
    """Return intervals that have rows; bounds without evidence are null, for JSON knows no infinity."""
    return {
        name: {key: value if np.isfinite(value) else None for key, value in asdict(interval).items()}
        for name, interval in figures.items()
        if interval.n
    }

"""What may be demanded of a candidate besides that it is no worse than the champion as a whole.

Floors are absolute; flips are rows that the champion had right and the candidate has wrong; slices are the rows with
one value of a column. Each demand is a sentence that says how it was missed, or an empty one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from nightfit.batch import Array
from nightfit.errors import ConfigError
from nightfit.metrics import HIGHER_IS_BETTER, OF_PROBABILITIES, SCORES, Interval, paired_interval

SCORE_NAMES = {name: said for names in SCORES.values() for name, said in names.items()}
"""Every score that can have a floor, and what people call it."""


@dataclass(frozen=True)
class Flips:
    """Of the held-out rows, the share that was right and is wrong now, and the share that it is the other way round."""

    negative: Interval
    positive: float


def unknown_floor(floors: Mapping[str, float]) -> str:
    """Say which floor is none, and what was perhaps meant."""
    for name, value in floors.items():
        if name not in SCORE_NAMES:
            near = get_close_matches(name, SCORE_NAMES, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(SCORE_NAMES)}"
            return f"a floor must be a score's, however floors has '{name}'; {hint}"
        if value != value:  # noqa: PLR0124 - NaN, which no score is past
            return f"a floor must be a number, however floors.{name} is not"
    return ""


def check_demands(
    floors: Mapping[str, float], slices: Iterable[str], *, task: str, kinds: Mapping[str, str], votes: bool = False
) -> None:
    """Raise `ConfigError` for a floor of a score that the task does not have, a slice that is no categorical column.

    `kinds`: those of the columns, by name. `votes`: the model votes, and has no scores of probabilities.
    """
    for name in floors:
        if name not in SCORES[task]:
            raise ConfigError(
                f"a floor must be a score of the task, however gate.floors has '{name}' and the task is {task}, which "
                f"has {', '.join(SCORES[task])}; take it out"
            )
        if votes and name in OF_PROBABILITIES:
            raise ConfigError(
                f"a floor must be a score of every model, however gate.floors has '{name}' and a passive-aggressive "
                "classifier gives no probabilities; take accuracy or macro_f1"
            )
    for name in slices:
        if name not in kinds:
            near = get_close_matches(name, kinds, 1)
            hint = f"did you mean '{near[0]}'?" if near else "take it out, or mend the source"
            raise ConfigError(f"gate.slices must name columns that are delivered, however '{name}' is none; {hint}")
        if kinds[name] != "categorical":
            raise ConfigError(
                f"gate.slices must name categorical columns, however '{name}' is {kinds[name]}; take it out, or in a "
                "new pipeline put it into schema.categorical"
            )


def floor_missed(floors: Mapping[str, float], scores: Mapping[str, float], champion: Mapping[str, float]) -> str:
    """Say which score is past its floor: below it where more is better, above it where less is."""
    for name, floor in floors.items():
        is_higher_better = name in HIGHER_IS_BETTER
        if name in scores and (scores[name] < floor if is_higher_better else scores[name] > floor):
            beside = f" (the champion has {champion[name]:.4g})" if name in champion else ""
            side = "below the floor" if is_higher_better else "above the limit"
            return f"{SCORE_NAMES[name]} {scores[name]:.4g} is {side} of {floor:g}{beside}"
    return ""


def count_flips(candidate: Array, champion: Array) -> Flips:
    """Compare which rows (bool [n]) the two have right."""
    positive = float((candidate & ~champion).mean()) if len(champion) else 0.0
    return Flips(paired_interval((champion & ~candidate).astype(float)), positive)


def too_many_flips(flips: Flips, limit: float) -> str:
    """Say so if with evidence more rows flipped from right to wrong than may."""
    found = flips.negative
    if found.low <= limit:
        return ""
    return (
        f"{found.mean:.1%} of the {found.n:,} held-out rows were right and are wrong now (at least {found.low:.1%}), "
        f"more than the {limit:.1%} allowed"
    )


def slice_intervals(difference: Array, slices: Mapping[str, Array]) -> dict[str, Interval]:
    """Return the interval of each slice's loss differences; `slices` are indices (int [m]) into all rows' [n].

    With many slices one of them looks worse by chance: the bounds hold for all of them together (Bonferroni).
    """
    return {name: paired_interval(difference[rows], n_looks=len(slices)) for name, rows in slices.items()}

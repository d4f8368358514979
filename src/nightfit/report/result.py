"""A comparison's result as the report reads it: what is there, in the order in which people want it.

`compare` may leave out whatever it did not measure; nothing here invents it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nightfit.metrics import HIGHER_IS_BETTER, SCORES

MIN_SMOOTH, SMOOTH_SHARE = 7, 40
"""A point of a curve is the mean of seven nights, or of a fortieth of all if that is more: single nights are noisy."""

FAR = 4.0
"""What is beyond four times the median lies off the scale of a figure: one that failed must not flatten the others."""


Point = tuple[float, float]
"""A night's or a version's number, and a value."""


@dataclass(frozen=True)
class Pair:
    """One model against another: the difference of their scores, as a share of the other's, with its 95 % interval.

    `verdict` is of the model: better, worse, same (within the margin) or unclear.
    """

    model: str
    against: str
    relative: float
    low: float
    high: float
    margin: float
    verdict: str


@dataclass(frozen=True)
class Result:
    """The JSON of a comparison."""

    json: Mapping[str, Any]

    @property
    def models(self) -> Mapping[str, Mapping[str, Any]]:
        """Every model's figures, in the order given."""
        found: Mapping[str, Mapping[str, Any]] = self.json["models"]
        return found

    @property
    def score(self) -> str:
        """The score that decides; lower is better."""
        return str(self.json.get("score") or next(iter(SCORES[self.json["task"]])))

    @property
    def scored(self) -> dict[str, str]:
        """The scores of the task, the one that decides first, and what people call them."""
        labels = SCORES[self.json["task"]]
        return {self.score: labels[self.score]} | labels

    @property
    def label(self) -> str:
        """What people call the score that decides."""
        return self.scored[self.score]

    @cached_property
    def ranked(self) -> list[str]:
        """The models that have a score, the best first."""
        return sorted((name for name in self.models if self.value(name) is not None), key=self._loss)

    @property
    def failed(self) -> dict[str, str]:
        """Why models failed."""
        said = {name: figures.get("failed") for name, figures in self.models.items()}
        return {name: str(why) for name, why in said.items() if why}

    @property
    def voters(self) -> dict[str, Pair | None]:
        """The models without the score that decides, as they give no probabilities: how they do by errors."""
        names = [name for name in self.models if name not in self.failed and name not in self.ranked]
        return {name: self.pair(name, self.best) for name in names}

    def _loss(self, name: str) -> float:
        value = self.value(name)
        if value is None:
            return math.inf
        return -value if self.score in HIGHER_IS_BETTER else value

    def value(self, name: str, metric: str = "") -> float | None:
        """Return a model's figure, the score that decides if none is named; None if it has none."""
        value = self.models[name].get(metric or self.score)
        return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None

    def index(self, name: str) -> int:
        """Return a model's place in the order given: its colour and mark."""
        return list(self.models).index(name)

    @property
    def best(self) -> str:
        """The model that scored best; empty where none has a score."""
        said = self.json.get("best")
        return str(said) if said in self.ranked else (self.ranked or [""])[0]

    @property
    def next(self) -> str:
        """The model that scored next to the best; empty where there is none."""
        return next((name for name in self.ranked if name != self.best), "")

    @property
    def take(self) -> str:
        """The model to take: the best, or the cheapest of those that are shown to be as good within the margin."""
        as_good = [name for name, pair in self.against_best.items() if pair.verdict == "same"]
        return min([self.best, *as_good], key=lambda name: self.cost_s(name) or math.inf) if self.best else ""

    @cached_property
    def against_best(self) -> dict[str, Pair]:
        """How each other model does against the best one, as far as that was measured."""
        pairs = {name: self.pair(name, self.best) for name in self.ranked if name != self.best}
        return {name: pair for name, pair in pairs.items() if pair}

    def pair(self, model: str, against: str) -> Pair | None:
        """Return how one model does against another; None if that was not measured."""
        pairs = self.json.get("pairs") or []
        return next((self._pair(each) for each in pairs if (each["model"], each["against"]) == (model, against)), None)

    def _pair(self, each: Mapping[str, Any]) -> Pair | None:
        base = each.get("loss") or self._row_loss(each["against"])
        if not base or each["low"] is None or each["high"] is None:
            return None
        mean, low, high = (self._share(each[name] / base) for name in ("difference", "low", "high"))
        margin = self._share(float((self.json.get("protocol") or {}).get("margin") or 0))
        return Pair(each["model"], each["against"], mean, low, high, margin, each["verdict"])

    def _share(self, of_loss: float) -> float:
        """Return a difference of losses as one of scores: the root of the squared error is what people are told."""
        return math.sqrt(max(1 + of_loss, 0)) - 1 if self.score == "rmse" else of_loss

    def _row_loss(self, name: str) -> float | None:
        """Return the mean loss of a row: what differences are shares of. A quantity's is the squared error."""
        value = self.value(name)
        return value * value if value is not None and self.score == "rmse" else value

    def cost_s(self, name: str) -> float | None:
        """Return the seconds of a model's night, learned and predicted: tonight's, or the mean; None if unknown."""
        told = (self.json.get("costs") or {}).get(name) or {}
        if told.get("tonight_s") is not None:
            return float(told["tonight_s"])
        seconds = [s for what in ("learn", "predict") if (s := self.value(name, f"{what}_cpu_s")) is not None]
        return sum(seconds) / self.n_nights if seconds else None

    @property
    def n_nights(self) -> int:
        """How many nights were scored."""
        return int(self.json["nights"])

    @property
    def nights(self) -> Sequence[Mapping[str, Any]]:
        """Every scored night."""
        found: Sequence[Mapping[str, Any]] = self.json["per_night"]
        return found

    def night_names(self) -> dict[int, str]:
        """Return what nights are called by their dates, if they were cut by a column of times."""
        periods = {int(night["night"]): str(night.get("period") or "") for night in self.nights}
        return {i: text[:10] for i, text in periods.items()} if all(periods.values()) else {}

    @property
    def drifts(self) -> list[Mapping[str, Any]]:
        """The nights at which a drift was found, and why."""
        return list(self.json.get("drifts") or [])

    @property
    def smooth(self) -> int:
        """How many nights a point of a curve is the mean of."""
        return smoothing(self.n_nights)

    def curve(self, name: str, metric: str) -> list[Point]:
        """Return a model's score over the nights, smoothed. A model that failed ends where it failed."""
        found = [(night, (night["models"].get(name) or {}).get(metric)) for night in self.nights]
        values = [(int(night["night"]), float(v), float(night["rows"])) for night, v in found if v is not None]
        return rolling(values, self.smooth, metric)


def smoothing(n_nights: int) -> int:
    """Return how many nights a point of a curve over so many is the mean of."""
    return max(min(MIN_SMOOTH, n_nights), n_nights // SMOOTH_SHARE)


def rolling(values: Sequence[tuple[int, float, float]], n: int, metric: str) -> list[Point]:
    """Return the means of the last n values at each place, from places, values and their rows, by which they count.

    The mean of root mean squares is that of their squares.

    >>> rolling([(2, 1.0, 100), (3, 3.0, 100), (4, 3.0, 300)], 2, "log_loss")
    [(2, 1.0), (3, 2.0), (4, 3.0)]
    """
    power = 2 if metric == "rmse" else 1
    points: list[Point] = []
    for i, (place, _, _) in enumerate(values):
        window = values[max(i - n + 1, 0) : i + 1]
        rows = sum(n_rows for _, _, n_rows in window)
        mean = sum(value**power * n_rows for _, value, n_rows in window) / rows
        points.append((float(place), mean ** (1 / power)))
    return points


def off_scale(values: Mapping[str, float]) -> set[str]:
    """Name the models whose value is too far from the others' to share an axis with them."""
    ordered = sorted(values.values())
    limit = FAR * ordered[(len(ordered) - 1) // 2] if ordered else 0.0
    return {name for name, value in values.items() if value > limit > 0}


def better(metric: str) -> str:
    """Say which end of a score is the good one."""
    return "higher" if metric in HIGHER_IS_BETTER else "lower"

"""From what every model scored to the one result that people and the report read: plain JSON, null where there is none.

Several seeds of a model are averaged; how far they spread is told, and widens the intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nightfit.compare import figures
from nightfit.compare.bench import options
from nightfit.compare.statistics import N_RESAMPLES, Difference, difference
from nightfit.compare.verdict import cost_text, sentence
from nightfit.jsontypes import Json
from nightfit.metrics import reliability

if TYPE_CHECKING:
    from nightfit.batch import Array
    from nightfit.compare.bench import Bench
    from nightfit.compare.ledger import Ledger, NightScore
    from nightfit.compare.staging import Staged

LAST_NIGHTS = 30
"""The nights whose median cost is what tonight costs."""

SECONDS = ("learn_cpu_s", "predict_cpu_s", "learn_s", "predict_s")


def _variance_of_mean(values: Sequence[float]) -> float:
    return float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Series:
    """A model's nights, float [n] each: mean losses, and shares of wrong rows (None of a quantity).

    `votes` have no loss, only errors. `seed_variance` is what the seeds add to the variance of the mean loss,
    `error_variance` to that of the mean error.
    """

    losses: Array
    errors: Array | None = None
    votes: bool = False
    seed_variance: float = 0.0
    error_variance: float = 0.0

    def means(self, rows: Array) -> float:
        """Return what the models of a comparison are ranked by."""
        return float(np.average(self.errors if self.votes and self.errors is not None else self.losses, weights=rows))


@dataclass(frozen=True)
class Outcome:
    """What a model's seeds came to, over the scored nights."""

    ledgers: Sequence[Ledger]

    @cached_property
    def rows(self) -> Array:
        """Rows of each scored night, int [n]."""
        return np.array([night.rows for _, night in self.ledgers[0].scored])

    @cached_property
    def losses(self) -> Array:
        """The mean loss of each scored night, float [n]: the mean over the seeds."""
        by_seed = np.array([[night.mean_loss for _, night in ledger.scored] for ledger in self.ledgers], np.float64)
        return np.asarray(by_seed.mean(0))

    @cached_property
    def rolling(self) -> Array:
        """The mean loss of each scored night and the last ones before it, float [n]."""
        return figures.rolling(self.losses, self.rows)

    @cached_property
    def errors(self) -> Array | None:
        """The share of wrong rows of each scored night, float [n], the mean over the seeds; None of a quantity."""
        nights = [[night.scores.get("accuracy") for _, night in ledger.scored] for ledger in self.ledgers]
        return None if None in nights[0] else np.asarray(1 - np.array(nights, np.float64).mean(0))

    @property
    def votes(self) -> bool:
        """Whether its answers are votes, which have no loss."""
        return self.ledgers[0].total.votes

    @property
    def series(self) -> Series:
        """What it is held against others by."""
        return Series(self.losses, self.errors, self.votes, self.seed_variance, self._error_variance)

    @property
    def seed_variance(self) -> float:
        """The variance of the mean loss that comes of the seeds; 0 where there is one, and nothing is known."""
        return _variance_of_mean([ledger.total.mean_loss for ledger in self.ledgers])

    @property
    def _error_variance(self) -> float:
        found = [ledger.total.scores().get("accuracy") for ledger in self.ledgers]
        return _variance_of_mean([each for each in found if each is not None])

    def scores(self, of: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Return the mean of every score over the seeds, of those that all have."""
        shared = [name for name in of[0] if all(name in each for each in of)]
        return {name: float(np.mean([each[name] for each in of])) for name in shared}

    def seconds(self, what: str) -> float:
        """Return the seconds over all nights, the mean of the seeds'."""
        return float(np.mean([sum(getattr(night, what) for night in ledger.nights) for ledger in self.ledgers]))

    @property
    def tonight_s(self) -> float:
        """What a night costs: the median of the last ones, predicted and learned."""
        last = [[n.learn_s + n.predict_s for n in ledger.nights if n.learn_s][-LAST_NIGHTS:] for ledger in self.ledgers]
        return float(np.mean([np.median(each) for each in last]))

    @property
    def retrain_s(self) -> float | None:
        """What a retraining on all rows costs, if it was measured."""
        found = [ledger.retrain_s for ledger in self.ledgers if ledger.retrain_s is not None]
        return float(np.mean(found)) if found else None


def assemble(
    bench: Bench, staged: Staged, ledgers: Mapping[str, Sequence[Ledger]], failed: Mapping[str, str]
) -> dict[str, Json]:
    """Return the result; at least one model must not have failed."""
    outcomes = {name: Outcome(ledgers[name]) for name in bench.models if name not in failed}
    is_quantity = staged.task == "regression"
    rows = next(iter(outcomes.values())).rows
    series = {name: outcome.series for name, outcome in outcomes.items()}
    pairs, reference, best = held_against(series, rows, bench.margin)
    first = outcomes[reference].ledgers[0]
    drifted = figures.drifts(figures.as_errors(first.sampled, is_quantity=is_quantity))
    models = {
        name: _model(bench, name, outcomes, reference, drifted, is_quantity=is_quantity)
        if name in outcomes
        else {"failed": failed[name], "kind": config.kind, "config": options(config)}
        for name, config in bench.models.items()
    }
    numbers = [i for i, _ in first.scored]
    result: dict[str, Any] = {
        "task": staged.task,
        "rows": int(outcomes[reference].rows.sum()),
        "nights": len(numbers),
        "score": deciding(series, is_quantity=is_quantity),
        "seed": bench.seeds[0],
        "seeds": list(bench.seeds),
        "classes": bench.protocol.classes,
        "models": models,
        "per_night": [_night(k, i, staged, outcomes, is_quantity=is_quantity) for k, i in enumerate(numbers)],
        "drifts": [_drift(drift, numbers, reference, is_quantity=is_quantity) for drift in drifted],
        "protocol": {
            "cut": bench.cut.text,
            "label_delay": bench.protocol.label_delay,
            "warm_up": bench.protocol.warm_up,
            "margin": bench.margin,
        },
        "costs": {name: _cost(outcome) for name, outcome in outcomes.items()},
        "staging_cpu_s": round(sum(night.shared_s for night in staged.nights), 3),
    }
    return summary(result, pairs, reference, best)


def _model(
    bench: Bench,
    name: str,
    outcomes: Mapping[str, Outcome],
    reference: str,
    drifted: Sequence[figures.Drift],
    *,
    is_quantity: bool,
) -> dict[str, Any]:
    outcome, config = outcomes[name], bench.models[name]
    ledgers = outcome.ledgers
    by_seed = [ledger.total.scores() for ledger in ledgers]
    learn_cpu, predict_cpu, learn, predict = (round(outcome.seconds(what), 3) for what in SECONDS)
    back = figures.recoveries(outcome.losses, outcome.rows, [d.night for d in drifted], bench.margin)
    scores = outcome.scores(by_seed)
    return {
        **scores,
        **ledgers[0].figures,
        "learn_cpu_s": learn_cpu,
        "predict_cpu_s": predict_cpu,
        "rows": ledgers[0].total.n,
        "learn_wall_s": learn,
        "predict_wall_s": predict,
        "peak_mib": _mean([ledger.peak_mib for ledger in ledgers]),
        "disk_bytes": _whole(_mean([ledger.disk_bytes for ledger in ledgers])),
        "reliability": [] if outcome.votes else reliability(np.sum([lg.total.bins for lg in ledgers], axis=0)),
        "forgetting": None if outcome.votes else _forgetting(ledgers, is_quantity=is_quantity),
        "negative_flips": None if is_quantity or name == reference else _flips(outcomes[reference].ledgers, ledgers),
        "recovery_nights": figures.median(back),
        "recovered": f"{sum(n is not None for n in back)} of {len(back)}" if back else None,
        "retrain_s": outcome.retrain_s,
        "spread": {s: float(np.std([each[s] for each in by_seed], ddof=1)) for s in scores} if by_seed[1:] else None,
        "kind": config.kind,
        "config": options(config),
        "failed": None,
    }


def _forgetting(ledgers: Sequence[Ledger], *, is_quantity: bool) -> float | None:
    changes = [
        _score(ledger.last_loss, is_quantity=is_quantity) - _score(ledger.first_loss, is_quantity=is_quantity)
        for ledger in ledgers
        if ledger.first_loss is not None and ledger.last_loss is not None
    ]
    return float(np.mean(changes)) if changes else None


def _score(loss: float, *, is_quantity: bool) -> float:
    """Turn a mean loss into the score that people read."""
    return math.sqrt(loss) if is_quantity else float(loss)


def _flips(reference: Sequence[Ledger], ledgers: Sequence[Ledger]) -> float:
    pairs = zip(reference, ledgers, strict=True)
    return float(np.mean([figures.negative_flips(ours.right(), theirs.right()) for ours, theirs in pairs]))


def deciding(series: Mapping[str, Series], *, is_quantity: bool) -> str:
    """Return the score that decides: of the loss that is learned, or of what is right where all answers are votes."""
    return "rmse" if is_quantity else "accuracy" if all(each.votes for each in series.values()) else "log_loss"


def held_against(series: Mapping[str, Series], rows: Array, margin: float) -> tuple[list[dict[str, Any]], str, str]:
    """Hold every model against the first, and against the best one; return the pairs, and which two these are.

    `rows`: those of the nights, int [n]. `margin` is a share of the other's loss. A pair of which one gives votes is
    held against each other by errors; it is the best only where all give votes.
    """
    with_loss = [name for name, each in series.items() if not each.votes]
    reference, best = next(iter(series)), min(with_loss or series, key=lambda name: series[name].means(rows))
    pairs = [
        {"model": name, "against": other, **_paired(series[name], series[other], rows, margin)}
        for other in dict.fromkeys((reference, best))
        for name in series
        if name != other
    ]
    return pairs, reference, best


def _paired(ours: Series, theirs: Series, rows: Array, margin: float) -> dict[str, Any]:
    if ours.errors is not None and theirs.errors is not None and (ours.votes or theirs.votes):
        variance = ours.error_variance + theirs.error_variance
        found = difference(ours.errors, theirs.errors, rows, seed_variance=variance)
        loss = float(np.average(theirs.errors, weights=rows))
        return {"by": "errors", **_pair(found, loss, margin)}
    variance = ours.seed_variance + theirs.seed_variance
    found = difference(ours.losses, theirs.losses, rows, seed_variance=variance)
    return {"by": "loss", **_pair(found, theirs.means(rows), margin)}


def _pair(found: Difference, loss: float, margin: float) -> dict[str, Any]:
    return {
        "difference": found.mean,
        "low": _figure(found.low),
        "high": _figure(found.high),
        "relative": found.mean / loss if loss else None,
        "loss": loss,
        "margin": margin * loss,
        "verdict": found.verdict(margin * loss),
        "block_nights": round(float(found.block_nights), 2),
    }


def summary(result: dict[str, Any], pairs: list[dict[str, Any]], reference: str, best: str) -> dict[str, Any]:
    """Return a result with what holding the models against each other came to, and the verdict in words."""
    blocks = max((pair["block_nights"] for pair in pairs), default=None)
    protocol = {**result["protocol"], "block_nights": blocks, "n_resamples": N_RESAMPLES}
    result = {**result, "reference": reference, "best": best, "pairs": pairs, "protocol": protocol}
    return {**result, "verdict": sentence(result)}


def _night(k: int, i: int, staged: Staged, outcomes: Mapping[str, Outcome], *, is_quantity: bool) -> dict[str, Any]:
    """Return the k-th scored night, the i-th of all."""
    return {
        "night": i + 1,
        "rows": staged.nights[i].rows,
        "period": staged.nights[i].period,
        "models": {name: _of_night(outcome, k, i, is_quantity=is_quantity) for name, outcome in outcomes.items()},
    }


def _of_night(outcome: Outcome, k: int, i: int, *, is_quantity: bool) -> dict[str, Any]:
    nights: list[NightScore] = [ledger.nights[i] for ledger in outcome.ledgers]
    return {
        **outcome.scores([night.scores for night in nights]),
        "rolling": None if outcome.votes else _score(float(outcome.rolling[k]), is_quantity=is_quantity),
        "learn_s": round(float(np.mean([night.learn_s for night in nights])), 4),
        "predict_s": round(float(np.mean([night.predict_s for night in nights])), 4),
    }


def _drift(drift: figures.Drift, numbers: Sequence[int], reference: str, *, is_quantity: bool) -> dict[str, Any]:
    what = "error" if is_quantity else "error (1 minus the probability of the true class)"
    why = f"{reference}'s mean {what} rose from {drift.before:.3f} to {drift.now:.3f}"
    return {"night": numbers[drift.night] + 1, "why": why}


def _cost(outcome: Outcome) -> dict[str, Any]:
    tonight, retrain = outcome.tonight_s, outcome.retrain_s
    return {
        "tonight_s": round(tonight, 4),
        "retrain_s": None if retrain is None else round(retrain, 3),
        "ratio": None if retrain is None or not tonight else round(retrain / tonight, 2),
        "text": None if retrain is None else cost_text(tonight, retrain),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 1) if known else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _figure(value: float) -> float | None:
    """Return a number for JSON, which knows neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else None

"""The verdict in words: which model to take, by how much, how sure, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nightfit.metrics import SCORES

_MINUTE, _HOUR = 60.0, 3600.0


def sentence(result: Mapping[str, Any]) -> str:
    """Return the verdict on a result (the JSON of `compare`), as one sentence."""
    best, models = result["best"], [n for n, scores in result["models"].items() if not scores.get("failed")]
    figure = f"{_name(result)} {result['models'][best][result['score']]:.4f}"
    nights = f"{result['nights']} night{'s' if result['nights'] > 1 else ''}"
    by_votes = result["score"] == "accuracy"
    pairs = {p["model"]: p for p in result["pairs"] if p["against"] == best and (by_votes or p["by"] == "loss")}
    if len(models) == 1:
        return f"{best} alone was scored: {figure} over {nights}."
    if result["nights"] == 1 or not pairs:
        why = "of a single night; compare more of them" if pairs else "the others give no probabilities"
        return f"Too little to tell: {best} has the best {figure}, but {why}."
    next_ = min(pairs, key=lambda name: pairs[name]["difference"])
    by = f"{next_}: {_interval(result, pairs[next_])}"
    alike = [name for name, pair in pairs.items() if pair["verdict"] != "worse"]
    same = [name for name in alike if pairs[name]["verdict"] == "same"]
    cheapest = min([best, *same], key=lambda name: result["costs"][name]["tonight_s"])
    if not alike:
        return f"Take {best}: {figure} over {nights}; the next is worse ({by}); {_cost(result, best, next_)}."
    if cheapest != best:
        by = _interval(result, pairs[cheapest])
        return f"Take {cheapest}: as good as {best} ({by}) over {nights}; {_cost(result, cheapest, best)}."
    if same == alike:
        others = f"{_listed(same)} {'is' if len(same) == 1 else 'are'} as good"
        return f"Take {best}: {figure} over {nights}, though {others} ({by}); {_cost(result, best, next_)}."
    return (
        f"Take {best} if you must choose now: it has the best {figure} over {nights}, but its lead over "
        f"{_listed(alike)} is not sure ({by}); {_cost(result, best, next_)}."
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _name(result: Mapping[str, Any]) -> str:
    """Name the loss that decides."""
    return SCORES[result["task"]][result["score"]]


def shares(result: Mapping[str, Any], pair: Mapping[str, Any]) -> list[float]:
    """Return a difference and the ends of its interval, if that is known, as shares of the other's score.

    Of a quantity losses are squared errors, and people are told their roots.
    """
    of_loss = [pair[name] / (pair["loss"] or 1.0) for name in ("difference", "low", "high") if pair[name] is not None]
    return [math.sqrt(max(1 + each, 0)) - 1 for each in of_loss] if result["score"] == "rmse" else of_loss


def _interval(result: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    """Say a difference as a share of the other's score, with its interval."""
    mean, *ends = (f"{share:+.1%}" for share in shares(result, pair))
    return f"{mean}, 95 % interval {' to '.join(ends)}" if ends else mean


def _cost(result: Mapping[str, Any], name: str, other: str) -> str:
    ours, theirs = (result["costs"][each]["tonight_s"] for each in (name, other))
    text = result["costs"][name]["text"]
    if text:
        return f"{text[0].lower()}{text[1:]}"
    ratio = ours / theirs if theirs else 1.0
    if f"{max(ratio, 1 / ratio) if ratio else 0:.1f}" == "1.0":
        return f"a night costs {duration(ours)}, as {other}'s does"
    beside = f"{ratio:.1f} times {other}'s" if ratio >= 1 else f"{other}'s is {1 / ratio:.1f} times that"
    return f"a night costs {duration(ours)}, {beside}"


def cost_text(tonight_s: float, retrain_s: float) -> str:
    """Say what a night costs beside a full retrain.

    >>> cost_text(41, 2280)
    'tonight 41 s; a full retrain 38 min'
    """
    return f"tonight {duration(tonight_s)}; a full retrain {duration(retrain_s)}"


def duration(seconds: float) -> str:
    """Say seconds with about two digits.

    >>> duration(0.034), duration(4.25), duration(41.2), duration(2280), duration(9000)
    ('34 ms', '4.2 s', '41 s', '38 min', '2.5 h')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "under 1 ms"  # noqa: PLR2004 - a millisecond
    if seconds < 2 * _MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - two digits
    return f"{seconds / _MINUTE:.0f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.1f} h"

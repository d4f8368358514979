"""The verdict: which model to take, by how much, how sure, and at what cost. What was not measured is said to be so."""

from __future__ import annotations

import math

from nightfit.report.forest import interval
from nightfit.report.result import Result
from nightfit.report.words import percent, score, seconds, times

Tile = tuple[str, str, str]
"""What is told, the answer, and more about it."""


def sentence(result: Result) -> str:
    """Return the verdict in a sentence: the comparison's own, or one from the scores alone."""
    said = result.json.get("verdict")
    if said:
        return str(said)
    if not result.best:
        return "No model has a score: all of them failed."
    lead = f"{result.best} has the lowest {result.label}, {score(result.value(result.best))}"
    if not result.next:
        return f"{lead}; there is no other to hold it against."
    return f"{lead}; the next is {_more(result, result.next)}. No interval says how sure that is."


def _more(result: Result, name: str) -> str:
    """Say how much more a model loses than the best one."""
    value, best = result.value(name), result.value(result.best)
    share = f", {percent(value / best - 1, sign=True)}" if value is not None and best else ""
    return f"{name} with {score(value)}{share}"


def tiles(result: Result) -> list[Tile]:
    """Return the four answers; none where no model has a score."""
    return [_which(result), _how_much(result), _how_sure(result), _cost(result)] if result.best else []


def _which(result: Result) -> Tile:
    values = {label: result.value(result.take, metric) for metric, label in result.scored.items()}
    said = ", ".join(f"{label} {score(value)}" for label, value in list(values.items())[:2] if value is not None)
    return "Take", result.take, f"{said}; {_count(len(result.ranked))} compared"


def _count(n: int) -> str:
    return f"{n} model{'s' * (n > 1)}"


def _how_much(result: Result) -> Tile:
    if not result.next:
        return "By how much", "-", "there is no other model"
    if result.take != result.best:
        return (
            "By how much",
            "as good",
            f"as the best within the margin: {_more(result, result.take)} than {result.best}",
        )
    first, reference = result.next, result.json.get("reference")
    value, best = result.value(first), result.value(result.best)
    share = "-" if value is None or not best else percent(value / best - 1)
    also = reference if reference in result.ranked and reference not in {result.best, first} else None
    more = f"{first}, the next best, has {share} more {result.label}: {score(value)} against {score(best)}"
    return "By how much", f"{share} ahead", more + (f". The reference is {_more(result, str(also))}" if also else "")


def _how_sure(result: Result) -> Tile:
    against = result.take if result.take != result.best else result.next
    pair = result.against_best.get(against)
    if pair is None:
        return "How sure", "not known", "no interval was computed"
    said = {"worse": "sure", "better": "not sure", "same": "sure: the same", "unclear": "not sure"}[pair.verdict]
    others = [name for name, each in result.against_best.items() if each.verdict == "worse"]
    beaten = f". Surely worse: {', '.join(others)}" if others and said != "sure" else ""
    return "How sure", said, f"95 % interval of {against}'s difference: {interval(pair)}, {_how(result)}{beaten}"


def _how(result: Result) -> str:
    blocks = (result.json.get("protocol") or {}).get("block_nights")
    seeds = result.json.get("seeds") or []
    return (
        f"by {result.n_nights:,} nights" + (f" in blocks of {blocks:.3g}" if blocks else "")
        + (f" and {len(seeds)} seeds" if len(seeds) > 1 else "")
    )  # fmt: skip


def _cost(result: Result) -> Tile:
    take = result.take
    cost = result.cost_s(take)
    cheapest = min(result.ranked, key=lambda name: result.cost_s(name) or math.inf)
    least = result.cost_s(cheapest)
    retrain = ((result.json.get("costs") or {}).get(take) or {}).get("retrain_s")
    more = [
        "to learn and predict a night",
        f"{times(cost / least)} {cheapest}'s, the cheapest" if cost and least and cheapest != take else "",
        f"a full retrain takes {seconds(retrain)}" if retrain else "",
        f"at most {peak:,.0f} MiB of memory" if (peak := result.value(take, "peak_mib")) else "",
    ]
    return "At what cost", seconds(cost), "; ".join(filter(None, more))

"""The verdict: which model to take, by how much, how sure, and at what cost. What was not measured is said to be so."""

from __future__ import annotations

from nightfit.report.forest import interval
from nightfit.report.result import Pair, Result
from nightfit.report.words import percent, score, seconds, times

Tile = tuple[str, str, str]
"""What is told, the answer, and more about it."""


def sentence(result: Result) -> str:
    """Return the verdict in a sentence: the comparison's own, or one from the scores alone."""
    said = result.json.get("verdict")
    if said:
        return str(said)
    best, rival = result.best, result.rival
    if not best:
        return "No model has a score: all of them failed."
    lead = f"{best} has the lowest {result.label}, {score(result.value(best))}"
    if not rival:
        return f"{lead}; there is no other to hold it against."
    more = _ratio(result, rival, best)
    by = f" ({percent(more - 1)} more)" if more else ""
    return f"{lead}; {rival}'s is {score(result.value(rival))}{by}. No interval says how sure that is."


def _ratio(result: Result, model: str, against: str, metric: str = "") -> float | None:
    value, other = result.value(model, metric), result.value(against, metric)
    return value / other if value is not None and other else None


def tiles(result: Result) -> list[Tile]:
    """Return the four answers; none where no model has a score."""
    if not result.best:
        return []
    pair = result.pair(result.best, result.rival) if result.rival else None
    return [_which(result), _how_much(result), _how_sure(result, pair), _cost(result)]


def _which(result: Result) -> Tile:
    others = [f"{label} {score(value)}" for metric, label in result.scored.items()
              if (value := result.value(result.best, metric)) is not None]  # fmt: skip
    as_good = result.as_good
    also = f" Not told apart from it: {', '.join(as_good)}." if as_good else ""
    return "Take", result.best, f"{', '.join(others[:2])}; the best of {len(result.models)}.{also}"


def _how_much(result: Result) -> Tile:
    best, rival = result.best, result.rival
    if not rival:
        return "By how much", "-", "there is no other model"
    ratio = _ratio(result, best, rival)
    reference = " (the reference)" if rival == result.json.get("reference") else " (the next best)"
    values = f"{score(result.value(best))} against {score(result.value(rival))}"
    less = "-" if ratio is None else f"{percent(1 - ratio)} less" if ratio < 1 else "no less"
    return "By how much", less, f"{result.label} than {rival}{reference}: {values}"


def _how_sure(result: Result, pair: Pair | None) -> Tile:
    if pair is None:
        return "How sure", "not known", "no interval was computed"
    said = {"better": "sure", "worse": "not: it is worse", "same": "the same", "unclear": "not sure"}[pair.verdict]
    protocol = result.json.get("protocol") or {}
    blocks = f" in blocks of {n}" if (n := protocol.get("block_nights")) else ""
    seeds = result.json.get("seeds") or []
    loss = "squared error" if result.score == "rmse" else result.label
    how = f"bootstrap over {result.n_nights:,} nights{blocks}" + (f", {len(seeds)} seeds" if len(seeds) > 1 else "")
    return "How sure", said, f"95 % interval of the {loss} against {pair.against}: {interval(pair)} ({how})"


def _cost(result: Result) -> Tile:
    best, rival = result.best, result.rival
    cost, other = result.cpu_s(best), result.cpu_s(rival) if rival else None
    told = (result.json.get("costs") or {}).get(best) or {}
    more = [
        f"{times(cost / other)} {rival}'s ({seconds(other)})" if cost and other else "",
        str(told.get("text") or ""),
        f"memory {peak:,.0f} MiB at most" if (peak := result.value(best, "peak_mib")) else "",
    ]
    return (
        "At what cost, a night",
        f"{seconds(cost)} of CPU",
        "; ".join(filter(None, more)) or "learning and predicting",
    )

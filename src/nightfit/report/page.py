"""A comparison's page: the verdict first, then what it rests on, then how to make it again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

from nightfit.report.figures import figures
from nightfit.report.forest import VERDICTS, interval
from nightfit.report.html import Cell, facts, figure, folded, number, page, paragraph, section, table, tiles
from nightfit.report.result import Result, better
from nightfit.report.verdict import sentence
from nightfit.report.verdict import tiles as answers
from nightfit.report.words import percent, score, seconds, size

N_ROWS = 1000
"""Rows of the table of nights: of more nights a row is the mean of several."""

_Said = Callable[[float], str]
Column = tuple[str, dict[str, Cell]]
"""A column's heading, and its cell for each model."""


def comparison(result: Mapping[str, Any], *, title: str) -> str:
    """Return the page of what `compare.compare` returns."""
    return page(f"nightfit compare: {title}", _parts(Result(result)))


def _parts(result: Result) -> Iterator[str]:
    yield section("Verdict", paragraph(sentence(result)), tiles(answers(result)), *_failures(result), style="verdict")
    drawn = figures(result)
    yield from (figure(each) for each in drawn[:1])
    yield section("All models", _models(result))
    yield from (figure(each) for each in drawn[1:])
    yield folded("Every night", _nights(result))
    yield _protocol(result)


def _failures(result: Result) -> Iterator[str]:
    for name, why in result.failed.items():
        yield f'<p><strong class="bad">{escape(name)} failed:</strong> {escape(why)}</p>'
    for name, pair in result.voters.items():
        more = f": {interval(pair)} errors beside {result.best}, {pair.verdict}" if pair else ""
        yield f"<p><strong>{escape(name)}</strong> gives no probabilities, and is compared by errors{more}</p>"


_COSTS: dict[str, tuple[str, _Said]] = {
    "peak_mib": ("memory", lambda mib: size(mib * 2**20)),
    "disk_bytes": ("on disk", size),
    "retrain_s": ("full retrain", seconds),
    "negative_flips": ("right before, wrong now", percent),
    "forgetting": ("forgotten of the first night", lambda value: f"{value:+.4f}"),
    "recovery_nights": ("nights to recover from a drift", lambda nights: f"{nights:.3g}"),
}
"""Figures besides the scores that a result may have: what people call them, and how they are said."""


def _models(result: Result) -> str:
    """Return the models' scores, and below them what they cost and how they behave."""
    first, *others = (_score_column(result, metric, label) for metric, label in result.scored.items())
    cpu = [_column(result, f"{what} a night", seconds, _per_night(result, f"{key}_cpu_s"))
           for what, key in (("learning", "learn"), ("predicting", "predict"))]  # fmt: skip
    more = [_column(result, label, say, partial(result.value, metric=key)) for key, (label, say) in _COSTS.items()]
    recovered = "recovered from drifts", {n: Cell(str(m.get("recovered") or "-")) for n, m in result.models.items()}
    scored = f"Scores of all {result.json['rows']:,} predicted rows, the best model first"
    return _columns(result, scored, [first, *_spread(result), *_against_best(result), *others]) + _columns(
        result, "What a night costs, in CPU time, and how the models behave", [*cpu, *more, recovered]
    )


def _columns(result: Result, caption: str, columns: Sequence[Column]) -> str:
    """Return a table of the columns that say anything; nothing if none does."""
    shown = [(head, cells) for head, cells in columns if any(cell.words not in {"", "-"} for cell in cells.values())]
    heads = ["model", *(head for head, _ in shown)]
    rows = [[Cell(name), *(cells[name] for _, cells in shown)] for name in [*result.ranked, *_unranked(result)]]
    return (
        table(caption, heads, rows, words=[i for i, head in enumerate(heads) if head in {"model", "which is"}])
        if shown
        else ""
    )


def _unranked(result: Result) -> list[str]:
    return [name for name in result.models if name not in result.ranked]


def _score_column(result: Result, metric: str, label: str) -> Column:
    values = {name: result.value(name, metric) for name in result.models}
    there = [value for value in values.values() if value is not None]
    top = (max if better(metric) == "higher" else min)(there, default=None)
    return label, {name: number(v, score(v), is_best=v == top) for name, v in values.items()}


def _column(result: Result, label: str, say: _Said, value: Callable[[str], float | None]) -> Column:
    values = {name: value(name) for name in result.models}
    return label, {name: number(v, "-" if v is None else say(v)) for name, v in values.items()}


def _per_night(result: Result, key: str) -> Callable[[str], float | None]:
    def mean(name: str) -> float | None:
        value = result.value(name, key)
        return None if value is None else value / result.n_nights

    return mean


def _spread(result: Result) -> list[Column]:
    """Return the standard deviation of the score over the seeds, where there are several."""
    spreads = {name: (m.get("spread") or {}).get(result.score) for name, m in result.models.items()}
    return [("over seeds ±", {name: number(value, score(value)) for name, value in spreads.items()})]


def _against_best(result: Result) -> list[Column]:
    """Return what the intervals say; nothing where there are none."""
    if not result.against_best:
        return []
    said, so = {name: Cell("-") for name in result.models}, {name: Cell("-") for name in result.models}
    said[result.best], so[result.best] = Cell("the best", -1), Cell("")
    for name, pair in result.against_best.items():
        said[name] = number(pair.relative, f"{percent(pair.relative, sign=True)} ({interval(pair)})")
        so[name] = Cell(VERDICTS[pair.verdict])
    return [(f"more than {result.best}", said), ("which is", so)]


def _nights(result: Result) -> str:
    every = max(-(-len(result.nights) // N_ROWS), 1)
    groups = [result.nights[i : i + every] for i in range(0, len(result.nights), every)]
    drifts = {int(drift["night"]): str(drift.get("why") or "found") for drift in result.drifts}
    periods = bool(result.night_names())
    rows = []
    for group in groups:
        numbers = [int(night["night"]) for night in group]
        name = f"{numbers[0]}" if len(group) == 1 else f"{numbers[0]} to {numbers[-1]}"
        found = "; ".join(drifts[i] for i in numbers if i in drifts)
        n = sum(int(night["rows"]) for night in group)
        when = [Cell(str(group[0]["period"])[:16])] if periods else []
        values = [_mean(group, name, result.score) for name in result.models]
        rows.append([Cell(name, numbers[0]), *when, number(n, f"{n:,}"), *(number(v, score(v)) for v in values),
                     *([Cell(found, style="bad")] if drifts else [])])  # fmt: skip
    head = ["night", *(["from"] if periods else []), "rows", *result.models, *(["drift"] if drifts else [])]
    means = f" Rows are means of {every} nights." if every > 1 else ""
    caption = f"{result.label[0].upper()}{result.label[1:]} of every night, before it was learned.{means}"
    words = (0, *([1] if periods else []), *([len(head) - 1] if drifts else []))
    return table(caption, head, rows, words=words, tall=True)


def _mean(group: Sequence[Mapping[str, Any]], model: str, metric: str) -> float | None:
    found = [(night["models"].get(model) or {}).get(metric) for night in group]
    values = [float(value) for value in found if value is not None]
    return sum(values) / len(values) if values else None


def _protocol(result: Result) -> str:
    """Return what makes the comparison again: how it was done, by which command, with which versions and settings."""
    told = result.json
    protocol = told.get("protocol") or {}
    seeds = told.get("seeds") or [told.get("seed", 0)]
    rows = {
        "rows": f"{told['rows']:,} predicted, {told.get('left_out', 0):,} left out",
        "nights": f"{result.n_nights:,} predicted whole, each before any of its rows was learned",
        "cut": protocol.get("cut"),
        "labels come": f"{delay} nights late" if (delay := protocol.get("label_delay")) else None,
        "warm-up": f"{n} nights, not scored" if (n := protocol.get("warm_up")) else None,
        "classes": told.get("classes") if told["task"] == "classification" else None,
        "margin": percent(margin) if (margin := protocol.get("margin")) else None,
        "resamples": f"{n:,}" if (n := protocol.get("n_resamples")) else None,
        "seeds": ", ".join(map(str, seeds)),
        "device": told.get("device"),
        **{name: str(version) for name, version in (told.get("versions") or {}).items()},
    }
    command = told.get("command")
    configs = {
        name: {"kind": m["kind"], **(m.get("config") or {})} for name, m in result.models.items() if m.get("kind")
    }
    parts = [
        f"<pre>{escape(str(command))}</pre>" if command else "",
        facts([(what, str(value)) for what, value in rows.items() if value], "How it was done"),
        facts([(name, _settings(config)) for name, config in configs.items()], "Settings of the models")
        if configs
        else "",
    ]
    return section("To make it again", *parts, style="pages")


def _settings(config: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in config.items())

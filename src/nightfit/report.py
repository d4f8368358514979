"""The report: a comparison as one HTML page without scripts, fonts or pictures from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from nightfit.errors import DataError
from nightfit.metrics import HIGHER_IS_BETTER, SCORES

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM = 720, 260, 48, 16, 28
COLOURS = ("#0b63a5", "#c2410c", "#15803d", "#7e22ce", "#b91c1c", "#0f766e", "#a16207", "#4b5563")
"""Distinct on white, and dark enough to read (contrast of 4.5 and more)."""

SMOOTH = 7
"""Nights that a point of the curve averages: single nights are noisy."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 780px; margin: 2rem auto; padding: 0 1rem; color: #1f2937; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .3rem .6rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr { border-bottom: 1px solid #e5e7eb; }
.best { font-weight: 700; } .scroll { overflow-x: auto; } svg { width: 100%; height: auto; } p { color: #4b5563; }
"""

_COSTS = {"learn_cpu_s": "learning CPU s", "predict_cpu_s": "predicting CPU s"}


def write(result: Mapping[str, Any], path: Path, *, title: str) -> None:
    """Write the result of `compare.compare` as a page; raises `DataError` if it cannot be written."""
    try:
        path.write_text(page(result, title=title), encoding="utf-8")
    except OSError as error:
        raise DataError(f"--report must be writable, however {path}: {error.strerror}; name another file") from None


def page(result: Mapping[str, Any], *, title: str) -> str:
    """Return the page."""
    heading = escape(f"nightfit compare: {title}")
    classes = f"Classes {result.get('classes', 'declared')}. " if result["task"] == "classification" else ""
    facts = escape(
        f"{result['rows']:,} rows in {result['nights']} nights. Every night was predicted whole before any of its rows "
        f"was learned. {classes}Seed {result.get('seed', 0)}, on {result.get('device', 'cpu')}."
    )
    named = SCORES[result["task"]]
    curves = "".join(
        f"<h2>{label[0].upper()}{label[1:]}, night by night ({_better(metric)} is better)</h2>\n"
        + _curves(series, label)
        for metric, label in list(named.items())[:2]
        if (series := _per_night(result, metric))
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{heading}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>\n'
        f"<h1>{heading}</h1>\n<p>{facts}</p>\n"
        f"<div class='scroll'>{_table(result['models'], {**named, **_COSTS})}</div>\n{curves}\n"
        f"<p>Curves are means of {SMOOTH} nights.</p>\n</body></html>\n"
    )


def _per_night(result: Mapping[str, Any], metric: str) -> dict[str, list[float]]:
    """Return the scores of the models that have such (votes have no log loss)."""
    names = [name for name, scores in result["models"].items() if metric in scores]
    return {name: [night["models"][name][metric] for night in result["per_night"]] for name in names}


def _better(metric: str) -> str:
    return "higher" if metric in HIGHER_IS_BETTER else "lower"


def _table(models: Mapping[str, Mapping[str, float]], columns: Mapping[str, str]) -> str:
    best = {
        metric: (max if metric in HIGHER_IS_BETTER else min)(
            (scores[metric] for scores in models.values() if metric in scores), default=None
        )
        for metric in columns
    }
    head = "".join(f"<th>{label}</th>" for label in columns.values())
    rows = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(_cell(metric, scores.get(metric), is_best=scores.get(metric) == best[metric]) for metric in columns)
        + "</tr>"
        for name, scores in models.items()
    )
    return f"<table><thead><tr><th>model</th>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(metric: str, value: float | None, *, is_best: bool) -> str:
    if value is None:
        return "<td>-</td>"
    text = f"{value:,.1f}" if metric.endswith("_s") else f"{value:.4f}"
    return f"<td class='best'>{text}</td>" if is_best else f"<td>{text}</td>"


def _curves(series: Mapping[str, Sequence[float]], label: str) -> str:
    """Draw the smoothed series as an SVG; the legend is text, so that colour is not all there is."""
    smooth = {name: _smooth(values) for name, values in series.items()}
    values = [value for line in smooth.values() for value in line]
    ticks = _ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]
    n = max(len(line) for line in smooth.values())

    def x(i: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * i / max(n - 1, 1)

    def y(value: float) -> float:
        return 10 + (HEIGHT - BOTTOM - 10) * (high - value) / (high - low)

    parts = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(t):.1f}" y2="{y(t):.1f}" stroke="#e5e7eb"/>'
        f'<text x="{LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end" font-size="12" fill="#4b5563">{t:.3g}</text>'
        for t in ticks
    ]
    parts += [
        f'<text x="{x(i):.1f}" y="{HEIGHT - 8}" text-anchor="middle" font-size="12" fill="#4b5563">{i + 2}</text>'
        for i in sorted({0, n // 2, n - 1})
    ]
    for k, (name, line) in enumerate(smooth.items()):
        points = " ".join(f"{x(i):.1f},{y(value):.1f}" for i, value in enumerate(line))
        dashes = "6 3" if k % 2 else "none"
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{COLOURS[k % len(COLOURS)]}" stroke-width="2" '
            f'stroke-dasharray="{dashes}"><title>{escape(name)}</title></polyline>'
        )
    summary = escape(f"{label} of {', '.join(series)} over {n} nights, from {low:.3g} to {high:.3g}")
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{summary}">{"".join(parts)}</svg>'
    return svg + _legend(list(series))


def _ticks(low: float, high: float) -> list[float]:
    """Return three to seven round numbers that enclose the values."""
    spread = max(high - low, 1e-6)
    step = 10.0 ** math.floor(math.log10(spread))
    step = next(step * part for part in (0.2, 0.5, 1, 2) if spread / (step * part) <= 5)  # noqa: PLR2004 - few lines
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * i for i in range(first, max(last, first + 1) + 1)]


def _legend(names: Sequence[str]) -> str:
    keys = (
        f'<span style="color:{COLOURS[k % len(COLOURS)]}">{"- - " if k % 2 else "——"} {escape(name)}</span>'
        for k, name in enumerate(names)
    )
    return f"<p>{'&ensp;'.join(keys)}&ensp;over the number of the night</p>"


def _smooth(values: Sequence[float]) -> list[float]:
    """Return trailing means over `SMOOTH` nights."""
    starts = [max(i - SMOOTH + 1, 0) for i in range(len(values))]
    return [sum(values[start : i + 1]) / (i + 1 - start) for i, start in enumerate(starts)]

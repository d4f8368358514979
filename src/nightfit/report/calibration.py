"""Reliability: of the rows of which a model was so sure, how many it had right. One panel for each model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from nightfit.report.axes import Axis
from nightfit.report.result import Result
from nightfit.report.svg import N_COLOURS, Figure, Frame, drawing, line, mark, polyline, short, text, width_of
from nightfit.report.words import percent

_HALVES = Axis(0, 1, (0, 0.5, 1))
_PANEL = 170
"""Pixels that a panel is wide at least."""

_WORDS = 34
"""Pixels that its words need above and below."""

Bins = Sequence[Mapping[str, Any]]


def reliability(result: Result) -> Figure | None:
    """Return the figure; None where nothing was binned, as of a quantity."""
    found = {name: bins for name in result.ranked if (bins := _with_rows(result.models[name].get("reliability") or []))}
    if not found:
        return None
    errors = {name: _error(result, name) for name in found}
    note = (
        "Across: how sure the model was of its answer; up: how often it was right. On the diagonal they agree, below "
        "it the model is too sure, above it not sure enough. Larger marks: more rows. The number is the calibration "
        "error; lower is better."
    )
    alt = "Calibration: " + ", ".join(
        f"{name}, calibration error {words or 'not known'}" for name, words in errors.items()
    )
    return Figure(
        "reliability", "Can its probabilities be believed?", alt, note, partial(_draw, result, found, errors, alt)
    )


def _with_rows(bins: Bins) -> Bins:
    return [b for b in bins if b["rows"] and b["confidence"] is not None and b["accuracy"] is not None]


def _error(result: Result, name: str) -> str:
    value = result.value(name, "calibration_error")
    return "" if value is None else percent(value)


def _draw(result: Result, found: Mapping[str, Bins], errors: Mapping[str, str], alt: str, width: int) -> str:
    n = max(min(width // _PANEL, len(found), 4), 1)
    side = min(width / n, 260.0)
    high = side + _WORDS
    panels = (
        f'<svg x="{side * (i % n):.1f}" y="{high * (i // n):.1f}" width="{side:.1f}" height="{high:.1f}">'
        f"{''.join(_panel(result.index(name), name, bins, errors[name], side))}</svg>"
        for i, (name, bins) in enumerate(found.items())
    )
    return drawing(width, high * -(-len(found) // n), panels, alt)


def _panel(i: int, name: str, bins: Bins, error: str, side: float) -> Iterator[str]:
    frame = Frame(side, side + _WORDS, _HALVES, _HALVES, left=38, right=14, top=24, bottom=38)
    yield text(frame.left, 15, short(name, frame.inner[0] - width_of(error) - 8), style=f"f{i % N_COLOURS} strong")
    yield text(side - frame.right, 15, error, anchor="end")
    yield frame.grid("sure", lambda tick: f"{tick:g}")
    yield line(frame.x(0), frame.y(0), frame.x(1), frame.y(1), "axis")
    points = [(frame.x(b["confidence"]), frame.y(b["accuracy"])) for b in bins]
    yield polyline(points, f'class="l{i % N_COLOURS}" stroke-opacity=".5"')
    most = max(b["rows"] for b in bins)
    for b, (x, y) in zip(bins, points, strict=True):
        words = f"{name}: {percent(b['confidence'])} sure, {percent(b['accuracy'])} right, {b['rows']:,} rows"
        yield mark(i, x, y, words, r=2 + 4 * (b["rows"] / most) ** 0.5)

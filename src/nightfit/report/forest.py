"""How much more each model loses than the best one, with its interval, beside the margin that counts as nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from nightfit.report.axes import linear
from nightfit.report.result import Pair, Result
from nightfit.report.svg import N_COLOURS, Figure, Frame, box, drawing, line, mark, short, text, width_of
from nightfit.report.words import percent

_ROW = 44
_BESIDE, _PHONE = 230, 500
"""Pixels of a model: words, and its interval below; of the figures beside it, where the screen has the room."""

_FAR = 10.0
"""An interval that ends beyond ten times the next nearest end leaves the figure; an arrow says so."""

VERDICTS = {
    "better": "better",
    "worse": "worse",
    "same": "the same, within the margin",
    "unclear": "not told apart",
}
"""What people are told of a model against another."""


def differences(result: Result) -> Figure | None:
    """Return the figure; None where no interval was computed."""
    pairs = [pair for name in result.ranked if name != result.best and (pair := result.pair(name, result.best))]
    if not pairs:
        return None
    best, margin = result.best, pairs[0].margin
    note = (
        f"How much more each model loses than {best} ({result.label}), with 95 % intervals. Where one lies right of "
        f"zero, {best} is better."
        + (f" Shaded: a difference within {percent(margin)} counts as none." if margin else "")
    )
    alt = f"{result.label} against {best}: " + "; ".join(f"{pair.model} {said(pair)}" for pair in pairs)
    return Figure("differences", f"Each model against {best}", alt, note, partial(_draw, result, pairs, alt))


def said(pair: Pair) -> str:
    """Say a difference with its interval, and what follows from it."""
    return f"{percent(pair.relative, sign=True)} ({interval(pair)}), {VERDICTS[pair.verdict]}"


def interval(pair: Pair) -> str:
    """Say an interval."""
    return f"{percent(pair.low, sign=True)} to {percent(pair.high, sign=True)}"


def _draw(result: Result, pairs: Sequence[Pair], alt: str, width: int) -> str:
    margin = pairs[0].margin
    low = min(-1.5 * margin, *(pair.low for pair in pairs))
    axis = linear(100 * low, 100 * _reach([pair.high for pair in pairs], margin), n=max(width // 110, 3))
    beside = 14 + _BESIDE if width > _PHONE else 14
    frame = Frame(width, _ROW * len(pairs) + 62, axis, linear(0, 1), left=14, right=beside, top=10, bottom=48)
    bottom = frame.height - frame.bottom
    start, end = (frame.x(100 * side * margin) for side in (-1, 1))
    parts = [
        box(start, frame.top, end - start, bottom - frame.top, style="band"),
        *(line(frame.x(tick), frame.top, frame.x(tick), bottom, "grid") for tick in axis.ticks),
        *(text(frame.x(tick), bottom + 17, axis.text(tick), anchor="middle") for tick in axis.ticks),
        line(frame.x(0), frame.top, frame.x(0), bottom, "axis"),
        text(frame.left, frame.height - 6, f"percent more {result.label} than {short(result.best, 0.3 * width)}"),
    ]
    rows = (part for i, pair in enumerate(pairs) for part in _row(result.index(pair.model), pair, frame, i))
    return drawing(width, frame.height, [*parts, *rows], alt)


def _reach(highs: Sequence[float], margin: float) -> float:
    """Return how far the axis must reach: to the widest interval that does not flatten the others."""
    reach = max(1.5 * margin, 0.01)
    for high in sorted(highs):
        if high > _FAR * reach and reach > max(1.5 * margin, 0.01):
            break
        reach = max(reach, high)
    return reach


def _row(i: int, pair: Pair, frame: Frame, place: int) -> Iterator[str]:
    y, i = frame.top + _ROW * place, i % N_COLOURS
    words = f"{percent(pair.relative, sign=True)} ({interval(pair)})"
    is_wide = frame.right > _BESIDE
    room = frame.inner[0] - (0 if is_wide else width_of(words) + 12)
    yield text(frame.left, y + 16, short(pair.model, room), style=f"f{i} strong")
    yield text(frame.width - 14, y + (35 if is_wide else 16), words, anchor="end", style="ink")
    end = frame.x_axis.high
    low, mean, high = (min(100 * value, end) for value in (pair.low, pair.relative, pair.high))
    yield line(frame.x(low), y + 31, frame.x(high), y + 31, f"l{i}")
    yield from (line(frame.x(x), y + 27, frame.x(x), y + 35, f"l{i}") for x in (low, high) if x < end)
    if mean < end:
        yield mark(i, frame.x(mean), y + 31, f"{pair.model}: {said(pair)}")
    if high >= end:
        x = frame.x(end)
        yield f'<polygon points="{x + 9:.1f},{y + 31} {x - 1:.1f},{y + 25} {x - 1:.1f},{y + 37}" class="f{i}"/>'

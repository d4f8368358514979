"""The best model against each of the others: by how much less it loses, each with its interval and the margin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from nightfit.report.axes import linear
from nightfit.report.result import Pair, Result
from nightfit.report.svg import N_COLOURS, Figure, Frame, box, drawing, line, mark, short, text, width_of
from nightfit.report.words import percent

_ROW = 44
_BESIDE, _PHONE = 200, 500
"""Pixels of a model: words, and its interval below; of the figures beside it, where the screen has the room."""

VERDICTS = {
    "better": "better",
    "worse": "worse",
    "same": "the same, within the margin",
    "unclear": "not told apart",
}
"""What people are told of the verdict on the best model against another."""


def differences(result: Result) -> Figure | None:
    """Return the figure; None where no interval was computed.

    Differences are shares of the other model's loss, so that none goes below -100 %: one that failed flattens nobody.
    """
    pairs = [pair for name in result.ranked if name != result.best and (pair := result.pair(result.best, name))]
    if not pairs:
        return None
    margin = pairs[0].margin
    note = (
        f"How much less {result.best} loses than each other model ({result.label}), with 95 % intervals. Where one "
        f"lies left of zero, {result.best} is better."
        + (f" Shaded: a difference within {percent(margin)} does not count." if margin else "")
    )
    alt = f"{result.best} against: " + "; ".join(f"{pair.against} {said(pair)}" for pair in pairs)
    return Figure(
        "differences", f"{result.best} against each other model", alt, note, partial(_draw, result, pairs, alt)
    )


def said(pair: Pair) -> str:
    """Say a difference with its interval, and what follows from it."""
    return f"{percent(pair.relative, sign=True)} ({interval(pair)}), {VERDICTS[pair.verdict]}"


def interval(pair: Pair) -> str:
    """Say an interval."""
    return f"{percent(pair.low, sign=True)} to {percent(pair.high, sign=True)}"


def _draw(result: Result, pairs: Sequence[Pair], alt: str, width: int) -> str:
    margin = pairs[0].margin
    low, high = min(-margin, *(pair.low for pair in pairs)), max(margin, *(pair.high for pair in pairs))
    axis = linear(100 * low, 100 * high, n=max(width // 90, 3))
    beside = 14 + _BESIDE if width > _PHONE else 14
    frame = Frame(width, _ROW * len(pairs) + 62, axis, linear(0, 1), left=14, right=beside, top=10, bottom=48)
    bottom = frame.height - frame.bottom
    start, end = (frame.x(100 * side * margin) for side in (-1, 1))
    lead, words = f"← {short(result.best, 0.25 * width)} is better", f"percent of the other's {result.label}"
    if width_of(lead + words) > width - 40:
        words = "percent"
    parts = [
        box(start, frame.top, end - start, bottom - frame.top, style="band"),
        *(line(frame.x(tick), frame.top, frame.x(tick), bottom, "grid") for tick in axis.ticks),
        *(text(frame.x(tick), bottom + 17, axis.text(tick), anchor="middle") for tick in axis.ticks),
        line(frame.x(0), frame.top, frame.x(0), bottom, "axis"),
        text(frame.left, frame.height - 6, lead),
        text(width - frame.right, frame.height - 6, words, anchor="end"),
    ]
    rows = (part for i, pair in enumerate(pairs) for part in _row(result.index(pair.against), pair, frame, i))
    return drawing(width, frame.height, [*parts, *rows], alt)


def _row(i: int, pair: Pair, frame: Frame, place: int) -> Iterator[str]:
    y = frame.top + _ROW * place
    low, mean, high = (frame.x(100 * value) for value in (pair.low, pair.relative, pair.high))
    words = f"{percent(pair.relative, sign=True)} ({interval(pair)})"
    is_wide = frame.right > _BESIDE
    room = frame.inner[0] - (0 if is_wide else width_of(words) + 12)
    yield text(frame.left, y + 16, short(f"against {pair.against}", room), style=f"f{i % N_COLOURS} strong")
    yield text(frame.width - 14, y + (35 if is_wide else 16), words, anchor="end", style="ink")
    yield line(low, y + 31, high, y + 31, f"l{i % N_COLOURS}")
    yield from (line(x, y + 27, x, y + 35, f"l{i % N_COLOURS}") for x in (low, high))
    yield mark(i, mean, y + 31, f"{pair.model} against {pair.against}: {said(pair)}")

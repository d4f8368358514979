"""The models' differences to the best one, each with its interval, beside the margin that counts as none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from nightfit.report.axes import linear
from nightfit.report.result import Pair, Result
from nightfit.report.svg import Figure, Frame, box, drawing, line, mark, short, text, width_of
from nightfit.report.words import percent

_ROW = 44
_FAR = 5.0
"""An interval that begins beyond five times the next nearest end leaves the figure; an arrow says so."""

VERDICTS = {
    "better": "better",
    "worse": "worse",
    "same": "the same, within the margin",
    "unclear": "not told apart",
}
"""What people are told of a pair's verdict."""


def differences(result: Result) -> Figure | None:
    """Return the figure; None where no interval was computed."""
    pairs = [pair for name in result.ranked if (pair := result.pair(name, result.best))]
    if not pairs:
        return None
    margin = percent(pairs[0].margin)
    note = (
        f"How much more each model loses than {result.best}, in percent of its loss, with 95 % intervals. An interval "
        f"right of the zero line: {result.best} is better."
        + (f" Shaded: within {margin}, where a difference does not count." if pairs[0].margin else "")
    )
    alt = f"Differences to {result.best}: " + "; ".join(f"{pair.model} {said(pair)}" for pair in pairs)
    return Figure("differences", f"Is {result.best} really better?", alt, note, partial(_draw, result, pairs, alt))


def said(pair: Pair) -> str:
    """Say a difference with its interval, and what follows from it."""
    return f"{percent(pair.relative, sign=True)} ({interval(pair)}), {VERDICTS[pair.verdict]}"


def interval(pair: Pair) -> str:
    """Say an interval."""
    return f"{percent(pair.low, sign=True)} to {percent(pair.high, sign=True)}"


def _draw(result: Result, pairs: Sequence[Pair], alt: str, width: int) -> str:
    low = min(0.0, *(pair.low for pair in pairs), -pairs[0].margin)
    high = max(_reach([pair.high for pair in pairs]), pairs[0].margin * 1.5)
    axis = linear(100 * low, 100 * high, n=max(width // 90, 3))
    frame = Frame(width, _ROW * len(pairs) + 62, axis, linear(0, 1), left=14, top=10, bottom=48)
    bottom = frame.height - frame.bottom
    start, end = (frame.x(100 * side * pairs[0].margin) for side in (-1, 1))
    parts = [
        box(start, frame.top, end - start, bottom - frame.top, "band"),
        *(line(frame.x(tick), frame.top, frame.x(tick), bottom, "grid") for tick in axis.ticks),
        *(text(frame.x(tick), bottom + 17, axis.text(tick), anchor="middle") for tick in axis.ticks),
        line(frame.x(0), frame.top, frame.x(0), bottom, "axis"),
        text(frame.left, frame.height - 6, f"percent more loss than {short(result.best, 0.4 * width)}"),
    ]
    rows = (part for i, pair in enumerate(pairs) for part in _row(result.index(pair.model), pair, frame, i))
    return drawing(width, frame.height, [*parts, *rows], alt)


def _reach(highs: Sequence[float]) -> float:
    """Return how far the axis must reach: to the widest interval that does not flatten the others."""
    ordered = sorted(highs)
    reach = ordered[0]
    for high in ordered[1:]:
        if high > _FAR * max(reach, 0.02):
            break
        reach = high
    return reach


def _row(i: int, pair: Pair, frame: Frame, place: int) -> Iterator[str]:
    y = frame.top + _ROW * place
    ends = frame.x_axis.low, frame.x_axis.high
    low, mean, high = (min(max(100 * value, ends[0]), ends[1]) for value in (pair.low, pair.relative, pair.high))
    words = f"{percent(pair.relative, sign=True)} ({interval(pair)})"
    room = frame.inner[0] - width_of(words) - 12
    yield text(frame.left, y + 16, short(pair.model, room), style=f"f{i % 8} strong")
    yield text(frame.width - frame.right, y + 16, words, anchor="end", style="ink")
    yield line(frame.x(low), y + 31, frame.x(high), y + 31, f"l{i % 8}")
    for value, end in ((pair.low, low), (pair.high, high)):
        if 100 * value > ends[1] * 1.0001:
            x = frame.x(end)
            yield f'<polygon points="{x + 8:.1f},{y + 31} {x - 1:.1f},{y + 26} {x - 1:.1f},{y + 36}" class="f{i % 8}"/>'
        else:
            yield line(frame.x(end), y + 27, frame.x(end), y + 35, f"l{i % 8}")
    if 100 * pair.relative <= ends[1]:
        yield mark(i, frame.x(mean), y + 31, f"{pair.model}: {said(pair)}")

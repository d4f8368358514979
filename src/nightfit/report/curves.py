"""Curves over the nights, each named at its end, with the nights at which a drift was found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from html import escape

from nightfit.report.axes import Axis, linear, logarithmic, spaced, within
from nightfit.report.result import Point, Result, better, off_scale
from nightfit.report.svg import N_COLOURS, Figure, Frame, drawing, line, line_class, polyline, short, text, width_of
from nightfit.report.words import score

NONE: Mapping[int, str] = {}
NO_MARKS: Mapping[int, tuple[str, str]] = {}
Points = Sequence[Point]

_LINE = 15
"""Pixels that a line of labels needs."""

_SPIKE = 0.98
"""An axis shows this share of all values; what is beyond leaves the figure, if it would take more than half of it."""

_LEAST = 1e-3
"""The least value on an axis of ratios."""


def curves(result: Result, metric: str) -> Figure | None:
    """Return the figure of a score over the nights; None if no night has it."""
    label = result.scored[metric]
    found = {name: points for name in result.models if (points := result.curve(name, metric))}
    if not found:
        return None
    out = off_scale({name: _middle(points) for name, points in found.items()}) if better(metric) == "lower" else set()
    drawn = {name: points for name, points in found.items() if name not in out}
    note = (
        f"Means of {result.smooth} nights; every night was predicted before it was learned. "
        f"{better(metric).capitalize()} is better."
        + (" Dotted: a drift was found in that night." if result.drifts else "")
        + (" Spikes beyond the axis are cut off." if _is_cut(drawn) else "")
        + (" A cross: it failed there." if _ends_early(drawn) else "")
        + (f" Too far off to be drawn: {', '.join(sorted(out))}." if out else "")
    )
    ends = ", ".join(f"{name} {score(points[-1][1])}" for name, points in drawn.items())
    alt = f"{label} over {result.n_nights} nights; it ends at: {ends}"
    lines = {name: (result.index(name), points) for name, points in drawn.items()}
    names, drifts = result.night_names(), {int(d["night"]): ("drift", str(d.get("why") or "")) for d in result.drifts}
    title = f"{label[0].upper()}{label[1:]}, night by night"
    return Figure(metric.replace("_", "-"), title, alt, note, partial(draw, lines, alt=alt, names=names, marks=drifts))


def _ends_early(lines: Mapping[str, Points]) -> bool:
    return len({points[-1][0] for points in lines.values()}) > 1


def _middle(points: Points) -> float:
    return sorted(value for _, value in points)[len(points) // 2]


def draw(
    lines: Mapping[str, tuple[int, Points]],
    width: int,
    *,
    alt: str,
    x_title: str = "night",
    names: Mapping[int, str] = NONE,
    marks: Mapping[int, tuple[str, str]] = NO_MARKS,
    ratios: bool = False,
) -> str:
    """Draw lines, each with its place (colour and dashes) and points, over whole numbers that `names` may name.

    `marks` are places with a word for each, and why it is there. `ratios` makes equal ratios equal heights.
    """
    right = min(max(width_of(name) for name in lines) + 26, 0.3 * width)
    height = max(300 if width > 500 else 260, _LINE * len(lines) + 70)  # noqa: PLR2004 - a phone
    xs = [x for _, points in lines.values() for x, _ in points]
    x_axis = within(min(xs), max(xs), n=max(width // 100, 2))
    frame = Frame(
        width, height, x_axis, _heights([points for _, points in lines.values()], ratios=ratios), right=right, top=22
    )
    named = {name: polyline(_placed(points, frame), _attributes(name, i)) for name, (i, points) in lines.items()}
    parts = [
        frame.grid(x_title, (lambda tick: names.get(int(tick), f"{tick:.0f}")) if names else None),
        *_marks(marks, frame),
        frame.clipped(named.values()),
        *_end_labels(lines, frame),
    ]
    return drawing(width, height, parts, alt, _for_the_pointer(frame, x_title))


def _heights(lines: Iterable[Points], *, ratios: bool) -> Axis:
    """Return an axis that shows all values, but for rare ones that would flatten the rest."""
    values = sorted(value for points in lines for _, value in points)
    return logarithmic(max(values[0], _LEAST), max(values[-1], _LEAST)) if ratios else linear(values[0], _top(values))


def _top(values: Sequence[float]) -> float:
    """Return the highest of sorted values, or the highest usual one where the rest would take half of the figure."""
    usual = values[int(_SPIKE * (len(values) - 1))]
    return values[-1] if values[-1] - values[0] <= 2 * (usual - values[0]) else usual


def _is_cut(lines: Mapping[str, Points]) -> bool:
    values = sorted(value for points in lines.values() for _, value in points)
    return _top(values) < values[-1]


def _placed(points: Points, frame: Frame) -> list[tuple[float, float]]:
    """Return where points lie, at most one for each pixel."""
    step = max(len(points) // int(frame.inner[0]), 1)
    kept = [*points[::step], *([points[-1]] if (len(points) - 1) % step else [])]
    if len(kept) == 1:  # one night is a short stroke, not nothing
        kept = [(frame.x_axis.low, kept[0][1]), (frame.x_axis.high, kept[0][1])]
    return [(frame.x(x), frame.y(y)) for x, y in kept]


def _attributes(name: str, i: int) -> str:
    return f'{line_class(i)} data-name="{escape(name)}"'


def _for_the_pointer(frame: Frame, x_title: str) -> str:
    """Return what the page's script needs to say values under the pointer."""
    ends = (frame.x_axis.low, frame.x_axis.high, frame.y_axis.low, frame.y_axis.high, frame.y_axis.log)
    where = (frame.left, frame.top, *(round(length, 1) for length in frame.inner), *ends)
    return f' data-frame="{" ".join(f"{number:.10g}" for number in where)}" data-x="{escape(x_title)}"'


def _marks(marks: Mapping[int, tuple[str, str]], frame: Frame) -> Iterator[str]:
    free = -1e9
    for place, (word, why) in marks.items():
        x, half = frame.x(place), width_of(word) / 2
        yield line(x, frame.top, x, frame.height - frame.bottom, "drift")
        points = f"{x - 4:.1f},{frame.top - 7} {x + 4:.1f},{frame.top - 7} {x:.1f},{frame.top:.1f}"
        yield f'<polygon points="{points}" class="bad"><title>{place}: {escape(why or word)}</title></polygon>'
        if x - half > free:
            yield text(x, frame.top - 10, word, anchor="middle", style="bad")
            free = x + half + 6


def _end_labels(lines: Mapping[str, tuple[int, Points]], frame: Frame) -> Iterator[str]:
    """Yield the names of the lines beside their ends, moved apart, with a thin line to each."""
    end, low, high = frame.width - frame.right, frame.top, frame.height - frame.bottom
    whole = {name: (i, min(max(frame.y(points[-1][1]), low), high)) for name, (i, points) in lines.items()
             if _is_whole(points, frame)}  # fmt: skip
    at = [y for _, y in whole.values()]
    for (name, (i, y)), placed in zip(whole.items(), spaced(at, _LINE, low, high), strict=True):
        yield f'<path d="M{end:.1f} {y:.1f}L{end + 9:.1f} {placed:.1f}" class="lead"/>'
        yield text(end + 12, placed + 4, short(name, frame.right - 14), style=f"f{i % N_COLOURS} strong")
    for name, (i, points) in lines.items():
        if name not in whole:
            x, y = frame.x(points[-1][0]), frame.y(points[-1][1])
            yield text(x, y + 4, "\N{MULTIPLICATION SIGN}", anchor="middle", style=f"f{i % N_COLOURS} strong")
            yield text(x + 8, max(y - 6, low + 8), short(name, end - x - 8), style=f"f{i % N_COLOURS} strong")


def _is_whole(points: Points, frame: Frame) -> bool:
    """Say whether a line reaches the last night; one that ends before is of a model that failed."""
    return points[-1][0] >= frame.x_axis.high or len(points) == 1

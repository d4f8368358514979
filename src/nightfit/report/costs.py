"""Cost against quality: what each model's nights cost, and how well it does for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from nightfit.report.axes import Axis, linear, logarithmic
from nightfit.report.result import Result, off_scale
from nightfit.report.svg import N_COLOURS, Figure, Frame, drawing, mark, polyline, short, text, width_of
from nightfit.report.words import score, seconds

_RATIO = 6.0
"""Costs that differ by more than six times are drawn on an axis of ratios."""

_HIGH = 14
Spot = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""


def costs(result: Result) -> Figure | None:
    """Return the figure; None where fewer than two models have a cost."""
    found = {
        name: (cost, value) for name in result.ranked if (cost := result.cost_s(name)) and (value := result.value(name))
    }
    if len(found) < 2:  # noqa: PLR2004 - one point compares nothing
        return None
    out = off_scale({name: value for name, (_, value) in found.items()})
    points = {name: point for name, point in found.items() if name not in out}
    front = _front(points)
    note = (
        f"Left is cheaper, lower is better. The line joins the models that no other beats in both: {', '.join(front)}."
        + (f" Too far off to be drawn: {', '.join(f'{n} ({score(found[n][1])})' for n in sorted(out))}." if out else "")
    )
    alt = f"seconds a night and {result.label}: " + ", ".join(
        f"{name} {seconds(cost)}, {score(value)}" for name, (cost, value) in points.items()
    )
    return Figure("costs", "What it costs", alt, note, partial(_draw, result, points, front, alt))


def _front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the models that no other beats in both, the cheapest first."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: points[name]):
        if not front or points[name][1] < points[front[-1]][1]:
            front.append(name)
    return front


def _draw(result: Result, points: Mapping[str, tuple[float, float]], front: list[str], alt: str, width: int) -> str:
    xs, ys = zip(*points.values(), strict=True)
    x_axis = _cost_axis(min(xs), max(xs), max(width // 110, 3))
    pad = 0.08 * (max(ys) - min(ys))
    frame = Frame(width, 320, x_axis, linear(min(ys) - pad, max(ys) + pad), right=20, top=26)
    placed = {name: (frame.x(cost), frame.y(value)) for name, (cost, value) in points.items()}
    parts = [
        frame.grid("seconds a night, learning and predicting"),
        text(frame.left - 45, 13, result.label),
        polyline([placed[name] for name in front], 'class="lead"') if len(front) > 1 else "",
        *(mark(result.index(name), *placed[name], f"{name}: {result.label} {score(value)}, {seconds(cost)} a night")
          for name, (cost, value) in points.items()),
        *_names(result, placed, frame),
    ]  # fmt: skip
    return drawing(width, frame.height, parts, alt)


def _cost_axis(low: float, high: float, n: int) -> Axis:
    return logarithmic(low / 1.2, high * 1.2) if high > _RATIO * low else linear(0, high * 1.05, n=n)


def _names(result: Result, placed: Mapping[str, tuple[float, float]], frame: Frame) -> Iterator[str]:
    """Yield the names beside their marks, each where it covers least of what is there."""
    taken: list[Spot] = [(x - 7, y - 7, x + 7, y + 7) for x, y in placed.values()]
    for name, (x, y) in placed.items():
        words = short(name, 0.4 * frame.width)
        spot = min(_spots(x, y, width_of(words)), key=lambda spot: _covered(spot, taken, frame))
        taken.append(spot)
        yield text(spot[0], spot[3] - 3, words, style=f"f{result.index(name) % N_COLOURS} strong")


def _spots(x: float, y: float, width: float) -> Iterator[Spot]:
    """Yield places for a name, the better ones first: beside the mark, above and below it, then farther off."""
    for far in (0, 14, 28, 42):
        for left, top in (
            (x + 9, y - 7 - far), (x - 9 - width, y - 7 - far), (x - width / 2, y - 23 - far),
            (x - width / 2, y + 9 + far), (x + 9, y - 7 + far), (x - 9 - width, y - 7 + far),
        ):  # fmt: skip
            yield left, top, left + width, top + _HIGH


def _covered(spot: Spot, taken: Iterable[Spot], frame: Frame) -> float:
    """Return how many square pixels of others a place covers; one outside of the frame counts as covering much."""
    outside = spot[0] < frame.left or spot[2] > frame.width - 2 or spot[1] < frame.top - 8
    outside |= spot[3] > frame.height - frame.bottom
    overlaps = (
        max(min(spot[2], other[2]) - max(spot[0], other[0]), 0)
        * max(min(spot[3], other[3]) - max(spot[1], other[1]), 0)
        for other in taken
    )
    return sum(overlaps) + 1e4 * outside

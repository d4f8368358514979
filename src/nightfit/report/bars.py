"""Figures over a lineage's versions: what the gate saw, where the rows went, which columns moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from nightfit.report.axes import Axis, linear, within
from nightfit.report.life import FATES, Life, Version
from nightfit.report.svg import Figure, Frame, box, drawing, line, mark, short, text, width_of

N_BARS, N_COLUMNS = 150, 15
"""Bars that a figure has at most, of more versions each is of several; columns that it names."""

_USUAL = 0.9
"""The gate's figure shows this share of all intervals whole; a wider one leaves it."""

_FATE_CLASSES = dict(zip(FATES, ("f0", "f5", "bad", "f7", "f4"), strict=True))
_PSI = ((0.1, 0.18), (0.25, 0.45), (1.0, 0.75), (float("inf"), 1.0))
"""Bounds of the population stability index, and how strong what lies below each is drawn."""


def gate(life: Life) -> Figure | None:
    """Return the figure of the gate's intervals; None if no night had one."""
    seen = [version for version in life.nights if "mean" in version.gate][-N_BARS:]
    if not seen:
        return None
    note = (
        "Candidate minus the version in service, in percent of its loss on held-out rows, with one-sided 95 % bounds; "
        "below zero the candidate is better. A diamond was refused; an arrow is one beyond the axis."
        + _newest(len(seen), life)
    )
    alt = f"What the gate saw of {life.name}: {len(life.refused)} of {len(life.nights)} nights refused"
    return Figure(f"{life.name}-gate", f"{life.name}: what the gate saw", alt, note, partial(_draw_gate, seen, alt))


def _newest(n: int, life: Life) -> str:
    return f" The newest {n}." if n < len([v for v in life.nights if "mean" in v.gate]) else ""


def _draw_gate(seen: Sequence[Version], alt: str, width: int) -> str:
    lows, highs = (sorted(100 * version.gate[end] for version in seen) for end in ("low", "high"))
    n = len(seen) - 1
    y_axis = linear(min(lows[int((1 - _USUAL) * n)], 0), max(highs[int(_USUAL * n)], 0))
    frame = Frame(width, 240, _versions(seen, width), y_axis)
    shapes = (shape for version in seen for shape in _seen(version, frame))
    zero = line(frame.left, frame.y(0), width - frame.right, frame.y(0), "axis")
    return drawing(width, frame.height, [frame.grid("version"), zero, frame.clipped(shapes)], alt)


def _seen(version: Version, frame: Frame) -> Iterator[str]:
    x, gate = frame.x(version.version), version.gate
    style, shape = ("bad", 3) if version.status == "refused" else ("f0", 0)
    yield line(x, frame.y(100 * gate["low"]), x, frame.y(100 * gate["high"]), "lead")
    mean, words = 100 * gate["mean"], f"version {version.version}: {version.verdict}"
    low, high = frame.y_axis.low, frame.y_axis.high
    if low <= mean <= high:
        yield mark(shape, x, frame.y(mean), words, r=4, style=style)
    else:
        arrow, y = ("↑", frame.y(high) + 10) if mean > high else ("↓", frame.y(low) - 3)
        yield text(x, y, arrow, anchor="middle", style=f"{style} strong")


def _versions(seen: Sequence[Version], width: int) -> Axis:
    """Return the axis of versions, with room for the first and the last."""
    axis = within(seen[0].version, seen[-1].version, n=max(width // 110, 2))
    pad = max(0.5, 0.01 * (seen[-1].version - seen[0].version))
    return Axis(seen[0].version - pad, seen[-1].version + pad, axis.ticks)


def rows(life: Life) -> Figure | None:
    """Return the figure of where each night's rows went; None if there was no night."""
    if not life.nights:
        return None
    fates = [fate for fate in FATES if any(version.rows.get(fate) for version in life.nights)]
    said = ", ".join(f"{life.total(fate):,} {_word(fate)}" for fate in fates)
    note = f"Of all accepted nights: {said}. What a refused night read is read again by the next."
    alt = f"Rows of each night of {life.name}; in all {said}"
    return Figure(
        f"{life.name}-rows", f"{life.name}: where the rows went", alt, note, partial(_draw_rows, life, fates, alt)
    )


def _word(fate: str) -> str:
    return fate.replace("_", " ")


def _draw_rows(life: Life, fates: Sequence[str], alt: str, width: int) -> str:
    groups = _grouped(life.nights)
    sums = [[sum(version.rows.get(fate, 0) for version in group) for fate in fates] for group in groups]
    frame = Frame(width, 230, _versions(life.nights, width), linear(0, max(map(sum, sums)) or 1), top=30, left=64)
    bars = (
        bar
        for group, counts in zip(groups, sums, strict=True)
        for bar in _stack(group, dict(zip(fates, counts, strict=True)), frame)
    )
    return drawing(width, frame.height, [frame.grid("version"), *bars, *_keys(fates)], alt)


def _grouped(versions: Sequence[Version]) -> list[Sequence[Version]]:
    size = -(-len(versions) // N_BARS)
    return [versions[i : i + size] for i in range(0, len(versions), size)]


def _stack(group: Sequence[Version], counts: Mapping[str, int], frame: Frame) -> Iterator[str]:
    start, end = frame.x(group[0].version - 0.42), frame.x(group[-1].version + 0.42)
    names = f"version {group[0].version}" + (f" to {group[-1].version}" if len(group) > 1 else "")
    words = f"{names}: " + ", ".join(f"{n:,} {_word(fate)}" for fate, n in counts.items())
    below = 0
    for fate, n in counts.items():
        if n:
            top = frame.y(below + n)
            yield box(start, top, end - start, frame.y(below) - top, style=_FATE_CLASSES[fate], words=words)
        below += n


def _keys(fates: Sequence[str]) -> Iterator[str]:
    x = 2.0
    for fate in fates:
        yield box(x, 6, 10, 10, style=_FATE_CLASSES[fate])
        yield text(x + 14, 15, _word(fate))
        x += 26 + width_of(_word(fate))


def drift(life: Life) -> Figure | None:
    """Return the figure of how far columns moved, those that were told of first; None if none ever did."""
    farthest = _farthest(life)
    if not farthest:
        return None
    note = (
        "The stronger the colour, the farther a column lay from the rows learned before, the night before or the first "
        "night, whichever is farthest (PSI up to 0.1, 0.25, 1 and beyond). A diamond: the night told of it. Columns "
        "that count time move every night."
    )
    alt = f"Columns of {life.name} that moved: " + ", ".join(farthest)
    return Figure(
        f"{life.name}-drift", f"{life.name}: columns that moved", alt, note, partial(_draw_drift, life, farthest, alt)
    )


def _farthest(life: Life) -> list[str]:
    """Return the columns that were told of most often, then those that moved farthest."""
    told: dict[str, int] = {}
    far: dict[str, float] = {}
    for version in life.nights:
        for name in version.moved:
            told[name] = told.get(name, 0) + 1
        for column in version.columns:
            name = str(column["column"])
            far[name] = max(far.get(name, 0.0), _psi(column))
    return sorted(told, key=lambda name: (-told[name], -far.get(name, 0.0), name))[:N_COLUMNS]


def _psi(column: Mapping[str, object]) -> float:
    psi = column.get("psi") or {}
    assert isinstance(psi, dict)
    return max(psi.values(), default=0.0)


def _draw_drift(life: Life, columns: Sequence[str], alt: str, width: int) -> str:
    left = min(max(map(width_of, columns)) + 10, 0.36 * width)
    high = 20
    frame = Frame(width, high * len(columns) + 54, _versions(life.nights, width), linear(0, 1), left=left)
    names = [
        text(left - 8, frame.top + high * i + 14, short(name, left - 10), anchor="end")
        for i, name in enumerate(columns)
    ]
    groups = _grouped(life.nights)
    cells = (
        cell
        for group in groups
        for i, name in enumerate(columns)
        for cell in _cell(group, name, frame.top + high * i, frame)
    )
    return drawing(width, frame.height, [*names, *_bottom(frame), *cells], alt)


def _bottom(frame: Frame) -> Iterator[str]:
    """Yield the marks of the versions alone: a heat map has no other axis."""
    end = frame.height - frame.bottom
    for tick in frame.x_axis.ticks:
        yield text(frame.x(tick), end + 17, frame.x_axis.text(tick), anchor="middle")
    yield text(frame.left + frame.inner[0] / 2, frame.height - 5, "version", anchor="middle")


def _cell(group: Sequence[Version], name: str, y: float, frame: Frame) -> Iterator[str]:
    psi = max((_psi(c) for version in group for c in version.columns if c["column"] == name), default=0.0)
    start, end = frame.x(group[0].version - 0.5), frame.x(group[-1].version + 0.5)
    told = any(name in version.moved for version in group)
    words = f"{name}, version {group[0].version}: PSI {psi:.2f}" + (", told" if told else "")
    if psi:
        strength = next(strength for bound, strength in _PSI if psi <= bound)
        yield box(start, y + 1, max(end - start - 0.5, 1), 18, style=f'f1" fill-opacity="{strength}', words=words)
    if told:
        yield mark(3, (start + end) / 2, y + 10, words, r=3.4, style="ink")

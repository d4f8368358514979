"""Drawing: a figure's SVG out of a few shapes, and the colours that it has on a page, in the dark, and as a file.

Shapes carry classes and no colours. On a page the classes read the page's variables, so that one drawing serves light
and dark; in a file of its own the variables are replaced by the light colours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from nightfit.report.axes import Axis

LIGHT = {
    "paper": "#ffffff", "card": "#f5f7f9", "ink": "#16202c", "soft": "#55606c", "line": "#d9dfe5", "band": "#e8edf2",
    "bad": "#b3261e", "good": "#00704f",
    "m0": "#0068a6", "m1": "#b34700", "m2": "#00704f", "m3": "#a23c7c", "m4": "#7d5c00", "m5": "#5346b5",
    "m6": "#1f7a87", "m7": "#4a4f57",
}  # fmt: skip
DARK = {
    "paper": "#10151b", "card": "#1a2129", "ink": "#e6ebf0", "soft": "#a3afbb", "line": "#323d48", "band": "#242d37",
    "bad": "#ff8a80", "good": "#45d1a2",
    "m0": "#56b4e9", "m1": "#ff9248", "m2": "#35c493", "m3": "#e894c2", "m4": "#e6b93a", "m5": "#aea4ff",
    "m6": "#67d3df", "m7": "#c3cad2",
}  # fmt: skip
"""The hues of Okabe & Ito (2008), which colour-blind people tell apart, darkened or lightened until text in them has a
contrast of 4.5 with paper and card. Dashes and marks tell models apart besides."""

N_COLOURS = 8
_DASHES = ("", "7 4", "2 3", "9 3 2 3")

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', 'Liberation Sans', sans-serif"
SIZE = 12
"""Pixels of the text of figures."""

STYLE = (
    f".fig text {{ fill: var(--soft); font-family: {FONT}; font-size: {SIZE}px; }}\n"
    ".fig .strong { font-weight: 600; } .fig .ink { fill: var(--ink); } .fig .band { fill: var(--band); }\n"
    ".fig .strong, .fig .ink { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }\n"
    ".fig .grid { stroke: var(--line); } .fig .axis { stroke: var(--soft); } .fig .paper { fill: var(--paper); }\n"
    ".fig .drift { stroke: var(--bad); stroke-dasharray: 2 4; } .fig .bad { fill: var(--bad); }\n"
    ".fig .good { fill: var(--good); } .fig .lead { stroke: var(--soft); stroke-width: .7; fill: none; }\n"
) + "".join(
    f".fig .l{i} {{ stroke: var(--m{i}); fill: none; stroke-width: 2; }} .fig .f{i} {{ fill: var(--m{i}); }}\n"
    for i in range(N_COLOURS)
)


@dataclass(frozen=True)
class Figure:
    """A figure: its name as a file, a heading, what it shows in words, how to read it, and how it is drawn.

    `draw` returns the whole SVG for a width in pixels, as text that is 12 pixels high needs it there.
    """

    name: str
    title: str
    alt: str
    note: str
    draw: Callable[[int], str]


def line_class(i: int) -> str:
    """Return the attributes of the i-th model's line."""
    dash = _DASHES[(i + i // N_COLOURS) % len(_DASHES)]
    return f'class="l{i % N_COLOURS}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def text(x: float, y: float, words: str, *, anchor: str = "", style: str = "") -> str:
    """Return text at a point; `anchor` is "", "middle" or "end"."""
    more = (f' text-anchor="{anchor}"' if anchor else "") + (f' class="{style}"' if style else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """Return a straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def box(x: float, y: float, width: float, height: float, *, style: str, words: str = "") -> str:
    """Return a rectangle; `words` are shown when it is pointed at."""
    shape = f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" class="{style}"'
    return f"{shape}><title>{escape(words)}</title></rect>" if words else f"{shape}/>"


def mark(i: int, x: float, y: float, words: str, *, r: float = 5, style: str = "") -> str:
    """Return the i-th model's mark, a shape of its own; `words` are shown when it is pointed at."""
    shape = i % 4
    attributes = f'class="{style or f"f{i % N_COLOURS}"}"'
    title = f"<title>{escape(words)}</title>" if words else ""
    if not shape:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" {attributes}>{title}</circle>'
    corners = {
        1: ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        2: ((0, -1.3), (1.2, 0.9), (-1.2, 0.9)),
        3: ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    }[shape]
    points = " ".join(f"{x + r * dx:.1f},{y + r * dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" {attributes}>{title}</polygon>'


def width_of(words: str, size: float = SIZE) -> float:
    """Estimate how wide text is, in pixels: on the wide side, as the font is the reader's."""
    return size * sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.58 for c in words)


def short(words: str, width: float, size: float = SIZE) -> str:
    """Cut text to a width, with an ellipsis where something is left out."""
    if width_of(words, size) <= width:
        return words
    while words and width_of(words + "…", size) > width:
        words = words[:-1]
    return words.rstrip() + "…"


@dataclass(frozen=True)
class Frame:
    """The part of a drawing between two axes. All lengths are pixels, from the drawing's left upper corner."""

    width: float
    height: float
    x_axis: Axis
    y_axis: Axis
    left: float = 52
    right: float = 14
    top: float = 14
    bottom: float = 40

    @property
    def inner(self) -> tuple[float, float]:
        """Width and height between the axes."""
        return self.width - self.left - self.right, self.height - self.top - self.bottom

    def x(self, value: float) -> float:
        """Return where a value of the x axis lies."""
        return self.left + self.inner[0] * self.x_axis.share(value)

    def y(self, value: float) -> float:
        """Return where a value of the y axis lies."""
        return self.top + self.inner[1] * (1 - self.y_axis.share(value))

    def grid(self, x_title: str, names: Callable[[float], str] | None = None) -> str:
        """Return both axes' lines and marks; `names` says what a mark of the x axis is called, if not its number."""
        end_x, end_y = self.width - self.right, self.height - self.bottom
        parts = [
            line(self.left, self.y(tick), end_x, self.y(tick), "grid")
            + text(self.left - 7, self.y(tick) + 4, self.y_axis.text(tick), anchor="end")
            for tick in self.y_axis.ticks
        ]
        free = -1e9  # the right end of the mark before: no two may touch
        for tick in self.x_axis.ticks:
            words = names(tick) if names else self.x_axis.text(tick)
            half = width_of(words) / 2
            centre = min(max(self.x(tick), half), self.width - half)
            if centre - half > free:
                parts.append(line(self.x(tick), end_y, self.x(tick), end_y + 4, "axis"))
                parts.append(text(centre, end_y + 17, words, anchor="middle"))
                free = centre + half + 8
        middle = self.left + self.inner[0] / 2
        return "".join(parts) + text(middle, self.height - 5, x_title, anchor="middle")

    def clipped(self, parts: Iterable[str]) -> str:
        """Return shapes of which nothing is seen beyond the axes."""
        width, height = self.inner
        box = f'x="{self.left}" y="{self.top}" width="{width:.1f}" height="{height:.1f}"'
        view = f'viewBox="{self.left} {self.top} {width:.1f} {height:.1f}"'
        return f"<svg {box} {view}>{''.join(parts)}</svg>"


def polyline(points: Sequence[tuple[float, float]], attributes: str) -> str:
    """Return a line through points."""
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" {attributes}/>'


def drawing(width: float, height: float, parts: Iterable[str], alt: str, more: str = "") -> str:
    """Return a whole SVG; `alt` says in words what it shows."""
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="fig" {size} role="img" aria-label="{escape(alt)}"{more}>'
    return head + "".join(parts) + "</svg>"


def standalone(svg: str) -> str:
    """Return a drawing as a file: with its style, in the light colours, on paper."""
    style = re.sub(r"var\(--(\w+)\)", lambda found: LIGHT[found[1]], STYLE)
    head, body = svg.split(">", 1)
    return f'{head}><style>\n{style}</style><rect width="100%" height="100%" class="paper"/>{body}\n'

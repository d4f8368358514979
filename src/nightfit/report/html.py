"""What a page is made of: its frame with style and script inside, figures, tables. Everything said is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files

from nightfit.report.svg import DARK, LIGHT, N_COLOURS, STYLE, Figure

WIDE, NARROW = 1040, 340
"""Pixels of a figure on a screen and on a phone: text keeps its size, and so each is drawn twice."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what it says, what it sorts by if that is not it, and how it looks."""

    words: str
    sort: float | None = None
    style: str = ""


def page(title: str, body: Iterable[str]) -> str:
    """Return a whole page."""
    name = escape(title)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{name}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<style>\n{_style()}</style>\n</head>\n<body>\n<main>\n<h1>{name}</h1>\n'
        f"{''.join(body)}</main>\n<script>\n{_static('page.js')}</script>\n</body>\n</html>\n"
    )


@cache
def _static(name: str) -> str:
    return (files("nightfit.report") / "static" / name).read_text(encoding="utf-8")


def _style() -> str:
    light, dark = ("".join(f"--{name}:{colour};" for name, colour in each.items()) for each in (LIGHT, DARK))
    dots = "".join(f".dot.c{i} {{ background: var(--m{i}); }}\n" for i in range(N_COLOURS))
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{_static('page.css')}{STYLE}{dots}"
    )


def section(title: str, *parts: str, style: str = "") -> str:
    """Return a part of the page under a heading; `parts` are HTML."""
    return f'<section class="{style}"><h2>{escape(title)}</h2>{"".join(parts)}</section>\n'


def folded(title: str, *parts: str) -> str:
    """Return a part of the page that is shut until it is asked for."""
    return f'<section class="pages"><details><summary>{escape(title)}</summary>{"".join(parts)}</details></section>\n'


def paragraph(words: str, style: str = "") -> str:
    """Return a paragraph."""
    return f'<p class="{style}">{escape(words)}</p>' if style else f"<p>{escape(words)}</p>"


def figure(drawn: Figure) -> str:
    """Return a figure under its heading, for screens and for phones."""
    shapes = "".join(
        drawn.draw(width).replace('class="fig"', f'class="fig {name}"', 1)
        for name, width in (("wide", WIDE), ("narrow", NARROW))
    )
    return section(drawn.title, f"<figure>{shapes}<figcaption>{escape(drawn.note)}</figcaption></figure>")


def tiles(said: Iterable[tuple[str, str, str]]) -> str:
    """Return facts side by side: what each is, its answer, and more about it."""
    made = (
        f'<div><dt>{escape(what)}</dt><dd class="big">{escape(answer)}<small>{escape(more)}</small></dd></div>'
        for what, answer, more in said
    )
    return f'<dl class="tiles">{"".join(made)}</dl>'


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    words: Sequence[int] = (0,),
    tall: bool = False,
) -> str:
    """Return a table that sorts by its columns; the first cell of a row names it, `words` are the columns of words."""
    styles = ["" if i in words else "n" for i in range(len(head))]
    heads = "".join(f'<th scope="col" class="{s}">{escape(name)}</th>' for name, s in zip(head, styles, strict=True))
    body = "".join(f"<tr>{_row(row, styles)}</tr>\n" for row in rows)
    said = escape(caption)
    scroll = f'<div class="scroll{" tall" * tall}" tabindex="0" role="region" aria-label="{said}">'
    return (
        f'<p class="caption">{said}</p>{scroll}'
        f'<table class="sorts" aria-label="{said}"><thead><tr>{heads}</tr></thead><tbody>\n{body}</tbody></table></div>'
    )


def _row(row: Sequence[Cell], styles: Sequence[str]) -> str:
    cells = []
    for i, (cell, style) in enumerate(zip(row, styles, strict=True)):
        classes = f"{style} {cell.style}".strip()
        shown = (f' class="{classes}"' if classes else "") + ("" if cell.sort is None else f' data-v="{cell.sort:.8g}"')
        said = escape(cell.words)
        cells.append(f"<td{shown}>{said}</td>" if i else f'<th scope="row"{shown}>{said}</th>')
    return "".join(cells)


def number(value: float | None, words: str, *, is_best: bool = False) -> Cell:
    """Return a cell with a number, said in words."""
    return Cell("-" if value is None else words, value, "best" if is_best else "")


def facts(rows: Iterable[tuple[str, str]], caption: str) -> str:
    """Return a table of two columns: what, and its value."""
    body = "".join(f'<tr><th scope="row">{escape(what)}</th><td>{escape(value)}</td></tr>' for what, value in rows)
    said = escape(caption)
    return f'<p class="caption">{said}</p><table class="facts" aria-label="{said}"><tbody>{body}</tbody></table>'

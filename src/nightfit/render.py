"""How results look: tables for people, one JSON object for machines, nothing at all under cron."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 160
"""Columns of a table that goes into a file or a pipe."""


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout; NaN is a bug, not a value."""
    print(json.dumps(value, allow_nan=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, left: Sequence[str] = ()) -> Table:
    """Return a table; columns are numbers, flush right, unless they are named in `left`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(Text(column), justify="left" if column in left else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text(number(cell)) for cell in row))  # a name in brackets is no markup
    return made


def number(cell: object) -> str:
    """Return a cell's text: four digits of a fraction, thousands apart, a dash for nothing."""
    if cell is None or cell == "":
        return "-"
    if isinstance(cell, float):
        return f"{cell:.4f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def show(*things: object) -> None:
    """Print tables and lines on stdout, as wide as the terminal, or wide if there is none."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, markup=False, emoji=False)
    for thing in things:
        console.print(thing)


@contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """Show what is being done, on a terminal; elsewhere show nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("starting") as spinner:
        yield lambda what: spinner.update(Text(what))


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar with the time that is left, on a terminal; it is told (done, total)."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)

"""What a stress comes to: figures beside the marks that they are held against."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from rich.console import Console
from rich.table import Table

Dose: TypeAlias = Literal["small", "full"]


class Result(NamedTuple):
    """One line of the table: what was done, the mark, the figure that came out, and whether it meets the mark."""

    what: str
    mark: str
    figure: str
    ok: bool


def names() -> list[str]:
    """List what can be run: the modules that have a function `run`."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if "\ndef run(" in path.read_text())


def chance(seed: int, *what: object) -> random.Random:
    """Return a generator of its own for each purpose, so that one more draw here changes nothing there."""
    return random.Random(repr((seed, *what)))  # noqa: S311 - no secret hangs on it


def show(results: Sequence[Result]) -> None:
    """Print the table, as wide as its lines are."""
    table = Table(*Result._fields)
    for result in results:
        table.add_row(*map(str, result[:3]), "yes" if result.ok else "NO")
    Console(width=None if Console().is_terminal else 200, highlight=False, markup=False).print(table)

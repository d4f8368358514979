"""What every trial hands back: a line of the table at the end."""

from __future__ import annotations

from typing import NamedTuple


class Result(NamedTuple):
    """One mark: what was tried, what must be met, what was measured, and whether that meets it."""

    what: str
    mark: str
    figure: str
    ok: bool

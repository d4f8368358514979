"""Ends of messages about columns that are not there: what was probably meant, or what is probably wrong."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from nightfit.tomltext import toml


def column_hint(name: str, there: Collection[str]) -> str:
    """End a message about a column that is not there with the one that was probably meant."""
    by_lower = {column.lower(): column for column in there}
    near = get_close_matches(name.lower(), by_lower, 1)
    return f"did you mean '{by_lower[near[0]]}'?" if near else f"it has {', '.join(there)}{separator_hint(there)}"


def separator_hint(columns: Collection[str]) -> str:
    """End a message with what is probably wrong if a file has a single column whose name is a whole header."""
    found = [c for c in ";\t|" if len(columns) == 1 and c in next(iter(columns))]
    if not found:
        return ""
    return (
        f" (columns seem to be separated by {found[0]!r}: say delimiter = {toml(found[0])} in the config's [[sources]])"
    )

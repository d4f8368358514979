"""The line of each key of a TOML text: a message that names it is mended at once.

`tomllib` knows no lines, so it is asked about the beginnings of the text: a key's line is the one with which the first
of them ends that has the key. What stands in a text of several lines, or in a comment, is no key to it, so none here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any, TypeAlias

Place: TypeAlias = tuple[str | int, ...]
"""The way to a value: the names of tables and keys, and the numbers of elements: ("sources", 0, "url")."""

MAX_LINES = 1_000
"""Texts beyond it have no lines here: each beginning is parsed, which takes the square of their number."""

_CLOSERS = ("", "]", "}")
"""What a beginning may lack: elements of an array, and keys of a table, may stand on lines of their own."""


def lines_of(text: str) -> dict[Place, int]:
    r"""Return the line, from 1, on which each key of a TOML text begins; none for one of which that is not certain.

    >>> lines_of('name = "a"\n[gate]\nmargin = 0.1')
    {('name',): 1, ('gate',): 2, ('gate', 'margin'): 3}
    """
    found: dict[Place, int] = {}
    written = text.split("\n")
    start = 1
    for number in range(1, len(written) + 1 if len(written) <= MAX_LINES else 1):
        document = _beginning("\n".join(written[:number]))
        if document is None:
            continue
        new = [place for place in _places(document) if place not in found]
        sure = set(new if start == number else _chain(new))
        found |= {place: start if place in sure else 0 for place in new}
        start = number + 1
    return {place: line for place, line in found.items() if line}


def nearest_line(lines: dict[Place, int], place: Place) -> int:
    """Return the line of a key, or of the innermost table around it that has one; 0 if none has."""
    return next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 0)


def _beginning(text: str) -> dict[str, Any] | None:
    """Parse the beginning of a text; None if it ends within a value."""
    for closer in _CLOSERS:
        try:
            return tomllib.loads(f"{text}\n{closer}")
        except tomllib.TOMLDecodeError:
            continue
    return None


def _places(value: Any, at: Place = ()) -> Iterator[Place]:  # noqa: ANN401 - what TOML holds
    """Yield the place of every key and of every table in an array, in their order."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        if isinstance(name, str) or isinstance(inner, dict):
            yield (*at, name)
        yield from _places(inner, (*at, name))


def _chain(places: list[Place]) -> list[Place]:
    """Of what came with a value of several lines, return what surely stands on its first: each within the last."""
    chain: list[Place] = []
    for place in places:
        if chain and (place[:-1] != chain[-1] or sum(p[:-1] == place[:-1] for p in places) > 1):
            break
        chain.append(place)
    return chain

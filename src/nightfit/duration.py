"""Lengths of time as people type them: 12h, 1d, 2w."""

from __future__ import annotations

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def seconds(text: str) -> float | None:
    """Return a length of time in seconds; None for what is no number and one of s, m, h, d, w.

    >>> seconds("1.5h"), seconds("soon")
    (5400.0, None)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    return float(found[1]) * _UNITS[found[2]] if found else None


def spelt(length_s: float) -> str:
    """Spell seconds as people type them, in the largest unit of which they are a whole number.

    >>> spelt(86_400.0), spelt(5400.0), spelt(0.5)
    ('1d', '90m', '0.5s')
    """
    unit = next((u for u in reversed(_UNITS) if length_s % _UNITS[u] == 0), "s")
    return f"{length_s / _UNITS[unit]:g}{unit}"

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

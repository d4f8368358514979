"""How figures are said: seconds, shares, bytes."""

from __future__ import annotations

MINUS = "\N{MINUS SIGN}"


def seconds(value: float | None) -> str:
    """Say a duration in a unit that fits.

    >>> seconds(0.0213), seconds(41.3), seconds(2300)
    ('21 ms', '41 s', '38 min')
    """
    if value is None:
        return "-"
    for limit, size, unit in ((1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min"), (1e99, 3600, "h")):
        if value < limit:
            return f"{_figures(value / size)} {unit}"
    raise AssertionError(value)


def _figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"  # noqa: PLR2004 - two figures are enough


def percent(share: float, *, sign: bool = False) -> str:
    """Say a share.

    >>> percent(0.1843, sign=True), percent(0.5), percent(3.2)
    ('+18.4 %', '50.0 %', '320 %')
    """
    value = 100 * share
    words = f"{abs(value):,.0f}" if abs(value) >= 100 else f"{abs(value):.1f}"  # noqa: PLR2004 - beyond a hundred
    minus = MINUS if value < 0 and float(words.replace(",", "")) else "+" if sign else ""
    return f"{minus}{words} %"


def times(ratio: float) -> str:
    """Say how many times.

    >>> times(11.32), times(0.4)
    ('11 times', '0.4 times')
    """
    return f"{_figures(ratio)} times"


def size(n_bytes: float | None) -> str:
    """Say a number of bytes.

    >>> size(1_500_000)
    '1.4 MiB'
    """
    if n_bytes is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024 or unit == "GiB":  # noqa: PLR2004 - bytes
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:,.1f} {unit}"
        n_bytes /= 1024
    raise AssertionError(n_bytes)


def score(value: float | None) -> str:
    """Say a score, to four significant figures where it is small."""
    if value is None:
        return "-"
    return f"{value:,.4f}" if abs(value) < 100 else f"{value:,.1f}"  # noqa: PLR2004 - digits that matter

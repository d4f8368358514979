"""A comparison's figures, those that its result has the numbers for."""

from __future__ import annotations

from nightfit.report.calibration import reliability
from nightfit.report.costs import costs
from nightfit.report.curves import curves
from nightfit.report.forest import differences
from nightfit.report.result import Result
from nightfit.report.svg import Figure


def figures(result: Result) -> list[Figure]:
    """Return the figures in the order in which a reader needs them."""
    over_nights = [curves(result, metric) for metric in list(result.scored)[:2]]
    found = [differences(result), costs(result), *over_nights, reliability(result)]
    return [figure for figure in found if figure]

"""The population stability index: its formula, and what chance makes of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2

from nightfit.psi import MOVED, chi_square, shift


def test_psi_is_the_sum_over_the_bins() -> None:
    """PSI is what the formula says, but for the row that each bin is lent."""
    found = shift(np.array([200_000, 800_000]), np.array([400_000, 600_000]), alpha=0.01)
    assert found.psi == pytest.approx(-0.2 * math.log(0.2 / 0.4) + 0.2 * math.log(0.8 / 0.6), rel=1e-4)
    assert found.is_significant


@pytest.mark.parametrize("degrees", [1, 2, 9, 19])
@pytest.mark.parametrize("level", [0.99, 0.9999, 0.999999])
def test_quantiles_are_those_of_the_chi_square_distribution(degrees: int, level: float) -> None:
    """The approximation is hardly below the exact quantile, and not far above."""
    exact = chi2.ppf(level, degrees)
    assert 0.99 * exact < chi_square(level, degrees) < {1: 1.15, 2: 1.1}.get(degrees, 1.03) * exact


@pytest.mark.parametrize(("n", "m"), [(100, 100), (100, 10_000), (1_000, 1_000)])
def test_chance_alone_is_no_shift(n: int, m: int) -> None:
    """Samples of one distribution are hardly more often significantly apart than `alpha` says, whatever their sizes."""
    random, share = np.random.default_rng(0), np.full(10, 0.1)
    pairs = zip(random.multinomial(n, share, 5_000), random.multinomial(m, share, 5_000), strict=True)
    assert np.mean([shift(*pair, alpha=0.01).is_significant for pair in pairs]) <= 0.012


def test_small_nights_do_not_alarm() -> None:
    """Of 100 rows in ten bins PSI alone would alarm often; beyond noise hardly ever, and a real shift still does."""
    random, share = np.random.default_rng(1), np.full(10, 0.1)
    found = [shift(*random.multinomial(100, share, 2), alpha=1e-4) for _ in range(2_000)]
    assert np.mean([s.psi >= MOVED for s in found]) > 0.1
    assert not any(s.effect >= MOVED and s.is_significant for s in found)
    moved = random.multinomial(100, np.arange(10) / 45)
    assert shift(moved, random.multinomial(1_000, share), alpha=1e-4).is_significant


@pytest.mark.parametrize(("tonight", "before"), [([0, 0], [5, 5]), ([5, 5], [0, 0]), ([5], [9])])
def test_nothing_to_compare_is_no_shift(tonight: list[int], before: list[int]) -> None:
    """No rows on one side, or one bin, is not apart."""
    assert shift(np.array(tonight), np.array(before), alpha=0.01) == (0.0, 0.0, False)

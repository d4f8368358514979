from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nightfit.batch import Array
from nightfit.checkpoint import pack, unpack
from nightfit.moments import CLAMP, standardise
from nightfit.normaliser import Normaliser

OFFSETS = st.sampled_from([0.0, 1.0, 1e9, -1e9, 1e15, 1e-9])
COLUMNS = st.one_of(
    st.lists(st.one_of(st.just(math.nan), st.integers(-1, 1)), max_size=40).flatmap(
        lambda steps: OFFSETS.map(lambda offset: [offset + step for step in steps])
    ),
    st.lists(st.one_of(st.just(math.nan), st.floats(-1e6, 1e6, allow_subnormal=False)), max_size=40),
    st.lists(st.one_of(st.just(math.nan), st.sampled_from([0.0, 1e9 - 1, 1e9 + 1, -1e100, 1e100])), max_size=40),
    st.tuples(st.floats(-1e100, 1e100), st.integers(0, 40)).map(lambda constant: [constant[0]] * constant[1]),
)
CUTS = st.lists(st.integers(0, 40), max_size=8)


def nights(column: list[float], cuts: list[int]) -> list[Array]:
    """Cut a column into nights, empty ones among them."""
    return np.split(np.array(column, float)[:, None], sorted(min(cut, len(column)) for cut in cuts))


def merged(parts: list[Array]) -> Normaliser:
    """Take the moments night by night; between the nights, the layer is saved and loaded."""
    layer = Normaliser(1)
    for part in parts:
        layer.update(torch.from_numpy(part))
        layer = Normaliser.from_arrays(unpack(pack(layer.arrays())))
    return layer


def exact(column: list[float]) -> tuple[int, Fraction, Fraction]:
    """Give count, mean and sum of squared deviations in exact arithmetic."""
    values = [Fraction(v) for v in column if not math.isnan(v)]
    mean = sum(values, Fraction(0)) / max(len(values), 1)
    return len(values), mean, sum(((v - mean) ** 2 for v in values), Fraction(0))


def assert_exact(layer: Normaliser, column: list[float]) -> None:
    """Compare with exact moments, to 1e-9: the variance relative to itself, the mean relative to the largest value."""
    n, mean, m2 = exact(column)
    assert layer.count.item() == n
    if n:
        largest = max(abs(v) for v in column if not math.isnan(v))
        assert layer.m2.item() == pytest.approx(float(m2), rel=1e-9, abs=1e-290)
        assert abs(float(Fraction(layer.origin.item()) + Fraction(layer.mean.item()) - mean)) <= 1e-9 * largest


@given(COLUMNS, CUTS)
def test_nights_merge_to_one_pass(column: list[float], cuts: list[int]) -> None:
    """Moments merged night by night are those of all rows, computed exactly, whatever is missing and however cut."""
    assert_exact(merged(nights(column, cuts)), column)
    assert_exact(merged([np.array(column, float)[:, None]]), column)


@given(COLUMNS, CUTS)
def test_shares_join_to_one_pass(column: list[float], cuts: list[int]) -> None:
    """Moments that several took, each of its own rows, join to those of all rows, computed exactly."""
    joined = Normaliser(1)
    for part in nights(column, cuts):
        joined.join(merged([part]).arrays())
    assert_exact(joined, column)


@given(COLUMNS, CUTS, st.randoms(use_true_random=False))
def test_order_does_not_matter(column: list[float], cuts: list[int], random: object) -> None:
    """The rows in any other order give the same moments to 1e-9."""
    shuffled = list(column)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert_exact(merged(nights(shuffled, cuts)), column)


def test_a_thousand_nights_stay_exact() -> None:
    """Rounding does not add up over the nights: 1e9 +- 1 keeps its variance of 1 to nine digits."""
    random = np.random.default_rng(0)
    column = 1e9 + random.choice([-1.0, 1.0], 20_000)
    layer = merged(np.split(column[:, None], 1000))
    assert_exact(layer, column.tolist())
    assert layer.scale.item() == pytest.approx(column.std(), rel=1e-9)
    z = layer(torch.from_numpy(column[:, None]))
    assert z.mean().item() == pytest.approx(0, abs=1e-6)
    assert z.square().mean().item() == pytest.approx(1, abs=1e-5)


@given(COLUMNS)
def test_the_numpy_arithmetic_is_the_layers(column: list[float]) -> None:
    """Serving standardises to the same bits as the layer; missing stays missing, and the rest is clamped."""
    x = np.array(column, float)[:, None]
    layer = merged([x[::2]])
    z = layer(torch.from_numpy(x)).numpy()
    assert np.array_equal(z, standardise(layer.arrays(), x), equal_nan=True)
    assert np.array_equal(np.isnan(z), np.isnan(x))
    assert z.dtype == np.float32
    assert (np.abs(z[~np.isnan(z)]) <= CLAMP).all()


def test_a_constant_becomes_zero() -> None:
    """A column without variance, and one without values, is 0 wherever it is not missing."""
    layer = Normaliser(2)
    layer.update(torch.tensor([[0.1, math.nan]] * 3, dtype=torch.float64))
    assert layer(torch.tensor([[0.1, 1e9]], dtype=torch.float64)).tolist() == [[0.0, 0.0]]


def test_growth_keeps_what_was_known() -> None:
    """A new feature starts without values and changes nothing about the others, nor about what they become."""
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.normal(5, 2, (100, 3)))
    whole, grown = Normaliser(2), Normaliser(2)
    for layer in (whole, grown):
        layer.update(x[:50, :2])
    grown.grow(3)
    assert grown(x)[:, :2].equal(whole(x[:, :2]))
    whole.update(x[50:, :2])
    grown.update(x[50:])
    for name, values in whole.arrays().items():
        assert np.array_equal(grown.arrays()[name][:2], values)
    assert_exact(Normaliser.from_arrays({k: v[2:] for k, v in grown.arrays().items()}), x[50:, 2].tolist())


def test_it_is_a_layer_that_is_saved_exactly() -> None:
    """The statistics are buffers of an nn.Module; written and read they are the same bits, in memory of their own."""
    layer = merged([np.array([[1e9 - 1], [0.1], [math.nan]])])
    assert set(layer.state_dict()) == {"origin", "count", "mean", "m2"} == set(layer.arrays())
    arrays = layer.arrays()
    loaded = Normaliser.from_arrays(arrays)
    loaded.update(torch.tensor([[3.0]], dtype=torch.float64))
    assert all(np.array_equal(arrays[name], values) for name, values in layer.arrays().items())


@pytest.mark.parametrize("shape", [(0, 0), (0, 2), (3, 0)])
def test_empty_nights_change_nothing(shape: tuple[int, int]) -> None:
    """No rows, and no columns, are no trouble."""
    layer = Normaliser(shape[1])
    layer.update(torch.zeros(shape, dtype=torch.float64))
    assert layer.count.tolist() == [0.0] * shape[1]
    assert layer(torch.zeros(shape, dtype=torch.float64)).shape == shape


def test_circles_keep_their_scale() -> None:
    """A sine or cosine of a time is scaled as over the whole circle, however short an arc the first nights show."""
    layer = Normaliser(0)
    layer.grow(2, torch.tensor([False, True]))
    arc = torch.sin(torch.linspace(0, 0.1, 50, dtype=torch.float64))
    layer.update(torch.stack([arc, arc], 1))
    z = layer(torch.tensor([[1.0, 1.0]], dtype=torch.float64))
    assert z[0, 0] == CLAMP
    assert z[0, 1].item() == pytest.approx(2**0.5, abs=1e-3)

"""The network's arithmetic, against a plain reading of it and autograd's gradient."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from nightfit.errors import ConfigError
from nightfit.learners.base import MlpConfig
from nightfit.learners.deep import DeepLearner
from nightfit.learners.flat import Weights, views
from nightfit.learners.mlp import MAX_WAVES, Inputs, Mlp, n_frequencies, numbers_of
from nightfit.learners.replay import NEW, RECENT, RESERVOIR, regimes, slices
from nightfit.model import Model
from nightfit.schema import Sizes
from nightfit.scorer import groups
from nightfit.testing import random_night, schema_of

CASES = [
    (MlpConfig(), Sizes(3, 2, 9, 3)),
    (MlpConfig(n_blocks=1, d_hidden=5), Sizes(3, 2, 9, 1)),
    (MlpConfig(n_blocks=3, d_hidden=4, d_embedding=2), Sizes(2, 0, 0, 2)),
    (MlpConfig(d_hidden=4, n_frequencies=0), Sizes(4, 1, 3, 4)),
    (MlpConfig(d_hidden=4), Sizes(0, 2, 5, 2)),
    (MlpConfig(d_hidden=4, n_members=1), Sizes(3, 2, 9, 3)),
    (MlpConfig(d_hidden=4, n_members=2), Sizes(3, 0, 0, 1)),
    (MlpConfig(d_hidden=4, n_members=16), Sizes(2, 1, 3, 2)),
    (MlpConfig(d_hidden=4), Sizes(0, 0, 0, 2)),
]


def a_net(config: MlpConfig, sizes: Sizes) -> Mlp:
    """Give a network in double precision, none of whose weights is zero."""
    net = Mlp(config, sizes, n_frequencies(config, sizes.d_num), torch.Generator().manual_seed(0)).double()
    net.flat.data = torch.randn(net.flat.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 3
    return net


def some_inputs(net: Mlp, sizes: Sizes, n: int, *, missing: bool) -> tuple[Tensor, Tensor, Inputs]:
    """Give rows: numbers, ids, and what the network reads of them."""
    random = np.random.default_rng(0)
    z = random.normal(size=(n, sizes.d_num))
    if missing and sizes.d_num:
        z[random.random(z.shape) < 0.3] = np.nan
        z[:, 0] = np.abs(z[:, 0]) if sizes.d_num > 1 else z[:, 0]
    ids = torch.from_numpy(random.integers(0, max(sizes.n_ids, 1), (n, sizes.d_cat)))
    numbers = numbers_of(torch.from_numpy(z), flagged=missing)
    return torch.from_numpy(z), ids, net.waved(numbers, ids)


def plainly(net: Mlp, w: Weights, z: Tensor, ids: Tensor) -> Tensor:
    """Compute all members' outputs [M + 1, n, K] one by one, as the docstrings say."""
    h, missing, value = net.config.d_hidden, torch.isnan(z).double(), torch.nan_to_num(z)
    angles = value[:, :, None] * net.frequencies
    waves = (torch.cat([angles.sin(), angles.cos()], 2) * (1 - missing[:, :, None])).flatten(1)
    embedded = w["embedding"][ids].flatten(1)
    outputs = []
    for g, members in enumerate(groups(net.config.n_members)):
        for m in members:
            own = slice(m * h, (m + 1) * h)
            x = w["b_in"][own] + value @ w["w_value"][:, own] + missing @ w["w_missing"][:, own]
            x = x + embedded @ w["w_cat"][:, own]
            if m == members.start:
                x = x + waves @ w["w_waves"][:, g * h : (g + 1) * h]
            x = torch.relu(x)
            for i in range(net.config.n_blocks - 1):
                x = torch.relu(x @ w["w_hidden"][i, m] + w["b_hidden"][i, m])
            outputs.append(x @ w["w_out"][m] + w["b_out"][m])
    linear = w["l_out"] + value @ w["l_value"] + missing @ w["l_missing"] + w["l_cat"][ids].sum(1)
    return torch.stack([*outputs, linear])


@pytest.mark.parametrize(("config", "sizes"), CASES, ids=str)
@pytest.mark.parametrize("missing", [False, True])
def test_outputs_are_those_of_a_plain_reading(config: MlpConfig, sizes: Sizes, *, missing: bool) -> None:
    """All members, in their order, with and without missing values."""
    net = a_net(config, sizes)
    z, ids, inputs = some_inputs(net, sizes, 20, missing=missing)
    assert torch.allclose(net(inputs), plainly(net, views(net.flat.data, net.shapes), z, ids), atol=1e-12)


@pytest.mark.parametrize(("config", "sizes"), CASES, ids=str)
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("rows", [(0, 8, 12, 20), (0, 0, 20, 20), (0, 19, 19, 20)])
def test_the_gradient_is_autograds(
    config: MlpConfig, sizes: Sizes, rows: tuple[int, int, int, int], *, missing: bool
) -> None:
    """Each group's loss is over its own rows; where a group has none, its weights have no gradient."""
    net = a_net(config, sizes)
    z, ids, inputs = some_inputs(net, sizes, 20, missing=missing)
    own = slices(tuple(end - start for start, end in pairwise(rows)), config.n_members)
    into = torch.full_like(net.flat.data, torch.nan)
    passes = net.passes(inputs, own, net.parts(net.flat.data))
    at_outputs = [done.outputs for done in passes]
    net.backward(inputs, passes, at_outputs, net.parts(net.flat.data), net.parts(into))

    flat = net.flat.data.clone().requires_grad_()
    outputs = plainly(net, views(flat, net.shapes), z, ids)
    owners = [*(g for g, members in enumerate(groups(config.n_members)) for _ in members), 0]
    loss = torch.stack([outputs[m, own[g]].square().sum() for m, g in enumerate(owners)]).sum() / 2
    loss.backward()  # type: ignore[no-untyped-call]
    assert flat.grad is not None
    assert torch.allclose(into, flat.grad, atol=1e-9), "half the squared outputs: their gradient is the outputs"


def test_many_columns_get_fewer_waves() -> None:
    """A few columns get all that are asked for, hundreds none; a lineage keeps its waves when columns are added."""
    assert [n_frequencies(MlpConfig(), d) for d in (0, 1, 32, 64, 300)] == [8, 8, 8, MAX_WAVES // 128, 0]
    model = Model.fresh("mlp", MlpConfig(d_hidden=4))
    schema = schema_of(64, 0, n_categories=0, n_classes=2)
    model.grow(schema)
    model.learn(random_night(schema, 100, 0), seed=0)
    model.grow(schema.with_columns({"late": "numeric"}))
    learner = model.learner
    assert isinstance(learner, DeepLearner)
    assert len(learner._net.frequencies) == 4


def test_a_night_of_one_row_hardly_changes_anything() -> None:
    """One row among replayed ones: no reason for ten epochs over it to undo what nights have taught."""
    from nightfit.metrics import row_losses

    schema = schema_of(4, 1, n_categories=3, n_classes=3)
    model = Model.fresh("mlp", MlpConfig())
    model.grow(schema)
    for night in range(6):
        rows = random_night(schema, 400, night)
        model.learner.observe(rows)
        model.learn(rows, seed=0)
    test = random_night(schema, 1000, 99)
    before = row_losses(model.predict_rows(test), test.y).mean()
    model.learn(random_night(schema, 1, 7), seed=0)
    assert row_losses(model.predict_rows(test), test.y).mean() < 1.03 * before


@pytest.mark.parametrize(("n", "sizes"), [(1, [1]), (2, [1, 1]), (3, [1, 1, 1]), (7, [3, 2, 2]), (16, [6, 5, 5])])
def test_members_are_shared_out_among_regimes(n: int, sizes: list[int]) -> None:
    """Old rows have the first member, then the latest, then new rows alone; nobody is left out."""
    found = groups(n)
    assert [*map(len, found)] == sizes
    assert [m for members in found for m in members] == list(range(n))
    assert regimes(n) == {1: (RESERVOIR,), 2: (RESERVOIR, RECENT)}.get(n, (RESERVOIR, NEW, RECENT))


def test_a_lineage_keeps_the_number_of_its_members() -> None:
    """Another number is refused with both, also for a version that was written before there was a choice."""
    model = Model.fresh("mlp", MlpConfig(d_hidden=4, n_members=2))
    model.grow(schema_of(2, 0, n_categories=0, n_classes=2))
    model.learn(random_night(model.schema, 100, 0), seed=0)
    state, files = model.state()
    assert "n_members" not in str(state)
    with pytest.raises(ConfigError, match="n_members is 7 now and was 2"):
        Model.load(state, files, MlpConfig(d_hidden=4))

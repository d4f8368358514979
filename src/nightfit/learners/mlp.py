"""The network: several small MLPs and one linear model, members of one ensemble, computed together.

All weights lie in one flat vector, so that a step of the optimiser, an average over the nights and a checkpoint are
one operation each. The gradient is derived by hand: at these sizes autograd costs as much as the matrix products.

The first layer reads of every number its standardised value, a missing flag, and sines and cosines (periodic
embeddings: Gorishniy, Rubachev & Babenko, NeurIPS 2022, here with fixed frequencies), and of every category a learned
embedding. Rows of its weights stand in the order of the columns: a new column, category or class only appends.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from nightfit.learners.base import MlpConfig
from nightfit.schema import Sizes

Shapes: TypeAlias = dict[str, tuple[int, ...]]
Weights: TypeAlias = dict[str, Tensor]

N_MEMBERS = 7
"""MLPs of the ensemble; the linear member comes after them."""

N_PERIODIC = 3
"""Members, from the first on, that read the sines and cosines too: the others stay smooth where rows are few."""


class Inputs(NamedTuple):
    """Rows as the network reads them, computed once for all steps.

    `dense`: float32 [n, 2 d_num], value and missing flag of each number. `waves`: float32 [n, 2 F d_num].
    `ids`: int64 [n, d_cat].
    """

    dense: Tensor
    waves: Tensor
    ids: Tensor

    def take(self, index: Tensor) -> Inputs:
        """Return the rows that an index names."""
        return Inputs(self.dense[index], self.waves[index], self.ids[index])


class Pass(NamedTuple):
    """What a forward pass leaves: outputs [M + 1, n, K], each layer's activations [M, n, h], the embedded ids.

    The first layer's activations lie in memory as [n, M h]: one product computes those of all members.
    """

    outputs: Tensor
    layers: list[Tensor]
    embedded: Tensor


class Mlp(nn.Module):
    """M MLPs of `n_blocks` hidden layers and a linear model over the same inputs.

    Shape: `Inputs` of n rows in, outputs [M + 1, n, K] (logits, or one value) out, the linear member's last.
    """

    frequencies: Tensor

    def __init__(self, config: MlpConfig, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.shapes = _shapes(config, sizes)
        self.flat = nn.Parameter(torch.zeros(_numel(self.shapes)), requires_grad=False)
        # Quarter turns for each standard deviation, and their multiples: from one slow wave to a fine grid.
        self.register_buffer("frequencies", torch.arange(1, config.n_frequencies + 1) * math.pi / 4)
        self._start(generator)

    def _start(self, generator: torch.Generator) -> None:
        """Draw the first weights (He et al., ICCV 2015); outputs start at zero: the class prior, or the mean."""
        w = views(self.flat.data, self.shapes)
        d_in = max(len(w["w_dense"]) // 2 + len(w["w_cat"]), 1)
        scales = {
            "w_dense": (2 / d_in) ** 0.5,
            "w_waves": (2 / max(len(w["w_waves"]), 1)) ** 0.5,
            "w_cat": (2 / d_in) ** 0.5,
            "w_hidden": (2 / self.config.d_hidden) ** 0.5,
            "embedding": 1.0,
        }
        for name, scale in scales.items():
            w[name].normal_(0, scale, generator=generator)
        w["w_dense"][1::2] = 0  # a flag that was never set says nothing

    def inputs(self, z: Tensor, ids: Tensor) -> Inputs:
        """Return what the network reads of numbers z [n, d_num] (NaN where missing) and category ids [n, d_cat]."""
        missing = torch.isnan(z)
        value = torch.nan_to_num(z)
        angles = value.unsqueeze(2) * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], 2) * ~missing.unsqueeze(2)
        return Inputs(torch.stack([value, missing.float()], 2).flatten(1), waves.flatten(1), ids)

    def forward(self, x: Inputs, flat: Tensor | None = None) -> Pass:
        """Compute outputs with the module's weights, or with another flat vector of them."""
        c, n = self.config, len(x.dense)
        w = views(self.flat.data if flat is None else flat, self.shapes)
        embedded = w["embedding"][x.ids].flatten(1)
        first = torch.addmm(w["b_in"], x.dense, w["w_dense"]).addmm_(embedded, w["w_cat"])
        first[:, : N_PERIODIC * c.d_hidden].addmm_(x.waves, w["w_waves"])
        layers = [first.relu_().view(n, N_MEMBERS, c.d_hidden).transpose(0, 1)]
        for weight, bias in zip(w["w_hidden"], w["b_hidden"], strict=True):
            layers.append(torch.baddbmm(bias, layers[-1], weight).relu_())
        linear = torch.addmm(w["l_out"], x.dense, w["l_dense"]) + w["l_cat"][x.ids].sum(1)
        outputs = torch.cat([torch.baddbmm(w["b_out"], layers[-1], w["w_out"]), linear[None]])
        return Pass(outputs, layers, embedded)

    def backward(self, x: Inputs, done: Pass, g: Tensor, into: Tensor) -> None:
        """Write the loss's gradient into the flat vector `into`, from its gradient g [M + 1, n, K] at the outputs."""
        c, n = self.config, len(x.dense)
        w, d = views(self.flat.data, self.shapes), views(into, self.shapes)
        self._backward_linear(x, g[-1], d)
        g = _through(g[:-1], w["w_out"], done.layers[-1], d["w_out"], d["b_out"])
        for i in reversed(range(c.n_blocks - 1)):
            g = _rectified(g, done.layers[i + 1])
            g = _through(g, w["w_hidden"][i], done.layers[i], d["w_hidden"][i], d["b_hidden"][i])
        first = _rectified(g.transpose(0, 1).reshape(n, -1), done.layers[0].transpose(0, 1).reshape(n, -1))
        torch.sum(first, 0, out=d["b_in"])
        torch.mm(x.dense.t(), first, out=d["w_dense"])
        torch.mm(x.waves.t(), first[:, : N_PERIODIC * c.d_hidden], out=d["w_waves"])
        torch.mm(done.embedded.t(), first, out=d["w_cat"])
        _scatter(d["embedding"], x.ids, (first @ w["w_cat"].t()).view(-1, c.d_embedding))

    def _backward_linear(self, x: Inputs, g: Tensor, d: Weights) -> None:
        torch.mm(x.dense.t(), g, out=d["l_dense"])
        torch.sum(g, 0, out=d["l_out"])
        _scatter(d["l_cat"], x.ids, g.repeat_interleave(x.ids.shape[1], 0))


def _through(g: Tensor, weight: Tensor, below: Tensor, d_weight: Tensor, d_bias: Tensor) -> Tensor:
    """Take a gradient [M, n, out] through a linear layer; write those of weight and bias."""
    torch.bmm(below.transpose(1, 2), g, out=d_weight)
    torch.sum(g, 1, keepdim=True, out=d_bias)
    return torch.bmm(g, weight.transpose(1, 2))


def _rectified(g: Tensor, active: Tensor) -> Tensor:
    """Take a gradient through the ReLU that left `active`: one kernel, where a mask and a product are three."""
    through: Tensor = torch.ops.aten.threshold_backward(g, active, 0)
    return through


def _scatter(into: Tensor, ids: Tensor, rows: Tensor) -> None:
    into.zero_().index_add_(0, ids.flatten(), rows)


def _shapes(config: MlpConfig, sizes: Sizes) -> Shapes:
    m, h, e, k = N_MEMBERS, config.d_hidden, config.d_embedding, sizes.n_outputs
    return {
        "b_in": (m * h,),
        "w_dense": (2 * sizes.d_num, m * h),
        "w_waves": (2 * config.n_frequencies * sizes.d_num, N_PERIODIC * h),
        "w_cat": (e * sizes.d_cat, m * h),
        "embedding": (sizes.n_ids, e),
        "w_hidden": (config.n_blocks - 1, m, h, h),
        "b_hidden": (config.n_blocks - 1, m, 1, h),
        "w_out": (m, h, k),
        "b_out": (m, 1, k),
        "l_dense": (2 * sizes.d_num, k),
        "l_cat": (sizes.n_ids, k),
        "l_out": (k,),
    }


def _numel(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def views(flat: Tensor, shapes: Shapes) -> Weights:
    """Return the weights that a flat vector holds, by name, without copying them."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    parts = torch.split(flat, sizes)
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def grown(flat: Tensor, old: Shapes, new: Shapes) -> Tensor:
    """Return a flat vector at its new shapes: what was appended is zero, so that no old row's outputs change."""
    out = flat.new_zeros(_numel(new))
    before = views(flat, old)
    for name, weight in views(out, new).items():
        weight[tuple(slice(n) for n in before[name].shape)] = before[name]
    return out

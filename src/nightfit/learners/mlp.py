"""The network: several small MLPs and one linear model, members of one ensemble, computed together.

All weights lie in one flat vector, so that a step of the optimiser, an average over the nights and a checkpoint are
one operation each. The gradient is derived by hand: at these sizes autograd costs as much as the matrix products.
Members that learn the same rows form a group, and a group computes its own rows alone.

The first layer reads of every number its standardised value, a missing flag, and sines and cosines (periodic
embeddings: Gorishniy, Rubachev & Babenko, NeurIPS 2022, here with fixed frequencies), and of every category a learned
embedding. Rows of its weights stand in the order of the columns: a new column, category or class only appends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from nightfit.learners.base import MlpConfig
from nightfit.schema import Sizes
from nightfit.scorer import GROUPS

Shapes: TypeAlias = dict[str, tuple[int, ...]]
Weights: TypeAlias = dict[str, Tensor]

N_MEMBERS = GROUPS[-1].stop
"""MLPs of the ensemble; the linear member comes after them."""

MAX_WAVES = 512
"""Sines and cosines of a row, at most: hundreds of columns get fewer each, or none, as their products would cost most
of the time, and so many inputs fit noise."""


class Inputs(NamedTuple):
    """Rows as the network reads them.

    `value`: float32 [n, d_num], 0 where missing. `missing`: float32 [n, m], flags of the columns `holes` (int64 [m])
    alone, which miss a value in some of these rows. `waves`: float32 [n, 2 F d_num]. `ids`: int64 [n, d_cat].
    """

    value: Tensor
    missing: Tensor
    holes: Tensor
    waves: Tensor
    ids: Tensor

    def take(self, rows: Tensor | slice) -> Inputs:
        """Return the rows that an index or a slice names."""
        return Inputs(self.value[rows], self.missing[rows], self.holes, self.waves[rows], self.ids[rows])


class Pass(NamedTuple):
    """What a forward pass leaves of one group: its rows, activations, and outputs [m, n, K].

    `rows`: which of the minibatch's they are. `dense`: float32 [n, d_num + e d_cat], numbers and embedded ids side by
    side. The first layer's activations lie in memory as [n, m h]: one product computes those of all members.
    """

    rows: slice
    x: Inputs
    dense: Tensor
    layers: list[Tensor]
    outputs: Tensor


class Parts(NamedTuple):
    """Views of a flat vector by name: whole ones, and those of each group."""

    all: Weights
    groups: list[Weights]


class Mlp(nn.Module):
    """M MLPs of `n_blocks` hidden layers and a linear model over the same inputs.

    Shape: `Inputs` of n rows in, outputs [M + 1, n, K] (logits, or one value) out, the linear member's last.
    """

    frequencies: Tensor

    def __init__(self, config: MlpConfig, sizes: Sizes, n_frequencies: int, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.shapes = _shapes(config, sizes, n_frequencies)
        self.flat = nn.Parameter(torch.zeros(_numel(self.shapes)), requires_grad=False)
        # Quarter turns for each standard deviation, and their multiples: from one slow wave to a fine grid.
        self.register_buffer("frequencies", torch.arange(1, n_frequencies + 1) * math.pi / 4)
        self._start(generator)

    def _start(self, generator: torch.Generator) -> None:
        """Draw the first weights (He et al., ICCV 2015); outputs start at zero: the class prior, or the mean.

        Missing flags start at zero too: one that was never set says nothing.
        """
        w = views(self.flat.data, self.shapes)
        d_in = max(len(w["w_value"]) + len(w["w_cat"]), 1)
        scales = {
            "w_value": (2 / d_in) ** 0.5,
            "w_waves": (2 / max(len(w["w_waves"]), 1)) ** 0.5,
            "w_cat": (2 / d_in) ** 0.5,
            "w_hidden": (2 / self.config.d_hidden) ** 0.5,
            "embedding": 1.0,
        }
        for name, scale in scales.items():
            w[name].normal_(0, scale, generator=generator)

    def inputs(self, z: Tensor, ids: Tensor, holes: Tensor | None = None) -> Inputs:
        """Return what the network reads of numbers z [n, d_num] (NaN where missing) and category ids [n, d_cat].

        `holes`, if they are known: the columns that may miss values, int64 [m].
        """
        missing = torch.isnan(z)
        holes = missing.any(0).nonzero()[:, 0] if holes is None else holes
        value = torch.nan_to_num(z) if len(holes) else z
        angles = value.unsqueeze(2) * self.frequencies
        cosines = angles.cos()
        if len(holes):  # where the sines of the 0 in a missing value's place are 0 already
            cosines.masked_fill_(missing.unsqueeze(2), 0)
        waves = torch.cat([angles.sin(), cosines], 2).flatten(1)
        return Inputs(value, missing.index_select(1, holes).float(), holes, waves, ids)

    def forward(self, x: Inputs, flat: Tensor | None = None) -> Tensor:
        """Compute all members' outputs with the module's weights, or with another flat vector of them."""
        passes = self.passes(x, [slice(None)] * len(GROUPS), self.parts(self.flat.data if flat is None else flat))
        first, *others = (done.outputs for done in passes)
        return torch.cat([first[:-1], *others, first[-1:]])

    def parts(self, flat: Tensor) -> Parts:
        """Return views of a flat vector of weights, or of their gradient: made once, used by many steps."""
        whole = views(flat, self.shapes) | {"w_dense": _dense(flat, self.shapes)}
        return Parts(whole, [_of_group(whole, g) for g in range(len(GROUPS))])

    def passes(self, x: Inputs, rows: Sequence[slice], weights: Parts) -> list[Pass]:
        """Compute each group's outputs on its own rows; those of the first group end with the linear member's."""
        embedded = _rows_of(weights.all["embedding"], x.ids).flatten(1)
        dense, flags = torch.cat([x.value, embedded], 1), weights.all["w_missing"].index_select(0, x.holes)
        passes = [
            self._forward(own, x.take(own), dense[own], w, flags[:, self._units(g)])
            for g, (own, w) in enumerate(zip(rows, weights.groups, strict=True))
        ]
        outputs = torch.cat([passes[0].outputs, _linear(passes[0].x, weights.all)[None]])
        return [passes[0]._replace(outputs=outputs), *passes[1:]]

    def _units(self, g: int) -> slice:
        """Return the units of a group's first layer."""
        return slice(GROUPS[g].start * self.config.d_hidden, GROUPS[g].stop * self.config.d_hidden)

    def _forward(self, rows: slice, x: Inputs, dense: Tensor, w: Weights, flags: Tensor) -> Pass:
        h, n = self.config.d_hidden, len(dense)
        first = torch.addmm(w["b_in"], dense, w["w_dense"])
        if len(x.holes):
            first.addmm_(x.missing, flags)
        first[:, :h].addmm_(x.waves, w["w_waves"])
        layers = [first.relu_().view(n, len(w["w_out"]), h).transpose(0, 1)]
        for i in range(self.config.n_blocks - 1):
            layers.append(torch.baddbmm(w[f"b_{i}"], layers[-1], w[f"w_{i}"]).relu_())
        return Pass(rows, x, dense, layers, torch.baddbmm(w["b_out"], layers[-1], w["w_out"]))

    def backward(
        self, passes: Sequence[Pass], ids: Tensor, gradients: Sequence[Tensor], weights: Parts, into: Parts
    ) -> None:
        """Write the loss's gradient into the views `into`, from those [m, n, K] at each group's outputs.

        `ids`: int64 [n, d_cat], of all rows that went into `passes`.
        """
        for name in ("embedding", "l_cat", "w_missing", "l_missing"):
            into.all[name].zero_()
        _backward_linear(passes[0].x, gradients[0][-1], into.all)
        holes, units = passes[0].x.holes, len(weights.all["b_in"])
        at_embedded = passes[0].dense.new_zeros(len(ids), len(weights.all["w_cat"]))
        flags = at_embedded.new_empty(len(holes), units)
        for g, (done, w, d) in enumerate(zip(passes, weights.groups, into.groups, strict=True)):
            at_first = self._backward(done, gradients[g][: len(d["w_out"])], w, d)
            at_embedded[done.rows].addmm_(at_first, w["w_cat"].t())
            if len(holes):
                torch.mm(done.x.missing.t(), at_first, out=flags[:, self._units(g)])
        into.all["w_missing"].index_copy_(0, holes, flags)
        _scatter(into.all["embedding"], ids, at_embedded.view(-1, self.config.d_embedding))

    def _backward(self, done: Pass, gradient: Tensor, w: Weights, d: Weights) -> Tensor:
        """Write a group's gradient; return the one at what goes into the first layer's ReLU, [n, m h]."""
        c, x, n = self.config, done.x, len(done.dense)
        gradient = _through(gradient, w["w_out"], done.layers[-1], d["w_out"], d["b_out"])
        for i in reversed(range(c.n_blocks - 1)):
            gradient = _rectified(gradient, done.layers[i + 1])
            gradient = _through(gradient, w[f"w_{i}"], done.layers[i], d[f"w_{i}"], d[f"b_{i}"])
        wide = (n, len(d["b_in"]))
        first = _rectified(*(a.transpose(0, 1).reshape(wide) for a in (gradient, done.layers[0])))
        torch.sum(first, 0, out=d["b_in"])
        torch.mm(done.dense.t(), first, out=d["w_dense"])
        torch.mm(x.waves.t(), first[:, : c.d_hidden], out=d["w_waves"])
        return first


def _linear(x: Inputs, w: Weights) -> Tensor:
    """Compute the linear member's outputs [n, K]."""
    outputs = torch.addmm(w["l_out"], x.value, w["l_value"]).add_(_rows_of(w["l_cat"], x.ids).sum(1))
    return outputs.addmm_(x.missing, w["l_missing"].index_select(0, x.holes)) if len(x.holes) else outputs


def _rows_of(weight: Tensor, ids: Tensor) -> Tensor:
    """Return the rows [n, d, width] of a table that ids [n, d] name."""
    return weight.index_select(0, ids.flatten()).view(*ids.shape, weight.shape[1])


def _backward_linear(x: Inputs, gradient: Tensor, d: Weights) -> None:
    torch.mm(x.value.t(), gradient, out=d["l_value"])
    if len(x.holes):
        d["l_missing"].index_copy_(0, x.holes, x.missing.t() @ gradient)
    torch.sum(gradient, 0, out=d["l_out"])
    each = gradient[:, None].expand(-1, x.ids.shape[1], -1)
    _scatter(d["l_cat"], x.ids, each.reshape(-1, gradient.shape[1]))


def n_frequencies(config: MlpConfig, d_num: int) -> int:
    """Return how many waves each number is read as, sines and cosines: what is asked for, or less of many numbers."""
    return min(config.n_frequencies, MAX_WAVES // (2 * max(d_num, 1)))


def _of_group(w: Weights, g: int) -> Weights:
    """Return views of one group's weights; those of hidden layer i are `w_i` and `b_i`."""
    m = slice(GROUPS[g].start, GROUPS[g].stop)
    h = w["b_in"].shape[0] // N_MEMBERS
    own = slice(m.start * h, m.stop * h)
    hidden = {f"{kind}_{i}": w[f"{kind}_hidden"][i, m] for kind in "wb" for i in range(len(w["w_hidden"]))}
    return hidden | {
        "b_in": w["b_in"][own],
        "w_dense": w["w_dense"][:, own],
        "w_waves": w["w_waves"][:, g * h : (g + 1) * h],
        "w_cat": w["w_cat"][:, own],
        "w_out": w["w_out"][m],
        "b_out": w["b_out"][m],
    }


def _through(g: Tensor, weight: Tensor, below: Tensor, d_weight: Tensor, d_bias: Tensor) -> Tensor:
    """Take a gradient [m, n, out] through a linear layer; write those of weight and bias."""
    torch.bmm(below.transpose(1, 2), g, out=d_weight)
    torch.sum(g, 1, keepdim=True, out=d_bias)
    return torch.bmm(g, weight.transpose(1, 2))


def _rectified(g: Tensor, active: Tensor) -> Tensor:
    """Take a gradient through the ReLU that left `active`: one kernel, where a mask and a product are three."""
    through: Tensor = torch.ops.aten.threshold_backward(g, active, 0)
    return through


def _scatter(into: Tensor, ids: Tensor, rows: Tensor) -> None:
    into.index_add_(0, ids.flatten(), rows)


def _shapes(config: MlpConfig, sizes: Sizes, n_frequencies: int) -> Shapes:
    m, h, e, k = N_MEMBERS, config.d_hidden, config.d_embedding, sizes.n_outputs
    return {
        "b_in": (m * h,),
        "w_value": (sizes.d_num, m * h),
        "w_cat": (e * sizes.d_cat, m * h),  # after `w_value`, so that both are one matrix: `_dense`
        "w_missing": (sizes.d_num, m * h),
        "w_waves": (2 * n_frequencies * sizes.d_num, len(GROUPS) * h),
        "embedding": (sizes.n_ids, e),
        "w_hidden": (config.n_blocks - 1, m, h, h),
        "b_hidden": (config.n_blocks - 1, m, 1, h),
        "w_out": (m, h, k),
        "b_out": (m, 1, k),
        "l_value": (sizes.d_num, k),
        "l_missing": (sizes.d_num, k),
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


def _dense(flat: Tensor, shapes: Shapes) -> Tensor:
    """Return a view of the weights of numbers and embedded ids as one matrix [d_num + e d_cat, m h]."""
    start, (d_num, width), (d_cat, _) = math.prod(shapes["b_in"]), shapes["w_value"], shapes["w_cat"]
    return flat[start : start + (d_num + d_cat) * width].view(-1, width)


def marked(flat: Tensor, shapes: Shapes, members: Sequence[int], value: float) -> Tensor:
    """Return a flat vector that holds a value at the weights of some MLPs, and 0 elsewhere."""
    marks = torch.zeros_like(flat)
    w = views(marks, shapes)
    h = len(w["b_in"]) // N_MEMBERS
    for m in members:
        for name in ("b_in", "w_value", "w_missing", "w_cat"):
            w[name][..., m * h : (m + 1) * h] = value
        for weight in (w["w_hidden"][:, m], w["b_hidden"][:, m], w["w_out"][m], w["b_out"][m]):
            weight.fill_(value)
    for g, group in enumerate(GROUPS):  # whose first reads the waves
        if group.start in members:
            w["w_waves"][:, g * h : (g + 1) * h] = value
    return marks


def grown(flat: Tensor, old: Shapes, new: Shapes) -> Tensor:
    """Return a flat vector at its new shapes: what was appended is zero, so that no old row's outputs change."""
    out = flat.new_zeros(_numel(new))
    before = views(flat, old)
    for name, weight in views(out, new).items():
        weight[tuple(slice(n) for n in before[name].shape)] = before[name]
    return out

"""The network: several small MLPs and one linear model, members of one ensemble, computed together.

All weights lie in one flat vector (`flat`). The gradient is derived by hand: at these sizes autograd costs as much as
the matrix products. Members that learn the same rows form a group, and a group computes its own rows alone.

The first layer reads of every number its standardised value, a missing flag, and sines and cosines (periodic
embeddings: Gorishniy, Rubachev & Babenko, NeurIPS 2022, here with fixed frequencies), and of every category a learned
embedding. Rows of its weights stand in the order of the columns: a new column, category or class only appends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nightfit.learners.base import MlpConfig
from nightfit.learners.flat import Parts, Weights, numel, parts_of, shapes_of, views
from nightfit.schema import Sizes

MAX_WAVES = 512
"""Sines and cosines of a row, at most: hundreds of columns get fewer each, or none, as their products would cost most
of the time, and so many inputs fit noise."""


class Inputs(NamedTuple):
    """Rows as the network reads them.

    `numbers`: float32 [n, 1 + d_num], a 1, by which biases are weights like others, and values, 0 where missing; of
    `kind` "flagged" [n, 1 + 2 d_num], flags of what is missing after them, and "plain" where nothing is. `waves`:
    float32 [n, 2 F d_num]. `ids`: int64 [n, d_cat].
    """

    numbers: Tensor
    waves: Tensor
    ids: Tensor
    kind: str


class Pass(NamedTuple):
    """What a forward pass leaves of one group: its rows, inputs, activations, and outputs [m, K, n].

    `rows`: which of the minibatch's they are. `dense`: float32 [n, e d_cat + 1 + d_num (or 2 d_num)], embedded ids and
    numbers. The first layer's activations lie in memory as [n, m h]: one product computes those of all members.
    """

    rows: slice
    dense: Tensor
    waves: Tensor
    layers: list[Tensor]
    outputs: Tensor


class Mlp(nn.Module):
    """M MLPs of `n_blocks` hidden layers and a linear model over the same inputs.

    Shape: `Inputs` of n rows in, outputs [M + 1, n, K] (logits, or one value) out, the linear member's last.
    """

    frequencies: Tensor

    def __init__(self, config: MlpConfig, sizes: Sizes, n_frequencies: int, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.shapes = shapes_of(config, sizes, n_frequencies)
        self.flat = nn.Parameter(torch.zeros(numel(self.shapes)), requires_grad=False)
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

    def inputs(self, z: Tensor, ids: Tensor) -> Inputs:
        """Return what the network reads of numbers z [n, d_num] (NaN where missing) and category ids [n, d_cat].

        With flags in any case: without them a row's last bits would depend on what other rows miss.
        """
        return self.waved(numbers_of(z, flagged=True), ids)

    def waved(self, numbers: Tensor, ids: Tensor) -> Inputs:
        """Return what the network reads, waves besides, of `numbers_of` numbers and of category ids [n, d_cat]."""
        d_num = self.shapes["w_value"][0]
        kind = "plain" if numbers.shape[1] == 1 + d_num else "flagged"
        if not self.frequencies.shape[0]:
            return Inputs(numbers, numbers[:, :0], ids, kind)
        angles = numbers[:, 1 : 1 + d_num, None] * self.frequencies
        cosines = angles.cos()
        if kind == "flagged":  # of the 0 in a missing value's place the sine is 0 already, and the cosine 1
            cosines.sub_(numbers[:, 1 + d_num :, None])
        return Inputs(numbers, torch.cat([angles.sin_(), cosines], 2).flatten(1), ids, kind)

    def forward(self, x: Inputs, flat: Tensor | None = None) -> Tensor:
        """Compute all members' outputs with the module's weights, or with another flat vector of them."""
        weights = self.parts(self.flat.data if flat is None else flat)
        first, *others = (done.outputs for done in self.passes(x, [slice(None)] * len(weights.groups), weights))
        return torch.cat([first[:-1], *others, first[-1:]]).transpose(1, 2)

    def parts(self, flat: Tensor) -> Parts:
        """Return views of a flat vector of weights, or of their gradient: made once, used by many steps."""
        return parts_of(flat, self.shapes)

    def passes(self, x: Inputs, rows: Sequence[slice], weights: Parts) -> list[Pass]:
        """Compute each group's outputs on its own rows; those of the first group end with the linear member's."""
        dense, passes = torch.cat([_rows_of(weights.all["embedding"], x.ids).flatten(1), x.numbers], 1), []
        for own, w in zip(rows, weights.groups, strict=True):
            passes.append(self._forward(Pass(own, dense[own], x.waves[own], [], dense), w, w[x.kind]))
        outputs = torch.cat([passes[0].outputs, _linear(x, rows[0], weights.all)[None]])
        return [passes[0]._replace(outputs=outputs), *passes[1:]]

    def _forward(self, done: Pass, w: Weights, w_dense: Tensor) -> Pass:
        m, h, n = w["heads"].shape[0], self.config.d_hidden, done.dense.shape[0]
        first = torch.mm(done.dense, w_dense)
        if done.waves.shape[1]:
            first[:, :h].addmm_(done.waves, w["w_waves"])
        layers = [first.relu_().view(n, m, h).transpose(0, 1)]
        for i in range(self.config.n_blocks - 1):
            layers.append(torch.baddbmm(w[f"b_{i}"], layers[-1], w[f"w_{i}"]).relu_())
        outputs = torch.baddbmm(w["b_out"], w["heads"], layers[-1].transpose(1, 2))
        return done._replace(layers=layers, outputs=outputs)

    def backward(
        self, x: Inputs, passes: Sequence[Pass], gradients: Sequence[Tensor], weights: Parts, into: Parts
    ) -> None:
        """Write the loss's gradient into the views `into`, from those [m, K, n] at each group's outputs."""
        for name in ("tables",) if x.kind == "flagged" else ("tables", "w_missing", "l_missing"):
            into.all[name].zero_()
        _backward_linear(x, passes[0].rows, gradients[0][-1], into.all)
        at_embedded = x.numbers.new_zeros(x.ids.shape[0], weights.all["w_cat"].shape[0])
        for done, gradient, w, d in zip(passes, gradients, weights.groups, into.groups, strict=True):
            at_first = self._backward(done, gradient[: w["heads"].shape[0]], w, d)
            torch.mm(done.dense.t(), at_first, out=d[x.kind])
            at_embedded[done.rows].addmm_(at_first, w["w_cat_t"])
        _scatter(into.all["embedding"], x.ids, at_embedded.view(-1, self.config.d_embedding))

    def _backward(self, done: Pass, gradient: Tensor, w: Weights, d: Weights) -> Tensor:
        """Write a group's gradient but its first layer's; return that at what goes into that layer's ReLU, [n, m h]."""
        torch.bmm(gradient, done.layers[-1], out=d["heads"])
        torch.sum(gradient, 2, keepdim=True, out=d["b_out"])
        at = torch.bmm(gradient.transpose(1, 2), w["heads"])
        for i in reversed(range(self.config.n_blocks - 1)):
            at = _rectified(at, done.layers[i + 1])
            torch.bmm(done.layers[i].transpose(1, 2), at, out=d[f"w_{i}"])
            torch.sum(at, 1, keepdim=True, out=d[f"b_{i}"])
            at = torch.bmm(at, w[f"w_{i}_t"])
        wide = (done.dense.shape[0], w["w_cat_t"].shape[0])
        first = _rectified(*(a.transpose(0, 1).reshape(wide) for a in (at, done.layers[0])))
        if done.waves.shape[1]:
            torch.mm(done.waves.t(), first[:, : self.config.d_hidden], out=d["w_waves"])
        return first


def numbers_of(z: Tensor, *, flagged: bool) -> Tensor:
    """Return `Inputs.numbers` of z [n, d_num], NaN where missing: with flags, or of values none of which is."""
    one = z.new_ones(len(z), 1)
    return torch.cat([one, torch.nan_to_num(z), torch.isnan(z).to(z.dtype)] if flagged else [one, z], 1)


def _linear(x: Inputs, rows: slice, w: Weights) -> Tensor:
    """Compute the linear member's outputs [K, n]."""
    outputs = torch.mm(w[f"l_{x.kind}"], x.numbers[rows].t())
    return outputs.add_(_rows_of(w["l_cat"], x.ids[rows]).sum(1).t())


def _backward_linear(x: Inputs, rows: slice, gradient: Tensor, d: Weights) -> None:
    torch.mm(gradient, x.numbers[rows], out=d[f"l_{x.kind}"])
    ids = x.ids[rows]
    each = gradient.t()[:, None].expand(-1, ids.shape[1], -1)
    _scatter(d["l_cat"], ids, each.reshape(-1, gradient.shape[0]))


def n_frequencies(config: MlpConfig, d_num: int) -> int:
    """Return how many waves each number is read as, sines and cosines: what is asked for, or less of many numbers."""
    return min(config.n_frequencies, MAX_WAVES // (2 * max(d_num, 1)))


def _rows_of(weight: Tensor, ids: Tensor) -> Tensor:
    """Return the rows [n, d, width] of a table that ids [n, d] name."""
    return weight.index_select(0, ids.flatten()).view(*ids.shape, weight.shape[1])


def _rectified(g: Tensor, active: Tensor) -> Tensor:
    """Take a gradient through the ReLU that left `active`: one kernel, where a mask and a product are three."""
    through: Tensor = torch.ops.aten.threshold_backward(g, active, 0)
    return through


def _scatter(into: Tensor, ids: Tensor, rows: Tensor) -> None:
    into.index_add_(0, ids.flatten(), rows)

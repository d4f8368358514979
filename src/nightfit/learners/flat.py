"""The network's weights: one flat vector, its views by name and by group, and how it grows.

A step of the optimiser, an average over the nights and a checkpoint are one operation each on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from nightfit.learners.base import MlpConfig
from nightfit.schema import Sizes
from nightfit.scorer import groups

Shapes: TypeAlias = dict[str, tuple[int, ...]]
Weights: TypeAlias = dict[str, Tensor]


class Parts(NamedTuple):
    """Views of a flat vector by name: whole ones, and those of each group."""

    all: Weights
    groups: list[Weights]


def shapes_of(config: MlpConfig, sizes: Sizes, n_frequencies: int) -> Shapes:
    """Return the shapes of all weights by name, in the order in which they lie."""
    m, h, e, k = config.n_members, config.d_hidden, config.d_embedding, sizes.n_outputs
    return {
        "embedding": (sizes.n_ids, e),
        "l_cat": (sizes.n_ids, k),
        "w_cat": (e * sizes.d_cat, m * h),  # these four are one matrix
        "b_in": (m * h,),
        "w_value": (sizes.d_num, m * h),
        "w_missing": (sizes.d_num, m * h),
        "w_waves": (2 * n_frequencies * sizes.d_num, len(groups(m)) * h),
        "w_hidden": (config.n_blocks - 1, m, h, h),
        "b_hidden": (config.n_blocks - 1, m, 1, h),
        "w_out": (m, h, k),
        "b_out": (m, 1, k),
        "l_out": (k,),  # these three are one matrix
        "l_value": (sizes.d_num, k),
        "l_missing": (sizes.d_num, k),
    }


def numel(shapes: Shapes) -> int:
    """Return how long the flat vector is."""
    return sum(math.prod(shape) for shape in shapes.values())


def views(flat: Tensor, shapes: Shapes) -> Weights:
    """Return the weights that a flat vector holds, by name, without copying them.

    The output layer's and the linear member's lie by class in it, as outputs do: a product with few columns takes
    several times as long as one with few rows.
    """
    parts = torch.split(flat, [math.prod(shape) for shape in shapes.values()])
    w = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
    m, h, k = shapes["w_out"]
    w["w_out"] = w["w_out"].view(m, k, h).transpose(1, 2)
    linear = _linear_of(flat, shapes)
    d_num = len(w["l_value"])
    w["l_out"], w["l_value"], w["l_missing"] = linear[:, 0], linear[:, 1 : 1 + d_num].t(), linear[:, 1 + d_num :].t()
    return w


def _linear_of(flat: Tensor, shapes: Shapes) -> Tensor:
    """Return the view of the linear member's weights but its categories', [K, 1 + 2 d_num]."""
    d_num, k = shapes["l_value"]
    return flat[len(flat) - k * (1 + 2 * d_num) :].view(k, 1 + 2 * d_num)


def parts_of(flat: Tensor, shapes: Shapes) -> Parts:
    """Return the views of a flat vector, of weights or of their gradient, that a step uses.

    Besides the weights by name: `tables`, embedding and l_cat, flat; `heads`, those of the output layer, [m, K, h];
    and for inputs without flags of missing values and with them, `plain` and `flagged`, those of the first layer
    [e d_cat + 1 + d_num (or 2 d_num), m h], and `l_plain` and `l_flagged`, the linear member's [K, 1 + d_num (or
    2 d_num)].
    """
    w = views(flat, shapes)
    n_cat, width = w["w_cat"].shape
    n_tables, d_num = w["embedding"].numel() + w["l_cat"].numel(), len(w["w_value"])
    w["tables"], w["heads"] = flat[:n_tables], w["w_out"].transpose(1, 2)
    for name, n in (("plain", 1 + d_num), ("flagged", 1 + 2 * d_num)):
        w[name] = flat[n_tables : n_tables + (n_cat + n) * width].view(n_cat + n, width)
        w[f"l_{name}"] = _linear_of(flat, shapes)[:, :n]
    return Parts(w, [_of_group(w, g, members) for g, members in enumerate(groups(len(w["w_out"])))])


def _of_group(w: Weights, g: int, members: range) -> Weights:
    """Return views of one group's weights; those of hidden layer i are `w_i` and `b_i`, `w_i_t` is transposed."""
    m, h = slice(members.start, members.stop), w["w_out"].shape[1]
    own = slice(m.start * h, m.stop * h)
    hidden = {f"{kind}_{i}": w[f"{kind}_hidden"][i, m] for kind in "wb" for i in range(len(w["w_hidden"]))}
    transposed = {f"{name}_t": weight.transpose(1, 2) for name, weight in hidden.items() if name[0] == "w"}
    return {
        **hidden,
        **transposed,
        "plain": w["plain"][:, own],
        "flagged": w["flagged"][:, own],
        "w_waves": w["w_waves"][:, g * h : (g + 1) * h],
        "w_cat_t": w["w_cat"][:, own].t(),
        "heads": w["heads"][m],
        "b_out": w["b_out"][m].transpose(1, 2),
    }


def marked(flat: Tensor, shapes: Shapes, members: Sequence[int], value: float) -> Tensor:
    """Return a flat vector that holds a value at the weights of some MLPs, and 0 elsewhere."""
    marks = torch.zeros_like(flat)
    w = views(marks, shapes)
    n_members, h, _ = w["w_out"].shape
    for m in members:
        for name in ("b_in", "w_value", "w_missing", "w_cat"):
            w[name][..., m * h : (m + 1) * h] = value
        for weight in (w["w_hidden"][:, m], w["b_hidden"][:, m], w["w_out"][m], w["b_out"][m]):
            weight.fill_(value)
    for g, group in enumerate(groups(n_members)):  # whose first reads the waves
        if group.start in members:
            w["w_waves"][:, g * h : (g + 1) * h] = value
    return marks


def grown(flat: Tensor, old: Shapes, new: Shapes) -> Tensor:
    """Return a flat vector at its new shapes: what was appended is zero, so that no old row's outputs change."""
    out = flat.new_zeros(numel(new))
    before = views(flat, old)
    for name, weight in views(out, new).items():
        weight[tuple(slice(n) for n in before[name].shape)] = before[name]
    return out

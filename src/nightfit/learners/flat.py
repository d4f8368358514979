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
        "b_in": (m * h,),
        "w_cat": (e * sizes.d_cat, m * h),  # these three are one matrix, and so are the two of the linear member
        "w_value": (sizes.d_num, m * h),
        "w_missing": (sizes.d_num, m * h),
        "w_waves": (2 * n_frequencies * sizes.d_num, len(groups(m)) * h),
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


def numel(shapes: Shapes) -> int:
    """Return how long the flat vector is."""
    return sum(math.prod(shape) for shape in shapes.values())


def views(flat: Tensor, shapes: Shapes) -> Weights:
    """Return the weights that a flat vector holds, by name, without copying them."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    parts = torch.split(flat, sizes)
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def parts_of(flat: Tensor, shapes: Shapes) -> Parts:
    """Return the views of a flat vector, of weights or of their gradient, that a step uses.

    Besides the weights by name, for inputs without flags of missing values and with them: `plain` and `flagged`, those
    of the first layer [e d_cat + d_num (or 2 d_num), m h]; `l_plain` and `l_flagged`, the linear member's, transposed,
    [K, d_num (or 2 d_num)]; and `heads`, those of the output layer, transposed, [m, K, h].
    """
    w = views(flat, shapes)
    n_embedded, d_num = len(w["w_cat"]), len(w["w_value"])
    for name, n in (("plain", d_num), ("flagged", 2 * d_num)):
        w[name] = _joined(flat, shapes, "w_cat", n_embedded + n)
        w[f"l_{name}"] = _joined(flat, shapes, "l_value", n).t()
    w["heads"] = w["w_out"].transpose(1, 2)
    return Parts(w, [_of_group(w, g, members) for g, members in enumerate(groups(len(w["w_out"])))])


def _joined(flat: Tensor, shapes: Shapes, first: str, n_rows: int) -> Tensor:
    """Return a view of matrices that lie one after the other as one of so many rows."""
    names, width = list(shapes), shapes[first][1]
    start = sum(math.prod(shapes[name]) for name in names[: names.index(first)])
    return flat[start : start + n_rows * width].view(n_rows, width)


def _of_group(w: Weights, g: int, members: range) -> Weights:
    """Return views of one group's weights; those of hidden layer i are `w_i` and `b_i`, `w_i_t` is transposed."""
    m, h = slice(members.start, members.stop), w["w_out"].shape[1]
    own = slice(m.start * h, m.stop * h)
    hidden = {f"{kind}_{i}": w[f"{kind}_hidden"][i, m] for kind in "wb" for i in range(len(w["w_hidden"]))}
    transposed = {f"{name}_t": weight.transpose(1, 2) for name, weight in hidden.items() if name[0] == "w"}
    return {
        **hidden,
        **transposed,
        "b_in": w["b_in"][own],
        "plain": w["plain"][:, own],
        "flagged": w["flagged"][:, own],
        "w_waves": w["w_waves"][:, g * h : (g + 1) * h],
        "w_cat_t": w["w_cat"][:, own].t(),
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

"""The learners' raw answers: the graph's counterpart of `scorer.mlp_raw` and `scorer.linear_raw`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nightfit.quantity import TargetScale
from nightfit.scorer import groups

if TYPE_CHECKING:
    from nightfit.batch import Array
    from nightfit.export.graph import Graph, Value
    from nightfit.export.preprocessing import Features
    from nightfit.scorer import Arrays

NEVER = np.float32(-1e30)
"""The logit of a class that was never learned: its probability is 0."""


def wavy_and_smooth(n_members: int) -> tuple[list[int], list[int]]:
    """Return the members that read sines and cosines, and the others.

    They come in this order in the graph: one product for those that read them, one for the others.
    """
    members = groups(n_members)
    return [group.start for group in members], [m for group in members for m in group[1:]]


def mlp(g: Graph, x: Features, arrays: Arrays) -> Value:
    """Return the ensemble's raw answers, float64: probabilities [n, K], or standardised values [n, 1]."""
    w = {name.removeprefix("net."): a for name, a in arrays.items() if name.startswith("net.")}
    unseen = np.where(arrays["seen"] | TargetScale.is_in(arrays), np.float32(0), NEVER)
    wavy, smooth = wavy_and_smooth(len(w["w_out"]))
    order = [*wavy, *smooth]
    hidden = _hidden(g, _first_layer(g, x, w, arrays["frequencies"]), w, order)
    networks = g("MatMul", hidden, w["w_out"][order], name="outputs")
    networks = g("Add", networks, w["b_out"][order] + unseen, name="outputs_of_networks")
    linear = g("Unsqueeze", _linear_member(g, x, w, unseen), np.array([0]), name="outputs_of_linear")
    outputs = g.cast(g.side_by_side([networks, linear], name="outputs_of_members", axis=0), np.float64, name="logits")
    if not TargetScale.is_in(arrays):
        outputs = g("Softmax", outputs, name="probabilities", axis=2)
    mixture = arrays["mixture"][[*order, len(order)], None, None]
    return g("ReduceSum", g("Mul", outputs, mixture, name="weighted"), np.array([0]), name="mixed", keepdims=0)


def _first_layer(g: Graph, x: Features, w: Arrays, frequencies: Array) -> Value:
    """Return the first hidden layer, float32 [n, M h], members as `wavy_and_smooth` has them."""
    m, h, _ = w["w_out"].shape
    plain = g.side_by_side([*_numbers(x), *_embedded(g, x, w)], name="inputs")
    weights = np.concatenate([w["w_value"], w["w_missing"], w["w_cat"]]).reshape(-1, m, h)
    members = wavy_and_smooth(m)
    wavy, smooth = (_flat(weights[:, part]) for part in members)
    inputs = plain
    if len(w["w_waves"]):
        inputs = g.side_by_side([plain, _waves(g, x, frequencies)], name="inputs_and_waves")
        wavy = np.concatenate([wavy, w["w_waves"]])
    layers = [
        g("MatMul", inputs, wavy, name="first_of_wavy_members"),
        g("MatMul", plain, smooth, name="first_of_smooth_members"),
    ]
    bias = w["b_in"].reshape(m, h)[[*members[0], *members[1]]].ravel()
    return g("Relu", g("Add", g.side_by_side(layers, name="first"), bias, name="first_and_bias"), name="layer_0")


def _flat(weights: Array) -> Array:
    return weights.reshape(len(weights), -1)


def _numbers(x: Features) -> list[Value]:
    return [] if x.value is None or x.missing is None else [x.value, x.missing]


def _embedded(g: Graph, x: Features, w: Arrays) -> list[Value]:
    """Return the embeddings of a row's categories side by side, float32 [n, e d_cat]."""
    if x.ids is None:
        return []
    embedded = g("Gather", w["embedding"], x.ids, name="embedding")
    return [g("Reshape", embedded, np.array([-1, len(w["w_cat"])]), name="embedded")]


def _waves(g: Graph, x: Features, frequencies: Array) -> Value:
    """Return sines and cosines of the numbers, float32 [n, 2 F d_num], 0 where missing."""
    value, missing = _numbers(x)
    columns = g("Unsqueeze", value, np.array([2]), name="value_3d")
    angles = g("Mul", columns, frequencies, name="angles")
    waves = g.side_by_side([g(wave, angles, name=wave.lower()) for wave in ("Sin", "Cos")], name="waves", axis=2)
    is_there = g("Sub", np.float32(1), g("Unsqueeze", missing, np.array([2]), name="missing_3d"), name="there")
    waves = g("Mul", waves, is_there, name="waves_that_are_there")
    return g("Flatten", waves, name="waves_flat", axis=1)


def _hidden(g: Graph, first: Value, w: Arrays, order: list[int]) -> Value:
    """Return the last hidden layer, float32 [M, n, h], members in this order."""
    m, h, _ = w["w_out"].shape
    by_row = g("Reshape", first, np.array([-1, m, h]), name="by_row")
    layer = g("Transpose", by_row, name="by_member", perm=[1, 0, 2])
    for i, (weight, bias) in enumerate(zip(w["w_hidden"], w["b_hidden"], strict=True), 1):
        layer = g("MatMul", layer, weight[order], name=f"layer_{i}.product")
        layer = g("Relu", g("Add", layer, bias[order], name=f"layer_{i}.and_bias"), name=f"layer_{i}")
    return layer


def _linear_member(g: Graph, x: Features, w: Arrays, unseen: Array) -> Value:
    """Return the linear member's outputs, float32 [n, K]."""
    weights = np.concatenate([w["l_value"], w["l_missing"]])
    return _linear(g, x, weights, w["l_cat"], w["l_out"] + unseen, name="linear")


def _linear(g: Graph, x: Features, weights: Array, by_id: Array, bias: Array, *, name: str) -> Value:
    """Return numbers and flags times weights [2 d_num, K], the rows of ids in `by_id` [n_ids, K], and a bias [K]."""
    terms = []
    if numbers := _numbers(x):
        joined = g.side_by_side(numbers, name=f"{name}.numbers")
        if weights.dtype != np.float32:
            joined = g.cast(joined, weights.dtype.type, name=f"{name}.inputs")
        terms.append(g("MatMul", joined, weights, name=f"{name}.of_numbers"))
    if x.ids is not None:
        of_ids = g("Gather", by_id, x.ids, name=f"{name}.of_ids")
        terms.append(g("ReduceSum", of_ids, np.array([1]), name=f"{name}.of_categories", keepdims=0))
    total = terms[0] if len(terms) == 1 else g("Add", *terms, name=f"{name}.of_all")
    return g("Add", total, bias, name=name)


def linear(g: Graph, x: Features, arrays: Arrays) -> Value:
    """Return the linear model's raw answers, float64: probabilities [n, K], or standardised values [n, 1]."""
    seen = arrays["seen"]
    is_quantity = TargetScale.is_in(arrays)
    if len(seen) == 1 and not is_quantity:
        return g.rows_of(np.ones((1, 1)), name="certain")
    weights = np.concatenate([arrays["w_num"].T, arrays["w_missing"].T])
    scores = _linear(g, x, weights, arrays["w_cat"].T, arrays["bias"][:, 0], name="scores")
    return scores if is_quantity else _renormalised(g, g("Sigmoid", scores, name="sigmoid"), seen)


def _renormalised(g: Graph, p: Value, seen: Array) -> Value:
    """Return the shares of the classes: one vector of two classes is completed, classes never learned have none."""
    if len(seen) == 2:  # noqa: PLR2004 - two classes
        p = g("Concat", g("Sub", 1.0, p, name="of_the_first"), p, name="of_both", axis=1)
    p = g("Mul", g("Max", p, 1e-12, name="at_least"), seen.astype(np.float64), name="of_learned_classes")
    return normalised(g, p, name="shares")


def normalised(g: Graph, p: Value, *, name: str) -> Value:
    """Divide rows [n, K] by their sums."""
    return g("Div", p, g("ReduceSum", p, np.array([1]), name=f"{name}.sum", keepdims=1), name=name)

"""From raw answers to what is given out: the graph's counterpart of `calibration`, `quantity` and `serving.answers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nightfit.export.members import normalised
from nightfit.metrics import CLIP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightfit.calibration import Calibration
    from nightfit.export.graph import Graph, Value
    from nightfit.quantity import TargetScale

PREDICTION, PROBABILITY = "prediction", "probability"
"""The outputs: [n, 1], text or float64; and [n, K] float64, classes in the order of the metadata."""


def classes(g: Graph, raw: Value, calibration: Calibration, labels: Sequence[str]) -> None:
    """Give out calibrated probabilities, and the label of the greatest; raw ones are [n, K]."""
    proba = _with_prior(g, _tempered(g, raw, calibration.chosen[0]), calibration)
    best = g("ArgMax", proba, name="best", axis=1, keepdims=1)
    label = g("Gather", np.array(labels, object), best, name="label")
    g.output(label, PREDICTION, str, 1, "the label of the most probable class")
    g.output(proba, PROBABILITY, np.float64, len(labels), "the probability of each class of the metadata's `classes`")


NOTHING = 1e-300
"""What counts as a probability of 0: older onnxruntimes give 1e-308 where the exponential of a logit is nothing."""


def _tempered(g: Graph, raw: Value, temperature: float) -> Value:
    """Return `calibration.tempered`; that clips and renormalises first, which cancels."""
    if temperature == 1.0:
        return raw
    there = g.cast(g("Greater", raw, NOTHING, name="is_there"), np.float64, name="there_or_not")
    power = g("Pow", g("Max", raw, CLIP, name="clipped"), 1 / temperature, name="power")
    return normalised(g, g("Mul", power, there, name="power_or_0"), name="tempered")


def _with_prior(g: Graph, proba: Value, calibration: Calibration) -> Value:
    """Mix with the class prior; classes that are known and were never learned keep all of the prior's share."""
    kept, prior, fresh = calibration.kept, calibration.prior, calibration.fresh
    mixed = g("Mul", proba, kept, name="kept")
    mixed = g("Add", mixed, (1 - kept) * prior, name="with_prior")
    if not fresh.any():
        return mixed
    others = g("Mul", mixed, (~fresh).astype(np.float64), name="of_others")
    others = g("Mul", normalised(g, others, name="shares_of_others"), 1 - prior[fresh].sum(), name="left_to_others")
    return g("Add", others, np.where(fresh, prior, 0.0), name="with_fresh")


def quantity(g: Graph, raw: Value, target: TargetScale) -> None:
    """Give out values in the target's unit; raw ones are standardised, [n, 1]."""
    value = g("Mul", raw, target.factor, name="in_unit")
    value = g("Add", value, target.moments["mean"], name="from_mean_of_target")
    value = g("Add", value, target.moments["origin"], name="from_origin_of_target")
    low, high = target.bounds
    g.output(g("Clip", value, low, high, name="within_range"), PREDICTION, np.float64, 1, "the value")

"""What the gate is shown: candidate, champion and a kept candidate, all of them predicting the same rows.

Models and rows go in, arrays of losses come out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nightfit.batch import Array, Rows, stage
from nightfit.checkpoint import Manifest
from nightfit.errors import CheckpointError
from nightfit.fates import CleanNight, Fate
from nightfit.gate import LEAST_LOSS, Evidence
from nightfit.known import Segment
from nightfit.metrics import row_losses, spread
from nightfit.model import Model

if TYPE_CHECKING:
    from nightfit.standing import Standing


class Kept(NamedTuple):
    """A candidate that an earlier night refused for forgetting, and the rows that it has seen."""

    model: Model
    seen: Segment


def find_kept(
    standing: Standing, exclude: int | None, load: Callable[[Manifest], Model], alarm: Callable[[str], None]
) -> Kept | None:
    """Return the candidate that was first refused for forgetting since the head, if it verifies.

    One that learned what is excluded by now is not asked.
    """
    excluded = standing.excluded(exclude)
    for manifest in standing.refused:
        if _is_forgetting(manifest) and manifest.excluded == excluded:
            try:
                return Kept(load(manifest), standing.segment(manifest.segments[0]))
            except CheckpointError as error:
                alarm(f"{error}; the candidate that was kept cannot be tried")
                return None
    return None


def _is_forgetting(manifest: Manifest) -> bool:
    gate = manifest.night.get("gate")
    return isinstance(gate, dict) and gate.get("reason") == "forgetting"


def collect(
    champion: Model, candidate: Model, night: CleanNight, held_out: Rows, *, folder: Path, kept: Kept | None
) -> Evidence:
    """Let candidate and champion predict the same held-out rows: tonight's, and the memory's.

    `held_out`: tonight's, as the candidate sees them. `kept` and the champion predict the rows that are new to both.
    """
    if not champion.n_nights:
        return Evidence(finite=candidate.is_finite(), has_champion=False)
    seen = stage(night.encode(champion.schema, Fate.HELD_OUT), folder / "held_out_champion")
    is_quantity = candidate.schema.task == "regression"
    unit = spread(np.concatenate([champion.holdout.batch.y, seen.y])) if is_quantity else 1.0
    return Evidence(
        loss="squared error" if is_quantity else "log loss",
        least_loss=LEAST_LOSS * unit,
        finite=candidate.is_finite(),
        tonight_candidate=candidate.losses(held_out),
        tonight_champion=champion.losses(seen),
        memory_candidate=_memory_losses(candidate),
        memory_champion=_memory_losses(champion),
        kept_candidate=_new_losses(kept.model, night, kept.seen) if kept else np.zeros(0),
        kept_champion=_new_losses(champion, night, kept.seen) if kept else np.zeros(0),
    )


def _memory_losses(model: Model) -> Array:
    """Return the model's losses on its holdout memory."""
    batch = model.holdout.batch
    return row_losses(model.predict(batch), batch.y) if len(batch) else np.zeros(0)


def _new_losses(model: Model, night: CleanNight, seen: Segment) -> Array:
    """Return the model's losses on tonight's clean rows that are not in a segment."""
    losses = [np.zeros(0)]
    for batch in night.encode(model.schema, Fate.LEARNED, Fate.HELD_OUT):
        new = batch.take(~seen.find(batch.key_hash)[0])
        if len(new):
            losses.append(row_losses(model.predict(new), new.y))
    return np.concatenate(losses)

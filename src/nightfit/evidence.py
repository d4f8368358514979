"""What the gate is shown: candidate, champion and a kept candidate, all of them predicting the same rows.

Models and rows go in, arrays of losses come out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nightfit.batch import Array, Batch, Rows, stage
from nightfit.checkpoint import Manifest
from nightfit.errors import CheckpointError
from nightfit.fates import CleanNight, Fate
from nightfit.gate import LEAST_LOSS, OVERRULED, Evidence, GateConfig, confirms
from nightfit.known import Segment
from nightfit.metrics import Tally, paired_interval, row_hits, row_losses, spread
from nightfit.model import Model
from nightfit.schema import Schema

if TYPE_CHECKING:
    from nightfit.standing import Standing


class Kept(NamedTuple):
    """A candidate that an earlier night refused, and the rows that it has seen."""

    model: Model
    seen: Segment


def find_kept(
    standing: Standing,
    exclude: int | None,
    load: Callable[[Manifest], Model],
    *,
    alarm: Callable[[str], None],
    min_rows: int,
) -> Kept | None:
    """Return the refused candidate that the rows after it may prove right, if it verifies.

    It is the first since the head, or since the last one against which such rows spoke; one that learned what is
    excluded by now is not asked.
    """
    excluded, turn = standing.excluded(exclude), None
    for manifest in standing.refused:
        if turn is None or _has_refuted(manifest, min_rows):
            turn = manifest if _may_be_right(manifest, excluded) else None
    if turn is None:
        return None
    try:
        return Kept(load(turn), standing.segment(turn.segments[0]))
    except CheckpointError as error:
        alarm(f"{error}; the candidate that was kept cannot be tried")
        return None


def _may_be_right(manifest: Manifest, excluded: list[int]) -> bool:
    gate: Any = manifest.night["gate"]
    return gate["reason"] in OVERRULED and manifest.excluded == excluded


def _has_refuted(manifest: Manifest, min_rows: int) -> bool:
    """Say whether the rows of that night were enough to try the candidate that was kept then, and spoke against it."""
    gate: Any = manifest.night["gate"]
    return "kept" in gate and gate["kept"]["n"] >= min_rows


@dataclass
class _Answers:
    """What a model's answers to held-out rows come to: losses, which are right, and scores."""

    losses: Array
    right: Array
    tally: Tally

    @classmethod
    def of(cls, model: Model, rows: Rows) -> _Answers:
        losses, right, tally = [np.zeros(0)], [np.zeros(0, bool)], Tally(votes=model.learner.votes)
        for answer, block in model.predicted(rows):
            losses.append(row_losses(answer, block.y))
            right.append(row_hits(answer, block.y))
            tally.add(answer, block.y)
        return cls(np.concatenate(losses), np.concatenate(right), tally)

    @property
    def scores(self) -> dict[str, float]:
        return self.tally.scores() if self.tally.n else {}


def collect(
    champion: Model,
    candidate: Model,
    night: CleanNight,
    held_out: Rows,
    *,
    folder: Path,
    kept: Kept | None,
    config: GateConfig,
) -> Evidence:
    """Let candidate and champion predict the same held-out rows: tonight's, and the memory's.

    `held_out`: tonight's, as the candidate sees them. `kept` and the champion predict the rows that are new to both;
    where these confirm it, the memory is of a concept that has ended, and is not asked.
    """
    if not champion.n_nights:
        ours = _Answers.of(candidate, held_out)
        return Evidence(ours.losses, broken=candidate.ailment(), scores=ours.scores, has_champion=False)
    later = _later_losses(kept, champion, night)
    memory = [model.holdout.batch for model in (candidate, champion)]
    if confirms(paired_interval(later[0] - later[1]), config):
        memory = [batch.take(slice(0)) for batch in memory]
    seen = stage(night.encode(champion.schema, Fate.HELD_OUT), folder / "held_out_champion")
    ours = _Answers.of(candidate, Rows([*held_out.chunks(), memory[0]]))
    theirs = _Answers.of(champion, Rows([*seen.chunks(), memory[1]]))
    is_quantity = candidate.schema.task == "regression"
    n = len(held_out)
    return Evidence(
        ours.losses[:n],
        theirs.losses[:n],
        ours.losses[n:],
        theirs.losses[n:],
        *later,
        right_candidate=ours.right,
        right_champion=theirs.right,
        slices=_slices(candidate.schema, [*held_out.chunks(), memory[0]], config),
        scores=ours.scores,
        champion_scores=theirs.scores,
        loss="squared error" if is_quantity else "errors" if candidate.learner.votes else "log loss",
        least_loss=LEAST_LOSS * (spread(np.concatenate([memory[1].y, seen.y])) if is_quantity else 1.0),
        broken=candidate.ailment(),
    )


def _later_losses(kept: Kept | None, champion: Model, night: CleanNight) -> tuple[Array, Array]:
    """Return the kept candidate's and the champion's losses on the rows that have come since."""
    if kept is None:
        return np.zeros(0), np.zeros(0)
    return _new_losses(kept.model, night, kept.seen), _new_losses(champion, night, kept.seen)


def _slices(schema: Schema, blocks: Sequence[Batch], config: GateConfig) -> dict[str, Array]:
    """Return the rows (indices into those of all blocks) of each value of the columns to be looked at, if enough."""
    slices = {}
    columns = [column.name for column in schema.categorical]
    for name in config.slices:
        j = columns.index(name)
        ids = np.concatenate([block.x_cat[:, j] for block in blocks])
        values = schema.categorical[j].values
        for i, count in zip(*np.unique(ids, return_counts=True), strict=True):
            if count >= config.min_rows:
                slices[f"{name} is {values[int(i)]}"] = np.flatnonzero(ids == i)
    return slices


def _new_losses(model: Model, night: CleanNight, seen: Segment) -> Array:
    """Return the model's losses on tonight's clean rows that are not in a segment."""
    losses = [np.zeros(0)]
    for batch in night.encode(model.schema, Fate.LEARNED, Fate.HELD_OUT):
        new = batch.take(~seen.find(batch.key_hash)[0])
        if len(new):
            losses.append(row_losses(model.predict(new), new.y))
    return np.concatenate(losses)

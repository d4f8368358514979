"""Fresh against warm: what a model that starts tonight would be worth beside the one that goes on.

Starting warm can hurt: it may generalise worse (Ash & Adams, NeurIPS 2020), and networks may lose the ability to learn
(Dohare et al., Nature 2024). So from time to time a model is trained from scratch, on the rows that the replay memory
holds and tonight's, and both predict the same held-out rows. It is never served: it is there so that harm shows.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from nightfit.batch import Rows, concat
from nightfit.learners.base import MlpConfig, patient
from nightfit.metrics import paired_interval
from nightfit.model import Model

if TYPE_CHECKING:
    from nightfit.config import ModelConfig
    from nightfit.jsontypes import Json
    from nightfit.learners.base import LearnerConfig
    from nightfit.metrics import Interval


def is_due(every: int, champion: Model, candidate: Model) -> bool:
    """Say whether tonight is one of every so many nights that were learned (0: never)."""
    is_warm = 0 < champion.n_nights < candidate.n_nights
    return every > 0 and is_warm and candidate.n_nights % every == 0


def against_fresh(
    warm: Model, learned: Rows, held_out: Rows, config: ModelConfig, *, device: str, seed: int, min_rows: int
) -> dict[str, Json]:
    """Train a fresh model beside the warm one, and return what the comparison came to.

    `learned`: tonight's rows, which the warm one has learned already. The difference is fresh minus warm.
    """
    memory = warm.learner.memory()
    if memory is None:
        return {"verdict": "skipped: there are no rows for replay, and tonight's alone would be no fair comparison"}
    tested = Rows([*held_out.chunks(), warm.holdout.batch])
    if len(tested) < min_rows:
        return {"verdict": f"not enough evidence, {len(tested):,} held-out rows of the {min_rows} needed"}
    tonight = np.concatenate([block.key_hash for block in learned.chunks()])
    first, *others = learned.chunks()
    before = memory.take(~np.isin(memory.key_hash, tonight))
    rows = Rows([concat([before, first]), *others])  # rows are shuffled within a block
    fresh = Model.fresh(warm.kind, _patient(config.learner, len(rows)), task=warm.schema.task, device=device, seed=seed)
    fresh.grow(warm.schema)
    fresh.learn(rows, seed=seed)
    ours = warm.losses(tested)
    found, loss = paired_interval(fresh.losses(tested) - ours), float(ours.mean())
    name = "squared error" if warm.schema.task == "regression" else "log loss"
    verdict = _verdict(found, loss, name, len(rows))
    return {"rows": len(rows), "warm_loss": loss, "difference": dict(asdict(found)), "verdict": verdict}


def _patient(config: LearnerConfig, n_rows: int) -> LearnerConfig:
    return patient(config, n_rows) if isinstance(config, MlpConfig) else config


def _verdict(found: Interval, loss: float, what: str, n_rows: int) -> str:
    better = "warm is better" if found.low > 0 else "fresh is better" if found.high < 0 else "neither is better"
    bounds = f"{_share(found.low, loss)} to {_share(found.high, loss)}"
    change = f"{_share(found.mean, loss)} ({bounds})"
    return f"{better}, a fresh model of {n_rows:,} rows has {what} {change} on {found.n:,} held-out rows"


def _share(difference: float, loss: float) -> str:
    return f"{difference / loss:+.1%}" if loss else f"{difference:+.4g}"

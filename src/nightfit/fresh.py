"""Fresh against warm: what a model that starts tonight would be worth beside the one that goes on.

Starting warm can hurt: it may generalise worse (Ash & Adams, NeurIPS 2020), and networks may lose the ability to learn
(Dohare et al., Nature 2024). So from time to time a model is trained from scratch, on the rows that the replay memory
holds and tonight's, and both predict the same held-out rows. It is never served: it is there so that harm shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nightfit.batch import Rows
from nightfit.metrics import paired_interval
from nightfit.model import Model

if TYPE_CHECKING:
    from nightfit.config import ModelConfig
    from nightfit.jsontypes import Json
    from nightfit.metrics import Interval


def is_due(every: int, champion: Model, candidate: Model) -> bool:
    """Say whether tonight is one of every so many nights that were learned (0: never)."""
    return every > 0 and candidate.n_nights > champion.n_nights and candidate.n_nights % every == 0


def against_fresh(
    warm: Model, learned: Rows, held_out: Rows, config: ModelConfig, *, device: str, seed: int, min_rows: int
) -> dict[str, Json]:
    """Train a fresh model beside the warm one, and return what the comparison came to.

    `learned`: tonight's rows, which the warm one has learned already. The difference is fresh minus warm.
    """
    memory = warm.learner.memory()
    if memory is None:
        return {"verdict": "skipped: there are no rows for replay, and tonight's alone would be no fair comparison"}
    tonight = np.concatenate([block.key_hash for block in learned.chunks()])
    rows = Rows([memory.take(~np.isin(memory.key_hash, tonight)), *learned.chunks()])
    fresh = Model.fresh(warm.kind, config.learner, task=warm.schema.task, device=device, seed=seed)
    fresh.grow(warm.schema)
    fresh.learn(rows, seed=seed)
    tested = Rows([*held_out.chunks(), warm.holdout.batch])
    ours = warm.losses(tested)
    found = paired_interval(fresh.losses(tested) - ours)
    if found.n < min_rows:
        return {"verdict": f"not enough evidence, {found.n:,} held-out rows of the {min_rows} needed"}
    loss = float(ours.mean())
    return {
        "rows": len(rows),
        "warm_loss": loss,
        "difference": {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n},
        "verdict": _verdict(
            found, loss, "squared error" if warm.schema.task == "regression" else "log loss", len(rows)
        ),
    }


def _verdict(found: Interval, loss: float, what: str, n_rows: int) -> str:
    better = "warm is better" if found.low > 0 else "fresh is better" if found.high < 0 else "neither is better"
    bounds = f"{_share(found.low, loss)} to {_share(found.high, loss)}"
    change = f"{_share(found.mean, loss)} ({bounds})"
    return f"{better}, a fresh model of {n_rows:,} rows has {what} {change} on {found.n:,} held-out rows"


def _share(difference: float, loss: float) -> str:
    return f"{difference / loss:+.1%}" if loss else f"{difference:+.4g}"

"""One version of one model, loaded, checked and ready to answer; what a server swaps when there is a newer one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from nightfit.batch import Array
from nightfit.checkpoint import WEIGHTS
from nightfit.errors import CheckpointError, DataError
from nightfit.serving.features import Features, Inputs
from nightfit.version import load_scorer, usable_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nightfit.checkpoint import Manifest
    from nightfit.schema import Rules, Schema
    from nightfit.scorer import Scorer
    from nightfit.store import Lineage

SAME = 1e-9
"""How far the probabilities of a row may sum from 1."""


@dataclass(frozen=True)
class Served:
    """A version in service. `digest` is that of its weights, `created_at` the commit's time, in seconds since 1970."""

    model: str
    number: int
    digest: str
    created_at: float
    schema: Schema
    features: Features
    scorer: Scorer

    @classmethod
    def load(cls, manifest: Manifest, files: Mapping[str, bytes], rules: Rules) -> Served:
        """Make a version ready from bytes that were verified.

        Raises `DataError` for one that has learned nothing, or does not answer sensibly.
        """
        schema = usable_schema(manifest)
        served = cls(
            model=manifest.model,
            number=manifest.version,
            digest=manifest.files[WEIGHTS].sha256,
            created_at=datetime.fromisoformat(manifest.created_at).timestamp(),
            schema=schema,
            features=Features(schema, rules.schema, frozenset(rules.no_features)),
            scorer=load_scorer(manifest, files),
        )
        served.test_itself()
        return served

    def predict(self, inputs: Inputs) -> Array:
        """Return probabilities, float64 [n, K], or the values of a quantity, float64 [n]."""
        return self.scorer.score(*inputs)

    def test_itself(self) -> None:
        """Predict a row of missing values and one of zeros; raises `DataError` unless the answers make sense."""
        sizes, cat = self.schema.sizes, self.schema.new_cat_ids
        x_num = np.stack([np.full(sizes.d_num, np.nan), np.zeros(sizes.d_num)])
        with np.errstate(all="ignore"):
            answers = self.predict(Inputs(x_num, np.stack([cat, cat])))
        right = np.isfinite(answers).all() and (answers.ndim == 1 or (np.abs(answers.sum(1) - 1) < SAME).all())
        if not right:
            raise DataError(
                f"a version must answer with finite values to be served, however version {self.number} of "
                f"{self.model} answers {answers.tolist()}; promote another"
            )


def newest_good(lineage: Lineage, rules: Rules, now: Served | None, failed: dict[int, str]) -> Served | None:
    """Load the newest accepted version that verifies, unless it is the one that serves `now`.

    Passes over the versions that `failed` names, and adds to it those that fail. Raises `NightfitError` where the store
    cannot be read at all.
    """
    for manifest in _accepted(lineage, failed):
        if now is not None and manifest.version == now.number:
            return now
        try:
            return Served.load(manifest, lineage.load(manifest, [WEIGHTS]), rules)
        except (CheckpointError, DataError, LookupError, ValueError, TypeError) as error:
            failed[manifest.version] = str(error)
    return None


def _accepted(lineage: Lineage, failed: dict[int, str]) -> Iterator[Manifest]:
    for item in reversed(lineage.items()):
        if item.kind != "version" or item.version in failed:
            continue
        try:
            manifest = lineage.manifest(item.version)
        except CheckpointError as error:
            failed[item.version] = str(error)
            continue
        if manifest.status == "accepted":
            yield manifest

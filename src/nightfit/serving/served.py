"""One version of one model, loaded, checked and ready to answer; what a server swaps when there is a newer one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nightfit.batch import Array
from nightfit.checkpoint import MANIFEST, WEIGHTS
from nightfit.errors import ConfigError, DataError, NightfitError, TryAgainError
from nightfit.serving.features import Features, Inputs
from nightfit.version import load_scorer, usable_schema

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nightfit.checkpoint import Manifest
    from nightfit.learners.base import LearnerConfig
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
    manifest_digest: str
    created_at: float
    schema: Schema
    features: Features
    scorer: Scorer

    @classmethod
    def load(
        cls,
        manifest: Manifest,
        files: Mapping[str, bytes],
        rules: Rules,
        first: Collection[str] | None = None,
        wanted: LearnerConfig | None = None,
    ) -> Served:
        """Make a version ready from bytes that were verified; `first` are the columns of the lineage's first version.

        `wanted` is what the config says of the model. Raises `DataError` for one that has learned nothing, or does not
        answer sensibly.
        """
        schema = usable_schema(manifest)
        later = frozenset[str]() if first is None else frozenset(c.name for c in schema.columns).difference(first)
        served = cls(
            model=manifest.model,
            number=manifest.version,
            digest=manifest.files[WEIGHTS].sha256,
            manifest_digest=manifest.digest,
            created_at=datetime.fromisoformat(manifest.created_at).timestamp(),
            schema=schema,
            features=Features(schema, rules.schema, ignored=frozenset(rules.no_features), later=later),
            scorer=load_scorer(manifest, files, wanted),
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


class Failure(NamedTuple):
    """Why a version cannot be served, and what its files looked like; None: it may be readable the next time."""

    reason: str
    mark: tuple[int, ...] | None


def newest_good(
    lineage: Lineage,
    rules: Rules,
    now: Served | None,
    failed: dict[int, Failure],
    wanted: LearnerConfig | None = None,
) -> Served | None:
    """Load the newest accepted version that verifies, unless it is the one that serves `now`.

    Versions that fail are passed over and added to `failed`, and tried again only when their files have changed: a copy
    may not have been whole yet. What serves is not given up because its files rot. Raises `NightfitError` where the
    store cannot be read at all.
    """
    versions = [item.version for item in reversed(lineage.items()) if item.kind == "version"]
    for gone in failed.keys() - set(versions):
        del failed[gone]
    for version in versions:
        if is_to_try(lineage, version, failed):
            mark = mark_of(lineage, version)
            try:
                manifest = lineage.manifest(version)
                failed.pop(version, None)
                if now is not None and manifest.digest == now.manifest_digest:
                    return now
                if manifest.status == "accepted":
                    files = lineage.load(manifest, [WEIGHTS])
                    return Served.load(manifest, files, rules, _first_columns(lineage), wanted)
            except (ConfigError, TryAgainError, OSError) as error:
                failed[version] = Failure(str(error), None)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, another can be served
                failed[version] = Failure(str(error) or type(error).__name__, mark)
        if now is not None and version == now.number and version in failed:
            return now
    return None


def _first_columns(lineage: Lineage) -> list[str] | None:
    """Return the columns of the first accepted version that learned, None if no manifest tells."""
    for number in lineage.numbers():
        with suppress(NightfitError):
            manifest = lineage.manifest(number)
            if manifest.status == "accepted":
                return [column.name for column in usable_schema(manifest).columns]
    return None


def is_to_try(lineage: Lineage, version: int, failed: Mapping[int, Failure]) -> bool:
    """Say whether a version has not failed, or has changed since."""
    return version not in failed or failed[version].mark != mark_of(lineage, version)


def mark_of(lineage: Lineage, version: int) -> tuple[int, ...]:
    """Return what changes with a version's files."""
    folder, mark = lineage.path(version), list[int]()
    for path in (folder, folder / MANIFEST, folder / WEIGHTS):
        try:
            found = path.lstat()
        except OSError:
            mark.append(0)
        else:
            mark += [found.st_ctime_ns, found.st_size]
    return tuple(mark)

"""A version that is ready to score: its schema and the forward pass in numpy, without torch, pandas or Arrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nightfit.batch import Array, Batch
from nightfit.checkpoint import WEIGHTS, Manifest, unpack
from nightfit.errors import DataError
from nightfit.schema import Schema
from nightfit.scorer import Scorer

if TYPE_CHECKING:
    from nightfit.store import Lineage


class Predictor(Protocol):
    """What can turn a batch into probabilities: the numpy scorer, or a whole model on a device."""

    def predict(self, batch: Batch) -> Array:
        """Return the probability of each class, float64 [n, K], or the values of a quantity, float64 [n]."""
        ...


@dataclass(frozen=True)
class Version:
    """A version that is ready to score."""

    number: int
    schema: Schema
    predictor: Predictor


def find_version(
    lineage: Lineage, number: int | None, wanted: Callable[[str], bool], on_broken: Callable[[int, str], None]
) -> tuple[Manifest, dict[str, bytes]]:
    """Return a version and its files: the one that is asked for, or the newest accepted one that verifies.

    Of the first only the files are read that are `wanted`, by name; of newer ones that do not verify `on_broken` is
    told. Raises `CheckpointError` for one that is not there or does not verify, `DataError` where there is none.
    """
    if number is not None:
        manifest = lineage.manifest(number)
        return manifest, lineage.load(manifest, filter(wanted, manifest.files))
    found = lineage.usable_head(on_broken, quarantine=False)
    if found is None:
        raise DataError(f"predicting needs a version, however {lineage.name} has none; run `nightfit train` first")
    return found


def load_version(manifest: Manifest, files: Mapping[str, bytes]) -> Version:
    """Return a version whose predictor needs no torch.

    Raises `DataError` for a version that has learned nothing yet.
    """
    return Version(manifest.version, usable_schema(manifest), load_scorer(manifest, files))


def load_scorer(manifest: Manifest, files: Mapping[str, bytes]) -> Scorer:
    """Return the forward pass of a version; only those of estimators load scikit-learn."""
    kind, (moments, arrays) = str(manifest.state["kind"]), parts_of(files)
    if not is_estimator(manifest):
        return Scorer(kind, moments, arrays)
    from nightfit.learners.estimator import forward

    raw, votes = forward(manifest.state["learner"], arrays)  # type: ignore[arg-type]
    return Scorer(kind, moments, arrays, raw=raw, votes=votes)


def is_estimator(manifest: Manifest) -> bool:
    """Say whether a version's answers are those of a scikit-learn estimator, and not of nightfit's own learners."""
    learner: Any = manifest.state["learner"]
    return "estimator" in learner


def parts_of(files: Mapping[str, bytes]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the arrays of a version's normaliser, and those with which its learner predicts, by name."""
    arrays = unpack(files[WEIGHTS], name=WEIGHTS)
    moments, learner = (
        {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
        for prefix in ("normaliser.", "learner.")
    )
    return moments, learner


def usable_schema(manifest: Manifest) -> Schema:
    """Return the version's schema; raises `DataError` if it has learned nothing yet."""
    schema = Schema.from_json(manifest.state["schema"])  # type: ignore[arg-type]
    if not manifest.state["n_nights"]:
        raise DataError(
            f"a version must have learned rows to predict, however version {manifest.version} of {manifest.model} "
            "has learned none; run `nightfit train` when there are new rows"
        )
    return schema

"""A version that is ready to score: its schema and the forward pass in numpy, without torch, pandas or Arrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nightfit.batch import Array, Batch
from nightfit.checkpoint import WEIGHTS, Manifest, unpack
from nightfit.errors import DataError
from nightfit.learners.base import IMPORTED, LearnerConfig, ModuleConfig, PartialFitConfig, import_path
from nightfit.schema import Schema
from nightfit.scorer import Forward, Scorer

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


def load_version(manifest: Manifest, files: Mapping[str, bytes], wanted: LearnerConfig | None = None) -> Version:
    """Return a version whose predictor needs no torch, unless the config names a module of it.

    `wanted`: what the config says of the model. Raises as `load_scorer`, and `DataError` for a version that has learned
    nothing yet.
    """
    return Version(manifest.version, usable_schema(manifest), load_scorer(manifest, files, wanted))


def load_scorer(manifest: Manifest, files: Mapping[str, bytes], wanted: LearnerConfig | None = None) -> Scorer:
    """Return the forward pass of a version; only those of estimators load scikit-learn, those of modules torch.

    Raises `ConfigError` for a version that needs code which `wanted`, what the config says of the model, does not name.
    """
    kind, (moments, arrays) = str(manifest.state["kind"]), parts_of(files)
    learner: Any = manifest.state["learner"]
    if IMPORTED in learner:
        raw, votes = _imported(manifest, arrays, wanted)
    elif "estimator" in learner:
        from nightfit.learners.estimator import forward

        raw, votes = forward(learner, arrays)
    else:
        return Scorer(kind, moments, arrays)
    return Scorer(kind, moments, arrays, raw=raw, votes=votes)


def _imported(manifest: Manifest, arrays: Mapping[str, Array], wanted: LearnerConfig | None) -> tuple[Forward, bool]:
    """Return the raw answers of code by the path that the config has: what a version names is only held against it."""
    from nightfit.learners.importing import check_named

    learner: Any = manifest.state["learner"]
    check_named(learner[IMPORTED], import_path(wanted), f"version {manifest.version} of {manifest.model}")
    if isinstance(wanted, ModuleConfig):
        from nightfit.learners.module import module_forward

        return module_forward(arrays, wanted), False
    from nightfit.learners.foreign import foreign_forward

    assert isinstance(wanted, PartialFitConfig)
    return foreign_forward(arrays, wanted)


def has_graph(manifest: Manifest) -> bool:
    """Say whether a version's answers are those of nightfit's own learners, whose arithmetic is known."""
    learner: Any = manifest.state["learner"]
    return "estimator" not in learner and IMPORTED not in learner


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

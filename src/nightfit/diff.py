"""What differs between two versions: settings, schema, weights, scores, and the rows that they answer differently."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nightfit.batch import Array, Batch
from nightfit.checkpoint import MEMORY, WEIGHTS, Manifest, unpack
from nightfit.errors import CheckpointError, DataError
from nightfit.schema import Schema
from nightfit.version import load_version

if TYPE_CHECKING:
    from nightfit.learners.base import LearnerConfig
    from nightfit.store import Lineage


@dataclass(frozen=True)
class Change:
    """A figure or a word in both versions; None where one has none."""

    what: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Weights:
    """The Euclidean norms of one array in both versions, and of their difference where they have one shape."""

    name: str
    before: float | None
    after: float | None
    difference: float | None


@dataclass(frozen=True)
class Flips:
    """What both versions say of the rows that the later one keeps for testing.

    Of classes: how many answers changed, from right to wrong and from wrong to right. Of a quantity: the root mean
    square of the change.
    """

    rows: int
    changed: int | None = None
    right_to_wrong: int | None = None
    wrong_to_right: int | None = None
    rms_change: float | None = None


@dataclass(frozen=True)
class Diff:
    """Everything that differs. `notes` say what could not be compared, and why."""

    config: list[Change]
    schema: list[Change]
    weights: list[Weights]
    scores: list[Change]
    flips: Flips | None
    notes: list[str]


def diff(lineage: Lineage, before: int, after: int, wanted: LearnerConfig | None = None) -> Diff:
    """Compare two versions; raises `CheckpointError` for one that is not there. `wanted`: what the config says."""
    manifests = [lineage.manifest(version) for version in (before, after)]
    notes: list[str] = []
    weights, flips = list[Weights](), None
    try:
        files = [lineage.load(m, [WEIGHTS]) for m in manifests]
        weights = _weights(*(unpack(f[WEIGHTS]) for f in files))
        flips = _flips(lineage, manifests, files, wanted)
    except DataError as error:
        notes.append(f"not all tensors can be compared: {error}")
    settings = [_settings(lineage.resolve(m)) for m in manifests]
    scores = [dict(m.prequential) for m in manifests]
    return Diff(
        config=_changes(*settings), schema=_schema(*manifests), weights=weights, scores=_changes(*scores, equal=True),
        flips=flips, notes=notes,
    )  # fmt: skip


def _changes(before: Mapping[str, Any], after: Mapping[str, Any], *, equal: bool = False) -> list[Change]:
    """Pair two mappings by name; what is equal is left out unless asked for."""
    names = dict.fromkeys([*before, *after])
    pairs = [Change(name, before.get(name), after.get(name)) for name in names]
    return [change for change in pairs if equal or change.before != change.after]


def _settings(manifest: Manifest) -> dict[str, Any]:
    """Return the settings of the run as one level of dotted names."""
    return dict(_flat("", manifest.night.get("settings", {})))


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:  # noqa: ANN401 - what JSON holds
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for key, inner in value.items() for pair in _flat(f"{name}.{key}" if name else key, inner)]


def _schema(before: Manifest, after: Manifest) -> list[Change]:
    a, b = (Schema.from_json(m.state["schema"]) for m in (before, after))  # type: ignore[arg-type]
    kinds = [{f"column {c.name}": c.kind for c in schema.columns} for schema in (a, b)]
    counts = [{f"categories of {c.name}": len(c.categories) for c in schema.categorical} for schema in (a, b)]
    classes = [{"classes": ", ".join(schema.classes)} for schema in (a, b)]
    return [*_changes(*kinds), *_changes(*counts), *_changes(*classes)]


def _weights(before: Mapping[str, Array], after: Mapping[str, Array]) -> list[Weights]:
    found = []
    for name in dict.fromkeys([*before, *after]):
        a, b = before.get(name), after.get(name)
        if a is None or b is None or a.shape != b.shape:
            found.append(Weights(name, _norm(a), _norm(b), None))
            continue
        found.append(Weights(name, _norm(a), _norm(b), _norm(b.astype(np.float64) - a)))
    return found


def _norm(a: Array | None) -> float | None:
    return None if a is None else math.sqrt(float(np.square(a.astype(np.float64)).sum()))


def _flips(
    lineage: Lineage, manifests: list[Manifest], files: list[dict[str, bytes]], wanted: LearnerConfig | None
) -> Flips | None:
    old, new = (load_version(m, f, wanted) for m, f in zip(manifests, files, strict=True))
    arrays = unpack(lineage.load(manifests[1], [MEMORY])[MEMORY])
    x_num, x_cat, y = (arrays[f"holdout.{name}"] for name in ("x_num", "x_cat", "y"))
    was, now = old.schema, new.schema
    if not _has_grown(was, now):
        raise CheckpointError(
            f"version {new.number} must have grown from version {old.number}, however its columns, categories or "
            "classes differ; compare both with the version that they grew from"
        )
    known = np.where(x_cat < was.n_ids, x_cat, now.parent_ids[x_cat]).astype(np.int32)
    keys = arrays["holdout.key_hash"]
    rows = Batch(keys, x_num[:, : was.sizes.d_num], known[:, : was.sizes.d_cat], y), Batch(keys, x_num, x_cat, y)
    answers = [version.predictor.predict(batch) for version, batch in zip((old, new), rows, strict=True)]
    if now.task == "regression":
        change = answers[1] - answers[0]
        return Flips(len(y), rms_change=float(np.sqrt(np.square(change).mean())) if len(y) else None)
    a, b = (answer.argmax(1) for answer in answers)
    return Flips(
        len(y), int((a != b).sum()), int(((a == y) & (b != y)).sum()), int(((a != y) & (b == y)).sum())
    )  # fmt: skip


def _has_grown(was: Schema, now: Schema) -> bool:
    """Say whether what a schema knew is the beginning of the other, so that ids mean the same in both."""
    pairs = zip(was.columns, now.columns, strict=False)
    return (
        len(was.columns) <= len(now.columns)
        and all((a.name, a.kind) == (b.name, b.kind) and a.categories.items() <= b.categories.items() for a, b in pairs)
        and was.classes == now.classes[: len(was.classes)]
    )

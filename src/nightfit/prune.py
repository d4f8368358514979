"""Deleting on purpose: the tensors of old versions, so that a store does not grow, and memories that must be forgotten.

Manifests and records stay for ever.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING

from nightfit.checkpoint import MANIFEST, MEMORY, PENDING, REJECTS
from nightfit.errors import CheckpointError
from nightfit.known import N_NIGHTS
from nightfit.names import MARKS, is_record

if TYPE_CHECKING:
    from nightfit.checkpoint import Manifest
    from nightfit.store import Lineage

_NIGHTS_KEPT = 2
"""The night that the head's state comes from, and the one before, which a rollback goes to."""


def prune(lineage: Lineage, keep: int, *, thorough: bool = False) -> list[int]:
    """Strip all but the newest `keep` versions of their tensors; return which; needs the pipeline's lock.

    Those that a night or a rollback may need stay whatever `keep` is: the head, the versions that its state comes from
    and grew from, and what was refused since. Segments of known rows go when no version that is kept names them; this
    takes reading the manifests of those that are, so that it waits until there are many (`thorough`: now).
    """
    versions, head = lineage.numbers(), lineage.head()
    needed = _needed(lineage, head) if len(versions) > keep else set(versions)
    old = [version for version in versions[: max(len(versions) - keep, 0)] if version not in needed]
    asked = set(old) if thorough else _lately_old(lineage, old, head)
    stripped = sorted(version for version in asked if _has_tensors(lineage, version))
    for version in stripped:
        folder = lineage.path(version)
        names = {path.name for path in folder.iterdir() if not is_record(path.name)} - {MANIFEST, *MARKS}
        lineage.strip(version, names, "pruned")
    if thorough or lineage.segments.count() > keep + 2 * N_NIGHTS:
        kept = [lineage.manifest(version) for version in versions if version not in set(old) and lineage.has(version)]
        lineage.segments.keep({sha for manifest in kept for sha in manifest.segments})
    return stripped


def _has_tensors(lineage: Lineage, version: int) -> bool:
    return lineage.has(version) and not lineage.was("pruned", version)


def _lately_old(lineage: Lineage, old: list[int], head: Manifest | None) -> set[int]:
    """Return the versions that have become old since the last commit, without looking at all that were before.

    They lie at the edge of those that are kept, or were needed by the head before.
    """
    edge = set(takewhile(lambda version: _has_tensors(lineage, version), reversed(old)))
    if head is None or head.parent is None:
        return edge
    with suppress(CheckpointError):  # a parent that cannot be read needs nothing
        edge |= _of_state(lineage, lineage.manifest(head.parent)) & set(old)
    return edge


def _needed(lineage: Lineage, head: Manifest | None) -> set[int]:
    if head is None:
        return {manifest.version for manifest in lineage.newest_first()}
    needed = _of_state(lineage, head)
    for manifest in lineage.newest_first():
        if manifest.version <= head.version:
            break
        needed.add(manifest.version)
    return needed


def _of_state(lineage: Lineage, head: Manifest) -> set[int]:
    """Return a version and those back to the night before its own, with what only went back or forgot between them."""
    found, manifest, n_nights = {head.version}, head, 0
    with suppress(CheckpointError):  # what cannot be read cannot serve again, either
        while (n_nights := n_nights + (manifest.act == "night")) < _NIGHTS_KEPT and manifest.parent is not None:
            found.add(manifest.parent)
            manifest = lineage.manifest(manifest.parent)
    return found


def finish_erasing(lineage: Lineage, newest: Manifest | None) -> None:
    """Delete what the newest entry, if it forgets, says is erased; it may have been killed before it had done so.

    Nothing is committed before this is done: an older entry that forgets has no work left.
    """
    if newest is None or newest.act != "forget":
        return
    lineage.pipeline.clear_staging()  # a night that was killed left its raw rows there
    for version, names in newest.erased.items():
        lineage.strip(int(version), names, "erased")
    for item in lineage.items():
        if item.kind == "quarantined" and item.version < newest.version:
            for name in (MEMORY, PENDING, REJECTS):
                (lineage.folder / item.name / name).unlink(missing_ok=True)

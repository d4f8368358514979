"""Verify: hash everything that a lineage keeps, take no lock, mend nothing, and say what is wrong."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nightfit.checkpoint import MANIFEST, Manifest
from nightfit.errors import CheckpointError
from nightfit.names import MARKS, is_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nightfit.names import Item
    from nightfit.store import Lineage

_NOT_OURS = "is not ours: it is ignored and left alone"


@dataclass(frozen=True)
class Finding:
    """What `verify` has to say; only errors make the command fail."""

    level: Literal["error", "warning"]
    version: int | None
    message: str


def verify(lineage: Lineage) -> list[Finding]:
    """Hash every file of every version and every segment that one names; takes no lock and mends nothing.

    What was pruned or erased must be absent: a file of an erased version that is there again holds rows that were to be
    forgotten. The head must not be pruned: nothing could go on from it.
    """
    items, manifests, findings = lineage.items(), list[Manifest](), list[Finding]()
    for version in [item.version for item in items if item.kind == "version"]:
        with _noted(findings, version):
            manifests.append(lineage.manifest(version))
    erased = {(int(v), name) for m in manifests for v, names in m.erased.items() for name in names}
    head = max((m.version for m in manifests if m.status == "accepted"), default=0)
    kept = [m for m in manifests if m.version == head or not lineage.was("pruned", m.version)]
    for manifest in manifests:
        gone = {name for version, name in erased if version == manifest.version}
        if manifest not in kept:
            gone |= {name for name in manifest.files if not is_record(name)}
        findings += _file_findings(lineage, manifest, gone)
    for sha in dict.fromkeys(sha for manifest in kept for sha in manifest.segments):
        with _noted(findings, None):
            lineage.segments.check(sha)
    return findings + _strangers(lineage, items)


@contextmanager
def _noted(findings: list[Finding], version: int | None) -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        findings.append(Finding("error", version, str(error)))


def _file_findings(lineage: Lineage, manifest: Manifest, gone: set[str]) -> list[Finding]:
    """Check the files of a version, of which some must be gone."""
    findings: list[Finding] = []
    for name in [name for name in manifest.files if name not in gone]:
        with _noted(findings, manifest.version):
            lineage.check(manifest, name)
    found: set[str] = set()
    with suppress(FileNotFoundError):  # the trainer may have quarantined it just now
        found = {path.name for path in lineage.path(manifest.version).iterdir()}
    for name in sorted(found & gone):
        message = f"{name!r} of version {manifest.version} must be gone, however it is there; run `nightfit prune`"
        findings.append(Finding("error", manifest.version, message))
    extra = sorted(found - {MANIFEST, *MARKS, *manifest.files})
    return findings + [Finding("warning", manifest.version, f"{name!r} {_NOT_OURS}") for name in extra]


def _strangers(lineage: Lineage, items: list[Item]) -> list[Finding]:
    findings = [Finding("warning", None, f"{i.name!r} {_NOT_OURS}") for i in items if i.kind == "foreign"]
    for item in items:
        if item.kind == "quarantined":
            message = f"{item.name!r} is quarantined: it did not verify and is never loaded"
            findings.append(Finding("warning", item.version, message))
    for path in lineage.pipeline.leftovers():
        message = f"{str(path)!r} is left over from a run, or belongs to one under way"
        findings.append(Finding("warning", None, message))
    return findings

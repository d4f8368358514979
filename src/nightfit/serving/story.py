"""What the page tells: how every lineage came to what it serves, from manifests, which are read once."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nightfit.errors import CheckpointError

if TYPE_CHECKING:
    from nightfit.checkpoint import Manifest
    from nightfit.schema import Column
    from nightfit.serving.following import Follower
    from nightfit.store import Lineage

N_VERSIONS = 200
"""Versions of each model that the page shows, the newest."""

N_CATEGORIES = 50
"""Categories of a column that the form offers; any other may be typed."""


class Story:
    """The versions of every lineage that a follower follows."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._told: dict[tuple[str, int], dict[str, Any]] = {}
        self._lock = threading.Lock()

    def to_json(self) -> dict[str, Any]:
        """Tell everything; reads the manifests that are new since the last time."""
        with self._lock:
            return {"pipeline": self._follower.pipeline, "models": [self._model(name) for name in self._follower.names]}

    def _model(self, name: str) -> dict[str, Any]:
        served, lineage = self._follower.get(name), self._follower.lineage(name)
        return {
            "name": name,
            "serving": served.number if served else None,
            "created_at": served.created_at if served else None,
            "columns": [_column(column) for column in served.schema.columns] if served else [],
            "versions": self._versions(name, lineage),
        }

    def _versions(self, name: str, lineage: Lineage) -> list[dict[str, Any]]:
        numbers = [item.version for item in lineage.items() if item.kind == "version"][-N_VERSIONS:]
        for number in [number for number in numbers if (name, number) not in self._told]:
            try:
                self._told[name, number] = _version(lineage.manifest(number))
            except CheckpointError:
                continue
        return [self._told[name, number] for number in numbers if (name, number) in self._told]


def _version(manifest: Manifest) -> dict[str, Any]:
    drift: Any = manifest.night.get("drift") or {}
    return {
        "version": manifest.version,
        "act": manifest.act,
        "status": manifest.status,
        "created_at": manifest.created_at,
        "rows": asdict(manifest.rows),
        "prequential": manifest.prequential,
        "verdict": manifest.verdict,
        "moved": drift.get("moved", []),
        "rise": drift.get("error"),
    }


def _column(column: Column) -> dict[str, Any]:
    return {"name": column.name, "kind": column.kind, "categories": list(column.categories)[:N_CATEGORIES]}

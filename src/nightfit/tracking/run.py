"""What a run says of a version: all of it is in the manifest, so that it can be logged later, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nightfit.checkpoint import Manifest


def tags(manifest: Manifest) -> dict[str, str]:
    """Return what a run is found by, and what came of the night, in words."""
    return identity(manifest) | {
        "nightfit.status": manifest.status,
        "nightfit.verdict": manifest.verdict,
        "nightfit.act": manifest.act,
        "nightfit.parent": str(manifest.parent or ""),
        "nightfit.digest": manifest.digest,
        "nightfit.release": manifest.nightfit,
    }


def identity(manifest: Manifest) -> dict[str, str]:
    """Return the tags that no two runs share."""
    return {
        "nightfit.pipeline": manifest.pipeline,
        "nightfit.model": manifest.model,
        "nightfit.version": str(manifest.version),
    }


def params(manifest: Manifest, seed: int, store: str) -> dict[str, str]:
    """Return the learner's options as they were that night, the seed, and where the version is kept."""
    settings: Any = manifest.night.get("settings", {})
    return {name: str(value) for name, value in settings.get("model", {}).items()} | {"seed": str(seed), "store": store}


def metrics(manifest: Manifest) -> dict[str, float]:
    """Return scores before and after, the baseline, rows, drift and seconds: every number there is of these."""
    night: Any = manifest.night
    gate, learning = night.get("gate", {}), night.get("learning", {})
    columns = night.get("drift", {}).get("columns", [])
    return dict(
        _numbers(
            {
                **{f"before.{name}": value for name, value in manifest.prequential.items()},
                **{f"champion.{name}": value for name, value in gate.get("champion_scores", {}).items()},
                **{f"candidate.{name}": value for name, value in gate.get("scores", {}).items()},
                **{
                    f"learning.{name}": learning.get(name) for name in ("loss_before", "loss_after", "loss_of_constant")
                },
                **{f"rows.{name}": value for name, value in asdict(manifest.rows).items()},
                "drift.effect": max((column["effect"] for column in columns), default=None),
                "drift.columns_moved": len(night.get("drift", {}).get("moved", [])),
                "seconds": night.get("seconds"),
            }
        )
    )


def _numbers(found: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in found.items():
        if isinstance(value, (int, float)):
            yield name, float(value)

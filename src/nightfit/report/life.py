"""A lineage's life, as its manifests tell it: every version with its verdict, scores, rows, drift and seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nightfit.metrics import SCORES
from nightfit.report.result import Point, rolling, smoothing

if TYPE_CHECKING:
    from nightfit.checkpoint import Manifest

FATES = ("learned", "held_out", "rejected", "duplicate", "excluded")
"""Where a row that was read ends; `pending` rows are counted when they have ended."""


@dataclass(frozen=True)
class Version:
    """One version, in what a report tells of it. `gate` has the reason, and the pooled difference if there is one."""

    version: int
    act: str
    status: str
    created_at: str
    verdict: str
    rows: Mapping[str, int]
    prequential: Mapping[str, float]
    gate: Mapping[str, Any]
    seconds: float | None
    moved: Sequence[str]
    rise: Sequence[float] | None
    fresh: str | None
    columns: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, m: Manifest) -> Version:
        """Take from a manifest what a report tells."""
        night: Any = m.night
        drift = night.get("drift") or {}
        return cls(
            m.version, m.act, m.status, m.created_at, m.verdict, asdict(m.rows), m.prequential,
            _gate(night.get("gate") or {}), night.get("seconds"), drift.get("moved", []), drift.get("error"),
            (night.get("fresh") or {}).get("verdict"), drift.get("columns", []),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON, without the figures of every column, which `show` has."""
        whole = asdict(self)
        del whole["columns"]
        return whole


def _gate(gate: Mapping[str, Any]) -> dict[str, Any]:
    """Return the gate's reason and the pooled difference, in shares of the champion's loss."""
    told = {"reason": gate.get("reason")}
    pooled, champion = gate.get("pooled"), gate.get("champion_scores") or {}
    loss = champion["rmse"] ** 2 if "rmse" in champion else champion.get("log_loss")
    if pooled and loss and pooled["low"] is not None and pooled["high"] is not None:
        told |= {name: pooled[name] / loss for name in ("mean", "low", "high")} | {"rows": pooled["n"]}
    return told


@dataclass(frozen=True)
class Life:
    """One model's versions that can be read, oldest first; `serving` is the head's number."""

    name: str
    task: str
    serving: int | None
    versions: Sequence[Version]

    @classmethod
    def of(cls, name: str, manifests: Sequence[Manifest]) -> Life:
        """Take what the manifests of a lineage say, oldest first."""
        heads = [m for m in manifests if m.status == "accepted"]
        schema: Any = manifests[-1].state["schema"] if manifests else {}
        task = str(schema.get("task") or "classification")
        return cls(name, task, heads[-1].version if heads else None, [Version.of(m) for m in manifests])

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"serving": self.serving, "versions": [version.to_json() for version in self.versions]}

    @property
    def score(self) -> str:
        """The score that the task's models learn by."""
        return next(iter(SCORES[self.task]))

    @property
    def label(self) -> str:
        """What people call it."""
        return SCORES[self.task][self.score]

    @cached_property
    def nights(self) -> list[Version]:
        """The versions that learned, not those that went back or forgot."""
        return [version for version in self.versions if version.act == "night"]

    @property
    def head(self) -> Version | None:
        """The version that serves."""
        return next((version for version in self.versions if version.version == self.serving), None)

    @property
    def refused(self) -> list[Version]:
        """The nights that the gate refused."""
        return [version for version in self.nights if version.status == "refused"]

    def scores(self) -> list[tuple[int, float, float]]:
        """Return version, score of the version before on the night's rows, and their number, where there is one."""
        return [
            (version.version, version.prequential[self.score], version.prequential.get("rows") or 1.0)
            for version in self.nights
            if self.score in version.prequential
        ]

    def curve(self) -> list[Point]:
        """Return the prequential score over the versions, smoothed."""
        scores = self.scores()
        return rolling(scores, smoothing(len(scores)), self.score)

    def total(self, fate: str) -> int:
        """Count the rows of a fate over all nights that were accepted: those of a refused one are read again."""
        return sum(version.rows.get(fate, 0) for version in self.nights if version.status == "accepted")

    def alarms(self) -> Iterator[tuple[int, str]]:
        """Yield the versions whose night had a sign of drift, with what it was."""
        for version in self.nights:
            if version.rise:
                yield version.version, "the error rose from {:.3f} to {:.3f}".format(*version.rise)

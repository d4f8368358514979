"""What is told of a night: of every model its verdict, scores, rows, drift and seconds; or why there was no night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from nightfit.checkpoint import RowCounts

if TYPE_CHECKING:
    from nightfit.jsontypes import Json
    from nightfit.nightly import NightResult


@dataclass(frozen=True)
class ModelTold:
    """One model's night. `effect`: how far the column that moved most did; `moved`: what it was worth a word of."""

    model: str
    status: str
    version: int | None
    verdict: str
    scores: dict[str, float]
    rows: RowCounts
    seconds: float
    moved: list[str]
    effect: float
    alarms: list[str]

    @classmethod
    def of(cls, result: NightResult) -> ModelTold:
        """Take what is told out of a night's result."""
        columns = result.drift.get("columns") or [{"effect": 0.0}]
        return cls(
            model=result.model,
            status=result.status,
            version=result.version,
            verdict=result.verdict,
            scores={name: score for name, score in result.prequential.items() if name != "rows"},
            rows=result.rows,
            seconds=result.seconds,
            moved=list(result.drift.get("moved", [])),
            effect=max(column["effect"] for column in columns),
            alarms=list(result.alarms),
        )


@dataclass(frozen=True)
class Told:
    """A pipeline's night: how it ended, at what time, and each model's; `error`: why it ended with an error."""

    pipeline: str
    exit_code: int
    at: datetime
    models: Sequence[ModelTold] = ()
    error: str = ""

    @property
    def text(self) -> str:
        """Return it in words, a line for each model."""
        lines = [f"{m.model}: {m.verdict}" for m in self.models] or [self.error]
        return "\n".join(f"nightfit: {self.pipeline}: {line}" for line in lines)

    def to_json(self) -> dict[str, Json]:
        """Return it as plain JSON."""
        at = self.at.isoformat(timespec="seconds")
        models: list[Json] = [asdict(each) for each in self.models]
        return {
            "pipeline": self.pipeline, "at": at, "exit_code": self.exit_code, "error": self.error or None,
            "text": self.text, "models": models,
        }  # fmt: skip

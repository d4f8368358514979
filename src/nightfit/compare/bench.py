"""What is compared, and how: the bench, and its units, each a model with a seed that goes through the nights alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightfit.compare.protocol import Protocol
from nightfit.compare.statistics import MARGIN
from nightfit.config import ModelConfig, parse
from nightfit.learners.base import REFERENCE, ReferenceConfig, import_path
from nightfit.learners.importing import digest
from nightfit.schema import Rules

if TYPE_CHECKING:
    from nightfit.compare.nights import Cutting


@dataclass(frozen=True)
class Bench:
    """What is compared, and how. The first model is the one that all others are held against."""

    models: Mapping[str, ModelConfig]
    rules: Rules
    cut: Cutting
    protocol: Protocol = field(default_factory=Protocol)
    device: str = "cpu"
    seeds: tuple[int, ...] = (0,)
    margin: float = MARGIN
    typed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Columns by the option that names them: these must be there."""

    @property
    def units(self) -> list[Unit]:
        """Every model with every seed."""
        return [
            Unit(name, config, seed, self.protocol, self.device)
            for name, config in self.models.items()
            for seed in self.seeds
        ]


@dataclass(frozen=True)
class Unit:
    """One model with one seed: what a process of its own goes through the nights with."""

    name: str
    config: ModelConfig
    seed: int
    protocol: Protocol
    device: str

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "name": self.name,
            "model": options(self.config),
            "seed": self.seed,
            "protocol": asdict(self.protocol),
            "device": self.device,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Unit:
        """Read what `to_json` returned."""
        return cls(data["name"], _config(data["model"]), data["seed"], Protocol(**data["protocol"]), data["device"])

    def key(self, rows: str, versions: Mapping[str, str]) -> str:
        """Return the name of its result: another one for other rows (their digest), options, versions or code."""
        asked = replace(self, name="-", protocol=replace(self.protocol, retrain=False)).to_json()
        code = digest(import_path(self.config.learner))
        text = json.dumps([asked, rows, dict(versions), *([code] if code else [])], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _config(table: Mapping[str, Any]) -> ModelConfig:
    """Read what `options` returned."""
    if table["kind"] == REFERENCE:
        return ModelConfig(REFERENCE, ReferenceConfig(**{k: v for k, v in table.items() if k != "kind"}))
    document = {"name": "compare", "target": "-", "sources": [{"url": "-"}], "models": {"model": table}}
    return parse(document, Path.cwd()).models["model"]


def options(config: ModelConfig) -> dict[str, Any]:
    """Return a model's table as a config would spell it."""
    plain: dict[str, Any] = json.loads(json.dumps({"kind": config.kind, **asdict(config.learner)}))
    return plain

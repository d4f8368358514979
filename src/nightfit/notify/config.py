"""The `[notify]` table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SUFFIX = ".prom"
"""What node_exporter reads of its folder, and nothing else."""


@dataclass(frozen=True)
class NotifyConfig:
    """Who is told of every night."""

    webhook: str = ""
    """A url of http or https that gets a JSON object by POST; empty: none. "${NAME}" is taken from the environment."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with it; "${NAME}" is taken from the environment."""
    textfile: str = ""
    """A file in the folder of node_exporter's textfile collector; empty: none."""
    timeout_s: float = 10.0
    """How long the webhook may take in all."""

    def __post_init__(self) -> None:
        if self.textfile and not self.textfile.endswith(SUFFIX):
            raise ValueError(f"textfile must end in {SUFFIX}, as others are not read, however it is '{self.textfile}'")
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s must be above 0, however it is {self.timeout_s}")
        if self.headers and not self.webhook:
            raise ValueError("headers go with a webhook, however there is none; set webhook")

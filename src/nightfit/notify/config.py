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
    """A url of http or https that gets a JSON object by POST after every night; empty: none. `${NAME}` is taken from
    the environment. Example: `"https://hooks.example/services/${HOOK_KEY}"`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that are sent with it; `${NAME}` is taken from the environment. Example: `{ Authorization = "Bearer
    ${HOOK_TOKEN}" }`."""
    textfile: str = ""
    """A file, ending in `.prom`, for the textfile collector of Prometheus' node_exporter, relative to `root`; empty:
    none. Example: `"/var/lib/node_exporter/textfile/nightfit.prom"`."""
    timeout_s: float = 10.0
    """Seconds that the webhook may take in all."""

    def __post_init__(self) -> None:
        if self.textfile and not self.textfile.endswith(SUFFIX):
            raise ValueError(f"textfile must end in {SUFFIX}, as others are not read, however it is '{self.textfile}'")
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s must be above 0, however it is {self.timeout_s}")
        if self.headers and not self.webhook:
            raise ValueError("headers go with a webhook, however there is none; set webhook")

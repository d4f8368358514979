"""How a comparison goes through its nights; it is light, as the command line reads it before anything else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """How nights are gone through. `classes`: "declared" (all labels known ahead) or "observed"."""

    classes: str = "declared"
    label_delay: int = 0
    """Nights after which a night's labels come: until then it is not learned."""
    warm_up: int = 1
    """Nights that are learned and not scored, at least one."""
    retrain: bool = False
    """Whether each model is trained anew on all rows at the end, to see what that costs."""

    @property
    def first_scored(self) -> int:
        """The first night that is scored: every model has learned the nights of the warm-up by then."""
        return self.warm_up + self.label_delay

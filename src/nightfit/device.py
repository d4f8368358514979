"""Which device learns: a name from the command line in, a torch device and the reason for it out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nightfit.errors import ConfigError


@dataclass(frozen=True)
class Device:
    """Where tensors live (`name`, as torch spells it) and why."""

    name: str
    reason: str


def choose(wanted: str = "auto") -> Device:
    """Turn "auto", "cpu", "cuda", "cuda:N" or "mps" into a device that is there.

    Raises `ConfigError` for a name that is none of these, and for a device that this machine does not have.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]*))?|mps", wanted):
        raise ConfigError(f"a device must be auto, cpu, cuda, cuda:N or mps, however '{wanted}' was asked for")
    if wanted == "cpu":
        return Device("cpu", "as asked")
    n_cuda, has_mps = available()
    if wanted == "auto":
        return _best(n_cuda, has_mps=has_mps)
    if wanted == "mps" and not has_mps:
        raise ConfigError("--device mps needs Apple's Metal, however torch finds none; use --device cpu or auto")
    if wanted.startswith("cuda") and int(wanted.partition(":")[2] or 0) >= n_cuda:
        raise ConfigError(
            f"--device {wanted} needs that CUDA device, however torch finds {n_cuda} of them; "
            "use --device cpu or auto, or see `nightfit doctor`",
        )
    return Device("cuda:0" if wanted == "cuda" else wanted, "as asked")


def available() -> tuple[int, bool]:
    """Return how many CUDA devices torch can use, and whether it can use Apple's Metal."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0, torch.backends.mps.is_available()


def _best(n_cuda: int, *, has_mps: bool) -> Device:
    if n_cuda:
        return Device("cuda:0", f"auto: the first of {n_cuda} CUDA device{'s' * (n_cuda > 1)}")
    if has_mps:
        return Device("mps", "auto: Apple's Metal is there, CUDA is not")
    return Device("cpu", "auto: torch finds neither CUDA nor Metal")

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


def choose(wanted: str = "auto", *, number: int = 0) -> Device:
    """Turn "auto", "cpu", "cuda", "cuda:N" or "mps" into a device that is there.

    Where only CUDA is said, or nothing, `number` says which of a host's devices it is.

    Raises `ConfigError` for a name that is none of these, and for a device that this machine does not have.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]*))?|mps", wanted):
        raise ConfigError(f"a device must be auto, cpu, cuda, cuda:N or mps, however '{wanted}' was asked for")
    if wanted == "cpu":
        return Device("cpu", "as asked")
    n_cuda, has_mps = available()
    if wanted == "auto":
        return _best(n_cuda, number, has_mps=has_mps)
    if wanted == "mps" and not has_mps:
        raise ConfigError("--device mps needs Apple's Metal, however torch finds none; use --device cpu or auto")
    if wanted.startswith("cuda"):
        number = int(wanted.partition(":")[2] or number)
        _check_is_there(wanted, number, n_cuda)
        return Device(f"cuda:{number}", "as asked")
    return Device(wanted, "as asked")


def available() -> tuple[int, bool]:
    """Return how many CUDA devices torch can use, and whether it can use Apple's Metal."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0, torch.backends.mps.is_available()


def _check_is_there(wanted: str, number: int, n_cuda: int) -> None:
    if number >= n_cuda:
        raise ConfigError(
            f"--device {wanted} needs CUDA device {number}, however torch finds {n_cuda} of them; "
            "use --device cpu or auto, start no more ranks than a host has, or see `nightfit doctor`",
        )


def _best(n_cuda: int, number: int, *, has_mps: bool) -> Device:
    if n_cuda:
        _check_is_there("auto", number, n_cuda)
        which = f"number {number}" if number else "the first"
        return Device(f"cuda:{number}", f"auto: {which} of {n_cuda} CUDA device{'s' * (n_cuda > 1)}")
    if has_mps:
        return Device("mps", "auto: Apple's Metal is there, CUDA is not")
    return Device("cpu", "auto: torch finds neither CUDA nor Metal")

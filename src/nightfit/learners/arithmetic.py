"""How torch computes on the CPU while small networks learn and predict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: at these sizes a second costs more than it brings, and sums depend on their number."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


@contextmanager
def no_denormals() -> Iterator[None]:
    """Take numbers below 1e-38 for 0, on CPUs that can.

    Moments of weights that are no longer used fade through them, and arithmetic with them is a hundred times slower.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)

"""How torch computes while small networks learn and predict, and how arrays come to where it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor

from nightfit.batch import Array


def send(array: Array, device: torch.device) -> Tensor:
    """Copy an array to a device, into memory aligned as torch's: the last bits of a product may depend on it.

    To CUDA it goes through pinned memory, and nobody waits for its arrival.
    """
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    copy = torch.empty(array.shape, dtype=dtype, pin_memory=device.type == "cuda")
    copy.numpy()[...] = array
    return copy.to(device, non_blocking=True)


@contextmanager
def learning_on(device: torch.device) -> Iterator[None]:
    """Compute as steps on a device need it."""
    with ExitStack() as stack:
        for part in (one_thread(), no_denormals()):
            stack.enter_context(part)
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
            stack.enter_context(tf32())
        yield


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


@contextmanager
def tf32() -> Iterator[None]:
    """Let CUDA round the factors of float32 products to 10 bits of mantissa, on its matrix units, several times faster.

    For learning alone: a step's gradient is noisier than that, an answer is not.
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        matmul.fp32_precision = before

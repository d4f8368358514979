"""Steps: a learner's step over minibatch after minibatch, captured where that is faster, smaller where memory is short.

Launching a step's hundred small kernels one by one takes a GPU's host longer than computing them. Minibatches come in
a few sizes; of each size the first step runs as it is, the second is captured in a CUDA graph, and from then on one
launch does. The same function runs on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from nightfit.errors import ConfigError
from nightfit.learners.arithmetic import send
from nightfit.learners.replay import Counts, Mix

LEAST_MINIBATCH = 64
"""Where memory does not even suffice for so few rows, a smaller step is no way out."""

_TOO_LARGE = (
    "each rank's part of a minibatch must fit into its GPU, however there was no room for {} rows; lower batch_size, "
    "or start more ranks"
)


class Steps:
    """Take a step for each minibatch of a mix.

    `step(index, counts)` learns the rows of the pools that an index (int64 [n], on the device) names. It allocates
    nothing that lives on but by its first call, and changes nothing if memory runs out.
    """

    def __init__(self, step: Callable[[Tensor, Counts], None], device: torch.device) -> None:
        self._step, self._device = step, device
        self._is_captured = device.type == "cuda"
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph | None] = {}
        self._index = torch.zeros(0, dtype=torch.int64, device=device)
        self.n_most: int | None = None
        """Rows of the largest step that memory has room for; None: it never ran out."""

    @property
    def notes(self) -> list[str]:
        """What people should know: that memory ran out."""
        if self.n_most is None:
            return []
        fact = f"there was room for {self.n_most:,} rows at most: learned in smaller steps than batch_size asks for"
        return [f"a step must fit into the GPU's memory, however {fact}; lower it, or see what else needs the GPU"]

    def take(self, mix: Mix, kind: Hashable) -> None:
        """Learn all minibatches of a mix; what else makes steps differ is their `kind`."""
        rows = torch.split(send(mix.rows, self._device), [sum(counts.own) for counts in mix.counts])
        for index, counts in zip(rows, mix.counts, strict=True):
            self._take(index, counts, kind)

    def _take(self, index: Tensor, counts: Counts, kind: Hashable) -> None:
        """Take a step, or two half as large."""
        if self._fits(index, counts, kind):
            return
        for half, n_rows in halves(index, counts):
            self._take(half, n_rows, kind)

    def _fits(self, index: Tensor, counts: Counts, kind: Hashable) -> bool:
        """Take a step if memory suffices, and say whether it did."""
        if self.n_most is not None and len(index) > self.n_most:
            return False
        try:
            self._run(index, counts, kind)
        except torch.OutOfMemoryError:
            if counts.own != counts.all:
                raise ConfigError(_TOO_LARGE.format(f"{len(index):,}")) from None
            if len(index) <= LEAST_MINIBATCH:
                raise
        else:
            return True
        self.n_most = len(index) // 2 + len(counts.own)  # each pool's half is rounded up
        self._graphs.clear()
        torch.cuda.empty_cache()
        return False

    def _run(self, index: Tensor, counts: Counts, kind: Hashable) -> None:
        key = (counts, kind)
        if not self._is_captured or key not in self._graphs:
            self._step(index, counts)
            self._graphs[key] = None
            return
        graph = self._graphs[key] or self._capture(len(index), counts, key)
        self._index[: len(index)].copy_(index)
        graph.replay()

    def _capture(self, n: int, counts: Counts, key: Hashable) -> torch.cuda.CUDAGraph:
        """Capture a step on n rows, which will be those of the first n of `_index`, without taking it."""
        if n > len(self._index):
            self._graphs = dict.fromkeys(self._graphs)  # they read the old one
            self._index = torch.zeros(2 * n, dtype=torch.int64, device=self._device)
        pool = next((graph.pool() for graph in self._graphs.values() if graph), None)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured, pool=pool):
            self._step(self._index[:n], counts)
        self._graphs[key] = captured
        return captured


def halves(index: Tensor, counts: Counts) -> Iterator[tuple[Tensor, Counts]]:
    """Yield two minibatches that have half of each pool's rows."""
    ends = np.cumsum([0, *counts.own]).tolist()
    pools = [torch.tensor_split(index[start:end], 2) for start, end in pairwise(ends)]
    for parts in zip(*pools, strict=True):
        n_rows = tuple(map(len, parts))
        yield torch.cat(parts), Counts(n_rows, n_rows)

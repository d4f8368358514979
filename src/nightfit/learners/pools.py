"""Rows on the device, where minibatches pick them: replayed ones all night long, tonight's block by block.

To a GPU a block comes through pinned memory, on a stream of its own, while the one before it is learned; it stays for
the epochs to come as long as there is room.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nightfit.batch import BLOCK_ROWS, Batch, Block, in_memory
from nightfit.learners.arithmetic import send

ROOM = 0.5
"""The share of a GPU's free memory that tonight's rows may take; the rest is for steps."""


class Sent(NamedTuple):
    """Rows on the device: numbers as `mlp.Inputs` has them, category ids (int64 [n, d_cat]), outcomes [n].

    `weight`: float32 [n], by what each row's loss is multiplied; None: by 1.
    """

    numbers: Tensor
    ids: Tensor
    y: Tensor
    weight: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What lies on the device."""
        return (self.numbers, self.ids, self.y) + (() if self.weight is None else (self.weight,))

    @property
    def nbytes(self) -> int:
        """How much memory of the device they take."""
        return sum(tensor.nbytes for tensor in self.tensors)


class Pools:
    """The rows that an index of `Replay.mixes` counts through: replayed ones, then the block that is learned.

    `bring` brings a batch to the device. `is_weighted`: rows of the night have weights; replayed ones may, too.
    """

    def __init__(
        self,
        replayed: Sequence[Batch],
        bring: Callable[[Batch], Sent],
        device: torch.device,
        *,
        is_weighted: bool = False,
    ) -> None:
        self._bring, self._device = bring, device
        self._is_weighted = is_weighted or any(batch.weight is not None for batch in replayed)
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._room = int(ROOM * torch.cuda.mem_get_info(device)[0]) if self._side else 0
        self._there: dict[int, Sent] = {}
        self._block: Block | None = None
        self._queued: torch.cuda.Event | None = None
        self._n_replayed = sum(map(len, replayed))
        self.tensors: list[Tensor] = []
        """What `Sent.tensors` names, of all rows; numbers have flags once some row misses one."""
        start = 0
        for batch in replayed:
            self._place(self._sent(batch), start)
            start += len(batch)
        if self._side:
            self._side.wait_stream(torch.cuda.current_stream(device))

    def _place(self, sent: Sent, start: int) -> None:
        """Put rows into their place."""
        if not self.tensors:
            n = self._n_replayed + BLOCK_ROWS
            self.tensors = [tensor.new_empty(n, *tensor.shape[1:]) for tensor in sent.tensors]
        numbers, *others = sent.tensors
        self._widen(numbers.shape[1], start)
        own = slice(start, start + len(numbers))
        self.tensors[0][own, : numbers.shape[1]] = numbers
        self.tensors[0][own, numbers.shape[1] :] = 0
        for pool, rows in zip(self.tensors[1:], others, strict=True):
            pool[own] = rows

    def _widen(self, width: int, n_rows: int) -> None:
        """Give the numbers that are there, those of the first n rows, a place for flags, none of them set."""
        before = self.tensors[0]
        if before.shape[1] < width:
            self.tensors[0] = before.new_empty(len(before), width)
            self.tensors[0][:n_rows, : before.shape[1]] = before[:n_rows]
            self.tensors[0][:n_rows, before.shape[1] :] = 0

    @property
    def kind(self) -> Hashable:
        """What differs where steps on these rows read other inputs."""
        return self.tensors[0].shape[1]

    def enter(self, block: Block) -> None:
        """Put a block into its place, after what was queued before."""
        if block is self._block:
            return
        sent = self._fetch(block)
        if self._side:
            torch.cuda.current_stream(self._device).wait_stream(self._side)
            self._wait_for_the_last_but_one()
        self._place(sent, self._n_replayed)
        self._block = block
        if self._room < 0:
            self._drop(block)

    def _fetch(self, block: Block) -> Sent:
        """Bring a block; a GPU may still be busy with what was queued before."""
        if id(block) not in self._there:
            with torch.cuda.stream(self._side) if self._side else nullcontext():
                sent = self._sent(in_memory(block))
            self._there[id(block)] = sent
            self._room -= sent.nbytes
        return self._there[id(block)]

    def _sent(self, batch: Batch) -> Sent:
        sent = self._bring(batch)
        weight = send(batch.weights.astype(np.float32), self._device) if self._is_weighted else None
        return sent._replace(weight=weight)

    def _drop(self, block: Block) -> None:
        """Let a block go, once it has been read."""
        sent = self._there.pop(id(block))
        self._room += sent.nbytes
        if self._side:
            for tensor in sent.tensors:
                tensor.record_stream(torch.cuda.current_stream(self._device))

    def _wait_for_the_last_but_one(self) -> None:
        """Bound what is queued: by one block, so that the device is never idle and memory is not filled ahead."""
        before, self._queued = self._queued, torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._queued.record()
        if before:
            before.synchronize()

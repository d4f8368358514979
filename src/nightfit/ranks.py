"""Ranks: the processes that share a night's work where torchrun started several; else one, which does all of it.

Rank 0 has the night: it reads, settles and cleans, decides and commits. What costs time by the row it hands to all: a
task, and to every rank a disjoint share of the rows, its own slice of each block, which is sent once. Ranks need
nothing in common but the network between them: no config, no store, no file system. Messages are safetensors.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

import numpy as np

from nightfit.batch import ARRAYS, Array, Batch, Rows, in_memory, spill
from nightfit.checkpoint import pack, unpack
from nightfit.errors import ConfigError, TryAgainError
from nightfit.jsontypes import Json

if TYPE_CHECKING:
    from torch import Tensor

Arrays: TypeAlias = dict[str, Array]
Message: TypeAlias = tuple[dict[str, Any], Arrays]
"""Values for JSON, and named arrays."""

Work: TypeAlias = Callable[[Rows], Arrays]
"""What a rank does with its share."""

PATIENCE = timedelta(minutes=10)
"""How long a rank that is needed may keep silent; one that has died is noticed at once."""

_ROWS, _END, _JSON = "rows", "end", "json"


class Order(NamedTuple):
    """What rank 0 wants done, with this rank's share of the rows."""

    task: str
    values: dict[str, Any]
    arrays: Arrays
    rows: Rows


class Alone:
    """The only process: it does all that others could share."""

    rank, size = 0, 1

    def each(self, _task: str, rows: Rows, work: Work, _message: Callable[[], Message]) -> Sequence[Arrays]:
        """Do `work` on this rank's share of rows, and a task on the others'; return what came of it, by rank."""
        return [work(rows)]

    def part(self, batch: Batch) -> Batch:
        """Return this rank's share of rows that all ranks have."""
        return batch

    def totals(self, counts: Array) -> Array:
        """Return the sums of all ranks' counts, int64 of any shape, where each rank has its own."""
        return counts

    def add(self, gradient: Tensor) -> None:
        """Add up all ranks' gradients, in place."""


class Together(Alone):
    """One of several processes, as torchrun's environment describes it."""

    def __init__(self, device: str, folder: Path) -> None:
        import torch
        from torch import distributed
        from torch.distributed.rendezvous import rendezvous

        self._folder, self._n_orders, self._n_shares = folder, 0, 0
        self._dist, self._rows, self._share = distributed, Rows([]), Rows([])
        on = torch.device(device)
        if on.type not in {"cpu", "cuda"}:
            raise ConfigError(f"several ranks learn on CPUs or CUDA, however the device is {device}; use --device cpu")
        with _alive():
            self._store, self.rank, self.size = next(rendezvous("env://", timeout=PATIENCE))
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if on.type == "cuda" else "gloo",
                store=self._store,
                rank=self.rank,
                world_size=self.size,
                timeout=PATIENCE,
                device_id=on if on.type == "cuda" else None,
            )

    def each(self, task: str, rows: Rows, work: Work, message: Callable[[], Message]) -> Sequence[Arrays]:
        """Do `work` on this rank's share of rows, and a task on the others'; return what came of it, by rank."""
        if rows is not self._rows:
            self._tell(_ROWS, {"n_blocks": len(rows.blocks)}, {})
            self._rows, self._share = rows, self._dealt(rows)
        self._tell(task, *message())
        done = work(self._share)
        return [done, *(unpack(self._receive(rank)) for rank in range(1, self.size))]

    def part(self, batch: Batch) -> Batch:
        """Return this rank's share of rows that all ranks have."""
        return batch.take(slice(self.rank, None, self.size))

    def totals(self, counts: Array) -> Array:
        """Return the sums of all ranks' counts, int64 of any shape, where each rank has its own."""
        import torch

        summed = torch.tensor(counts)
        self.add(summed)
        return np.asarray(summed.numpy())

    def add(self, gradient: Tensor) -> None:
        """Add up all ranks' tensors, in place: all have the same bits then."""
        with _alive():
            self._dist.all_reduce(gradient)

    def orders(self) -> Iterator[Order]:
        """Yield what rank 0 wants of this rank, until the night is over; `answer` each."""
        while (order := self._heard()).task != _END:
            if order.task == _ROWS:
                self._share = self._dealt(None, order.values["n_blocks"])
            else:
                yield order

    def answer(self, arrays: Arrays) -> None:
        """Say what came of an order."""
        self._send(pack(arrays), 0)

    def leave(self) -> None:
        """End what all ranks share: rank 0 tells the others that the night is over."""
        if not self.rank:
            self._tell(_END, {}, {})
        self._dist.destroy_process_group()

    def _tell(self, task: str, values: dict[str, Json], arrays: Arrays) -> None:
        """Give all other ranks an order; they look for it in the store, where waiting for hours is no failure."""
        spelled = json.dumps({"task": task, "values": values}).encode()
        data = pack({**arrays, _JSON: np.frombuffer(spelled, np.uint8)})
        with _alive():
            self._store.set(self._next(), str(len(data)))
            self._dist.broadcast(_bytes(data), 0)

    def _heard(self) -> Order:
        key = self._next()
        with _alive():
            while not self._is_there(key):
                pass
            room = _bytes(bytes(int(self._store.get(key))))
            self._dist.broadcast(room, 0)
        arrays = unpack(room.numpy().tobytes())
        said = json.loads(arrays.pop(_JSON).tobytes())
        return Order(said["task"], said["values"], arrays, self._share)

    def _is_there(self, key: str) -> bool:
        try:
            self._store.wait([key], timedelta(minutes=1))
        except self._dist.DistStoreError:  # not yet; where the store itself is gone, it is another error
            return False
        return True

    def _next(self) -> str:
        self._n_orders += 1
        return f"order/{self._n_orders}"

    def _dealt(self, rows: Rows | None, n_blocks: int = 0) -> Rows:
        """Return this rank's slice of every block; rank 0 has the rows, and sends the others theirs."""
        self._n_shares += 1
        folder = self._folder / str(self._n_shares)
        pieces = self._received(n_blocks) if rows is None else self._sent(rows)
        share = Rows([spill([piece], folder / f"{i:06d}") for i, piece in enumerate(pieces)])
        for path in self._folder.glob(f"{self._n_shares - 1}/*"):  # nobody asks for the rows before these again
            path.unlink()
        return share

    def _sent(self, rows: Rows) -> Iterator[Batch]:
        for block in rows.blocks:
            whole = in_memory(block)
            ends = [rank * len(whole) // self.size for rank in range(self.size + 1)]
            for rank in range(1, self.size):
                piece = whole.take(slice(ends[rank], ends[rank + 1]))
                self._send(pack({name: getattr(piece, name) for name in ARRAYS}), rank)
            yield whole.take(slice(ends[1]))

    def _received(self, n_blocks: int) -> Iterator[Batch]:
        for _ in range(n_blocks):
            yield Batch(**unpack(self._receive(0)))

    def _send(self, data: bytes, rank: int) -> None:
        import torch

        with _alive():
            self._dist.send(torch.tensor([len(data)]), rank)
            self._dist.send(_bytes(data), rank)

    def _receive(self, rank: int) -> bytes:
        import torch

        n = torch.zeros(1, dtype=torch.int64)
        with _alive():
            self._dist.recv(n, rank)
            room = _bytes(bytes(int(n)))
            self._dist.recv(room, rank)
        return room.numpy().tobytes()


def _bytes(data: bytes) -> Tensor:
    import torch

    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


@contextmanager
def _alive() -> Iterator[None]:
    """Say in our words that another rank is gone or silent: torch has no error of its own for that."""
    try:
        yield
    except RuntimeError as error:
        _gone(error)


def _gone(error: RuntimeError) -> NoReturn:
    fact = " ".join(str(error).partition(". This is")[0].split())
    raise TryAgainError(
        f"all ranks must live until the night is over, however one is gone, or silent for {PATIENCE} ({fact}); run "
        "again: what was not committed is learned then"
    ) from None


_joined: list[Alone] = [Alone()]


def here() -> Alone:
    """Return the ranks that this process is one of: like torch's own group they belong to the process."""
    return _joined[-1]


def place() -> tuple[int, int]:
    """Return this process's rank and its number on the host, by torchrun's environment; 0 and 0 without one."""
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return 0, 0
    return int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def join(device: str) -> Iterator[Alone]:
    """Be one of the processes that torchrun started, if it did.

    Raises `TryAgainError` if another one is not there, is gone, or keeps silent.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        yield here()
        return
    with tempfile.TemporaryDirectory(prefix="nightfit-rank-") as folder:
        ranks = Together(device, Path(folder))
        _joined.append(ranks)
        try:
            yield ranks
            ranks.leave()  # after an error there is nobody to be told: the sockets close with the process
        finally:
            _joined.pop()

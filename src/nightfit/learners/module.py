"""A PyTorch module of one's own by its import path, fine-tuned every night behind the persisted normaliser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nightfit.batch import Array, Rows
from nightfit.errors import ConfigError
from nightfit.jsontypes import Json
from nightfit.learners.arithmetic import learning_on, one_thread, send
from nightfit.learners.base import Arrays, ModuleConfig, part
from nightfit.learners.importing import imported, their_code
from nightfit.learners.outside import Outside, outside_raw, shaped
from nightfit.quantity import TargetScale
from nightfit.schema import Task
from nightfit.scorer import Forward

if TYPE_CHECKING:
    from nightfit.normaliser import Normaliser

NET, ADAM = "net", "adam"
"""What the names of the module's arrays, and of its optimiser's, start with."""


class ModuleLearner(Outside):
    """A module, and AdamW (Loshchilov & Hutter, ICLR 2019) whose moments live on over the nights."""

    def __init__(
        self, config: ModuleConfig, normaliser: Normaliser, *, task: Task, device: str = "cpu", seed: int = 0
    ) -> None:
        of_float64 = "cpu" if device.startswith("mps") else device  # Metal knows none
        super().__init__(config.module, normaliser.to(torch.device(of_float64)), task)
        self.config, self._device, self._seed = config, torch.device(device), seed
        self._net: nn.Module | None = None
        torch.optim.AdamW([torch.zeros(1)])  # the first one loads seconds of torch, which are none of a night's work

    def _begin(self, seed: int) -> None:  # noqa: ARG002 - the config's seed makes it, whenever it is made
        self._remake({})

    def _remake(self, kept: Arrays) -> None:
        """Make the module and its optimiser, and fill both with what was kept."""
        self._net = made(self.config, self._layout.width, self.n_outputs, seed=self._seed)
        if kept:
            fill(self._net, part(kept, NET), self.path)
        self._net.to(self._device)
        self._optimiser = torch.optim.AdamW(
            self._net.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        if moments := part(kept, ADAM):
            state: dict[int, dict[str, Tensor]] = {}
            for name, a in moments.items():
                place, _, what = name.partition(".")
                state.setdefault(int(place), {})[what] = torch.from_numpy(a.copy())
            groups = self._optimiser.state_dict()["param_groups"]
            self._optimiser.load_state_dict({"state": state, "param_groups": groups})

    def _learn_known(self, rows: Rows, seed: int) -> None:
        """Make the passes, then go on from what is kept alone: so a break between nights cannot matter."""
        assert self._net is not None
        with learning_on(self._device), seeded(seed, self._device), their_code(self.path):
            self._net.train()
            for epoch in range(self.config.n_epochs):
                for x, y in self._minibatches(rows, seed * self.config.n_epochs + epoch):
                    self._step(x, y)
        self._remake(self._tensors())

    def _minibatches(self, rows: Rows, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the rows in minibatches; a single one stands twice, as a batch's deviation needs two."""
        for x, y in self._known(rows, seed):
            inputs = send(x.astype(np.float32), self._device)
            targets = send(y.astype(np.float32) if self._is_quantity else y, self._device)
            for start in range(0, len(y), self.config.batch_size):
                piece = slice(start, start + self.config.batch_size)
                some, wanted = inputs[piece], targets[piece]
                yield (some, wanted) if len(some) > 1 else (some.repeat(2, 1), wanted.repeat(2))

    def _step(self, x: Tensor, y: Tensor) -> None:
        assert self._net is not None
        self._optimiser.zero_grad()
        answers = answered(self._net, x, self.path, self.n_outputs)
        loss = functional.mse_loss(answers[:, 0], y) if self._is_quantity else functional.cross_entropy(answers, y)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()

    def _answer(self, x: Array) -> Array:
        assert self._net is not None
        return answers(self._net, self.path, self.n_outputs, self._device, is_quantity=self._is_quantity)(x)

    def weights(self) -> Iterable[Array]:
        """Return the module's parameters."""
        return [p.detach().cpu().numpy() for p in self._net.parameters()] if self._net else []

    def _tensors(self) -> Arrays:
        assert self._net is not None
        found = {f"{NET}.{name}": t for name, t in self._net.state_dict().items()}
        for place, state in self._optimiser.state_dict()["state"].items():
            found |= {f"{ADAM}.{place}.{name}": t for name, t in state.items()}
        if strange := sorted(name for name, t in found.items() if t.dtype in {torch.bfloat16, torch.complex32}):
            raise ConfigError(f"tensors of '{self.path}' must have numpy's types, however '{strange[0]}' has not")
        return {name: t.detach().cpu().numpy().copy() for name, t in found.items()}

    def state(self) -> tuple[Arrays, Arrays, dict[str, Json]]:
        """Return the module's tensors besides; the optimiser's are needed for learning only."""
        arrays, extra, data = super().state()
        if self._net is not None:
            tensors = self._tensors()
            arrays |= {name: a for name, a in tensors.items() if name.startswith(f"{NET}.")}
            extra |= {name: a for name, a in tensors.items() if name.startswith(f"{ADAM}.")}
        return arrays, extra, data

    def load(self, arrays: Arrays, extra: Arrays, data: Mapping[str, Json]) -> None:
        """Take over what `state` returned."""
        super().load(arrays, extra, data)
        if self.n_outputs:
            self._remake({**arrays, **extra})


def module_forward(arrays: Mapping[str, Array], config: ModuleConfig) -> Forward:
    """Return what computes the raw answers of a kept module on the CPU, as a `Scorer` takes it."""
    is_quantity, n_outputs = TargetScale.is_in(arrays), int(arrays["n_outputs"][0])
    if not n_outputs:
        return lambda z, _: np.zeros(len(z))
    net = made(config, int(arrays["layout.size"][1]), n_outputs, seed=0)
    fill(net, part(dict(arrays), NET), config.module)
    answer = answers(net, config.module, n_outputs, torch.device("cpu"), is_quantity=is_quantity)
    return outside_raw(answer, arrays)


def made(config: ModuleConfig, d_in: int, d_out: int, *, seed: int) -> nn.Module:
    """Return the module for so many inputs and outputs, its first weights by the seed."""
    make = imported(config.module)
    with seeded(seed, torch.device("cpu")), their_code(config.module):
        net = make(d_in, d_out, **config.options)
    if not isinstance(net, nn.Module):
        raise ConfigError(f"'{config.module}' must return an nn.Module, however it returns a {type(net).__name__}")
    return net


def fill(net: nn.Module, kept: Arrays, path: str) -> None:
    """Fill a module with what was kept; raises `ConfigError` if it is of another shape now."""
    try:
        net.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in kept.items()})
    except RuntimeError as error:
        raise ConfigError(
            f"a lineage keeps its module's shape, however '{path}' makes another one now: {error}; set it back, or "
            "give the new model another name"
        ) from None


def answered(net: nn.Module, x: Tensor, path: str, n_outputs: int) -> Tensor:
    """Return a module's outputs, [n, n_outputs]; raises `ConfigError` for any others."""
    found = net(x)
    if not isinstance(found, Tensor) or found.shape != (len(x), n_outputs):
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(f"'{path}' must answer [n, d_out] = {[len(x), n_outputs]}, however it answers {shape}")
    return found


def answers(
    net: nn.Module, path: str, n_outputs: int, device: torch.device, *, is_quantity: bool
) -> Callable[[Array], Array]:
    """Return what answers a matrix: the softmax of the outputs, or the one output of a quantity."""
    net.eval()

    def answer(x: Array) -> Array:
        with torch.inference_mode(), one_thread(), their_code(path):
            found = answered(net, send(x.astype(np.float32), device), path, n_outputs).double()
            found = found[:, 0] if is_quantity else found.softmax(1)
            return shaped(path, found.cpu().numpy(), (len(x),) if is_quantity else (len(x), n_outputs))

    return answer


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let torch's randomness depend on the seed inside, and be outside as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed % 2**63)
        yield

"""The deep learner: fine-tunes the MLP on the new rows, with the optimiser's moments kept over the nights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from nightfit.batch import BLOCK_ROWS, Array, Batch, Rows
from nightfit.calibration import Calibration
from nightfit.errors import ConfigError
from nightfit.jsontypes import Json
from nightfit.learners.base import Arrays, MlpConfig
from nightfit.learners.calibrated import Calibrated
from nightfit.learners.mlp import Mlp, padded
from nightfit.normaliser import Normaliser
from nightfit.schema import Sizes

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_SHAPE = ("d_hidden", "n_blocks", "d_embedding")


class DeepLearner(Calibrated):
    """An `Mlp` behind the normaliser, trained by AdamW (Loshchilov & Hutter, ICLR 2019), then calibrated."""

    def __init__(self, config: MlpConfig, normaliser: Normaliser, *, device: str = "cpu", seed: int = 0) -> None:
        self.config, self.normaliser = config, normaliser
        self._device, self._seed = torch.device(device), seed
        self._calibration = Calibration()
        self._seen = torch.zeros(0, dtype=torch.bool, device=self._device)
        self._build(Sizes(0, 0, 0, 0))

    def _build(self, sizes: Sizes) -> None:
        self._net = Mlp(self.config, sizes, self._generator(0)).to(self._device)
        self._optimiser = torch.optim.AdamW(
            self._net.parameters(),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            fused=self._device.type != "mps",
        )

    def _generator(self, salt: int) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed * 1_000_003 + salt)

    def _has_learned(self) -> bool:
        return bool(self._seen.any())

    @torch.no_grad()
    def _raw_proba(self, batch: Batch) -> Array:
        if not self._seen.any():
            return np.tile(self._calibration.prior, (len(batch), 1))
        z, x_cat, _ = self._tensors(batch)
        with one_thread():
            return torch.softmax(self._logits(z, x_cat).double(), 1).cpu().numpy()

    def _learn(self, rows: Rows, *, seed: int) -> None:
        """Fine-tune for a few epochs, from the weights and the optimiser's moments as they are."""
        with one_thread():
            self._meet_classes(rows)
            for epoch in range(self.config.n_epochs):
                for block in rows.shuffled(BLOCK_ROWS, seed=seed * self.config.n_epochs + epoch):
                    self._learn_block(block)

    def _learn_block(self, block: Batch) -> None:
        """Take one step per minibatch; the rows come shuffled."""
        n = self.config.batch_size
        for z, x_cat, y in zip(*(torch.split(tensor, n) for tensor in self._tensors(block)), strict=True):
            loss = torch.nn.functional.cross_entropy(self._logits(z, x_cat), y)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()

    def _logits(self, z: Tensor, x_cat: Tensor) -> Tensor:
        """Return logits in which classes that were never learned have no share."""
        logits: Tensor = self._net(z, x_cat)
        return logits.masked_fill(~self._seen, -torch.inf)

    def _tensors(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        z = self.normaliser(torch.from_numpy(np.ascontiguousarray(batch.x_num)))
        x_cat, y = (torch.from_numpy(np.asarray(array, np.int64)) for array in (batch.x_cat, batch.y))
        return z.to(self._device), x_cat.to(self._device), y.to(self._device)

    @torch.no_grad()
    def _meet_classes(self, rows: Rows) -> None:
        """Let a class that is learned for the first time start at its share of tonight's rows."""
        counts = np.bincount(rows.y, minlength=len(self._seen))
        new = torch.from_numpy(counts > 0).to(self._device) & ~self._seen
        if new.any():
            level = 0.0
            if self._seen.any():
                z, x_cat, _ = self._tensors(next(rows.chunks()).take(slice(1024)))
                level = float(torch.logsumexp(self._logits(z, x_cat), 1).mean())
            share = torch.from_numpy(np.log(np.maximum(counts, 1) / counts.sum())).float().to(self._device)
            self._net.b_out[new] = level + share[new]
            self._seen = self._seen | new

    def grow(self, sizes: Sizes, parent_ids: Array) -> None:
        """Append to every array what the schema appended; a learner that has not learned is built anew."""
        n_old = len(self._net.embedding)
        if self._seen.any():
            parents = torch.from_numpy(parent_ids).to(self._device)
            self._net.grow(sizes, parents, self._generator(n_old))
            for name, parameter in self._net.named_parameters():
                state = self._optimiser.state[parameter]  # empty for what had no gradient yet
                for moment in state.keys() & {"exp_avg", "exp_avg_sq"}:
                    state[moment] = padded(state[moment], self._net.shape(name, sizes))
        else:
            self._build(sizes)
        self._calibration.grow(sizes.n_classes)
        self._seen = padded(self._seen, torch.Size([sizes.n_classes]))

    def state(self) -> tuple[Arrays, Arrays, dict[str, Json]]:
        """Return network and calibration, the optimiser's moments, and nothing else."""
        arrays = {f"net.{name}": _numpy(p) for name, p in self._net.named_parameters()}
        arrays |= {"seen": _numpy(self._seen), **self._calibration.arrays()}
        moments = {
            f"{moment}.{name}": _numpy(self._optimiser.state[p][moment])
            for name, p in self._net.named_parameters()
            for moment in _MOMENTS
            if self._optimiser.state[p]
        }
        return arrays, moments, {name: getattr(self.config, name) for name in _SHAPE}

    def load(self, arrays: Arrays, extra: Arrays, data: Mapping[str, Json]) -> None:
        """Take over what `state` returned, on whatever device this learner lives.

        Raises `ConfigError` if the config now asks for a network of another shape.
        """
        for name in _SHAPE:
            if data[name] != getattr(self.config, name):
                raise ConfigError(
                    f"a lineage keeps its network's shape, however {name} is {getattr(self.config, name)} now and was "
                    f"{data[name]}; set it back, or give the new model another name",
                )
        sizes = Sizes(
            *(len(arrays[f"net.{name}"]) for name in ("w_num", "w_cat", "embedding", "b_out")),
        )
        self._build(sizes)
        self._seen = self._tensor(arrays["seen"])
        self._calibration = Calibration.from_arrays(arrays)
        for name, parameter in self._net.named_parameters():
            parameter.data = self._tensor(arrays[f"net.{name}"])
            if f"step.{name}" in extra:
                self._optimiser.state[parameter] = {
                    moment: self._tensor(extra[f"{moment}.{name}"]) for moment in _MOMENTS
                }

    def _tensor(self, array: Array) -> Tensor:
        """Copy an array: memory of its own, aligned as torch's, on which the last bits of a product may depend."""
        return torch.tensor(array, device=self._device)


def _numpy(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy().copy()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: at these sizes a second costs more than it brings, and sums depend on their number."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)

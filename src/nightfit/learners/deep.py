"""The deep learner: one ensemble whose members learn under different regimes, and mixing weights over the nights.

Whether old rows help depends on whether old patterns come back, so it is not decided but mixed: some members learn
only new rows, some also a sample of all rows so far, some also the latest rows before. Weights and the optimiser's
moments live on over the nights; some members serve the average of their weights over the nights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nightfit.batch import Array, Batch, Rows
from nightfit.errors import ConfigError
from nightfit.jsontypes import Json
from nightfit.learners.arithmetic import learning_on, one_thread, send
from nightfit.learners.base import Arrays, MlpConfig
from nightfit.learners.calibrated import Calibrated
from nightfit.learners.descent import AVERAGES, Descent
from nightfit.learners.flat import Parts, grown, marked, views
from nightfit.learners.losses import Loss
from nightfit.learners.mlp import Mlp, n_frequencies, numbers_of
from nightfit.learners.pools import Pools, Sent
from nightfit.learners.replay import Counts, Replay, slices
from nightfit.learners.shared import descend_together, digest
from nightfit.learners.steps import Steps
from nightfit.metrics import row_losses
from nightfit.mixture import MAX_ROWS, Mixture
from nightfit.normaliser import Normaliser
from nightfit.quantity import TargetScale
from nightfit.ranks import here
from nightfit.schema import Sizes, Task
from nightfit.scorer import calibration_in, groups

AVERAGE = 0.5
"""The share of the nights before in the average that every other member of a group serves."""

LEAST_ERROR = 1e-12
"""Mean squared errors, in variances of the target, count at least this much: an exact answer has no log."""

_SHAPE = ("d_hidden", "n_blocks", "d_embedding", "n_frequencies")
_OUTPUTS = ("w_out", "b_out", "l_value", "l_missing", "l_cat", "l_out")


class _Night(NamedTuple):
    """What all steps of a night share."""

    pools: Pools
    loss: Loss
    weights: Parts
    gradients: Parts


class DeepLearner(Calibrated):
    """An `Mlp` ensemble behind the normaliser, trained by AdamW (Loshchilov & Hutter, ICLR 2019), then calibrated."""

    def __init__(
        self,
        config: MlpConfig,
        normaliser: Normaliser,
        *,
        task: Task = "classification",
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(task)
        self._device, self._seed = torch.device(device), seed
        self._of_float64 = torch.device("cpu") if self._device.type == "mps" else self._device  # Metal knows none
        self.config, self.normaliser = config, normaliser.to(self._of_float64)
        self._mixture = Mixture.even(config.n_members + 1)
        self._replay = Replay(config)
        self._seen = torch.zeros(0, dtype=torch.bool, device=self._device)
        self._build(Sizes(0, 0, 0, 0))

    def _build(self, sizes: Sizes, waves: int | None = None) -> None:
        generator = torch.Generator().manual_seed(self._seed)
        waves = n_frequencies(self.config, sizes.d_num) if waves is None else waves
        self._net = Mlp(self.config, sizes, waves, generator).to(self._device)
        self._served: Tensor | None = None
        self._descent = Descent(self._net.flat.data, self.config)

    def _has_learned(self) -> bool:
        return bool(self._seen.any())

    def observe(self, rows: Rows) -> None:
        """Let calibration and mixing weights learn from the outcomes of samples."""
        super().observe(rows)
        if self._has_learned() and len(rows):
            self._reweigh(rows.sample(MAX_ROWS))

    def _reweigh(self, sample: Batch) -> None:
        """Let the mixing weights learn; rows of unknown classes say nothing.

        A quantity's loss is the negative log-likelihood of a normal distribution of the best width, half the log of
        the mean squared error: in nats like the log loss, and whatever the target's unit.
        """
        known = sample.take(sample.can_learn)
        if not len(known):
            return
        target, members = self._target, self._members(known)
        if target is None:
            losses = np.array([np.average(row_losses(p, known.y), weights=known.weight) for p in members])
        else:
            errors = np.average(np.square(members - target.standard(known.y)), 1, known.weight)
            losses = 0.5 * np.log(np.maximum(errors, LEAST_ERROR))
        self._mixture.observe(losses, len(known))

    @property
    def _target(self) -> TargetScale | None:
        """The scale of a target that is a quantity; None for classes."""
        return self._calibration if isinstance(self._calibration, TargetScale) else None

    def _raw(self, batch: Batch) -> Array:
        return self._mixture.apply(self._members(batch))

    @torch.no_grad()
    def _members(self, batch: Batch) -> Array:
        """Return each member's raw answers, float64 [M + 1, n, K] or [M + 1, n], by the weights that serve."""
        with one_thread():
            outputs = self._net(self._net.inputs(*self._features(batch)), self._served)
            if self._target is not None:
                values: Array = outputs[..., 0].cpu().double().numpy()
                return values
            logits = outputs.masked_fill(~self._seen, -torch.inf).to(self._of_float64).double()
            proba: Array = torch.softmax(logits, 2).cpu().numpy()
        return proba

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return numbers, standardised, and ids on the device."""
        z = self.normaliser(send(batch.x_num, self._of_float64))
        return z.to(self._device), send(batch.x_cat, self._device).long()

    @torch.no_grad()
    def learn(self, rows: Rows, *, seed: int) -> None:
        """Go on learning, then renew the weights that serve: once a night, also when it rehearses."""
        super().learn(rows, seed=seed)
        if len(rows):
            self._serve()

    @torch.no_grad()
    def _learn(self, rows: Rows, *, seed: int) -> None:
        """Take a few epochs over the new rows, mixed with replayed ones; then remember the new ones."""
        with learning_on(self._device):
            self._meet(rows)
            descend_together(self, self._task, rows, seed=seed)
            self._replay.remember(rows)

    @torch.no_grad()
    def descend(self, rows: Rows, *, n_rows: int, seed: int) -> Arrays:
        """Take the night's steps with this rank's share of its `n_rows`; return a digest of the weights they end at."""
        with learning_on(self._device):
            weights, gradients = (self._net.parts(flat) for flat in (self._net.flat.data, self._descent.gradient))
            replayed = self._replay.pools(n_rows, here())
            pools = Pools(replayed, self._send, self._device, is_weighted=rows.is_weighted)
            night = _Night(pools, Loss(None if self._target else self._seen), weights, gradients)
            steps = Steps(partial(self._step, night), self._device)
            for mix in self._replay.mixes(rows, n_rows, here(), seed=seed):
                pools.enter(mix.block)
                steps.take(mix, pools.kind)
        self.notes = steps.notes
        return digest(self._net.flat.data)

    def _send(self, batch: Batch) -> Sent:
        z, ids = self._features(batch)
        return Sent(numbers_of(z, flagged=bool(np.isnan(batch.x_num).any())), ids, self._outcomes(batch.y))

    def _outcomes(self, y: Array) -> Tensor:
        """Return what outputs are held against: class indices, or standardised values."""
        wanted = y if self._target is None else self._target.standard(y).astype(np.float32)
        return send(wanted, self._device)

    def _step(self, night: _Night, index: Tensor, counts: Counts) -> None:
        """Take one step down the members' mean losses, each over its group's rows."""
        pools, loss, weights, gradients = night
        numbers, ids, y, *weight = (pool.index_select(0, index) for pool in pools.tensors)
        x, wanted, n = self._net.waved(numbers, ids), loss.wanted(y), self.config.n_members
        passes = self._net.passes(x, slices(counts.own, n), weights)
        at_outputs = [
            loss.gradient(done.outputs, wanted[:, done.rows], whole.stop - whole.start)
            for done, whole in zip(passes, slices(counts.all, n), strict=True)
        ]
        for of_rows in weight:
            at_outputs = [g.mul_(of_rows[done.rows]) for g, done in zip(at_outputs, passes, strict=True)]
        self._net.backward(x, passes, at_outputs, weights, gradients)
        here().add(self._descent.gradient)
        self._descent.step()

    def _meet(self, rows: Rows) -> None:
        """Let a class that is learned for the first time start at its share of tonight's rows."""
        if self._target is not None:
            self._seen = torch.ones_like(self._seen)
            return
        counts = rows.class_counts(len(self._seen))
        new = torch.from_numpy(counts > 0).to(self._device) & ~self._seen
        if not new.any():
            return
        level = torch.zeros(self.config.n_members + 1, 1, device=self._device)
        if self._seen.any():
            logits = self._net(self._net.inputs(*self._features(rows.sample(MAX_ROWS)))).masked_fill(
                ~self._seen, -torch.inf
            )
            level = torch.logsumexp(logits, 2).mean(1, keepdim=True)
        share = torch.from_numpy(np.log(np.maximum(counts, 1e-300) / counts.sum())).float().to(self._device)
        for flat in (self._net.flat.data, self._served):
            if flat is not None:  # an average over nights before the class was met would serve half of it
                weights = views(flat, self._net.shapes)
                weights["b_out"][:, 0, new] = level[:-1] + share[new]
                weights["l_out"][new] = level[-1] + share[new]
        self._seen = self._seen | new

    @torch.no_grad()
    def _convert(self, factor: float, shift: float) -> None:
        """Rescale the output layers so that every answer stays what it was (van Hasselt et al., NeurIPS 2016).

        In the new unit the loss is factor^2 of what it was, and so are the gradients that the optimiser remembers: but
        those at the output layers, which are themselves scaled, are factor of what they were.
        """
        for flat in (self._net.flat.data, self._served):
            if flat is not None:
                w = views(flat, self._net.shapes)
                for name in _OUTPUTS:
                    w[name].mul_(factor)
                for name in ("b_out", "l_out"):
                    w[name].add_(shift)
        scales = torch.full_like(self._net.flat.data, factor**2)
        for name in _OUTPUTS:
            views(scales, self._net.shapes)[name].fill_(factor)
        for name, power in zip(AVERAGES, (1, 2), strict=True):
            self._descent.moments[name].mul_(scales**power)

    def _serve(self) -> None:
        """Renew the weights that serve: averaged over the nights for some members, tonight's for the others."""
        flat = self._net.flat.data
        if self._served is None:
            self._served = flat.clone()
            return
        averaged = [m for members in groups(self.config.n_members) for m in members[::2]]
        before = marked(flat, self._net.shapes, averaged, AVERAGE)
        self._served = torch.lerp(flat, self._served, before)

    @torch.no_grad()
    def grow(self, sizes: Sizes, parent_ids: Array, missing_ids: Array) -> None:
        """Append to every array what the schema appended; a learner that has not learned is built anew."""
        if self._has_learned():
            self._grow_net(sizes, parent_ids)
        else:
            self._build(sizes)
        self._replay.grow(sizes, missing_ids)
        self._calibration.grow(sizes.n_outputs)
        self._seen = torch.cat([self._seen, self._seen.new_zeros(sizes.n_outputs - len(self._seen))])

    def _grow_net(self, sizes: Sizes, parent_ids: Array) -> None:
        """Rebuild the network at its new sizes: what is appended changes no logit of an old row.

        A new category takes over the embedding that stood for it until now; those of a new column start apart.
        """
        old, moments = self._net, self._descent.moments
        generator, waves = torch.Generator().manual_seed(self._seed), len(old.frequencies)
        self._net = Mlp(self.config, sizes, waves, generator).to(self._device)
        n_old = old.shapes["embedding"][0]
        parents = torch.from_numpy(parent_ids).to(self._device)
        inherits = torch.arange(n_old, sizes.n_ids, device=self._device)
        inherits = inherits[parents[inherits] < n_old]
        fresh = views(self._net.flat.data, self._net.shapes)["embedding"][n_old:].clone()
        assert self._served is not None
        flats = [grown(flat, old.shapes, self._net.shapes) for flat in (old.flat.data, self._served)]
        for flat in flats:
            w = views(flat, self._net.shapes)
            w["embedding"][n_old:] = fresh
            for name in ("embedding", "l_cat"):
                w[name][inherits] = w[name][parents[inherits]]
        self._net.flat.data, self._served = flats
        averages = {name: grown(moments[name], old.shapes, self._net.shapes) for name in AVERAGES}
        self._descent = Descent(self._net.flat.data, self.config, {"step": moments["step"], **averages})

    def forget(self, keys: Array) -> int:
        """Delete rows from both memories."""
        return self._replay.forget(keys)

    def weights(self) -> Iterable[Array]:
        """Return the vector that serves, and the one that learns."""
        return [_numpy(flat) for flat in (self._served, self._net.flat.data) if flat is not None]

    def memory(self) -> Batch | None:
        """Return the rows of both memories."""
        return self._replay.rows()

    def state(self) -> tuple[Arrays, Arrays, dict[str, Json]]:
        """Return the weights that serve by name; weights, moments and memories for learning; the network's shape."""
        served = self._net.flat.data if self._served is None else self._served
        arrays = self._named("net", served)
        arrays |= {"frequencies": _numpy(self._net.frequencies), "mixture": self._mixture.weights}
        arrays |= {"seen": _numpy(self._seen), **self._calibration.arrays()}
        extra = self._replay.arrays()
        if moments := self._descent.moments:
            extra |= self._named("weights", self._net.flat.data) | {"step": _numpy(moments["step"])}
            extra |= self._named("exp_avg", moments["exp_avg"]) | self._named("exp_avg_sq", moments["exp_avg_sq"])
        return arrays, extra, {name: getattr(self.config, name) for name in _SHAPE}

    def load(self, arrays: Arrays, extra: Arrays, data: Mapping[str, Json]) -> None:
        """Take over what `state` returned, on whatever device this learner lives.

        Raises `ConfigError` if the config now asks for a network of another shape.
        """
        was = {**data, "n_members": len(arrays["net.w_out"])}
        for name in (*_SHAPE, "n_members"):
            if was[name] != getattr(self.config, name):
                raise ConfigError(
                    f"a lineage keeps its network's shape, however {name} is {getattr(self.config, name)} now and was "
                    f"{was[name]}; set it back, or give the new model another name",
                )
        sizes = Sizes(
            len(arrays["net.w_value"]),
            len(arrays["net.w_cat"]) // self.config.d_embedding,
            len(arrays["net.embedding"]),
            len(arrays["seen"]),
        )
        self._build(sizes, len(arrays["frequencies"]))
        self._seen, self._mixture = self._tensor(arrays["seen"]), Mixture(arrays["mixture"])
        self._calibration = calibration_in(arrays)
        self._replay = Replay(self.config, extra)
        self._replay.grow(sizes, np.zeros(sizes.d_cat, np.int32))
        self._net.flat.data, moments = self._flat(arrays, "net"), dict[str, Tensor]()
        if "step" in extra:
            self._served, self._net.flat.data = self._net.flat.data, self._flat(extra, "weights")
            moments = {"step": self._tensor(extra["step"]), **{name: self._flat(extra, name) for name in AVERAGES}}
        self._descent = Descent(self._net.flat.data, self.config, moments)

    def _named(self, prefix: str, flat: Tensor) -> Arrays:
        return {f"{prefix}.{name}": _numpy(w) for name, w in views(flat, self._net.shapes).items()}

    def _flat(self, arrays: Arrays, prefix: str) -> Tensor:
        flat = torch.zeros_like(self._net.flat.data)
        for name, weight in views(flat, self._net.shapes).items():
            weight.copy_(self._tensor(arrays[f"{prefix}.{name}"]))
        return flat

    def _tensor(self, array: Array) -> Tensor:
        """Copy an array: memory of its own, aligned as torch's, on which the last bits of a product may depend."""
        return torch.tensor(array, device=self._device)


def _numpy(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy().copy()

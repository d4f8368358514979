"""Descent: AdamW on one flat vector, with its gradient and the moments that live on over the nights."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from nightfit.learners.base import MlpConfig

AVERAGES = ("exp_avg", "exp_avg_sq")


class Descent:
    """AdamW (Loshchilov & Hutter, ICLR 2019) on `flat`, float32 [n], down what was written into `gradient`.

    By torch's function: its class imports torch's compiler, which takes as long as importing torch, and costs as much
    a step as the step itself. `moments`: `AVERAGES` and the count of steps, by name; empty before the first step.
    """

    def __init__(self, flat: Tensor, config: MlpConfig, moments: Mapping[str, Tensor] = MappingProxyType({})) -> None:
        self._flat, self._config = flat, config
        self.gradient, self.moments = torch.zeros_like(flat), dict(moments)

    def step(self) -> None:
        """Take a step."""
        if not self.moments:
            self.moments = {name: torch.zeros_like(self._flat) for name in AVERAGES}
            self.moments["step"] = self._flat.new_zeros(())
        exp_avg, exp_avg_sq = ([self.moments[name]] for name in AVERAGES)
        adamw(
            [self._flat],
            [self.gradient],
            exp_avg,
            exp_avg_sq,
            [],
            [self.moments["step"]],
            fused=self._flat.device.type != "mps",
            capturable=self._flat.device.type == "cuda",
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self._config.learning_rate,
            weight_decay=self._config.weight_decay,
            eps=1e-8,
            maximize=False,
        )

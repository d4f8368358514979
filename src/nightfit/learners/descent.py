"""Descent: AdamW on one flat vector, with its gradient and the moments that live on over the nights."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from nightfit.learners.base import MlpConfig

AVERAGES = ("exp_avg", "exp_avg_sq")
MOMENTS = (*AVERAGES, "step")


class Descent:
    """AdamW (Loshchilov & Hutter, ICLR 2019) on `flat`, float32 [n], down what was written into `gradient`.

    By the kernel that `torch.optim.AdamW(fused=True)` ends in: the class imports torch's compiler, which takes as long
    as importing torch, and the functions between the two sort one tensor by device and dtype at each step, for longer
    than the kernel takes. `moments`: `MOMENTS` by name; empty before the first step.
    """

    def __init__(self, flat: Tensor, config: MlpConfig, moments: Mapping[str, Tensor] = MappingProxyType({})) -> None:
        self._flat, self.gradient, self.moments = flat, torch.zeros_like(flat), dict(moments)
        self._config = config

    def step(self) -> None:
        """Take a step."""
        if not self.moments:
            self.moments = {name: torch.zeros_like(self._flat) for name in AVERAGES}
            self.moments["step"] = self._flat.new_zeros(())
        exp_avg, exp_avg_sq, n_steps = ([self.moments[name]] for name in MOMENTS)
        n_steps[0].add_(1)
        torch._fused_adamw_(
            [self._flat],
            [self.gradient],
            exp_avg,
            exp_avg_sq,
            [],
            n_steps,
            lr=self._config.learning_rate,
            weight_decay=self._config.weight_decay,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

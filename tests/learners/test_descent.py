"""Steps of the optimiser, against torch's own class."""

from __future__ import annotations

import torch

from nightfit.learners.base import MlpConfig
from nightfit.learners.descent import MOMENTS, Descent


def test_steps_are_those_of_torchs_adamw() -> None:
    """To the bit, over steps, and when moments were kept and taken up again."""
    config = MlpConfig(learning_rate=0.01, weight_decay=0.1)
    random = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(1_000, generator=random), torch.randn(6, 1_000, generator=random)
    theirs = torch.nn.Parameter(start.clone())
    optimiser = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1, fused=True)
    ours = Descent(start.clone(), config)
    for i, gradient in enumerate(gradients):
        if i == 3:
            ours = Descent(ours._flat.clone(), config, {name: ours.moments[name].clone() for name in MOMENTS})
        theirs.grad = gradient.clone()
        optimiser.step()
        ours.gradient.copy_(gradient)
        ours.step()
        assert torch.equal(ours._flat, theirs.data)
    assert all(torch.equal(ours.moments[name], optimiser.state[theirs][name]) for name in MOMENTS)

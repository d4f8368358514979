"""The normalisation layer: running moments of every numeric feature, persisted with the model.

`moments` has the arithmetic; this is its layer of the network.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from nightfit.batch import Array
from nightfit.moments import CLAMP, STATISTICS, joined, merged

CIRCLE_ROWS = 1e9
"""Rows that the known moments of sines and cosines (mean 0, variance 1/2) count for."""


class Normaliser(nn.Module):
    """Standardise numeric features by their running moments.

    Shape: x [n, d] float64 in, [n, d] float32 out, clamped at ± `CLAMP`; NaN stays NaN. A feature without values,
    and one without variance, becomes 0 around its only value.

    >>> layer = Normaliser(1)
    >>> layer.update(torch.tensor([[1e9 - 1], [float("nan")], [1e9 + 1]], dtype=torch.float64))
    >>> layer(torch.tensor([[1e9 + 1]], dtype=torch.float64)).item()
    1.0
    """

    origin: Tensor
    count: Tensor
    mean: Tensor
    m2: Tensor

    def __init__(self, d_num: int) -> None:
        super().__init__()
        for name in STATISTICS:
            self.register_buffer(name, torch.zeros(d_num, dtype=torch.float64))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Merge the moments of rows x [n, d] into the running ones, on the device where these are."""
        moments = {name: getattr(self, name) for name in STATISTICS}
        for name, values in _merged(moments, x.to(self.count.device, torch.float64)).items():
            setattr(self, name, values)

    def join(self, arrays: dict[str, Array]) -> None:
        """Merge the moments of rows that another normaliser took, as its `arrays` has them."""
        for name, values in joined(self.arrays(), arrays).items():
            setattr(self, name, torch.from_numpy(values).to(self.count.device))

    @property
    def scale(self) -> Tensor:
        """The standard deviation of each feature, float64 [d]; 1 where there is none."""
        variance = self.m2 / self.count.clamp(min=1)
        return torch.where(variance > 0, variance.sqrt(), 1.0)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Standardise x [n, d]; the arithmetic is float64 until the result is small."""
        z = (((x.to(torch.float64) - self.origin) - self.mean) / self.scale).clamp(-CLAMP, CLAMP)
        return torch.where((self.count > 0) | torch.isnan(x), z, 0.0).float()

    def grow(self, d_num: int, circles: Tensor | None = None) -> None:
        """Append features without values; `circles` (bool [d_num]) are sines and cosines, whose moments are known.

        Standardising those by the first nights alone would blow a week's arc of the year up to a whole scale, and
        the months after it out of all bounds. They start as if seen `CIRCLE_ROWS` times all the way round.
        """
        n_old = len(self.count)
        for name in STATISTICS:
            values = getattr(self, name)
            setattr(self, name, torch.cat([values, values.new_zeros(d_num - n_old)]))
        if circles is not None:
            new = circles.to(self.count.device) & (torch.arange(d_num, device=self.count.device) >= n_old)
            self.count[new], self.m2[new] = CIRCLE_ROWS, CIRCLE_ROWS / 2

    def arrays(self) -> dict[str, Array]:
        """Return the statistics, float64 [d] each, by name."""
        return {name: getattr(self, name).cpu().numpy().copy() for name in STATISTICS}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Normaliser:
        """Read what `arrays` returned."""
        layer = cls(len(arrays["count"]))
        for name in STATISTICS:
            setattr(layer, name, torch.from_numpy(np.array(arrays[name], np.float64)))
        return layer


def _merged(moments: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    if x.is_cpu:
        named = {name: values.numpy() for name, values in moments.items()}
        return {name: torch.from_numpy(values) for name, values in merged(named, x.numpy()).items()}
    return merged_by_torch(moments, x) if len(x) else moments


def merged_by_torch(moments: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """Return what `moments.merged` does, for n >= 1 rows x float64 [n, d], on their device: nothing waits for it."""
    valid = ~torch.isnan(x)
    count = valid.sum(0).double()
    first = x.gather(0, valid.int().argmax(0)[None])[0]
    origin = torch.where((moments["count"] == 0) & (count > 0), first, moments["origin"])
    shifted = torch.where(valid, x - origin, 0.0)
    mean = shifted.sum(0) / count.clamp(min=1)
    m2 = torch.where(valid, shifted - mean, 0.0).square().sum(0)
    total, delta = moments["count"] + count, mean - moments["mean"]
    return {
        "origin": origin,
        "count": total,
        "mean": moments["mean"] + delta * count / total.clamp(min=1),
        "m2": moments["m2"] + m2 + delta.square() * moments["count"] * count / total.clamp(min=1),
    }

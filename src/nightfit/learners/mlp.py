"""The network: an MLP over standardised numbers, their missing flags, and embedded categories.

The first layer is kept in three parts (numbers, flags, categories), so that a new column, category or class only
appends to an array: what the network knew, and what it says about old rows, stays as it was.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nightfit.learners.base import MlpConfig
from nightfit.schema import Sizes


class Mlp(nn.Module):
    """Map z [n, d_num] (NaN where missing) and category ids [n, d_cat] to logits [n, K].

    Weights: w_num, w_missing [d_num, h], embedding [n_ids, e], w_cat [d_cat, e, h], hidden layers, w_out [h, K].
    """

    def __init__(self, config: MlpConfig, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__()
        h, e = config.d_hidden, config.d_embedding
        d_in = max(sizes.d_num + sizes.d_cat * e, 1)

        def normal(*shape: int, std: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator) * std)

        # He et al. (ICCV 2015) before each ReLU; the output starts at zero, that is at the class prior.
        self.w_num = normal(sizes.d_num, h, std=(2 / d_in) ** 0.5)
        self.w_missing = nn.Parameter(torch.zeros(sizes.d_num, h))
        self.embedding = normal(sizes.n_ids, e, std=1.0)
        self.w_cat = normal(sizes.d_cat, e, h, std=(2 / d_in) ** 0.5)
        self.b_in = nn.Parameter(torch.zeros(h))
        self.w_hidden = nn.ParameterList([normal(h, h, std=(2 / h) ** 0.5) for _ in range(config.n_blocks - 1)])
        self.b_hidden = nn.ParameterList([nn.Parameter(torch.zeros(h)) for _ in range(config.n_blocks - 1)])
        self.w_out = nn.Parameter(torch.zeros(h, sizes.n_classes))
        self.b_out = nn.Parameter(torch.zeros(sizes.n_classes))

    def forward(self, z: Tensor, x_cat: Tensor) -> Tensor:
        """Return logits [n, K]."""
        missing = torch.isnan(z).float()
        x = torch.addmm(self.b_in, torch.nan_to_num(z), self.w_num) + missing @ self.w_missing
        if x_cat.shape[1]:
            embedded = nn.functional.embedding(x_cat, self.embedding).flatten(1)
            x = torch.addmm(x, embedded, self.w_cat.flatten(0, 1))
        for w, b in zip(self.w_hidden, self.b_hidden, strict=True):
            x = torch.addmm(b, torch.relu(x), w)
        return torch.addmm(self.b_out, torch.relu(x), self.w_out)

    @torch.no_grad()
    def grow(self, sizes: Sizes, parents: Tensor, generator: torch.Generator) -> None:
        """Append inputs and outputs, so that the logits of old rows do not change.

        New columns and classes get zero weights; a new category the embedding of the id that stood for it until
        now (`parents`, [n_ids]); the ids of a new column, for which nothing stood, start at random.
        """
        n_old = len(self.embedding)
        for name, parameter in self.named_parameters():
            parameter.data = padded(parameter.data, self.shape(name, sizes))
        new = torch.arange(n_old, sizes.n_ids)
        self.embedding[new] = torch.randn((len(new), self.embedding.shape[1]), generator=generator).to(parents.device)
        renamed = new[(parents[new] < n_old).cpu()]
        self.embedding[renamed] = self.embedding[parents[renamed]]

    def shape(self, name: str, sizes: Sizes) -> torch.Size:
        """Return the shape that a parameter has at the given sizes."""
        first = {
            "w_num": sizes.d_num,
            "w_missing": sizes.d_num,
            "embedding": sizes.n_ids,
            "w_cat": sizes.d_cat,
        }
        last = {"w_out": sizes.n_classes, "b_out": sizes.n_classes}
        shape = list(self.get_parameter(name).shape)
        shape[0] = first.get(name, shape[0])
        shape[-1] = last.get(name, shape[-1])
        return torch.Size(shape)


def padded(values: Tensor, shape: torch.Size) -> Tensor:
    """Return the values with zeros appended up to `shape`."""
    out = torch.zeros(shape, dtype=values.dtype, device=values.device)
    out[tuple(slice(n) for n in values.shape)] = values
    return out

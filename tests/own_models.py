"""Models as a user writes them: a module, and estimators that are not scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import SGDClassifier
from torch import nn


def make(d_in: int, d_out: int, d_hidden: int = 16) -> nn.Module:
    """Return a small network with what a night may not forget: a batch's statistics, and randomness."""
    return nn.Sequential(
        nn.Linear(d_in, d_hidden), nn.BatchNorm1d(d_hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(d_hidden, d_out)
    )


class Wrong(nn.Module):
    """A module that answers one number too many."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_in, d_out + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Answer [n, d_out + 1]."""
        answers: torch.Tensor = self.linear(x)
        return answers


class Bold(SGDClassifier):  # type: ignore[misc]
    """An estimator of one's own, of a class that scikit-learn does not have."""

    def __init__(self, eta0: float = 0.05, random_state: int | None = None) -> None:
        super().__init__(loss="log_loss", learning_rate="constant", eta0=eta0, random_state=random_state)


class Means:
    """An estimator that knows nothing of scikit-learn: the nearest class's mean; it votes."""

    def __init__(self) -> None:
        self.sums: Any = None
        self.counts: Any = None

    def partial_fit(self, x: Any, y: Any, classes: Any = None) -> Means:  # noqa: ANN401
        """Add rows."""
        if classes is not None:
            self.sums, self.counts = np.zeros((len(classes), x.shape[1])), np.zeros(len(classes))
        np.add.at(self.sums, y, x)
        np.add.at(self.counts, y, 1)
        return self

    def predict(self, x: Any) -> Any:  # noqa: ANN401
        """Return the class of the nearest mean."""
        means = self.sums / np.maximum(self.counts, 1)[:, None]
        distances = np.square(x[:, None] - means).sum(2)
        return np.where(self.counts > 0, distances, np.inf).argmin(1)


class Unkept(Bold):
    """An estimator whose state skops cannot write."""

    def partial_fit(self, x: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Unkept:  # noqa: ANN401
        """Learn, and hold on to what has no form on disk."""
        super().partial_fit(x, y, classes, sample_weight)
        self.walk_ = (i for i in range(3))
        return self


class Broken(Bold):
    """An estimator with a mistake."""

    def partial_fit(self, x: Any, *rest: Any, **named: Any) -> Broken:  # noqa: ANN401
        """Raise."""
        raise ValueError(f"no idea what {x.shape}, {len(rest)} and {sorted(named)} are")


NOTHING = 5

"""Rows as dense matrices whose columns are appended in the order in which they are met.

A number has two columns, its standardised value (0 where missing) and a flag that it is missing; a category has one.
They get their places when the first rows that may hold them are learned. Until then new columns are not read, and a
new category is read as what stood for it: so growth changes no answer, whatever the estimator behind it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nightfit.batch import Array
from nightfit.schema import Sizes


class Layout:
    """The place of each number's value (int64 [d_num]; its flag is next to it) and of each id (int64 [n_ids]).

    -1: none yet. The first place is never filled, so that there is one where there is no column at all.
    """

    def __init__(self) -> None:
        self.num, self.ids = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.n_met, self.width = 0, 1

    def grow(self, sizes: Sizes, parent_ids: Array) -> None:
        """Take note of columns and categories that the schema has appended."""
        n_old = len(self.ids)
        self.num = np.concatenate([self.num, np.full(sizes.d_num - len(self.num), -1)])
        self.ids = np.concatenate([self.ids, np.full(sizes.n_ids - n_old, -1)])
        self.ids[n_old:] = self.ids[parent_ids[n_old:]]

    def meet(self) -> Array:
        """Give places to what has none; return for each new place the one that stood for it, or -1 (int64 [n])."""
        new = np.flatnonzero(self.num < 0)
        ids = np.arange(self.n_met, len(self.ids))
        parents = np.concatenate([np.full(2 * len(new), -1), self.ids[ids]])
        self.num[new] = self.width + 2 * np.arange(len(new))
        self.ids[ids] = self.width + 2 * len(new) + np.arange(len(ids))
        self.n_met, self.width = len(self.ids), self.width + len(parents)
        return parents

    def matrix(self, z: Array, x_cat: Array) -> Array:
        """Lay out standardised numbers [n, d_num] and ids [n, d_cat] as float64 [n, width]."""
        x = np.zeros((len(z), self.width))
        known = self.num >= 0
        values, places = z[:, known], self.num[known]
        missing = np.isnan(values)
        x[:, places], x[:, places + 1] = np.where(missing, 0, values), missing
        found = self.ids[x_cat]
        rows, columns = np.nonzero(found >= 0)
        x[rows, found[rows, columns]] = 1
        return x

    def arrays(self) -> dict[str, Array]:
        """Return the places as named arrays."""
        return {"num": self.num.copy(), "ids": self.ids.copy(), "size": np.array([self.n_met, self.width])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Layout:
        """Read what `arrays` returned."""
        layout = cls()
        layout.num, layout.ids = arrays["num"].copy(), arrays["ids"].copy()
        layout.n_met, layout.width = map(int, arrays["size"])
        return layout

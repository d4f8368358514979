"""Streams of which a clean test set is known: a generated one, and any CSV file whose order is given up.

A trial of the gate needs nights of clean rows, the truth beside them, and another concept to change to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

TEST_ROWS = 4_000


class Stream(Protocol):
    """Rows of a concept, 0 or 1. `n_history` rows, and then up to `n_nights` nights of each trial."""

    target: str
    categorical: tuple[str, ...]
    n_history: int
    n_nights: int

    def history(self, start: int, n: int) -> pd.DataFrame:
        """Return n rows that came before the trial."""
        ...

    def night(self, seed: int, i: int, n: int, *, concept: int = 0) -> pd.DataFrame:
        """Return n rows of a trial's night i."""
        ...

    def test(self, *, concept: int = 0) -> pd.DataFrame:
        """Return rows that no night has."""
        ...


class Generated:
    """Six numbers and a category; the class is a coin whose odds a concept's coefficients make."""

    target = "y"
    categorical: tuple[str, ...] = ()
    n_history, n_nights = 100_000, 5

    def history(self, start: int, n: int) -> pd.DataFrame:
        """Return n rows that came before the trial."""
        return self._rows(n, (0, start))

    def night(self, seed: int, i: int, n: int, *, concept: int = 0) -> pd.DataFrame:
        """Return n rows of a trial's night i."""
        return self._rows(n, (1, seed, i), concept)

    def test(self, *, concept: int = 0) -> pd.DataFrame:
        """Return rows that no night has."""
        return self._rows(5 * TEST_ROWS, (2,), concept)

    @staticmethod
    def _rows(n: int, seed: tuple[int, ...], concept: int = 0) -> pd.DataFrame:
        random, rule = np.random.default_rng(seed), np.random.default_rng(concept)
        x = random.normal(size=(n, 6)).round(4)
        city = random.integers(0, 8, n)
        odds = 1.5 * (x @ rule.normal(size=6) + rule.normal() * x[:, 0] * x[:, 1] + rule.normal(size=8)[city])
        y = np.where(random.random(n) < 1 / (1 + np.exp(-odds)), "yes", "no")
        return pd.DataFrame(x, columns=[f"x{i}" for i in range(6)]).assign(city=[f"city {c}" for c in city], y=y)


class OfFile:
    """A file's rows, shuffled once: its last ones are the test, those before them each trial draws its nights from.

    In concept 1 the classes are exchanged where `column` has every second of its values.
    """

    def __init__(self, path: Path, target: str, column: str, *, n_nights: int = 2, night_rows: int = 5_000) -> None:
        self.target, self.n_nights = target, n_nights
        self.categorical: tuple[str, ...] = (column,)
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table = table.sample(frac=1, random_state=0, ignore_index=True)
        self.n_history = len(table) - TEST_ROWS - n_nights * night_rows
        self._history = table[: self.n_history]
        self._nights, self._test = table[self.n_history : -TEST_ROWS], table[-TEST_ROWS:]
        values = sorted(table[column].unique())
        self._column, self._changed = column, set(values[::2])

    def history(self, start: int, n: int) -> pd.DataFrame:
        """Return n rows that came before the trial."""
        return self._history[start : start + n]

    def night(self, seed: int, i: int, n: int, *, concept: int = 0) -> pd.DataFrame:
        """Return n rows of a trial's night i."""
        order = np.random.default_rng((1, seed)).permutation(len(self._nights))
        return self._of(self._nights.iloc[order[i * n : (i + 1) * n]], concept)

    def test(self, *, concept: int = 0) -> pd.DataFrame:
        """Return rows that no night has."""
        return self._of(self._test, concept)

    def _of(self, table: pd.DataFrame, concept: int) -> pd.DataFrame:
        if not concept:
            return table
        return table.assign(**{self.target: exchanged(table[self.target], table[self._column].isin(self._changed))})


def exchanged(y: pd.Series[str], where: pd.Series[bool]) -> pd.Series[str]:
    """Return two classes exchanged in the rows that a mask names."""
    first, second = sorted(y.unique())
    return y.where(~where, y.map({first: second, second: first}))

"""Requests that are scored together: each gets its own rows' answers, or the error."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from nightfit.batch import Array
from nightfit.serving.batching import MAX_ROWS, Batching
from nightfit.serving.features import Inputs


class Doubling:
    """A version that answers twice the first number, and cannot stand a negative one."""

    def __init__(self) -> None:
        self.n_calls = 0

    def predict(self, inputs: Inputs) -> Array:
        """Answer."""
        self.n_calls += 1
        if (inputs.x_num < 0).any():
            raise ArithmeticError("negative")
        return np.asarray(2 * inputs.x_num[:, 0])


def rows(*values: float) -> Inputs:
    """Make rows of one number."""
    return Inputs(np.array(values)[:, None], np.zeros((len(values), 0), np.int32))


def answered(*asked: tuple[Any, Inputs]) -> list[Any]:
    """Ask all at once, and return answers or errors."""

    async def ask() -> list[Any]:
        batching = Batching()
        return await asyncio.gather(*(batching.predict(*each) for each in asked), return_exceptions=True)

    with ThreadPoolExecutor(1) as pool:  # a browser of other tests has an event loop in this thread
        return pool.submit(lambda: asyncio.run(ask())).result()


def test_each_request_gets_its_own_rows() -> None:
    """Requests that wait together are one call."""
    served: Any = Doubling()
    found = answered((served, rows(1, 2)), (served, rows(3)), (served, rows(4, 5)))
    assert [part.tolist() for part in found] == [[2, 4], [6], [8, 10]]
    assert served.n_calls == 1


def test_what_scoring_fails_of_is_told_to_each() -> None:
    """No request waits for ever; those of another call get their answers."""
    served: Any = Doubling()
    first, second, alone = answered((served, rows(1)), (served, rows(-1)), (Doubling(), rows(7)))
    assert isinstance(first, ArithmeticError)
    assert isinstance(second, ArithmeticError)
    assert alone.tolist() == [14]


@pytest.mark.parametrize("n", [MAX_ROWS - 1, MAX_ROWS])
def test_so_many_rows_wait_for_nobody(n: int) -> None:
    """A call has at most so many rows before it is made."""
    served: Any = Doubling()
    found = answered((served, rows(*np.ones(n))), (served, rows(3)))
    assert [len(part) for part in found] == [n, 1]
    assert served.n_calls == (1 if n < MAX_ROWS else 2)

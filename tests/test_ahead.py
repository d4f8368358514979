from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from nightfit.ahead import N_THREADS, map_ahead


def test_results_come_in_order() -> None:
    """Results come in the order of the items, whoever is done first."""
    first_may_end = threading.Event()

    def work(i: int) -> int:
        if i == 0:
            assert first_may_end.wait(60)
        elif i == 1:
            first_may_end.set()
        return i

    assert list(map_ahead(work, range(100))) == list(range(100))


def test_only_a_few_items_are_held() -> None:
    """Items are taken as results are: a few ahead, however many there are."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(1000):
            taken.append(i)
            yield i

    results = map_ahead(abs, items())
    for i in range(10):
        assert next(results) == i
        assert len(taken) <= i + N_THREADS + 1
    results.close()  # type: ignore[attr-defined]
    assert len(taken) < 20


def test_what_came_before_an_error_is_yielded() -> None:
    """An error of the function, or of the items, comes in its turn."""

    def items() -> Iterator[int]:
        yield from (1, 2, 0)
        raise ValueError("no more")

    for function, expected, error in ((abs, [1, 2, 0], ValueError), (lambda i: 1 // i, [1, 0], ZeroDivisionError)):
        found: list[int] = []
        with pytest.raises(error):
            found.extend(map_ahead(function, items()))
        assert found == expected

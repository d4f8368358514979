"""Work done a few items ahead in threads: Arrow and numpy let go of the interpreter, and memory stays that of a few."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NoReturn, TypeVar

T = TypeVar("T")
R = TypeVar("R")

N_THREADS = 2
"""Items that are worked on at a time; more would hold more in memory."""


def map_ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield what a function makes of each item, in order; an error comes when those before it were yielded.

    >>> list(map_ahead(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    with ThreadPoolExecutor(N_THREADS) as pool:
        waiting: deque[Future[R]] = deque()
        for job in _jobs(function, items):
            waiting.append(pool.submit(job))
            if len(waiting) > N_THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _jobs(function: Callable[[T], R], items: Iterable[T]) -> Iterator[Callable[[], R]]:
    try:
        for item in items:
            yield partial(function, item)
    except Exception as error:  # noqa: BLE001 - it is raised in its turn
        yield partial(_fail, error)


def _fail(error: Exception) -> NoReturn:
    raise error

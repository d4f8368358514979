"""Score the small requests that arrive together as one batch.

A network's forward pass costs nearly as much for one row as for thirty. Nobody waits for company: what has been decoded
when the event loop comes round is scored at once.
"""

from __future__ import annotations

import asyncio

import numpy as np

from nightfit.batch import Array
from nightfit.serving.features import Inputs
from nightfit.serving.served import Served

MAX_ROWS = 256
"""Rows at which a batch is scored without waiting for the loop: 2 ms of the default ensemble."""


class Batching:
    """The requests that wait for the next batch, all for one version."""

    def __init__(self) -> None:
        self._served: Served | None = None
        self._waiting: list[tuple[Inputs, asyncio.Future[Array]]] = []
        self._n_rows = 0

    async def predict(self, served: Served, inputs: Inputs) -> Array:
        """Return what the version predicts of these rows."""
        if self._served is not served:
            self._flush()
        if not self._waiting:
            self._served = served
            asyncio.get_running_loop().call_soon(self._flush)
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((inputs, future))
        self._n_rows += len(inputs.x_num)
        if self._n_rows >= MAX_ROWS:
            self._flush()
        answer: Array = await future
        return answer

    def _flush(self) -> None:
        waiting, self._waiting, self._n_rows = self._waiting, [], 0
        if not waiting or self._served is None:
            return
        try:
            parts = _scored(self._served, [inputs for inputs, _ in waiting])
        except Exception as error:  # noqa: BLE001 - each request tells its own client
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), part in zip(waiting, parts, strict=True):
            if not future.done():  # a client may have gone
                future.set_result(part)


def _scored(served: Served, inputs: list[Inputs]) -> list[Array]:
    if len(inputs) == 1:
        return [served.predict(inputs[0])]
    joined = Inputs(np.concatenate([i.x_num for i in inputs]), np.concatenate([i.x_cat for i in inputs]))
    ends = np.cumsum([len(i.x_num) for i in inputs])[:-1]
    return list(np.split(served.predict(joined), ends))

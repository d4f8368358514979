"""JSON over HTTP as a source: an API's records, page by page, from the last value of a cursor on.

All pages are read before the first record is given out, since APIs hand records out in any order. With a cursor,
what came before is told by its value, and by hashes of the records that share the last one: APIs mostly give those
again. Without one, the answer is taken for a list that grows at its end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from nightfit.errors import NightfitError
from nightfit.sources.accounted import Rest, last_value, rest_by_value, rest_of_list
from nightfit.sources.base import CHUNK_ROWS, BadRow, Chunk, Cursor
from nightfit.sources.client import Client, NotThereError
from nightfit.sources.configs import HttpConfig
from nightfit.sources.endpoint import endpoint_of, with_parameter
from nightfit.sources.pages import Pages
from nightfit.sources.records import to_table


class HttpSource:
    """An API that answers GET with JSON. `url` is the config's with everything from the environment.

    Raises `ConfigError` for a url or a header that cannot be sent, or that needs what the environment has not.

    >>> source = HttpSource(HttpConfig("https://u:p@example.com/rows", "shop"), url="https://u:p@example.com/rows")
    >>> source.name
    'shop'
    """

    def __init__(self, config: HttpConfig, *, url: str) -> None:
        self.name = config.name
        self._config = config
        self._endpoint = endpoint_of(config, url)

    def read(self, after: Cursor | None, note: Callable[[str], None]) -> Iterator[Chunk]:
        """Yield what lies after the cursor, see `Source.read`; no request is made after the first chunk."""
        scrub = self._endpoint.scrub
        try:
            rest = self._rest(after, lambda sentence: note(scrub(sentence)))
        except NightfitError as error:
            # Raised again outside: a traceback would show what was scrubbed.
            failed = type(error)(scrub(str(error)))
        else:
            yield from self._chunks(rest)
            return
        raise failed

    def _rest(self, after: Cursor | None, note: Callable[[str], None]) -> Rest:
        config, label = self._config, self._endpoint.label
        url = self._endpoint.url
        value = last_value(after)
        if config.since and value is not None:
            url = with_parameter(url, config.since, value if isinstance(value, str) else json.dumps(value))
        n_pages = 0
        records: list[msgspec.Raw] = []
        with Client(self._endpoint, config) as client:
            try:
                for page in Pages(client.get, config, self._endpoint).read(url):
                    n_pages += 1
                    records += page
            except NotThereError as error:
                if n_pages or not config.optional:
                    raise
                note(f"{str(error).rpartition(';')[0]}; nothing was read, since it is optional")
                return Rest([], 0, 0, lambda _: after or {})
        if not config.cursor:
            return rest_of_list(records, after, note, label)
        rest, n_before = rest_by_value(records, config.cursor, after, label)
        if n_before and config.since:
            note(f"{n_before} records of {label} lie before the {value!r} that it was asked for; they are left out")
        return rest

    def _chunks(self, rest: Rest) -> Iterator[Chunk]:
        stop = max(len(rest.items), int(rest.moved))
        for start in range(0, stop, CHUNK_ROWS):
            yield self._chunk(rest, start)

    def _chunk(self, rest: Rest, start: int) -> Chunk:
        items = rest.items[start : start + CHUNK_ROWS]
        good = [i for i, item in enumerate(items) if not item.reason]
        ends = [*good, len(items)]
        return Chunk(
            place=self.name,
            table=to_table([msgspec.json.decode(items[i].raw) for i in good]),
            rows=np.array(good, np.int64) + (rest.row + start),
            generation=rest.generation,
            cursor_at=lambda i: rest.cursor_at(start + ends[i]),
            bad=tuple(
                BadRow(
                    rest.row + start + i, item.reason, self._endpoint.scrub(bytes(item.raw).decode(errors="replace"))
                )
                for i, item in enumerate(items)
                if item.reason
            ),
            is_sparse=True,
        )

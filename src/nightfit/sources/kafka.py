"""A Kafka topic as a source: each partition from the cursor's offset up to where it ended when the night began.

Partitions are read one after another. No group hands them out and none remembers how far they were read: the
checkpoint does. The consumer group is only told, after the commit, for those who watch its lag.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from nightfit.errors import ConfigError, DataError, TryAgainError
from nightfit.sources.base import CHUNK_ROWS, BadRow, Chunk, Cursor, step_over
from nightfit.sources.kafkaclient import KafkaClient, OffsetGoneError
from nightfit.sources.kafkaoffsets import Offsets, Position, Watermarks, common, resume
from nightfit.sources.records import parse_record, to_table

if TYPE_CHECKING:
    from nightfit.sources.configs import KafkaConfig

CHUNK_BYTES = 64 << 20
"""Values of a chunk at most (and one more message), since messages may be large."""
Note = Callable[[str], None]
_URL = re.compile(r"kafka://(?P<brokers>[^/@?#\s]+)/(?P<topic>[\w.-]{1,249})", re.ASCII)


class KafkaSource:
    """A topic, kafka://host:9092,host:9092/topic, each of whose messages is a JSON object; keys are not used.

    Raises `ConfigError` for a url that is none of these.

    >>> source = KafkaSource(KafkaConfig("kafka://localhost:9092/bookings", name="bookings"),
    ...                      url="kafka://localhost:9092/bookings")  # doctest: +SKIP
    """

    def __init__(self, config: KafkaConfig, *, url: str) -> None:
        found = _URL.fullmatch(url)
        if not found:
            raise ConfigError(
                f"the url of source {config.name!r} must be kafka://host:9092,host:9092/topic, however it is not "
                "(a password belongs into its properties); mend it"
            )
        self.name = config.name
        self._config, self._brokers, self._topic = config, found["brokers"], found["topic"]

    def read(self, after: Cursor | None, note: Note) -> Iterator[Chunk]:
        """Yield what lies after the cursor, partition by partition; see `Source.read`."""
        if after is not None and "partitions" not in after:
            raise ConfigError(f"a source keeps its kind, however {self.name!r} was no topic before; give it another")
        with closing(self._client()) as client:
            present = self._present(client, note)
            lost = ""
            while present:
                offsets = self._resumed(after, present, lost, note)
                try:
                    for chunk in self._chunks(client, offsets, present, after):
                        yield chunk
                        after = chunk.cursor_at(len(chunk.table))
                except OffsetGoneError as error:
                    lost, present = str(error), self._present(client, note)
                else:
                    return

    def acknowledge(self, cursors: Sequence[Cursor]) -> None:
        """Commit the offsets before which all of the cursors are, for the config's group; see `Acknowledging`."""
        offsets = common(cursors)
        if self._config.group and offsets:
            with closing(self._client()) as client:
                client.commit(offsets)

    def _client(self) -> KafkaClient:
        return KafkaClient(self._config, brokers=self._brokers, topic=self._topic)

    def _present(self, client: KafkaClient, note: Note) -> Mapping[int, Watermarks]:
        """Find what each partition holds now; nothing where an optional topic is not there."""
        present = {partition: client.watermarks(partition) for partition in client.partitions()}
        rule = f"the topic of source {self.name!r} must exist, however the brokers know no {self._topic!r}"
        if not present and not self._config.optional:
            raise DataError(f"{rule}; make it, or say optional = true")
        if not present:
            note(f"{rule}; nothing was read, since it is optional")
        return present

    def _resumed(self, after: Cursor | None, present: Mapping[int, Watermarks], lost: str, note: Note) -> Offsets:
        offsets, gaps = resume(Offsets.of(after) if after else None, present, self._topic)
        for gap in gaps:
            step_over(gap, self._config.on_gap, note)
        if lost and not gaps:
            raise TryAgainError(
                f"topic {self._topic!r} must hold what source {self.name!r} reads, however it changed meanwhile: "
                f"{lost}; run it again"
            )
        return offsets

    def _chunks(
        self, client: KafkaClient, offsets: Offsets, present: Mapping[int, Watermarks], told: Cursor | None
    ) -> Iterator[Chunk]:
        """Yield the chunks of all partitions, and an empty one where only the cursor moves after the last of them."""
        for partition, (_, end) in sorted(present.items()):
            start = offsets.partitions[partition]
            if start.offset < end:
                for batch in _batches(client.messages(partition, start.offset, end)):
                    yield self._chunk(offsets, partition, batch)
                    rows = offsets.partitions[partition].rows + len(batch)
                    offsets = offsets.moved(partition, Position(batch[-1][0] + 1, rows))
                    told = offsets.cursor
                offsets = offsets.moved(partition, Position(end, offsets.partitions[partition].rows))
        if offsets.cursor != told:
            yield self._chunk(offsets, min(present), [])

    def _chunk(self, offsets: Offsets, partition: int, batch: Sequence[tuple[int, bytes | None]]) -> Chunk:
        """Make a chunk of the messages that follow the offsets in one partition."""
        start = offsets.partitions[partition]
        parsed = [_parse(value) for _, value in batch]
        index = [i for i, record in enumerate(parsed) if not isinstance(record, str)]
        starts = [*(offset for offset, _ in batch), batch[-1][0] + 1 if batch else start.offset]
        firsts = [*index, len(batch)]
        return Chunk(
            place=f"{self.name}[{partition}]",
            table=to_table([record for record in parsed if not isinstance(record, str)]),
            rows=np.array(index, np.int64) + start.rows,
            generation=offsets.generation,
            cursor_at=lambda i: offsets.moved(partition, Position(starts[firsts[i]], start.rows + firsts[i])).cursor,
            bad=tuple(
                BadRow(start.rows + i, record, _text(*batch[i]))
                for i, record in enumerate(parsed)
                if isinstance(record, str)
            ),
            is_sparse=True,
        )


def _batches(messages: Iterator[tuple[int, bytes | None]]) -> Iterator[list[tuple[int, bytes | None]]]:
    batch: list[tuple[int, bytes | None]] = []
    n_bytes = 0
    for message in messages:
        batch.append(message)
        n_bytes += len(message[1] or b"")
        if len(batch) == CHUNK_ROWS or n_bytes > CHUNK_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def _parse(value: bytes | None) -> dict[str, Any] | str:
    return "a record must be a JSON object, however this has no value" if value is None else parse_record(value)


def _text(offset: int, value: bytes | None) -> str:
    return f"offset {offset}: {(value or b'').decode(errors='replace')}"

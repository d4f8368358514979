"""A NATS JetStream stream as a source: its messages, which are JSON objects, in the order of their sequence numbers.

Reading depends on the cursor alone, never on a consumer that the server keeps. The durable consumer is only told how
far the rows are accounted for, which lets a stream of interest retention let go of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias, cast

from nightfit.errors import ConfigError, TryAgainError
from nightfit.sources.base import Chunk, Cursor, step_over
from nightfit.sources.configs import NatsConfig
from nightfit.sources.jetstream import JetStream, State, Stretch
from nightfit.sources.messages import check_kind, pass_over_absent, to_chunk, to_record

Note: TypeAlias = Callable[[str], None]


class NatsSource:
    """A stream of a NATS server, or its messages of one subject.

    >>> config = NatsConfig(url="nats://localhost:4222", name="clicks", stream="CLICKS")
    >>> NatsSource(config, url=config.url).name
    'clicks'
    """

    def __init__(self, config: NatsConfig, *, url: str, is_look: bool = False) -> None:
        for what, name in (("stream", config.stream), ("durable", config.durable)):
            if re.search(r"[\s.*>/\\]", name):
                raise ConfigError(
                    f"the {what} of source {config.name!r} must be a name without spaces and any of . * > / \\, "
                    f"however it is {name!r}; mend it"
                )
        self.name = config.name
        self._config = config
        self._is_look = is_look
        self._label = f"stream {config.stream!r} of source {config.name!r}"
        self._stream = JetStream(config, url)

    def read(self, after: Cursor | None, note: Note) -> Iterator[Chunk]:
        """Yield the messages after the cursor up to the last one that is there now; see `Source.read`.

        Raises what `Source.read` does, and `GapError` for messages that went before they were read, where the
        config does not say to skip them.
        """
        known = None if after is None else _Position.from_cursor(after, self.name)
        state = self._stream.prepare(make=not self._is_look)
        if state is None:
            pass_over_absent(f"stream {self._config.stream!r}", self._config, known and known.seq, note)
            return
        position = self._start(known, state, note)
        moved = known is not None and position != known
        while position.seq < state.last or moved:
            stretch = self._stream.fetch(position.seq, state.last)
            if not position.seq:  # what goes before the first message that is read was never promised
                first = stretch.seqs[0] - 1 if stretch.seqs else state.last
                position = replace(position, seq=first, missing=state.n_gone(first))
            walk = self._walk(position, stretch, state.last, note)
            position = walk.position(len(stretch.seqs))
            if stretch.seqs or moved or walk.start != position:
                yield walk.chunk(self.name)
            moved = False
            if stretch.is_last:
                return

    def acknowledge(self, cursors: Sequence[Cursor]) -> None:
        """Acknowledge what lies before all cursors to the durable; see `Acknowledging.acknowledge`.

        Where one of them is of a stream that was made anew since, nothing is acknowledged.
        """
        positions = [_Position.from_cursor(cursor, self.name) for cursor in cursors]
        if self._config.durable and len({position.created for position in positions}) == 1:
            self._stream.acknowledge(min(position.seq for position in positions), positions[0].created)

    def _start(self, known: _Position | None, state: State, note: Note) -> _Position:
        """Find where to go on: at the cursor, or at the start, of a new generation if the stream was made anew."""
        if known is None:
            return _Position(created=state.created, missing=state.n_gone(0))
        if known.created == state.created and known.seq <= state.last:
            return known
        step_over(
            f"{self._label} must go on from message {known.seq}, however it ends with {state.last} and was made anew "
            f"or set back; what came after {known.seq} may be lost, and it is read from its start",
            self._config.on_gap,
            note,
        )
        return _Position(generation=known.generation + 1, created=state.created, missing=state.n_gone(0))

    def _walk(self, start: _Position, stretch: Stretch, end: int, note: Note) -> _Walk:
        """Check that nothing went unread before and while the stretch was fetched."""
        state = stretch.state
        if state is None or state.created != start.created:
            raise TryAgainError(f"{self._label} must stay while it is read, however it was made anew; try again later")
        walk = _Walk(start, stretch, state, end)
        n = walk.n_missing - start.missing
        if n > 0:
            may = f"may have held rows of {self._config.subject!r}, and " if self._config.subject else ""
            step_over(
                f"{self._label} must keep its messages until they are read, however {n} that came after "
                f"{start.seq} {may}were removed before",
                self._config.on_gap,
                note,
            )
        return walk


@dataclass(frozen=True)
class _Position:
    """How far has been read: up to the sequence number `seq`, `rows` messages of this generation.

    `missing` messages after `seq` were gone when that was read, and are accounted for.
    """

    seq: int = 0
    rows: int = 0
    generation: int = 0
    created: str = ""
    missing: int = 0

    @classmethod
    def from_cursor(cls, cursor: Cursor, name: str) -> _Position:
        check_kind(cursor, "seq", name)
        return cls(**cast("dict[str, Any]", cursor))


class _Walk:
    """The positions before, between and after the messages of a stretch; the last of a night stands at its end."""

    def __init__(self, start: _Position, stretch: Stretch, state: State, end: int) -> None:
        self.start = start
        self._stretch = stretch
        self._state = state
        n = len(stretch.seqs)
        self._seqs = [start.seq, *stretch.seqs]
        if stretch.is_last:
            self._seqs[n] = end
        self._n_read_and_gone = [0] * (n + 1)
        """Messages from the i-th on that were read, and have gone since."""
        for i in range(n - 1, -1, -1):
            self._n_read_and_gone[i] = self._n_read_and_gone[i + 1] + state.is_gone(stretch.seqs[i])

    @property
    def n_missing(self) -> int:
        """Messages beyond the start that went before they were read."""
        return self._state.n_gone(self.start.seq) - self._n_read_and_gone[0]

    def position(self, i: int) -> _Position:
        """Give the position after the first i messages."""
        missing = self._state.n_gone(self._seqs[i]) - self._n_read_and_gone[i]
        return replace(self.start, seq=self._seqs[i], rows=self.start.rows + i, missing=missing)

    def chunk(self, place: str) -> Chunk:
        """Make a chunk of the messages."""
        records = [to_record(data, self.start.rows + i) for i, data in enumerate(self._stretch.payloads)]
        return to_chunk(
            place,
            records,
            row=self.start.rows,
            generation=self.start.generation,
            cursor_after=lambda k: asdict(self.position(k)),
        )

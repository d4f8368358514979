"""A Redis stream as a source: its entries in the order of their ids.

A cursor holds the id of the last entry read, and how many entries had ever been added to the stream up to it. Redis
counts additions exactly, so that entries which vanished before they were read are noticed, wherever they stood: more
were added since than are there. Needs Redis 7.0 or newer, which counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.retry import Retry

from nightfit.errors import ConfigError, NightfitError, TryAgainError
from nightfit.sources.base import BadRow, Chunk, Cursor, step_over
from nightfit.sources.configs import RedisConfig
from nightfit.sources.messages import Address, check_kind, pass_over_absent, to_chunk, to_record

N_FETCHED = 4_096
"""Entries of a fetch, which is a chunk: enough for vectorised work, few enough not to hold up the server."""

Note: TypeAlias = Callable[[str], None]
Entry: TypeAlias = tuple[bytes, dict[bytes, bytes]]
Id: TypeAlias = tuple[int, int]

_ACCESS = (AuthenticationError, AuthenticationWrongNumberOfArgsError, AuthorizationError, NoPermissionError)
_PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    OSError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
)


class RedisSource:
    """A stream of a Redis server; the fields of its entries are columns of text, or one of them is a JSON object.

    >>> config = RedisConfig(url="redis://localhost:6379/0", name="clicks", stream="clicks")
    >>> RedisSource(config, url=config.url).name
    'clicks'
    """

    def __init__(self, config: RedisConfig, *, url: str) -> None:
        self.name = config.name
        self.config = config
        self._url = url
        self._address = Address.parse(url, config.name)

    def read(self, after: Cursor | None, note: Note) -> Iterator[Chunk]:
        """Yield the entries after the cursor up to the last one that is there now; see `Source.read`.

        Raises what `Source.read` does, and `GapError` for entries that vanished before they were read, where
        the config does not say to skip them.
        """
        position = None if after is None else _Position.from_cursor(after, self.name)
        with self._connected() as client:
            yield from _Reading(self, client, position, note).chunks()

    def acknowledge(self, cursors: Sequence[Cursor]) -> None:
        """Set the consumer group to the smallest id of the cursors; see `Acknowledging.acknowledge`.

        A lineage that went back takes the group back with it: what it will read again must not be trimmed.
        """
        if not self.config.group or not cursors:
            return
        position = min((_Position.from_cursor(cursor, self.name) for cursor in cursors), key=lambda p: _id(p.id))
        where = (self.config.stream, self.config.group, position.id)
        with self._connected() as client, self.translated():
            try:
                client.xgroup_setid(*where, entries_read=position.added)
            except ResponseError as error:
                if "requires the key to exist" in str(error):  # the next reading will say so
                    return
                if not str(error).startswith("NOGROUP"):
                    raise
                client.xgroup_create(*where, entries_read=position.added)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what redis-py raises into one of our errors, in one line without secrets."""
        try:
            yield
        except (redis.RedisError, OSError) as error:
            kind, advice = _kind(error)
            raise kind(
                f"stream {self.config.stream!r} of source {self.name!r} must be usable at {self._address.hosts}, "
                f"however: {self._address.scrub(error)}; {advice}"
            ) from None

    @contextmanager
    def _connected(self) -> Iterator[redis.Redis]:
        try:
            client = redis.Redis.from_url(
                self._url,
                socket_timeout=self.config.timeout_s,
                socket_connect_timeout=self.config.timeout_s,
                retry=Retry(NoBackoff(), 0),  # the next night tries again
            )
            client.connection_pool.make_connection()  # which knows what options there are
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"the url of source {self.name!r} must be one of Redis, however: {self._address.scrub(error)}; mend it"
            ) from None
        with closing(client):
            yield client


def _kind(error: Exception) -> tuple[type[NightfitError], str]:
    if isinstance(error, _ACCESS):
        return ConfigError, "mend its user, password or permissions"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return ConfigError, "mend the server's certificate, or name its authority in SSL_CERT_FILE"
    if isinstance(error, _PASSING) or str(error).startswith("MISCONF"):
        return (
            TryAgainError,
            "see that it is up, and that the url's scheme, host and port are its own; then try again later",
        )
    return ConfigError, "mend the url or the stream's name"


@dataclass(frozen=True)
class _Position:
    """How far has been read: up to the entry `id`, `rows` entries of this generation.

    `added` counts all entries up to `id` that were ever added, those that vanished and are accounted for included.
    """

    id: str = "0-0"
    rows: int = 0
    generation: int = 0
    added: int = 0

    @classmethod
    def from_cursor(cls, cursor: Cursor, name: str) -> _Position:
        check_kind(cursor, "id", name)
        return cls(**cast("dict[str, Any]", cursor))


@dataclass(frozen=True)
class _Info:
    """What Redis says of a stream at one moment."""

    last: str
    first: str | None
    """The entry that stands first; none in an empty stream."""
    max_deleted: str
    """The largest id that XDEL took; trimming takes from the start and leaves this alone."""
    n_added: int
    n_present: int

    @property
    def n_vanished(self) -> int:
        """Entries that were ever deleted or trimmed."""
        return self.n_added - self.n_present

    @classmethod
    def parse(cls, reply: dict[str, Any], name: str) -> _Info:
        if "entries-added" not in reply:
            raise ConfigError(f"source {name!r} needs Redis 7.0 or newer, however its server is older; update it")
        first = reply["first-entry"]
        return cls(
            reply["last-generated-id"].decode(),
            first and first[0].decode(),
            reply["max-deleted-entry-id"].decode(),
            reply["entries-added"],
            reply["length"],
        )


class _Reading:
    """One night's reading of a stream, which checks with every fetch that nothing vanished before it."""

    def __init__(self, source: RedisSource, client: redis.Redis, position: _Position | None, note: Note) -> None:
        self._source, self._client, self._position, self._note = source, client, position, note
        self._config = source.config
        self._n_settled: int | None = None
        """Entries that had vanished when last it was checked that none of them was unread."""

    def chunks(self) -> Iterator[Chunk]:
        end = "+"
        moved = False
        while True:
            before = self._position or _Position()
            info, entries = self._fetch(before.id, end)
            if info is None:
                what = f"stream {self._config.stream!r}"
                return pass_over_absent(what, self._config, self._position and self._position.id, self._note)
            end = info.last if end == "+" else end
            position = self._checked(info)
            moved = moved or (self._position is not None and position != before)
            self._position = position
            if position.generation != before.generation:
                continue
            if entries or moved:
                yield self._chunk(entries)
                moved = False
            if len(entries) < N_FETCHED:
                return None

    def _fetch(self, after: str, end: str) -> tuple[_Info | None, list[Entry]]:
        """Get entries and, of the same moment, the stream's state: None for a stream that is not there."""
        with self._source.translated():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.xinfo_stream(self._config.stream)
            pipeline.xrange(self._config.stream, f"({after}", end, count=N_FETCHED)
            reply, entries = pipeline.execute(raise_on_error=False)
            if isinstance(reply, ResponseError) and "no such key" in str(reply):
                return None, []
            if isinstance(reply, Exception):
                raise reply
            return _Info.parse(reply, self._source.name), entries

    def _checked(self, info: _Info) -> _Position:
        """Return the position to go on from: where we stand, beyond a gap, or at the start of a new generation."""
        start = _Position(added=info.n_vanished)
        if self._position is None:
            self._n_settled = info.n_vanished
            return start
        stream = f"stream {self._config.stream!r} of source {self._source.name!r}"
        n = self._n_missing(info, self._position)
        if n is None:
            step_over(
                f"{stream} must go on from entry {self._position.id}, however it ends with {info.last} and was made "
                f"anew or set back; what came after {self._position.id} may be lost, and it is read from its start",
                self._config.on_gap,
                self._note,
            )
            self._n_settled = info.n_vanished
            return replace(start, generation=self._position.generation + 1)
        if n:
            step_over(
                f"{stream} must keep its entries until they are read, however {n} that came after "
                f"{self._position.id} were deleted or trimmed before",
                self._config.on_gap,
                self._note,
            )
        self._n_settled = info.n_vanished
        return replace(self._position, added=self._position.added + n)

    def _n_missing(self, info: _Info, position: _Position) -> int | None:
        """Count the entries after a position that vanished; None where the stream is not the one that was read."""
        if _id(info.last) < _id(position.id) or info.n_added < position.added:
            return None
        if info.n_vanished == self._n_settled:
            return 0
        if info.first is None or _id(info.first) > _id(position.id):
            n_present = info.n_present
        elif _id(info.max_deleted) <= _id(position.id):
            return 0
        else:
            n_present = self._count(position.id, info.last)
        n = info.n_added - position.added - n_present
        return None if n < 0 else n

    def _count(self, after: str, end: str) -> int:
        """Count the entries in (after, end], which no command of Redis does: only where unread ones may be deleted."""
        n = 0
        while True:
            with self._source.translated():
                entries = cast("list[Entry]", self._client.xrange(self._config.stream, f"({after}", end, N_FETCHED))
            n += len(entries)
            if len(entries) < N_FETCHED:
                return n
            after = entries[-1][0].decode()

    def _chunk(self, entries: list[Entry]) -> Chunk:
        start = self._position or _Position()

        def position_after(k: int) -> _Position:
            last = entries[k - 1][0].decode() if k else start.id
            return replace(start, id=last, rows=start.rows + k, added=start.added + k)

        records = [_record(fields, self._config.field, start.rows + i) for i, (_, fields) in enumerate(entries)]
        self._position = position_after(len(entries))
        return to_chunk(
            self._source.name,
            records,
            row=start.rows,
            generation=start.generation,
            cursor_after=lambda k: asdict(position_after(k)),
        )


def _record(fields: dict[bytes, bytes], name: str, row: int) -> dict[str, Any] | BadRow:
    if name and name.encode() in fields:
        return to_record(fields[name.encode()], row)
    reason = f"an entry must have the field {name!r}, however it has none"
    if not name:
        try:
            return {column.decode(): value.decode() for column, value in fields.items()}
        except UnicodeDecodeError as error:
            reason = f"an entry must be UTF-8 text, however: {error.reason} at byte {error.start} of a field"
    text = b" ".join(name + b"=" + value for name, value in fields.items())
    return BadRow(row, reason, text.decode(errors="replace"))


def _id(text: str) -> Id:
    """Parse an entry's id, milliseconds-sequence, so that ids compare as Redis compares them."""
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence)

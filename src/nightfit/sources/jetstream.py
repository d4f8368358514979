"""What is said to a NATS server: one short conversation at a time, each on a connection and an event loop of its own.

Between two conversations nothing is held, neither a connection nor a consumer: a night may learn for an hour between
two chunks, and no server has to wait for it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import APIError, BadRequestError, NotFoundError

from nightfit.errors import ConfigError, NightfitError, TryAgainError
from nightfit.sources.base import CHUNK_ROWS
from nightfit.sources.configs import NatsConfig
from nightfit.sources.messages import Address

N_FETCHED = 500
"""Messages that are asked for at a time."""
CHUNK_BYTES = 64 << 20
"""Payloads of a chunk, after which it ends."""
ACK_WAIT_S = 5.0
"""After which the server hands out again what was fetched in order to acknowledge it, and was not."""

CLOSE_S = 2.0
"""For hanging up."""

T = TypeVar("T")
_NO_STREAM = 10059
_NOT_ENABLED = {10039, 10076}
_CONFIG = (BadRequestError, nats.errors.SecureConnWantedError, ssl.SSLCertVerificationError)
_ACCESS = ("authorization", "authentication", "permissions violation")


@dataclass(frozen=True)
class State:
    """What the server says of a stream at one moment."""

    created: str
    last: int
    first: int
    deleted: tuple[int, ...]
    """Sequence numbers between first and last that are gone, ascending."""

    def n_gone(self, after: int) -> int:
        """Count the sequence numbers after this one whose messages are gone."""
        return max(0, self.first - 1 - after) + len(self.deleted) - bisect_right(self.deleted, after)

    def is_gone(self, seq: int) -> bool:
        """Tell whether the message of a sequence number that was given out is gone."""
        return seq < self.first or self.n_gone(seq - 1) > self.n_gone(seq)


@dataclass(frozen=True)
class Stretch:
    """Consecutive messages of a stream, the state that it had when they had been read, and whether more follow."""

    seqs: list[int]
    payloads: list[bytes]
    state: State | None
    is_last: bool


class _Client(Client):
    """A client that takes tls:// at its word: nats-py sends a password in the clear if the server offers no TLS."""

    def __init__(self, *, needs_tls: bool) -> None:
        super().__init__()
        self._needs_tls = needs_tls

    def _connect_command(self) -> bytes:
        if self._needs_tls and not self._server_info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        return super()._connect_command()


class JetStream:
    """A stream of a NATS server, as the config names it; every method is one conversation.

    All raise `TryAgainError` where the server cannot be reached or does not answer, `ConfigError` where it refuses.
    """

    def __init__(self, config: NatsConfig, url: str) -> None:
        self._config = config
        self._address = Address.parse(url, config.name)

    def prepare(self, *, make: bool = True) -> State | None:
        """Make the durable consumer if need be (and asked for), and return the stream's state; None where it is not."""

        async def talk(client: Client) -> State | None:
            js = self._js(client)
            state = await self._state(client)
            if state and self._config.durable:
                with nullcontext() if make else suppress(NotFoundError):
                    await (self._durable if make else self._found)(js)
            return state

        return self._run(talk)

    def fetch(self, after: int, end: int) -> Stretch:
        """Return the messages with sequence numbers in (after, end], as many as make a chunk."""

        async def talk(client: Client) -> Stretch:
            js = self._js(client)
            consumer = await js.add_consumer(
                self._config.stream,
                ConsumerConfig(
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=after + 1,
                    ack_policy=AckPolicy.NONE,
                    filter_subject=self._config.subject or None,
                    inactive_threshold=2 * self._config.timeout_s,
                    mem_storage=True,
                ),
            )
            messages, is_last = await self._messages(js, consumer, end)
            await js.delete_consumer(self._config.stream, consumer.name)
            seqs = [message.metadata.sequence.stream for message in messages]
            return Stretch(seqs, [message.data for message in messages], await self._state(client), is_last)

        return self._run(talk)

    def acknowledge(self, seq: int, created: str) -> None:
        """Acknowledge all messages up to a sequence number; nothing if the stream is not the one made at `created`."""

        async def talk(client: Client) -> None:
            state = await self._state(client)
            if state is None or state.created != created:
                return
            js = self._js(client)
            durable = await self._durable(js)
            if _n_open(durable) and _floor(durable) < seq:
                await self._acknowledge(js, seq, durable)
                await client.flush(timeout=self._flush_timeout)

        self._run(talk)

    @property
    def _flush_timeout(self) -> int:
        return max(1, int(self._config.timeout_s))

    def _js(self, client: Client) -> JetStreamContext:
        return client.jetstream(timeout=self._config.timeout_s)

    async def _state(self, client: Client) -> State | None:
        """Ask for the stream's state, with the list of deleted messages, which nats-py does not ask for."""
        subject, request = f"$JS.API.STREAM.INFO.{self._config.stream}", json.dumps({"deleted_details": True})
        reply = await client.request(subject, request.encode(), timeout=self._config.timeout_s)
        info: dict[str, Any] = json.loads(reply.data)
        if error := info.get("error"):
            if error.get("err_code") == _NO_STREAM:
                return None
            raise APIError(error.get("code"), error.get("description"), error.get("err_code"))
        retention = info["config"]["retention"]
        if retention == "workqueue" or (retention == "interest" and not self._config.durable):
            raise ConfigError(
                f"stream {self._config.stream!r} of source {self._config.name!r} must have limits retention, or "
                f"interest retention and a durable, however its retention is {retention!r}, so that a message may "
                "be gone once it was looked at; read a mirror of it with limits retention"
                + (", or set durable" if retention == "interest" else "")
            )
        state = info["state"]
        if self._config.subject and _holds_all(info["config"]):
            floor = await self._acknowledged(self._js(client))
            return State(info["created"], state["last_seq"], floor + 1, ())
        deleted = set(state.get("deleted") or ())
        if state.get("num_deleted", 0) > len(deleted):  # a stream in memory leaves the last message off its list
            deleted.add(state["last_seq"])
        return State(info["created"], state["last_seq"], state["first_seq"], tuple(sorted(deleted)))

    async def _acknowledged(self, js: JetStreamContext) -> int:
        """Return up to where the durable has acknowledged, 0 if it is not there yet."""
        try:
            info = await js.consumer_info(self._config.stream, self._config.durable)
        except NotFoundError:
            return 0
        return _floor(info)

    async def _durable(self, js: JetStreamContext) -> ConsumerInfo:
        """Find the durable consumer, or make it: it only counts, so that it is given no payloads."""
        try:
            return await self._found(js)
        except NotFoundError:
            made: ConsumerInfo = await js.add_consumer(
                self._config.stream,
                ConsumerConfig(
                    durable_name=self._config.durable,
                    deliver_policy=DeliverPolicy.ALL,
                    ack_policy=AckPolicy.ALL,
                    ack_wait=ACK_WAIT_S,
                    filter_subject=self._config.subject or None,
                    headers_only=True,
                    max_ack_pending=-1,
                ),
            )
            return made

    async def _found(self, js: JetStreamContext) -> ConsumerInfo:
        found: ConsumerInfo = await js.consumer_info(self._config.stream, self._config.durable)
        if found.config.ack_policy != AckPolicy.ALL or (found.config.filter_subject or "") != self._config.subject:
            raise ConfigError(
                f"the durable {self._config.durable!r} of source {self._config.name!r} must be its own, however it "
                f"is there with ack policy {found.config.ack_policy!r} and subject "
                f"{found.config.filter_subject or ''!r}; set another durable, or delete that one"
            )
        return found

    async def _messages(self, js: JetStreamContext, consumer: ConsumerInfo, end: int) -> tuple[list[Msg], bool]:
        """Fetch messages of a new consumer up to `end`; tell whether there are no more up to it."""
        subscription = await self._subscription(js, consumer.name)
        messages: list[Msg] = []
        n_pending, n_bytes = consumer.num_pending or 0, 0
        while n_pending and len(messages) < CHUNK_ROWS and n_bytes < CHUNK_BYTES:
            try:
                n = min(N_FETCHED, n_pending, CHUNK_ROWS - len(messages))
                batch = await subscription.fetch(n, self._config.timeout_s)
            except TimeoutError:  # messages that were pending may have been deleted
                if (await subscription.consumer_info()).num_pending:
                    raise
                break
            if batch[-1].metadata.sequence.consumer != len(messages) + len(batch):
                raise nats.errors.Error("the server's messages came with a hole")
            kept = [message for message in batch if message.metadata.sequence.stream <= end]
            messages += kept
            n_bytes += sum(len(message.data) for message in kept)
            at_end = len(kept) < len(batch) or kept[-1].metadata.sequence.stream == end
            n_pending = 0 if at_end else batch[-1].metadata.num_pending
        return messages, not n_pending

    async def _acknowledge(self, js: JetStreamContext, seq: int, durable: ConsumerInfo) -> None:
        """Fetch from the durable until beyond `seq`; the last message before acknowledges all before it as well."""
        subscription = await self._subscription(js, self._config.durable)
        timeout_s = min(self._config.timeout_s, 2 * ACK_WAIT_S)
        beyond: list[Msg] = []
        while _n_open(durable) and _floor(durable) < seq and not beyond:
            try:
                batch = await subscription.fetch(min(N_FETCHED, _n_open(durable)), timeout_s)
            except TimeoutError:  # what is open was fetched before, and will be handed out again
                return
            by_seq = {message.metadata.sequence.stream: message for message in batch}
            if accounted := [s for s in by_seq if s <= seq]:
                await by_seq[max(accounted)].ack_sync(timeout=timeout_s)
            beyond = [message for s, message in sorted(by_seq.items()) if s > seq]
            for message in beyond:
                await message.nak()
            durable = await subscription.consumer_info()

    async def _subscription(self, js: JetStreamContext, consumer: str) -> JetStreamContext.PullSubscription:
        # nats-py drops messages silently beyond a limit of bytes.
        return await js.pull_subscribe_bind(consumer, stream=self._config.stream, pending_bytes_limit=0)

    def _run(self, talk: Callable[[Client], Awaitable[T]]) -> T:
        return asyncio.run(self._conversation(talk))

    async def _conversation(self, talk: Callable[[Client], Awaitable[T]]) -> T:
        """Connect, talk, hang up; a connection that is lost ends the talk at once."""
        client = _Client(needs_tls=self._address.hosts.startswith("tls://"))
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heard: list[Exception] = []

        async def hear(error: Exception) -> None:
            heard.append(error)
            if "permissions violation" in str(error).lower() and not lost.done():
                lost.set_result(None)

        async def lose() -> None:
            if not lost.done():
                lost.set_result(None)

        try:
            await self._connect(client, hear, lose)
            heard.clear()  # of servers that are down, where another one answered
            work = asyncio.ensure_future(talk(client))
            either: set[asyncio.Future[Any]] = {work, lost}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                raise heard[-1] if heard else nats.errors.ConnectionClosedError
            return work.result()
        except (TimeoutError, nats.errors.Error, OSError) as error:
            known = isinstance(error, APIError) or not heard
            raise self._translated(error if known else heard[-1]) from None
        finally:
            with suppress(TimeoutError):  # after a TLS handshake that failed, hanging up never ends
                await asyncio.wait_for(client.close(), CLOSE_S)

    async def _connect(
        self,
        client: Client,
        hear: Callable[[Exception], Awaitable[None]],
        lose: Callable[[], Awaitable[None]],
    ) -> None:
        scheme, _, hosts = self._address.hosts.partition("://")
        user, password = self._address.user, self._address.password
        async with asyncio.timeout(self._config.timeout_s):
            await client.connect(
                [f"{scheme}://{host}" for host in hosts.split(",")],
                error_cb=hear,
                closed_cb=lose,
                user=user if password else None,
                password=password,
                token=None if password else user,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=max(1, int(self._config.timeout_s)),
                name="nightfit",
            )

    def _translated(self, error: Exception) -> NightfitError:
        """Turn what nats-py raised into one of our errors, in one line without secrets."""
        fact = self._address.scrub(error)
        kind: type[NightfitError] = TryAgainError
        advice = "see that it is up, and that the url's host and port are its own; then try again later"
        if any(word in fact.lower() for word in _ACCESS):
            kind, advice = ConfigError, "mend its user, password or permissions"
        elif isinstance(error, _CONFIG) or getattr(error, "err_code", None) in _NOT_ENABLED:
            kind, advice = ConfigError, "mend the config or the server's"
        where = f"stream {self._config.stream!r} of source {self._config.name!r} must be usable at"
        return kind(f"{where} {self._address.hosts}, however: {fact}; {advice}")


def _n_open(consumer: ConsumerInfo) -> int:
    """Count the messages that a consumer was not given yet, or has not acknowledged."""
    return (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)


def _floor(consumer: ConsumerInfo) -> int:
    return consumer.ack_floor.stream_seq if consumer.ack_floor else 0


def _holds_all(config: dict[str, Any]) -> bool:
    """Tell whether a stream takes away nothing that a consumer still wants.

    Then what is gone was of other subjects, or our durable had acknowledged it.
    """
    limits = ("max_msgs", "max_bytes", "max_age", "max_msgs_per_subject")
    return config["retention"] == "interest" and all(config.get(limit, 0) <= 0 for limit in limits)

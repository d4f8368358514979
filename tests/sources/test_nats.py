from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType
from nats.js.errors import NotFoundError

from nightfit.errors import ConfigError, DataError, GapError, TryAgainError
from nightfit.sources import jetstream as jetstream_module
from nightfit.sources.base import Acknowledging, Surroundings
from nightfit.sources.configs import NatsConfig
from nightfit.sources.make import make_source
from nightfit.sources.nats import NatsSource
from nightfit.testing import check_source
from proxy import closed_port, cutting_proxy

if TYPE_CHECKING:
    from pathlib import Path

    from nightfit.sources.base import Chunk, Cursor

SERVER = ("127.0.0.1", 4222)
URL = "nats://127.0.0.1:4222"
T = TypeVar("T")


def talk(words: Callable[[JetStreamContext], Awaitable[T]]) -> T:
    """Say something to the server on a connection of the test's own."""

    async def conversation() -> T:
        client = await nats.connect(URL)
        try:
            return await words(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(conversation())


class Stream:
    """A stream of the test's own, with the subjects `<name>.a` and `<name>.b`."""

    def __init__(self) -> None:
        self.name = f"nightfit-test-{uuid.uuid4().hex}"
        self.make()

    def make(self, **options: Any) -> None:  # noqa: ANN401
        """Make the stream, anew if it is there."""
        self.delete()
        options = {"storage": StorageType.MEMORY, "subjects": [f"{self.name}.*"], **options}
        talk(lambda js: js.add_stream(name=self.name, **options))

    def delete(self) -> None:
        """Delete the stream if it is there."""
        with suppress(NotFoundError):
            talk(lambda js: js.delete_stream(self.name))

    def put(self, *payloads: bytes, subject: str = "a") -> None:
        """Publish payloads."""

        async def publish(js: JetStreamContext) -> None:
            for payload in payloads:
                await js.publish_async(f"{self.name}.{subject}", payload)
            await js.publish_async_completed()

        talk(publish)

    def add(self, *ns: int, subject: str = "a") -> None:
        """Publish rows whose column n says so."""
        self.put(*(json.dumps({"n": n}).encode() for n in ns), subject=subject)

    def remove(self, *seqs: int) -> None:
        """Delete single messages."""

        async def each(js: JetStreamContext) -> None:
            for seq in seqs:
                await js.delete_msg(self.name, seq)

        talk(each)

    def purge(self, before: int) -> None:
        """Delete all messages before a sequence number."""
        talk(lambda js: js.purge_stream(self.name, seq=before))

    @property
    def n_messages(self) -> int:
        """Messages that are in the stream."""
        return talk(lambda js: js.stream_info(self.name)).state.messages

    def source(self, url: str = URL, **options: Any) -> NatsSource:  # noqa: ANN401
        """Make a source of the stream; its subject may be "a" or "b"."""
        if "subject" in options:
            options["subject"] = f"{self.name}.{options['subject']}"
        return NatsSource(NatsConfig(url=url, name="x", stream=self.name, **options), url=url)


@pytest.fixture
def stream() -> Iterator[Stream]:
    """Give a stream, which is removed afterwards."""
    made = Stream()
    yield made
    made.delete()


class Night:
    """One reading of a source: its rows, bad rows, notes, and the cursor reached."""

    def __init__(self, src: NatsSource, after: Cursor | None = None) -> None:
        self.notes: list[str] = []
        self.chunks: list[Chunk] = list(src.read(after, self.notes.append))
        self.ns = [row["n"] for chunk in self.chunks for row in chunk.table.to_pylist()]
        self.numbers = [row for chunk in self.chunks for row in chunk.rows.tolist()]
        self.generations = {chunk.generation for chunk in self.chunks}
        last = self.chunks[-1] if self.chunks else None
        self.cursor = last.cursor_at(len(last.table)) if last else after


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a chunk have two messages at most."""
    monkeypatch.setattr(jetstream_module, "CHUNK_ROWS", 2)


class TestContract:
    """The contract of a source, as plug-in authors check it."""

    @staticmethod
    def grower(stream: Stream) -> Callable[[int], None]:
        """Give what appends n good messages, and others of another subject, after two bad ones."""
        stream.put(b"[1]", b"\xff")
        n_written = 0

        def grow(n: int) -> None:
            nonlocal n_written
            for _ in range(n):
                n_written += 1
                stream.add(-n_written, subject="b")
                stream.add(n_written)

        return grow

    @pytest.mark.parametrize("n_fetched", [1, 500])
    def test_growing_stream(self, stream: Stream, monkeypatch: pytest.MonkeyPatch, n_fetched: int) -> None:
        """A stream with bad messages keeps the contract."""
        monkeypatch.setattr(jetstream_module, "N_FETCHED", n_fetched)
        grow = self.grower(stream)
        check_source(lambda: stream.source(subject="a"), grow)

    @pytest.mark.usefixtures("small_chunks")
    def test_small_chunks_with_holes(self, stream: Stream) -> None:
        """The contract holds across chunks, and where messages were deleted before the first night."""
        stream.add(-1, -2, -3, -4)
        stream.remove(1, 3)
        stream.put(b"{")
        check_source(stream.source, lambda n: stream.add(*range(n)))

    def test_made_from_a_config(self, stream: Stream, tmp_path: Path) -> None:
        """A nats:// url makes a source that acknowledges, under the config's name."""
        made = make_source(NatsConfig(url=URL, name="x", stream=stream.name), Surroundings((), "y", tmp_path))
        assert isinstance(made, NatsSource)
        assert isinstance(made, Acknowledging)
        assert made.name == "x"


class TestRead:
    """What is read, and how far."""

    def test_rows(self, stream: Stream) -> None:
        """Payloads are rows; one that is no JSON object is bad, with its number."""
        stream.put(b'{"a": 1, "b": {"c": "x"}}', b"[1]", b"", b"\xff", b'{"a": 2}')
        (chunk,) = stream.source().read(None, print)
        assert chunk.table.to_pylist() == [{"a": 1, "b.c": "x"}, {"a": 2, "b.c": None}]
        assert chunk.rows.tolist() == [0, 4]
        assert [(bad.row, bad.text) for bad in chunk.bad] == [(1, "[1]"), (2, ""), (3, "\ufffd")]

    @pytest.mark.usefixtures("small_chunks")
    def test_up_to_the_start_of_the_night(self, stream: Stream) -> None:
        """Messages that come while a night reads are left for the next one, so that a night ends."""
        stream.add(*range(9))
        ns: list[int] = []
        for chunk in stream.source().read(None, print):
            ns += [row["n"] for row in chunk.table.to_pylist()]
            stream.add(*range(100 + len(ns), 102 + len(ns)))
            cursor = chunk.cursor_at(len(chunk.table))
        assert ns == list(range(9))
        assert len(Night(stream.source(), cursor).ns) == 10

    def test_subject(self, stream: Stream) -> None:
        """Only messages of the subject are read; the cursor moves beyond the others, which may then go."""
        stream.add(1, 2, subject="a")
        stream.add(3, subject="b")
        night = Night(stream.source(subject="a"))
        assert night.ns == [1, 2]
        assert night.cursor
        assert night.cursor["seq"] == 3
        stream.add(4, 5, subject="b")
        night = Night(stream.source(subject="a"), night.cursor)
        assert (night.ns, night.notes) == ([], [])
        stream.purge(before=6)
        stream.add(6, subject="a")
        assert Night(stream.source(subject="a"), night.cursor).ns == [6]

    def test_large(self, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
        """20,000 messages are read, and read on from a cursor in their midst exactly."""
        monkeypatch.setattr(jetstream_module, "CHUNK_ROWS", 7_000)
        stream.add(*range(20_000))
        whole = Night(stream.source())
        assert whole.ns == whole.numbers == list(range(20_000))
        rest = Night(stream.source(), whole.chunks[1].cursor_at(777))
        assert rest.ns == rest.numbers == list(range(7_777, 20_000))
        assert rest.cursor == whole.cursor

    def test_bytes_of_a_chunk(self, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
        """A chunk ends after so many bytes too."""
        monkeypatch.setattr(jetstream_module, "N_FETCHED", 2)
        monkeypatch.setattr(jetstream_module, "CHUNK_BYTES", 30)
        stream.add(*range(100, 107))
        assert [len(chunk.table) for chunk in Night(stream.source()).chunks] == [4, 3]

    @pytest.mark.usefixtures("small_chunks")
    def test_leaves_nothing_behind(self, stream: Stream) -> None:
        """A reading that is broken off leaves no consumer but the durable."""
        stream.add(*range(5))
        chunks = stream.source().read(None, print)
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        assert [info.name for info in talk(lambda js: js.consumers_info(stream.name))] == ["nightfit"]

    def test_nothing_new(self, stream: Stream) -> None:
        """A night without new messages yields nothing and notes nothing; so does an empty stream."""
        assert Night(stream.source()).chunks == []
        stream.add(1)
        night = Night(stream.source(), Night(stream.source()).cursor)
        assert (night.chunks, night.notes) == ([], [])
        stream.purge(before=2)
        assert Night(stream.source()).chunks == []
        assert Night(stream.source(), night.cursor).chunks == []


class TestGaps:
    """Messages that went before they were read."""

    @pytest.mark.parametrize(
        ("take", "n", "left"),
        [
            (lambda s: s.purge(before=9), 3, [9, 10]),
            (lambda s: s.remove(7, 9), 2, [6, 8, 10]),
            (lambda s: s.remove(6), 1, [7, 8, 9, 10]),
            (lambda s: s.remove(10), 1, [6, 7, 8, 9]),
            (lambda s: s.purge(before=11), 5, []),
        ],
        ids=["purged", "inside", "next", "last", "all"],
    )
    @pytest.mark.parametrize("options", [{}, {"subject": "a"}], ids=["all", "subject"])
    def test_stop_and_skip(
        self,
        stream: Stream,
        take: Callable[[Stream], None],
        n: int,
        left: list[int],
        options: dict[str, str],
    ) -> None:
        """Unread messages that were removed stop a night, or are counted in one note and skipped once."""
        stream.add(*range(1, 6))
        cursor = Night(stream.source(**options)).cursor
        stream.add(*range(6, 11))
        take(stream)
        with pytest.raises(GapError, match=f"however {n} that came after 5 .*were removed before"):
            Night(stream.source(**options), cursor)
        night = Night(stream.source(**options, on_gap="skip"), cursor)
        assert night.ns == left
        assert night.numbers == list(range(5, 5 + len(left)))
        assert len(night.notes) == 1
        assert night.generations == {0}
        again = Night(stream.source(**options), night.cursor)
        assert (again.chunks, again.notes) == ([], [])
        stream.add(11)
        assert Night(stream.source(**options), night.cursor).ns == [11]

    def test_limit(self, stream: Stream) -> None:
        """A first night begins with what a full stream still holds; later what its limit took is a gap."""
        stream.make(max_msgs=5)
        stream.add(*range(20))
        night = Night(stream.source())
        assert night.ns == [15, 16, 17, 18, 19]
        stream.add(20, 21)
        assert Night(stream.source(), night.cursor).ns == [20, 21]
        stream.add(*range(22, 30))
        with pytest.raises(GapError, match="however 5 that came after 20"):
            Night(stream.source(), night.cursor)

    @pytest.mark.parametrize("storage", [StorageType.FILE, StorageType.MEMORY])
    def test_last_of_all(self, stream: Stream, storage: StorageType) -> None:
        """The last message is missed as well, which the server does not list for a stream in memory."""
        stream.make(storage=storage)
        stream.add(1, 2, 3)
        (chunk,) = Night(stream.source()).chunks
        stream.remove(2, 3)
        with pytest.raises(GapError, match="however 2 that came after 1"):
            Night(stream.source(), chunk.cursor_at(1))

    @pytest.mark.usefixtures("small_chunks")
    def test_while_reading(self, stream: Stream) -> None:
        """Messages that go between two chunks of a night are a gap; those that were read may go."""
        takes: list[Callable[[], None]] = [lambda: stream.remove(5), lambda: stream.purge(before=4)]
        for take in takes:
            stream.make()
            stream.add(*range(1, 8))
            chunks = iter(stream.source().read(None, print))
            next(chunks)
            take()
            with pytest.raises(GapError, match="however 1 that came after 2"):
                list(chunks)
        stream.make()
        stream.add(*range(1, 6))
        chunks = iter(stream.source().read(None, print))
        next(chunks)
        stream.purge(before=3)
        assert [len(chunk.table) for chunk in chunks] == [2, 1]

    @pytest.mark.usefixtures("small_chunks")
    def test_cursor_beyond_a_skipped_gap(self, stream: Stream) -> None:
        """Every cursor inside of what was read beyond a gap goes on exactly, and knows of the gap."""
        stream.add(1, 2)
        cursor = Night(stream.source()).cursor
        stream.add(*range(3, 12))
        stream.remove(4, 8)
        night = Night(stream.source(on_gap="skip"), cursor)
        cursors = [chunk.cursor_at(i) for chunk in night.chunks for i in range(len(chunk.table))]
        for i, middle in enumerate(cursors):
            assert Night(stream.source(), middle).ns == night.ns[i:]
        stream.remove(9)
        with pytest.raises(GapError, match="however 1 that came after 3"):
            Night(stream.source(), cursors[1])

    @pytest.mark.parametrize("n", [2, 20])
    def test_made_anew(self, stream: Stream, n: int) -> None:
        """A stream that was deleted and made again is a gap, or is read from its start as a new generation."""
        stream.add(*range(5))
        cursor = Night(stream.source()).cursor
        stream.make()
        stream.add(*range(n))
        with pytest.raises(GapError, match="must go on from message 5"):
            Night(stream.source(), cursor)
        assert cursor
        stream.source().acknowledge([cursor])
        night = Night(stream.source(on_gap="skip"), cursor)
        assert night.ns == night.numbers == list(range(n))
        assert night.generations == {1}
        assert Night(stream.source(), night.cursor).chunks == []

    def test_absent(self, stream: Stream) -> None:
        """A stream that never was is an error, or a note where it is optional; one that was read is a gap."""
        stream.add(1)
        cursor = Night(stream.source()).cursor
        stream.delete()
        with pytest.raises(DataError, match="of source 'x' must exist, however it is not there; mend"):
            Night(stream.source())
        night = Night(stream.source(optional=True))
        assert night.chunks == []
        assert "since it is optional" in night.notes[0]
        with pytest.raises(GapError, match="not there any more"):
            Night(stream.source(optional=True), cursor)
        night = Night(stream.source(on_gap="skip"), cursor)
        assert (night.chunks, len(night.notes)) == ([], 1)
        assert cursor
        stream.source().acknowledge([cursor])


class TestAcknowledge:
    """What the durable consumer is told, and what a stream of interest retention does with it."""

    def floor(self, stream: Stream) -> tuple[int, int]:
        """Return up to where the durable has acknowledged, and how many messages it holds unacknowledged."""
        info = talk(lambda js: js.consumer_info(stream.name, "nightfit"))
        assert info.ack_floor
        return info.ack_floor.stream_seq, info.num_ack_pending or 0

    @pytest.mark.parametrize("n_fetched", [2, 500])
    def test_interest(self, stream: Stream, monkeypatch: pytest.MonkeyPatch, n_fetched: int) -> None:
        """Acknowledged messages go, all others stay, at the smallest of all cursors; saying it again changes nothing.

        Reading alone takes nothing away.
        """
        monkeypatch.setattr(jetstream_module, "N_FETCHED", n_fetched)
        stream.make(retention=RetentionPolicy.INTEREST)
        assert Night(stream.source()).chunks == []
        stream.add(*range(1, 11))
        src = stream.source()
        (chunk,) = Night(src).chunks
        assert stream.n_messages == 10
        for at in (3, 3, 4, 9, 4, 10, 10):
            src.acknowledge([chunk.cursor_at(10), chunk.cursor_at(at)])
            assert stream.n_messages == min(10 - at, 10 - self.floor(stream)[0])
            assert Night(src, chunk.cursor_at(max(at, 9))).ns == list(range(max(at, 9) + 1, 11))
        assert self.floor(stream) == (10, 0)
        with pytest.raises(GapError, match="however 7 that came after 3"):
            Night(src, chunk.cursor_at(3))

    def test_thousands(self, stream: Stream) -> None:
        """Thousands of messages are acknowledged, up to one in their midst and then to the end."""
        stream.make(retention=RetentionPolicy.INTEREST)
        src = stream.source()
        assert Night(src).chunks == []
        stream.add(*range(5_000))
        (chunk,) = Night(src).chunks
        for at in (3_333, 5_000):
            src.acknowledge([chunk.cursor_at(at)])
            assert stream.n_messages == 5_000 - at
            assert self.floor(stream)[0] == at

    def test_subject_with_interest(self, stream: Stream) -> None:
        """Messages of other subjects go as others are done with them, which is no gap; our own would be one."""
        stream.make(retention=RetentionPolicy.INTEREST)
        src = stream.source(subject="a")
        assert Night(src).chunks == []
        stream.add(1, 2)
        stream.add(3, 4, subject="b")
        stream.add(5)
        (chunk,) = Night(src).chunks
        src.acknowledge([chunk.cursor_at(3)])
        assert (stream.n_messages, self.floor(stream)) == (0, (5, 0))
        stream.add(6, 7, subject="b")
        stream.add(8)
        night = Night(src, chunk.cursor_at(3))
        assert (night.ns, night.notes) == ([8], [])
        with pytest.raises(GapError, match="however 4 that came after 1 may have held rows of"):
            Night(src, chunk.cursor_at(1))

    def test_crash_between_fetch_and_acknowledgement(self, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was fetched and never acknowledged is still read, and acknowledged when it is handed out again."""
        monkeypatch.setattr(jetstream_module, "ACK_WAIT_S", 0.5)
        stream.make(retention=RetentionPolicy.INTEREST)
        src = stream.source()
        assert Night(src).chunks == []
        stream.add(*range(1, 7))

        async def fetch(js: JetStreamContext) -> None:
            subscription = await js.pull_subscribe_bind("nightfit", stream=stream.name)
            assert len(await subscription.fetch(4)) == 4

        talk(fetch)
        night = Night(src)
        assert night.ns == [1, 2, 3, 4, 5, 6]
        deadline = time.monotonic() + 10
        while self.floor(stream)[0] < 3 and time.monotonic() < deadline:
            src.acknowledge([night.chunks[0].cursor_at(3)])
        assert self.floor(stream)[0] == 3
        assert stream.n_messages == 3

    def test_nobody_to_tell(self, stream: Stream) -> None:
        """No durable, or no cursors: nothing is made and nothing is told."""
        stream.add(1)
        src = stream.source(durable="")
        cursor = Night(src).cursor
        assert cursor
        src.acknowledge([cursor])
        stream.source().acknowledge([])
        assert talk(lambda js: js.consumers_info(stream.name)) == []

    def test_consumer_of_someone_else(self, stream: Stream) -> None:
        """A durable of that name with another policy or subject is the config's fault, and is left alone."""
        consumer = ConsumerConfig(durable_name="nightfit", ack_policy=AckPolicy.EXPLICIT)
        talk(lambda js: js.add_consumer(stream.name, consumer))
        with pytest.raises(ConfigError, match="must be its own, however it is there with ack policy 'explicit'"):
            Night(stream.source())


class TestFaults:
    """What cannot be read."""

    @pytest.mark.parametrize(
        ("retention", "durable"), [(RetentionPolicy.WORK_QUEUE, "nightfit"), (RetentionPolicy.INTEREST, "")]
    )
    def test_retention(self, stream: Stream, retention: RetentionPolicy, durable: str) -> None:
        """A stream whose messages go once they are looked at is the config's fault, and keeps them."""
        stream.make(retention=retention)
        with pytest.raises(ConfigError, match="must have limits retention, or interest retention and a durable"):
            Night(stream.source(durable=durable))
        assert talk(lambda js: js.consumers_info(stream.name)) == []

    def test_unreachable(self, stream: Stream) -> None:
        """A server that nobody can reach may be back later; reading and acknowledging say so."""
        src = stream.source(f"nats://user:hidden-pw@127.0.0.1:{closed_port()}")
        with pytest.raises(TryAgainError, match=r"must be usable at nats://127.0.0.1:\d+, however: .*111") as caught:
            Night(src)
        assert "hidden" not in str(caught.value)
        with pytest.raises(TryAgainError):
            src.acknowledge([{"seq": 1, "rows": 1, "generation": 0, "created": "", "missing": 0}])

    def test_one_of_two_servers(self, stream: Stream) -> None:
        """Of several servers, one that answers is enough."""
        stream.add(1)
        assert Night(stream.source(f"nats://127.0.0.1:{closed_port()},127.0.0.1:4222")).ns == [1]

    @pytest.mark.parametrize("n_bytes", [100, 20_000])
    def test_cut_connection(self, stream: Stream, n_bytes: int) -> None:
        """A connection that is cut, at the start or in the midst of messages, may be back later."""
        stream.add(*range(2_000))
        with (
            cutting_proxy(SERVER, n_bytes) as port,
            pytest.raises(TryAgainError, match=r"try again later"),
        ):
            Night(stream.source(f"nats://127.0.0.1:{port}"))

    def test_silent_server(self, stream: Stream) -> None:
        """A server that never answers is given up after the timeout."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"nats://127.0.0.1:{server.getsockname()[1]}"
            with pytest.raises(TryAgainError, match="TimeoutError"):
                Night(stream.source(url, timeout_s=0.2))

    @pytest.mark.parametrize("user", ["user:hidden-pw", "hidden-token", "us%40er:hidden%2Fpw"])
    def test_password(self, stream: Stream, user: str) -> None:
        """A password or token that a server refuses is the config's fault, and is not repeated."""
        with refusing_server() as (port, connects), pytest.raises(ConfigError, match="mend its user") as caught:
            Night(stream.source(f"nats://{user}@127.0.0.1:{port}"))
        assert "hidden" not in str(caught.value)
        sent = {name: connects[0].get(name) for name in ("user", "pass", "auth_token")}
        assert sent in (
            {"user": "user", "pass": "hidden-pw", "auth_token": None},
            {"user": "us@er", "pass": "hidden/pw", "auth_token": None},
            {"user": None, "pass": None, "auth_token": "hidden-token"},
        )

    def test_tls_that_is_not_offered(self, stream: Stream) -> None:
        """Over tls:// nothing is said to a server without TLS, a password least of all."""
        with pytest.raises(ConfigError, match="secure connection not available"):
            Night(stream.source("tls://127.0.0.1:4222"))
        with refusing_server() as (port, connects), pytest.raises(ConfigError, match="secure connection"):
            Night(stream.source(f"tls://user:hidden-pw@127.0.0.1:{port}"))
        assert not any(connects)

    def test_tls_that_fails(self, stream: Stream) -> None:
        """A TLS handshake that fails ends at once, for all that the library would wait to hang up."""
        with refusing_server(tls_required=True) as (port, _), pytest.raises(TryAgainError, match="SSL"):
            Night(stream.source(f"tls://127.0.0.1:{port}"))

    @pytest.mark.parametrize("url", ["nats://user:hidden/pw@host", "nats://user:hidden@host:port", "nats://"])
    def test_url(self, stream: Stream, url: str) -> None:
        """A url that cannot be taken apart is the config's fault, and is not repeated."""
        with pytest.raises(ConfigError, match="the url of source 'x' must look like nats://user") as caught:
            stream.source(url)
        assert "hidden" not in str(caught.value)

    @pytest.mark.parametrize("name", ["a.b", "a b", "*", "a/b"])
    def test_name(self, name: str) -> None:
        """A name that a stream or durable cannot have is the config's fault."""
        for stream, durable in ((name, ""), ("s", name)):
            config = NatsConfig(url=URL, name="x", stream=stream, durable=durable)
            with pytest.raises(ConfigError, match="must be a name without spaces"):
                NatsSource(config, url=URL)

    def test_subject_that_is_none(self, stream: Stream) -> None:
        """A subject that the server does not take is the config's fault."""
        with pytest.raises(ConfigError, match="mend the config or the server's"):
            Night(stream.source(subject="a..b"))

    def test_a_look_makes_nothing(self, stream: Stream, tmp_path: Path) -> None:
        """Who only looks reads the rows and makes no durable, and still says that one is somebody else's."""
        stream.add(0, 1)
        config = NatsConfig(url=URL, name="x", stream=stream.name)
        look = make_source(config, Surroundings((), "y", tmp_path, is_look=True))
        assert sum(len(chunk.table) for chunk in look.read(None, print)) == 2
        assert talk(lambda js: js.consumers_info(stream.name)) == []
        Night(stream.source(subject="a"))
        assert [found.name for found in talk(lambda js: js.consumers_info(stream.name))] == ["nightfit"]
        with pytest.raises(ConfigError, match="set another durable"):
            list(look.read(None, print))

    def test_cursor_of_another_kind(self, stream: Stream) -> None:
        """A cursor of another kind of source is the config's fault."""
        with pytest.raises(ConfigError, match="a source keeps its kind"):
            Night(stream.source(), {"files": {}})


@contextmanager
def refusing_server(*, tls_required: bool = False) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Give the port of a server that lets nobody in, and what the clients said of themselves."""
    connects: list[dict[str, Any]] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                with server.accept()[0] as connection, connection.makefile("rwb") as file:
                    info = {"auth_required": True, "headers": True, "tls_required": tls_required}
                    file.write(f"INFO {json.dumps(info)}\r\n".encode())
                    file.flush()
                    if tls_required:
                        connection.recv(4096)
                        file.write(b"no hello of TLS\r\n")
                        continue
                    connects.append(json.loads(file.readline().removeprefix(b"CONNECT ") or b"{}"))
                    file.write(b"-ERR 'Authorization Violation'\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], connects
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()

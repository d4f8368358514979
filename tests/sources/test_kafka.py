"""The brokers are librdkafka's own, in a process of their own: they speak Kafka's protocol over a real socket."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from nightfit.errors import ConfigError, DataError, GapError, TryAgainError
from nightfit.sources import kafka as kafka_module
from nightfit.sources.base import Surroundings
from nightfit.sources.configs import KafkaConfig
from nightfit.sources.kafka import KafkaSource
from nightfit.sources.kafkaclient import KafkaClient
from nightfit.sources.kafkaoffsets import Offsets, Position, common, resume
from nightfit.sources.make import make_source
from nightfit.testing import check_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nightfit.sources.base import Chunk, Cursor

BROKERS = """
import sys
from confluent_kafka import Producer
host = Producer({"test.mock.num.brokers": 3, "log_level": 0})
print(",".join(f"{broker.host}:{broker.port}" for broker in host.list_topics(timeout=30).brokers.values()), flush=True)
sys.stdin.read()
"""
NOBODY = "127.0.0.1:1"
_names = (f"topic-{i}" for i in itertools.count())


class Cluster:
    """Three brokers in a process of their own; a topic comes into being with 4 partitions when it is written to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", BROKERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        self.brokers = self.process.stdout.readline().strip()
        self.producer = Producer({"bootstrap.servers": self.brokers, "log_level": 0})

    def write(self, topic: str, values: list[bytes | None], partition: int = 0) -> None:
        """Append messages to a partition."""
        for value in values:
            self.producer.produce(topic, value=value, partition=partition)
            self.producer.poll(0)
        assert self.producer.flush(20) == 0

    def transact(self, topic: str, values: list[bytes]) -> None:
        """Append messages to partition 0 in a transaction, which ends with a marker that takes an offset."""
        producer = Producer({"bootstrap.servers": self.brokers, "transactional.id": topic, "log_level": 0})
        producer.init_transactions(20)
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, value=value, partition=0)
        producer.commit_transaction(20)

    def committed(self, topic: str, group: str = "nightfit") -> list[int]:
        """Ask another client for what a group has committed."""
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": group, "log_level": 0})
        try:
            return [p.offset for p in consumer.committed([TopicPartition(topic, i) for i in range(4)], timeout=20)]
        finally:
            consumer.close()

    def signal(self, number: signal.Signals) -> None:
        """Send the brokers' process a signal that ends or stops it, and wait until it does."""
        os.kill(self.process.pid, number)
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)

    def close(self) -> None:
        """End the brokers."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def started() -> Iterator[Cluster]:
    """Start brokers, and end them."""
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Give brokers that the tests share, each with topics of its own."""
    with started() as cluster:
        yield cluster


@pytest.fixture
def mortal() -> Iterator[Cluster]:
    """Give brokers that a test may stop."""
    with started() as cluster:
        yield cluster


@pytest.fixture
def topic() -> str:
    """Give a name that no other test uses."""
    return next(_names)


def source(brokers: str, topic: str, **options: Any) -> KafkaSource:  # noqa: ANN401
    """Make a source of a topic."""
    options.setdefault("timeout_s", 10)
    url = f"kafka://{brokers}/{topic}"
    return KafkaSource(KafkaConfig(url, name="k", **options), url=url)


def values(*ids: int) -> list[bytes | None]:
    """Write records with these ids."""
    return [b'{"id": %d}' % i for i in ids]


class Night:
    """One reading of a source: its rows, bad rows, notes, and the cursor reached."""

    def __init__(self, src: KafkaSource, after: Cursor | None = None) -> None:
        self.notes: list[str] = []
        self.chunks: list[Chunk] = list(src.read(after, self.notes.append))
        self.ids = [row["id"] for chunk in self.chunks if len(chunk.table) for row in chunk.table.to_pylist()]
        self.bad = [row for chunk in self.chunks for row in chunk.bad]
        self.rows = [(c.place, c.generation, row) for c in self.chunks for row in c.rows.tolist()]
        last = self.chunks[-1] if self.chunks else None
        self.cursor = json.loads(json.dumps(last.cursor_at(len(last.table)))) if last else after


def offsets(cursor: Cursor | None) -> list[int]:
    """List the offsets of a cursor by partition."""
    assert cursor
    return [position.offset for _, position in sorted(Offsets.of(cursor).partitions.items())]


class TestContract:
    """The contract of a source, as plug-in authors check it."""

    @pytest.mark.parametrize("n_partitions", [1, 4])
    def test_topic(self, cluster: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch, *, n_partitions: int) -> None:
        """A topic keeps the contract, with bad messages among the good, and chunks that cut through partitions."""
        monkeypatch.setattr(kafka_module, "CHUNK_ROWS", 3)
        numbers = itertools.count()
        cluster.write(topic, [b"no JSON", *values(-1), None, b"[1]"])

        def grow(n: int) -> None:
            for i in itertools.islice(numbers, n):
                cluster.write(topic, values(i), partition=i % n_partitions)

        check_source(lambda: source(cluster.brokers, topic), grow)

    def test_transactions(self, cluster: Cluster, topic: str) -> None:
        """A topic whose every message is followed by a marker of a transaction keeps the contract."""

        def grow(n: int) -> None:
            for _ in range(n):
                cluster.transact(topic, [b'{"id": 1}'])

        check_source(lambda: source(cluster.brokers, topic), grow)


class TestReading:
    """What is read, and what is not."""

    def test_many_messages(self, cluster: Cluster, topic: str) -> None:
        """20,000 messages of 4 partitions are read once each, in the order of their partitions."""
        for partition in range(4):
            cluster.write(topic, values(*range(partition, 20_000, 4)), partition)
        night = Night(source(cluster.brokers, topic))
        assert night.ids == [i for partition in range(4) for i in range(partition, 20_000, 4)]
        assert night.rows == [(f"k[{p}]", 0, row) for p in range(4) for row in range(5_000)]
        assert Night(source(cluster.brokers, topic), night.cursor).chunks == []

    def test_only_what_was_there_at_the_start(
        self, cluster: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What arrives in any partition while a night reads is left for the next."""
        monkeypatch.setattr(kafka_module, "CHUNK_ROWS", 2)
        for partition in range(2):
            cluster.write(topic, values(*range(10)), partition)
        ids: list[int] = []
        cursor: Cursor | None = None
        for chunk in source(cluster.brokers, topic).read(None, print):
            ids += [row["id"] for row in chunk.table.to_pylist()]
            cursor = chunk.cursor_at(len(chunk.table))
            for partition in range(3):
                cluster.write(topic, values(100, 101), partition)
        assert ids == [*range(10), *range(10)]
        assert offsets(cursor) == [10, 10, 0, 0]
        assert set(Night(source(cluster.brokers, topic), cursor).ids) == {100, 101}

    def test_marker_at_the_end(self, cluster: Cluster, topic: str) -> None:
        """A last offset that holds no message is passed, so that a second night finds nothing and waits for nothing."""
        cluster.transact(topic, [b'{"id": 1}', b'{"id": 2}'])
        night = Night(source(cluster.brokers, topic))
        assert (night.ids, offsets(night.cursor)) == ([1, 2], [3, 0, 0, 0])
        assert Night(source(cluster.brokers, topic), night.cursor).chunks == []

    def test_marker_at_the_end_of_a_topic_that_grew(self, cluster: Cluster, topic: str) -> None:
        """Where the end of a night is a marker, the message that follows it is for the next night."""
        cluster.transact(topic, [b'{"id": 1}', b'{"id": 2}'])
        cluster.write(topic, values(3))
        config = KafkaConfig(f"kafka://{cluster.brokers}/{topic}", name="k")
        with closing(KafkaClient(config, brokers=cluster.brokers, topic=topic)) as client:
            assert client.watermarks(0) == (0, 4)
            assert [offset for offset, _ in client.messages(0, 0, 3)] == [0, 1]
            assert [offset for offset, _ in client.messages(0, 2, 4)] == [3]

    def test_bad_messages(self, cluster: Cluster, topic: str) -> None:
        """Messages without a value or a JSON object are counted and kept, each with its offset."""
        cluster.write(topic, [None, *values(1), b"\xff", b"[1]"])
        night = Night(source(cluster.brokers, topic))
        assert night.ids == [1]
        assert [(bad.row, bad.text) for bad in night.bad] == [
            (0, "offset 0: "),
            (2, "offset 2: \ufffd"),
            (3, "offset 3: [1]"),
        ]
        assert night.bad[0].reason == "a record must be a JSON object, however this has no value"

    def test_chunks_of_large_messages(self, cluster: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A chunk ends early where its messages are large."""
        monkeypatch.setattr(kafka_module, "CHUNK_BYTES", 15)
        cluster.write(topic, values(1, 2, 3))
        assert [len(chunk.table) for chunk in Night(source(cluster.brokers, topic)).chunks] == [2, 1]

    def test_broken_off_night_resumes(self, cluster: Cluster, topic: str) -> None:
        """From every row on, exactly the rest is read."""
        for partition in range(2):
            cluster.write(topic, [b"bad", *values(partition, 7)], partition)
        whole = Night(source(cluster.brokers, topic))
        n_before = 0
        for chunk in whole.chunks:
            for i in range(len(chunk.table) + 1):
                rest = Night(source(cluster.brokers, topic), chunk.cursor_at(i))
                assert rest.rows == whole.rows[n_before + i :]
            n_before += len(chunk.table)

    def test_made_from_config(
        self, cluster: Cluster, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A config with a kafka:// url, its secrets in the environment, makes this source."""
        monkeypatch.setenv("BROKERS", cluster.brokers)
        monkeypatch.setenv("WHO", "me")
        cluster.write(topic, values(1))
        config = KafkaConfig(f"kafka://${{BROKERS}}/{topic}", name="k", properties={"client.id": "${WHO}"})
        src = make_source(config, Surroundings(key=(), target="y", root=tmp_path))
        assert [len(chunk.table) for chunk in src.read(None, print)] == [1]


class TestGaps:
    """A topic that no longer holds what the cursor needs."""

    def test_made_anew(self, mortal: Cluster, cluster: Cluster, topic: str) -> None:
        """A topic that ends before the cursor stops the night, or is read as a new generation, which is said once."""
        mortal.write(topic, values(1, 2, 3))
        mortal.write(topic, values(4), partition=1)
        first = Night(source(mortal.brokers, topic))
        cluster.write(topic, values(7, 8))
        cluster.write(topic, values(4, 9), partition=1)
        with pytest.raises(GapError, match=r"must still hold offset 3, however it ends at 2: .*; find the rows"):
            Night(source(cluster.brokers, topic), first.cursor)
        second = Night(source(cluster.brokers, topic, on_gap="skip"), first.cursor)
        assert second.ids == [7, 8, 9]
        assert second.rows == [("k[0]", 1, 0), ("k[0]", 1, 1), ("k[1]", 1, 0)]
        assert len(second.notes) == 1
        assert second.notes[0].endswith("; they are skipped")
        third = Night(source(cluster.brokers, topic), second.cursor)
        assert (third.chunks, third.notes) == ([], [])

    def test_made_anew_and_empty(self, mortal: Cluster, cluster: Cluster, topic: str) -> None:
        """A skipped gap that leaves nothing to read moves the cursor, so that it is said once."""
        mortal.write(topic, values(1, 2, 3))
        first = Night(source(mortal.brokers, topic))
        cluster.write(topic, values(1), partition=1)
        after = Night(source(cluster.brokers, topic), None).cursor
        assert after
        assert first.cursor
        after["partitions"]["0"] = first.cursor["partitions"]["0"]  # type: ignore[call-overload, index]
        second = Night(source(cluster.brokers, topic, on_gap="skip"), after)
        assert [len(chunk.table) for chunk in second.chunks] == [0]
        assert Night(source(cluster.brokers, topic), second.cursor).notes == []

    def test_offset_that_goes_while_it_is_read(
        self, cluster: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A partition that loses its offset after it was asked for its ends is a gap, and never read from elsewhere."""
        cluster.write(topic, values(1, 2))
        cursor = Offsets(0, {p: Position(5 if p == 0 else 0, 5) for p in range(4)}).cursor
        asked: list[int] = []
        ends = KafkaClient.watermarks

        def longer_at_first(client: KafkaClient, partition: int) -> tuple[int, int]:
            asked.append(partition)
            return (0, 9) if len(asked) == 1 else ends(client, partition)

        monkeypatch.setattr(KafkaClient, "watermarks", longer_at_first)
        with pytest.raises(GapError, match="must still hold offset 5, however it ends at 2"):
            Night(source(cluster.brokers, topic), cursor)
        asked.clear()
        night = Night(source(cluster.brokers, topic, on_gap="skip"), cursor)
        assert (night.ids, night.rows) == ([1, 2], [("k[0]", 1, 0), ("k[0]", 1, 1)])

    def test_offset_that_comes_and_goes(self, cluster: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An offset that the brokers deny, though their watermarks hold it, is left for another run."""
        cluster.write(topic, values(1))
        monkeypatch.setattr(KafkaClient, "watermarks", lambda *_: (0, 9))
        with pytest.raises(TryAgainError, match="it changed meanwhile"):
            Night(source(cluster.brokers, topic), Offsets(0, {p: Position(5) for p in range(4)}).cursor)


class TestResume:
    """Where to go on, given what is there."""

    after = Offsets(0, {0: Position(5, rows=4), 1: Position(2, rows=2)})

    def test_first_night(self) -> None:
        """A first night starts where each partition starts."""
        assert resume(None, {0: (3, 9), 1: (0, 0)}, "t") == (Offsets(0, {0: Position(3), 1: Position(0)}), [])

    @pytest.mark.parametrize("present", [{0: (0, 5), 1: (2, 9)}, {0: (5, 5), 1: (0, 2)}])
    def test_nothing_lost(self, present: dict[int, tuple[int, int]]) -> None:
        """Offsets that are still there, or are the next to come, are no gap."""
        assert resume(self.after, present, "t") == (self.after, [])

    def test_deleted_before_read(self) -> None:
        """Records that were deleted unread are a gap, after which rows are counted on."""
        offsets, gaps = resume(self.after, {0: (7, 9), 1: (0, 2)}, "t")
        assert offsets == Offsets(0, {0: Position(7, rows=4), 1: Position(2, rows=2)})
        assert gaps == [
            (
                "partition 0 of topic 't' must still hold offset 5, however it starts at 7: "
                "records were deleted before they were read"
            )
        ]

    def test_added_partition(self) -> None:
        """A partition that was added is read from offset 0, and deleted records of it are a gap as well."""
        found, gaps = resume(self.after, {0: (0, 5), 1: (0, 2), 2: (0, 4)}, "t")
        assert (found.partitions[2], found.generation, gaps) == (Position(0), 0, [])
        found, gaps = resume(self.after, {0: (0, 5), 1: (0, 2), 2: (1, 4)}, "t")
        assert (found.partitions[2], len(gaps)) == (Position(1), 1)

    def test_partition_is_gone(self) -> None:
        """A partition that is gone is a gap, and starts a generation in which it may come back."""
        found, gaps = resume(self.after, {0: (0, 6)}, "t")
        assert found == Offsets(1, {0: Position(5)})
        assert gaps == ["partition 1 of topic 't' must still be there, however the topic was made anew without it"]

    def test_rolled_back(self) -> None:
        """A partition that ends before its offset is read from its start; the others go on, all numbered anew."""
        found, gaps = resume(self.after, {0: (1, 3), 1: (0, 9)}, "t")
        assert found == Offsets(1, {0: Position(1), 1: Position(2)})
        assert len(gaps) == 1


class TestFailures:
    """Brokers and topics that are not there."""

    def test_nobody_home(self, topic: str) -> None:
        """Brokers that cannot be reached are an error for which time may be the cure."""
        with pytest.raises(TryAgainError, match=r"source 'k' must answer within 0.3 s, however: .*Connection refused"):
            Night(source(NOBODY, topic, timeout_s=0.3))

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
    def test_brokers_die_while_reading(
        self, mortal: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch, *, how: signal.Signals
    ) -> None:
        """Brokers that die or hang end the night by naming the partition, and how far it came.

        A client that has just one of five messages when they die is in the first, though it fetches ahead.
        """
        monkeypatch.setattr(kafka_module, "CHUNK_ROWS", 1)
        mortal.write(topic, values(*range(5)), partition=1)
        mortal.write(topic, values(*range(5)), partition=2)
        reading = source(mortal.brokers, topic, timeout_s=1).read(None, print)
        next(reading)
        mortal.signal(how)
        where = r"(2 came after offset 0|1 came after offset [1-4])"
        with pytest.raises(TryAgainError, match=rf"no message of partition {where}, which .* end at 5"):
            list(reading)

    def test_brokers_hang_at_the_start(self, mortal: Cluster, topic: str) -> None:
        """Brokers that take connections and say nothing end the night in time."""
        mortal.signal(signal.SIGSTOP)
        with pytest.raises(TryAgainError, match=r"must answer within 0.5 s"):
            Night(source(mortal.brokers, topic, timeout_s=0.5))

    def test_broken_off_reading_closes(self, mortal: Cluster, topic: str) -> None:
        """A reading that is broken off closes its consumer, though the brokers hang."""
        mortal.write(topic, values(1))
        mortal.write(topic, values(2), partition=1)
        reading = source(mortal.brokers, topic).read(None, print)
        next(reading)
        mortal.signal(signal.SIGSTOP)
        reading.close()  # type: ignore[attr-defined]
        assert list(reading) == []

    def test_unknown_topic(self, cluster: Cluster, topic: str) -> None:
        """A topic that is not there is an error, unless it is optional; it is not made."""
        for _ in range(2):
            with pytest.raises(DataError, match=f"however the brokers know no '{topic}'; make it, or say optional"):
                Night(source(cluster.brokers, topic))
        night = Night(source(cluster.brokers, topic, optional=True))
        assert (night.chunks, len(night.notes)) == ([], 1)

    def test_other_kind_of_cursor(self, cluster: Cluster, topic: str) -> None:
        """A cursor of a file is no cursor of a topic."""
        with pytest.raises(ConfigError, match="a source keeps its kind"):
            Night(source(cluster.brokers, topic), {"files": {}})

    def test_nothing_is_printed(self, topic: str) -> None:
        """Nothing of what librdkafka has to say goes to stderr, which cron would mail."""
        script = f"""
from nightfit.errors import TryAgainError
from nightfit.sources.configs import KafkaConfig
from nightfit.sources.kafka import KafkaSource
url = "kafka://{NOBODY}/{topic}"
source = KafkaSource(KafkaConfig(url, name="k", timeout_s=0.3, properties={{"queue.buffering.max.ms": "1"}}), url=url)
cursor = {{"generation": 0, "partitions": {{"0": {{"offset": 1, "rows": 1}}}}}}
for call in (lambda: list(source.read(None, print)), lambda: source.acknowledge([cursor])):
    try:
        call()
    except TryAgainError:
        print("later")
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("later\nlater\n", "")


class TestConfig:
    """What the config says."""

    @pytest.mark.parametrize(
        "url", ["kafka://host:9092", "kafka://host/", "kafka://u:hunter2@host/t", "kafka:///t", "kafka://h/a/b"]
    )
    def test_url(self, url: str) -> None:
        """A url names brokers and a topic, and nothing else; it is not repeated, as it may hold a password."""
        with pytest.raises(ConfigError, match="must be kafka://host:9092,host:9092/topic") as caught:
            KafkaSource(KafkaConfig(url, name="k"), url=url)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("timeout_s", [0, -1, 3601])
    def test_timeout(self, timeout_s: float) -> None:
        """A timeout is a time."""
        with pytest.raises(ValueError, match="timeout_s must be above 0"):
            KafkaConfig("kafka://h/t", timeout_s=timeout_s)

    @pytest.mark.parametrize(
        ("properties", "fact"),
        [
            ({"group.id": "g"}, "property 'group.id' is for nightfit to set"),
            ({"no.such": "x"}, "No such configuration property"),
            ({"sasl.password": "${NO_SUCH_NAME}"}, "needs \\${NO_SUCH_NAME} from the environment"),
            ({"security.protocol": "${SECRET}"}, "Invalid value .*\\*\\*\\*"),
        ],
    )
    def test_properties(self, monkeypatch: pytest.MonkeyPatch, properties: dict[str, str], fact: str) -> None:
        """Properties that cannot work are an error of the config, which keeps secrets to itself."""
        monkeypatch.setenv("SECRET", "hunter2")
        with pytest.raises(ConfigError, match=fact) as caught:
            Night(source(NOBODY, "t", properties=properties))
        assert "hunter2" not in str(caught.value)

    def test_refused(self, cluster: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Brokers that do not take the credentials are an error of the config, without the credentials."""
        monkeypatch.setenv("PASSWORD", "hunter2")
        properties = {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "me",
            "sasl.password": "${PASSWORD}",
        }
        with pytest.raises(ConfigError, match=r"the brokers must let source 'k' in, however: .*SASL") as caught:
            Night(source(cluster.brokers, topic, properties=properties, timeout_s=1))
        assert "hunter2" not in str(caught.value)


class TestAcknowledge:
    """Telling the group how far the rows are accounted for."""

    def test_smallest_offsets(self, cluster: Cluster, topic: str) -> None:
        """A group is told the offsets before which all lineages are, again and again if need be."""
        for partition in range(2):
            cluster.write(topic, values(1, 2, 3), partition)
        src = source(cluster.brokers, topic, group=topic)
        first, *_, last = (chunk.cursor_at(len(chunk.table)) for chunk in Night(src).chunks)
        assert cluster.committed(topic, group=topic) == [-1001] * 4
        for _ in range(2):
            src.acknowledge([last, first])
            assert cluster.committed(topic, group=topic) == [3, 0, 0, 0]
        src.acknowledge([last])
        assert cluster.committed(topic, group=topic) == [3, 3, 0, 0]

    def test_partitions_that_some_lack(self) -> None:
        """Nothing is said of a partition that a lineage has not met, nor where there are no lineages."""
        both, one = Offsets(0, {0: Position(5), 1: Position(2)}).cursor, Offsets(0, {0: Position(3)}).cursor
        assert (common([both, one]), common([both]), common([])) == ({0: 3}, {0: 5, 1: 2}, {})

    def test_partition_that_is_gone(self, cluster: Cluster, topic: str) -> None:
        """A partition that is gone does not keep the others from being acknowledged."""
        cluster.write(topic, values(1))
        cursor = Offsets(0, {0: Position(1), 9: Position(5)}).cursor
        source(cluster.brokers, topic, group=topic).acknowledge([cursor])
        assert cluster.committed(topic, group=topic)[0] == 1

    def test_nobody_home(self, topic: str) -> None:
        """Brokers that cannot be reached are an error for which time may be the cure, and says why."""
        with pytest.raises(TryAgainError, match=r"must answer within 0.5 s, however: .*Connection refused"):
            source(NOBODY, topic, timeout_s=0.5).acknowledge([Offsets(0, {0: Position(1)}).cursor])

    def test_nobody_to_tell(self, topic: str) -> None:
        """Without a group no broker is asked."""
        source(NOBODY, topic, group="", timeout_s=0.3).acknowledge([Offsets(0, {0: Position(1)}).cursor])

    def test_brokers_hang(self, mortal: Cluster, topic: str) -> None:
        """Brokers that do not answer are an error for which time may be the cure."""
        mortal.signal(signal.SIGSTOP)
        with pytest.raises(TryAgainError, match=r"must answer within 0.5 s"):
            source(mortal.brokers, topic, timeout_s=0.5).acknowledge([Offsets(0, {0: Position(1)}).cursor])

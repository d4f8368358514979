"""Talking to Kafka's brokers through librdkafka: every call ends in time, in silence, and with an error of ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from nightfit.errors import ConfigError, NightfitError, TryAgainError
from nightfit.sources.base import from_environment

if TYPE_CHECKING:
    from nightfit.sources.configs import KafkaConfig
    from nightfit.sources.kafkaoffsets import Watermarks

_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())  # librdkafka writes to stderr otherwise, and cron would mail that

_BATCH = 1_000
_SECRET = re.compile(r"password|secret|token|key|pem|jaas|oauth", re.IGNORECASE)
_FORBIDDEN = {
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - how the library names its own codes, as opposed to the broker's
    KafkaError._SSL,  # noqa: SLF001
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
}
_OUT_OF_RANGE = {
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001
    KafkaError._LOG_TRUNCATION,  # noqa: SLF001
    KafkaError.OFFSET_OUT_OF_RANGE,
}
_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001
_TIMED_OUT = KafkaError._TIMED_OUT  # noqa: SLF001
_Client = TypeVar("_Client", Consumer, AdminClient)
_FIXED = {
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
}
"""What a reading relies on: librdkafka commits nothing, tells a partition's end, and never starts over by itself."""
_OURS = _FIXED.keys() | {"bootstrap.servers", "group.id"}


class OffsetGoneError(Exception):
    """A partition no longer holds the offset that is to be read."""


class KafkaClient:
    """One topic on its brokers. Nothing is connected before the first call; `close` ends what was.

    All methods raise `TryAgainError` for brokers that do not answer in `config.timeout_s`, `ConfigError` for those
    that refuse, neither with a secret in it.
    """

    def __init__(self, config: KafkaConfig, *, brokers: str, topic: str) -> None:
        self._config, self._brokers, self._topic = config, brokers, topic
        self._heard: dict[int, str] = {}
        self._secrets: set[str] = set()
        self._open: Consumer | None = None

    def close(self) -> None:
        """Disconnect."""
        if self._open:
            self._open.close()
        self._open = None

    def partitions(self) -> list[int]:
        """List the topic's partitions; none if there is no such topic."""
        try:
            topic = self._consumer.list_topics(self._topic, timeout=self._config.timeout_s).topics[self._topic]
        except KafkaException as error:
            raise self._failed(error.args[0]) from None
        if topic.error and topic.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return []
        if topic.error:
            raise self._failed(topic.error)
        return sorted(topic.partitions)

    def watermarks(self, partition: int) -> Watermarks:
        """Return the offsets between which a partition can be read; transactions that are open lie beyond."""
        place = TopicPartition(self._topic, partition)
        try:
            return self._consumer.get_watermark_offsets(place, timeout=self._config.timeout_s)
        except KafkaException as error:
            raise self._failed(error.args[0]) from None

    def messages(self, partition: int, start: int, end: int) -> Iterator[tuple[int, bytes | None]]:
        """Yield the offsets and values of a partition's messages from one offset up to another.

        Not all offsets have a message: transactions end with a marker, and compaction takes messages away. So the
        end was reached where a message lies there or beyond, or where the broker says that there are no more.

        Raises `OffsetGoneError` where the partition no longer holds `start`.
        """
        consumer, patience = self._consumer, self._config.timeout_s
        self._heard.clear()
        consumer.assign([TopicPartition(self._topic, partition, start)])
        give_up_at = monotonic() + patience
        while (left := give_up_at - monotonic()) > 0:
            waiting: list[Message | None] = [*consumer.consume(_BATCH, timeout=0)]
            for message in waiting or [consumer.poll(left)]:
                if message is None or not self._is_of(message, partition):
                    continue
                offset = cast("int", message.offset())
                if offset < end and not message.error():
                    yield offset, message.value()
                    start, give_up_at = offset + 1, monotonic() + patience
                if max(offset, start) >= end:
                    return
        wanted = f"no message of partition {partition} came after offset {start}, which should end at {end}"
        raise self._failed(KafkaError(_TIMED_OUT, wanted))

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the group how far each partition is accounted for; a partition that is gone is left out."""
        # A consumer's commit has no timeout of its own: with a broker that hangs, it would hang as well.
        places = [TopicPartition(self._topic, partition, offset) for partition, offset in offsets.items()]
        group, patience = self._config.group, self._config.timeout_s
        admin = self._made(AdminClient, self._settings())
        try:
            request = [ConsumerGroupTopicPartitions(group, places)]
            answers = admin.alter_consumer_group_offsets(request, request_timeout=patience)
            committed = answers[group].result(2 * patience).topic_partitions
        except KafkaException as error:
            admin.poll(0)
            raise self._failed(error.args[0]) from None
        except TimeoutError:
            raise self._failed(KafkaError(_TIMED_OUT, f"the offsets of group {group!r} were not taken")) from None
        errors = [place.error for place in committed if place.error]
        if refused := [error for error in errors if error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART]:
            raise self._failed(refused[0])

    @property
    def _consumer(self) -> Consumer:
        """The consumer, which assigns its partitions itself and never joins its group."""
        if self._open is None:
            settings = {
                "fetch.wait.max.ms": 50,  # a partition's last fetch holds up the next partition for as long
                **self._settings(),
                "group.id": self._config.group or "nightfit",
                **_FIXED,
            }
            self._open = self._made(Consumer, settings)
        return self._open

    def _made(self, kind: Callable[..., _Client], settings: Mapping[str, Any]) -> _Client:
        try:
            return kind(settings, logger=_LOG)
        except KafkaException as error:
            raise ConfigError(
                f"the properties of source {self._config.name!r} must be librdkafka's, however: "
                f"{self._scrubbed(error.args[0].str())}; mend them"
            ) from None

    def _settings(self) -> dict[str, Any]:
        """Return the config's properties with their secrets, which messages hide from now on."""
        settings: dict[str, Any] = {}
        for name, text in self._config.properties.items():
            if name in _OURS:
                raise ConfigError(
                    f"property {name!r} is for nightfit to set, however source {self._config.name!r} sets it; remove it"
                )
            settings[name] = from_environment(text, f"property {name!r} of source {self._config.name!r}")
            if settings[name] != text or _SECRET.search(name):
                self._secrets.add(settings[name])
        return {**settings, "bootstrap.servers": self._brokers, "error_cb": self._hear}

    def _is_of(self, message: Message, partition: int) -> bool:
        """Tell messages of a partition, and its end, from errors that librdkafka tries to mend by itself."""
        error = message.error()
        if error and error.code() in _OUT_OF_RANGE:
            raise OffsetGoneError(self._scrubbed(error.str()))
        if error and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise self._failed(error)
        if error and error.code() != _EOF:
            self._hear(error)
            return False
        return message.partition() == partition

    def _hear(self, error: KafkaError) -> None:
        self._heard[error.code()] = error.str()

    def _failed(self, error: KafkaError) -> NightfitError:
        """Make an error of what failed, and of what librdkafka has said about the brokers before."""
        if self._open:
            self._open.poll(0)  # calls error_cb for what came in meanwhile
        source = f"source {self._config.name!r}"
        fact = self._scrubbed(" / ".join(dict.fromkeys([error.str(), *self._heard.values()])))
        if _FORBIDDEN & {error.code(), *self._heard}:
            return ConfigError(f"the brokers must let {source} in, however: {fact}; mend its properties or its rights")
        return TryAgainError(
            f"the brokers of {source} must answer within {self._config.timeout_s:g} s, however: {fact}; "
            "see that they are up, and that hosts, ports and properties are theirs; then try again later"
        )

    def _scrubbed(self, text: str) -> str:
        for secret in sorted(filter(None, self._secrets), key=len, reverse=True):
            text = text.replace(secret, "***")
        return " ".join(text.split())

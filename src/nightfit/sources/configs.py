"""The keys of each kind of source, as the config spells them: no library is imported for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nightfit.sources.base import SourceConfig

_MAX_KAFKA_TIMEOUT_S = 3_600


@dataclass(frozen=True)
class FileConfig(SourceConfig):
    """A file, a folder of them, or a glob."""

    rotated: str = ""
    """A glob of the files that a log is renamed to when it is rotated; empty: it is not."""


@dataclass(frozen=True)
class SqlConfig(SourceConfig):
    """A table or a query of a database."""

    table: str = ""
    query: str = ""
    cursor: str | tuple[str, ...] = ()
    """Column(s) that grow from row to row; the key if empty."""
    overlap_rows: int = 1_000
    """Rows before the cursor that are looked at again for some that were committed late, where nothing tells that."""

    def __post_init__(self) -> None:
        if bool(self.table) == bool(self.query):
            raise ValueError("a database source needs a table or a query, however it has both or none")
        if self.overlap_rows < 0:
            raise ValueError(f"overlap_rows must be at least 0, however it is {self.overlap_rows}")

    @property
    def part(self) -> str:
        """The table; a query has no name."""
        return self.table or "query"

    @property
    def cursor_columns(self) -> tuple[str, ...]:
        """The cursor's columns; the config may write a single one as text."""
        return (self.cursor,) if isinstance(self.cursor, str) else self.cursor


@dataclass(frozen=True)
class HttpConfig(SourceConfig):
    """JSON over GET, page by page."""

    records: str = ""
    """Path of the list of records in a page, as in "data.items"; empty: the page is the list."""
    pages: Literal["none", "next", "number", "token"] = "none"
    """How the next page is found: by its URL (in the Link header, or at `next`), its number, or a token at `next`."""
    next: str = ""
    """Path of the next page's URL or token in a page."""
    page_parameter: str = "page"
    """Query parameter that takes the page's number or token."""
    first_page: int = 1
    cursor: str = ""
    """Field of a record that grows with every change, such as "updated_at"; empty: everything is read each night."""
    since: str = ""
    """Query parameter that takes the cursor's last value."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request; "${NAME}" is taken from the environment."""
    max_pages: int = 10_000
    max_bytes: int = 256 << 20
    """Of all pages of a night together."""
    timeout_s: float = 30.0
    """For connecting, and between two pieces of an answer."""
    patience_s: float = 300.0
    """How long a night goes on trying while the API fails or says to wait."""

    def __post_init__(self) -> None:
        if self.since and not self.cursor:
            raise ValueError("since takes the last value of the cursor, however no cursor is named; set cursor")
        if self.pages == "token" and not self.next:
            raise ValueError('pages = "token" needs the path of the token, however next is empty; set next')
        if self.next and self.pages not in {"next", "token"}:
            raise ValueError(f'next is for pages = "next" or "token", however pages is {self.pages!r}; set pages')
        if min(self.max_pages, self.max_bytes) < 1 or self.timeout_s <= 0 or self.patience_s < 0:
            raise ValueError(
                "max_pages and max_bytes must be at least 1, timeout_s above 0 and patience_s at least 0, however "
                f"they are {self.max_pages}, {self.max_bytes}, {self.timeout_s} and {self.patience_s}"
            )

    @property
    def cursor_columns(self) -> tuple[str, ...]:
        """The cursor's field."""
        return (self.cursor,) if self.cursor else ()


@dataclass(frozen=True)
class KafkaConfig(SourceConfig):
    """A topic: kafka://host:9092,host:9092/topic; each message is a JSON object."""

    group: str = "nightfit"
    """Consumer group that is told how far the rows are accounted for; "" tells nobody."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """librdkafka's, for TLS and SASL; "${NAME}" is taken from the environment."""
    timeout_s: float = 30.0
    """How long the brokers may take for an answer, and from one message to the next."""

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= _MAX_KAFKA_TIMEOUT_S:
            raise ValueError(
                f"timeout_s must be above 0 and at most {_MAX_KAFKA_TIMEOUT_S}, however it is {self.timeout_s}"
            )


@dataclass(frozen=True)
class RedisConfig(SourceConfig):
    """A stream: redis://host:6379/0; each entry's fields are columns."""

    stream: str = ""
    field: str = ""
    """The field that holds the row as a JSON object; empty: the fields are the columns."""
    group: str = "nightfit"
    """Consumer group that is told how far the rows are accounted for; "" tells nobody."""
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.stream:
            raise ValueError("a redis source needs a stream, however it names none")

    @property
    def part(self) -> str:
        """The stream."""
        return self.stream


@dataclass(frozen=True)
class NatsConfig(SourceConfig):
    """A JetStream stream: nats://host:4222; each message is a JSON object."""

    stream: str = ""
    subject: str = ""
    """Only messages of this subject, which may hold wildcards."""
    durable: str = "nightfit"
    """Consumer that is told how far the rows are accounted for; "" tells nobody."""
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.stream:
            raise ValueError("a nats source needs a stream, however it names none")

    @property
    def part(self) -> str:
        """The stream, and the subject if there is one."""
        return "/".join(filter(None, (self.stream, self.subject)))

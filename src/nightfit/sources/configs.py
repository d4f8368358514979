"""The keys of each kind of source, as the config spells them: no library is imported for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nightfit.sources.base import Dialect, SourceConfig

_MAX_KAFKA_TIMEOUT_S = 3_600


@dataclass(frozen=True)
class FileConfig(SourceConfig):
    """A file, a folder of them, or a glob."""

    rotated: str = ""
    """A glob of the names that a log gets when it is rotated; empty: it is not. Example: `"events.csv.*"`."""
    delimiter: str = ","
    """What separates the columns of a CSV file: one character, such as `";"` or `"\\t"` (a tab). `init` guesses it, a
    night never does. Example: `";"`."""
    decimal: Literal[".", ","] = "."
    """What separates a number's fraction in a CSV file. With `","`, `1,5` is read as `1.5`; a point stays one, so that
    numbers whose thousands are grouped by points must be written without these. Example: `","`."""

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or not self.delimiter.isascii() or self.delimiter in '"\r\n':
            raise ValueError(
                f'delimiter must be one character such as "," ";" or "\\t", however it is {self.delimiter!r}'
            )

    @property
    def dialect(self) -> Dialect:
        """How the CSV files are spelled."""
        return Dialect(self.delimiter, self.decimal)


@dataclass(frozen=True)
class SqlConfig(SourceConfig):
    """A table or a query of a database."""

    table: str = ""
    """The table (or `schema.table`, or a view) to read; either this or `query`. Example: `"orders"`."""
    query: str = ""
    """A SELECT to read instead; wrapped as a subquery, so that an index on the cursor still serves. Example: `"select *
    from orders where paid"`."""
    cursor: str | tuple[str, ...] = ()
    """Column or columns that grow from row to row; the key if empty. NULL there: not read until it has a value (noted
    each night). Example: `["updated_at", "id"]`."""
    overlap_rows: int = 1_000
    """Rows before the cursor that are looked at again for some that were committed late, where nothing tells of open
    transactions; 0 turns it off."""

    def __post_init__(self) -> None:
        if bool(self.table) == bool(self.query):
            raise ValueError("a database source needs a table or a query, however it has both or none; set one")
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
    """Path of the list of records in a page, as in `"data.items"`; empty: the page is the list. A name with dots in it,
    such as `"@odata.nextLink"`, is a path as well. Example: `"data.items"`."""
    pages: Literal["none", "next", "number", "token"] = "none"
    """How the next page is found: `"next"` by its URL (in the `Link` header, or in the page at `next`), `"number"` by
    counting until a page is empty, `"token"` by the token in the page at `next`."""
    next: str = ""
    """Path of the next page's URL or token in a page; nothing, null or empty text there ends the pages. Example:
    `"links.next"`."""
    page_parameter: str = "page"
    """Query parameter that takes the page's number or token."""
    first_page: int = 1
    """The first page's number."""
    cursor: str = ""
    """Field of a record that grows with every change, such as `"updated_at"` or `"meta.at"`; empty: everything is read
    each night. Example: `"updated_at"`."""
    since: str = ""
    """Query parameter that takes the cursor's last value, as the API spelled it; empty: everything is asked for, and
    what lies before the cursor is left out here. Example: `"since"`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that are sent with every request; `${NAME}` is taken from the environment. Example: `{ Authorization =
    "Bearer ${API_TOKEN}" }`."""
    max_pages: int = 10_000
    """Pages of a night; more are an error."""
    max_bytes: int = 256 << 20
    """Bytes of all pages of a night together, unpacked; more are an error."""
    timeout_s: float = 30.0
    """Seconds for connecting, and between two pieces of an answer."""
    patience_s: float = 300.0
    """Seconds that failed attempts and the waits between them may take in one night; also how long one answer may take
    to come to its end (at least `timeout_s`)."""

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
    """Consumer group that is told how far the rows are accounted for; `""` tells nobody."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """librdkafka's properties, for TLS and SASL; `${NAME}` is taken from the environment. `bootstrap.servers`,
    `group.id`, `enable.auto.commit`, `enable.partition.eof`, `auto.offset.reset` and `isolation.level` are nightfit's
    own. Example: `{ "sasl.password" = "${KAFKA_PASSWORD}" }`."""
    timeout_s: float = 30.0
    """Seconds that the brokers may take for each answer, and from one message to the next (above 0, at most 3600)."""

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= _MAX_KAFKA_TIMEOUT_S:
            raise ValueError(
                f"timeout_s must be above 0 and at most {_MAX_KAFKA_TIMEOUT_S}, however it is {self.timeout_s}"
            )


@dataclass(frozen=True)
class RedisConfig(SourceConfig):
    """A stream: redis://host:6379/0; each entry's fields are columns."""

    stream: str = ""
    """Needed: the stream's key. Example: `"orders"`."""
    field: str = ""
    """The field that holds the row as a JSON object; empty: the fields are the columns. Example: `"row"`."""
    group: str = "nightfit"
    """Consumer group that is told how far the rows are accounted for; `""` tells nobody."""
    timeout_s: float = 30.0
    """Seconds for connecting, and for each answer."""

    def __post_init__(self) -> None:
        if not self.stream:
            raise ValueError("a redis source needs a stream, however it names none; set stream")

    @property
    def part(self) -> str:
        """Needed: the stream. Example: `"ORDERS"`."""
        return self.stream


@dataclass(frozen=True)
class NatsConfig(SourceConfig):
    """A JetStream stream: nats://host:4222; each message is a JSON object."""

    stream: str = ""
    """Needed: the stream. Example: `"ORDERS"`."""
    subject: str = ""
    """Only messages of this subject, which may hold wildcards; empty: all. Example: `"orders.paid"`."""
    durable: str = "nightfit"
    """Consumer that is told how far the rows are accounted for; `""` tells nobody."""
    timeout_s: float = 30.0
    """Seconds for connecting, and for each answer."""

    def __post_init__(self) -> None:
        if not self.stream:
            raise ValueError("a nats source needs a stream, however it names none; set stream")

    @property
    def part(self) -> str:
        """The stream, and the subject if there is one."""
        return "/".join(filter(None, (self.stream, self.subject)))

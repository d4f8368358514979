"""What sources that read from a broker share: messages as a chunk, and the broker's address without its secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from nightfit.errors import ConfigError, DataError
from nightfit.sources.base import BadRow, Chunk, Cursor, SourceConfig, step_over
from nightfit.sources.records import parse_record, to_table


def to_record(data: bytes, row: int) -> dict[str, Any] | BadRow:
    """Parse a message that holds a JSON object; one that does not is the bad row `row`."""
    record = parse_record(data)
    return record if isinstance(record, dict) else BadRow(row, record, data.decode(errors="replace"))


def to_chunk(
    place: str,
    records: Sequence[dict[str, Any] | BadRow],
    *,
    row: int,
    generation: int,
    cursor_after: Callable[[int], Cursor],
) -> Chunk:
    """Make a chunk of n >= 0 consecutive records, numbered from `row` on, good and bad ones as they came.

    `cursor_after(k)` is the cursor after the first k of them, bad ones included.
    """
    good = [i for i, record in enumerate(records) if not isinstance(record, BadRow)]
    ends = [*good, len(records)]
    return Chunk(
        place=place,
        table=to_table([record for record in records if not isinstance(record, BadRow)]),
        rows=np.array(good, np.int64) + row,
        generation=generation,
        cursor_at=lambda i: cursor_after(ends[i]),
        bad=tuple(record for record in records if isinstance(record, BadRow)),
        is_sparse=True,
    )


def pass_over_absent(what: str, config: SourceConfig, after: object, note: Callable[[str], None]) -> None:
    """Note that a stream is not there, or raise: `GapError` where it was read up to `after`, otherwise `DataError`."""
    rule = f"{what} of source {config.name!r} must exist, however it is not there"
    if after is not None:
        step_over(f"{rule} any more, with what came after {after} in it", config.on_gap, note)
    elif config.optional:
        note(f"{rule}; nothing was read, since it is optional")
    else:
        raise DataError(f"{rule}; mend its name, or say optional = true")


def check_kind(cursor: Cursor, needed: str, name: str) -> None:
    """Raise `ConfigError` for the cursor of another kind of source: one without `needed`."""
    if needed not in cursor:
        raise ConfigError(f"a source keeps its kind, however {name!r} was of another before; give it another name")


@dataclass(frozen=True)
class Address:
    """The servers of a url: `hosts` has neither users nor a query, so that messages may say it."""

    hosts: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, url: str, name: str) -> Address:
        """Take a url apart that names one server or, after commas, several, whose user is the first that is named.

        Raises `ConfigError`, which never repeats the url, for one that cannot be taken apart.
        """
        scheme, _, rest = url.partition("://")
        try:
            parts = [urlsplit(f"{scheme}://{server.rpartition('://')[2]}") for server in rest.split(",")]
            hosts = [f"{p.hostname}:{p.port}" if p.port else str(p.hostname or "") for p in parts]
        except ValueError:
            hosts = [""]
        if not all(hosts) or any("@" in p.path + p.query for p in parts):
            raise ConfigError(
                f"the url of source {name!r} must look like {scheme}://user:password@host:port, however it does not; "
                "mend it, and write odd characters of a password as %xx"
            )
        first = next((p for p in parts if p.username is not None), parts[0])
        found = {text for p in parts for text in [*parse_qs(p.query).get("password", []), *_secrets(p.netloc)]}
        return cls(
            f"{scheme}://{','.join(hosts)}{parts[-1].path}",
            None if first.username is None else unquote(first.username),
            None if first.password is None else unquote(first.password),
            tuple(sorted(found, key=len, reverse=True)),
        )

    def scrub(self, error: object) -> str:
        """Return the first line of a message without anything secret."""
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return re.sub("|".join(map(re.escape, self.secrets)), "***", text) if self.secrets else text


def _secrets(netloc: str) -> list[str]:
    """List what must not be said: the password, or the user where that is all, which then is a token."""
    user, _, password = netloc.rpartition("@")[0].partition(":")
    secret = password or user
    return [text for text in (secret, unquote(secret)) if text]

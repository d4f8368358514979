"""What of an API's whole answer is not accounted for yet: told by the value of a field, or by what came before.

Records of an answer come in any order and may be parsed only twice: once to be put in order, once for their columns.
Between the two they are kept as the bytes of their page.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec
from msgspec import Raw

from nightfit.errors import ConfigError, DataError
from nightfit.sources.pages import find
from nightfit.sources.records import parse_record

if TYPE_CHECKING:
    from nightfit.jsontypes import Json
    from nightfit.sources.base import Cursor

HASH_DIGITS = 16
"""Hexadecimal digits of a record's hash: two of 2^32 records of one value would share one."""
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2})?)(?:[.,](\d+))? ?(Z|[+-]\d{2}(?::?\d{2})?)?)?")
"""ISO 8601: date, hours to seconds, digits of the fraction, zone."""

Key: TypeAlias = tuple[str, Any]
"""What kind of value it is ("number", "time", "text"), and the value so that two of a kind compare."""


@dataclass(frozen=True, slots=True)
class Item:
    """A record of an answer; with a `reason`, one that is no row."""

    raw: Raw
    reason: str = ""
    value: Json = None
    key: Key = ("", None)

    @property
    def hash(self) -> str:
        """A short hash of the record, however its keys are ordered."""
        record = parse_record(bytes(self.raw))
        data = bytes(self.raw) if isinstance(record, str) else msgspec.json.encode(record, order="sorted")
        return hashlib.sha256(data).hexdigest()[:HASH_DIGITS]


@dataclass(frozen=True)
class Rest:
    """What is not accounted for, in order; `row` is the first one's number, `cursor_at(n)` lies after the first n.

    `moved` says that the cursor must be kept even if there is nothing.
    """

    items: Sequence[Item]
    row: int
    generation: int
    cursor_at: Callable[[int], Cursor]
    moved: bool = False


def rest_of_list(answer: Iterable[Raw], after: Cursor | None, note: Callable[[str], None], label: str) -> Rest:
    """Return what an answer has beyond the records that were accounted for, if it still starts with those.

    Otherwise all of it, as a new generation. The cursor holds how many records were accounted for, and a hash of them.
    """
    items = [_plain(raw) for raw in answer]
    hashes = [item.hash for item in items]

    def digest(n: int) -> str:
        return hashlib.sha256("".join(hashes[:n]).encode()).hexdigest()

    n_known = cast("int", _kept(after, "digest", label)["rows"]) if after else 0
    generation = cast("int", after["generation"]) if after else 0
    is_other = bool(after) and (n_known > len(items) or digest(n_known) != cast("Cursor", after)["digest"])
    if is_other:
        note(
            f"{label} should only get more records at its end, however what was read of it has changed; it is read "
            "from its start"
        )
        n_known, generation = 0, generation + 1

    def cursor_at(n: int) -> Cursor:
        return {"rows": n_known + n, "generation": generation, "digest": digest(n_known + n)}

    return Rest(items[n_known:], n_known, generation, cursor_at, moved=is_other)


def last_value(cursor: Cursor | None) -> Json:
    """Return the value that a cursor lies at; None if it has none."""
    after = cursor and cursor.get("after")
    return after[0] if isinstance(after, list) else None


def rest_by_value(answer: Iterable[Raw], field: str, after: Cursor | None, label: str) -> tuple[Rest, int]:
    """Return what lies after the cursor's value, in the order of `field`, and how many records lay before it.

    A record at the cursor's very value is accounted for if the cursor holds its hash. Records that are no rows come
    first, and are known by their hashes too. Raises `DataError` if the values are not of one kind.
    """
    kept = _kept(after, "at", label) if after else {"after": None, "at": [], "bad": [], "rows": 0}
    last = last_value(kept)
    start = None if last is None else _key(last)
    known, known_bad = (Counter(cast("list[str]", kept[name])) for name in ("at", "bad"))
    bad: list[Item] = []
    still_bad: list[str] = []
    good: list[Item] = []
    n_before = 0
    for item in (_valued(raw, field) for raw in answer):
        if item.reason:
            if _takes(known_bad, item):
                still_bad.append(item.hash)
            else:
                bad.append(item)
            continue
        _check_kind(item, start, last, good, f"{field!r} of {label}")
        if start and item.key < start:
            n_before += 1
        elif item.key != start or not _takes(known, item):
            good.append(item)
    good.sort(key=lambda item: item.key)
    marks = _Marks(kept, start, still_bad, bad, good)
    return Rest([*bad, *good], cast("int", kept["rows"]), 0, marks.cursor_at), n_before


@dataclass(frozen=True)
class _Marks:
    """The cursors between the records of an answer, of which the bad ones come first."""

    kept: Cursor
    start: Key | None
    still_bad: list[str]
    bad: list[Item]
    good: list[Item]

    def cursor_at(self, n: int) -> Cursor:
        """Return the cursor after the first n records."""
        bad: list[Json] = [*self.still_bad, *(item.hash for item in self.bad[:n])]
        rows = cast("int", self.kept["rows"]) + n
        i = n - len(self.bad)
        if i <= 0:
            return {**self.kept, "bad": bad, "rows": rows}
        last = self.good[i - 1]
        first = i - 1
        while first and self.good[first - 1].key == last.key:
            first -= 1
        at: list[Json] = [item.hash for item in self.good[first:i]]
        if last.key == self.start:
            at = [*cast("list[Json]", self.kept["at"]), *at]
        return {"after": [last.value], "at": at, "bad": bad, "rows": rows}


def _kept(cursor: Cursor, name: str, label: str) -> Cursor:
    if name not in cursor:
        raise ConfigError(
            f"a source keeps its kind and whether it has a cursor, however {label} had another before; give it "
            "another name"
        )
    return cursor


def _takes(known: Counter[str], item: Item) -> bool:
    """Tell whether a record is one of the known, each of which is taken once."""
    if not known or not known[digits := item.hash]:
        return False
    known[digits] -= 1
    return True


def _plain(raw: Raw) -> Item:
    record = parse_record(bytes(raw))
    return Item(raw, record) if isinstance(record, str) else Item(raw)


def _valued(raw: Raw, field: str) -> Item:
    record = parse_record(bytes(raw))
    if isinstance(record, str):
        return Item(raw, record)
    value = find(record, field)
    if value is None:
        return Item(raw, f"a record must have the cursor {field!r}, however this one has none")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return Item(raw, f"the cursor {field!r} must be a number or a text, however it is a {type(value).__name__}")
    return Item(raw, "", value, _key(value))


def _key(value: Json) -> Key:
    """Return what orders a value: times by the instant (UTC if they have no zone), to any digit of their fraction."""
    if not isinstance(value, str):
        return "number", value
    if found := _TIME.fullmatch(value):
        date, clock, fraction, zone = found.groups()
        try:
            time = datetime.fromisoformat(f"{date}T{clock or '00:00'}{zone or ''}")
        except ValueError:
            return "text", value
        return "time", (time if zone else time.replace(tzinfo=UTC), (fraction or "").rstrip("0"))
    return "text", value


def _check_kind(item: Item, start: Key | None, after: Json, good: list[Item], what: str) -> None:
    """Stop at values of two kinds: nothing says which of them comes first."""
    other, first = (start, after) if start else (good[0].key, good[0].value) if good else (item.key, None)
    if item.key[0] != other[0]:
        raise DataError(
            f"{what} must be numbers, times or texts throughout, however it is both {first!r} and {item.value!r}; "
            "mend that record, or choose another cursor"
        )

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import (
    PAGES,
    Api,
    Night,
    answering,
    listing,
    row,
    serving,
    source,
)
from nightfit.errors import ConfigError, DataError
from nightfit.sources import http as http_module
from nightfit.sources.base import Cursor
from nightfit.sources.configs import HttpConfig
from nightfit.sources.http import HttpSource
from nightfit.testing import check_source

UTC_TIMES = ["2026-11-03T09:00:00Z", "2026-11-03T09:00:00.25Z", "2026-11-03T09:00:00.3Z", "2026-11-03T10:00:00Z"]


@pytest.fixture
def api() -> Iterator[Api]:
    """Serve an API of no records yet."""
    with serving() as served:
        yield served


def grower(api: Api, at: Callable[[int], object]) -> Callable[[int], None]:
    """Give what appends n records, whose cursor is a function of their number, after some that are no rows."""
    n_written = 0
    api.records += [["no object"], "text", {"id": -1}, {"id": -2, "at": True}, {"id": -3, "at": None}]

    def grow(n: int) -> None:
        nonlocal n_written
        api.records += [row(i, at(i), shop={"city": f"c{i % 2}"}) for i in range(n_written, n_written + n)]
        n_written += n

    return grow


class TestContract:
    """The contract of a source, as plug-in authors check it."""

    @pytest.mark.parametrize("pages", PAGES)
    @pytest.mark.parametrize("chunk_rows", [2, 1000])
    def test_pages(self, api: Api, monkeypatch: pytest.MonkeyPatch, pages: str, chunk_rows: int) -> None:
        """An API keeps the contract however its pages are found, values that records share and bad ones included."""
        monkeypatch.setattr(http_module, "CHUNK_ROWS", chunk_rows)
        api.pages = pages
        check_source(lambda: source(api), grower(api, lambda i: i // 3))

    @pytest.mark.parametrize(
        "arranged",
        [lambda r: r[::-1], lambda r: random.Random(1).sample(r, len(r))],  # noqa: S311
        ids=["newest first", "any order"],
    )
    @pytest.mark.parametrize("at", [lambda i: i, lambda i: f"2026-11-{i + 1:02d}", lambda i: f"{i:04x}"])
    def test_order(self, api: Api, arranged: Callable[[list[Any]], list[Any]], at: Callable[[int], object]) -> None:
        """Records may come in any order; numbers, times and texts are cursors."""
        grow = grower(api, at)
        del api.records[:]
        api.pages, api.arranged = "body", arranged
        check_source(lambda: source(api), grow)

    def test_without_since(self, api: Api) -> None:
        """An API that always gives everything keeps the contract with a cursor."""
        check_source(lambda: source(api, since=""), grower(api, lambda i: i // 2))

    @pytest.mark.parametrize("pages", PAGES)
    @pytest.mark.parametrize("chunk_rows", [2, 1000])
    def test_list_that_grows(self, api: Api, monkeypatch: pytest.MonkeyPatch, pages: str, chunk_rows: int) -> None:
        """Without a cursor, a list that grows at its end keeps the contract."""
        monkeypatch.setattr(http_module, "CHUNK_ROWS", chunk_rows)
        api.pages = pages
        grow = grower(api, lambda _: None)
        del api.records[2:]
        check_source(lambda: listing(api), grow)

    def test_packed(self, api: Api) -> None:
        """Pages may be packed with gzip."""
        api.is_packed, api.pages = True, "token"
        check_source(lambda: source(api), grower(api, lambda i: i))
        assert {headers["Accept-Encoding"] for _, headers in api.requests} == {"gzip"}


class TestCursor:
    """What came before, told by the cursor."""

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
    @given(nights=st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=5), random=st.randoms())
    def test_reading_night_by_night(self, api: Api, nights: list[list[int]], random: random.Random) -> None:
        """Records that come night by night, in any order and many to a value, are each read once."""
        api.records, cursor = [], None
        read: list[int] = []
        for steps in nights:
            last = max((record["at"] for record in api.records), default=0)
            api.records += [row(len(api.records) + i, last + step) for i, step in enumerate(steps)]
            random.shuffle(api.records)
            night = Night(source(api), cursor)
            assert night.rows == list(range(len(read), len(api.records)))
            read += night.ids
            cursor = night.cursor
        assert sorted(read) == list(range(len(api.records)))

    def test_since(self, api: Api) -> None:
        """The last value is asked for in the API's own spelling, and what was read at it is not read again."""
        api.cursor = "no"
        api.records += [row(1, "2026-11-03T11:00:00.5+02:00"), row(2, "2026-11-03T08:00:00Z")]
        first = Night(source(api))
        api.records.append(row(3, "2026-11-03T09:00:00.500Z"))
        second = Night(source(api), first.cursor)
        assert (first.ids, second.ids) == ([2, 1], [3])
        assert [query.get("since") for query in api.queries] == [None, "2026-11-03T11:00:00.5+02:00"]
        assert Night(source(api), second.cursor).chunks == []

    @pytest.mark.parametrize("value", [5, -1.5, 2**60, "a&b=c d+e"])
    def test_value_as_parameter(self, api: Api, value: object) -> None:
        """Values of any kind reach the API as they are, beside the parameters that the url has."""
        api.records.append(row(1, value))
        url = f"{api.url}?limit=9&since=0&q=a,b"
        api.cursor = "no"
        first = Night(source(api, url=url))
        assert Night(source(api, url=url), first.cursor).chunks == []
        assert api.queries[1] == {"limit": "9", "since": str(value), "q": "a,b"}

    def test_updated_record(self, api: Api) -> None:
        """A record that was changed comes again, whether at a later value or at the very last one."""
        api.records += [row(1, 1, price=1), row(2, 2, price=1)]
        first = Night(source(api))
        api.records = [row(1, 3, price=2), row(2, 2, price=2)]
        second = Night(source(api), first.cursor)
        assert second.ids == [2, 1]
        assert second.rows == [2, 3]

    def test_twins(self, api: Api) -> None:
        """Records that are equal in all they hold are counted: a further one is new."""
        api.records += [row(1, 1), row(1, 1), row(2, 1)]
        first = Night(source(api))
        api.records.append({"at": 1, "id": 1})
        second = Night(source(api), first.cursor)
        assert (first.ids, second.ids) == ([1, 1, 2], [1])
        assert Night(source(api), second.cursor).chunks == []

    def test_records_before(self, api: Api) -> None:
        """Records before the value that was asked for are left out, and noted."""
        api.cursor = "no"
        api.records += [row(1, 1), row(2, 2)]
        first = Night(source(api))
        api.records += [row(3, 1), row(4, 3)]
        second = Night(source(api), first.cursor)
        assert second.ids == [4]
        (note,) = second.notes
        assert note.startswith("2 records of source 'shop'")
        assert "before the 2 that it was asked for" in note
        assert Night(source(api, since=""), first.cursor).notes == []

    @pytest.mark.parametrize(
        "values", [[9, 10, 10.5], ["9", "a"], UTC_TIMES, ["2026-11-03T10:00+02:00", "2026-11-03 09:00", "2026-11-04"]]
    )
    def test_order_of_values(self, api: Api, values: list[object]) -> None:
        """Numbers are ordered as numbers, times as instants, other texts as texts."""
        api.records += [row(i, value) for i, value in reversed(list(enumerate(values)))]
        assert Night(source(api)).ids == list(range(len(values)))

    @pytest.mark.parametrize("values", [[1, "a"], ["2026-11-03", "soon"], [1, "2026-11-03"]])
    @pytest.mark.parametrize("is_known", [True, False])
    def test_values_of_two_kinds(self, api: Api, values: list[Any], *, is_known: bool) -> None:
        """Values of two kinds have no order: an error, also between two nights."""
        api.cursor = "no"
        api.records.append(row(1, values[0]))
        cursor = Night(source(api)).cursor if is_known else None
        api.records.append(row(2, values[1]))
        with pytest.raises(DataError, match=r"^'at' of source 'shop' .* must be numbers, times or texts throughout"):
            Night(source(api), cursor)

    def test_nested_cursor(self, api: Api) -> None:
        """A cursor may lie in an object within the record, under the name that its column has."""
        api.records += [{"id": i, "meta": {"at": -i}} for i in range(3)]
        night = Night(source(api, cursor="meta.at"))
        assert night.ids == [2, 1, 0]
        assert night.chunks[0].table.column_names == ["id", "meta.at"]

    def test_bad_records_come_once(self, api: Api) -> None:
        """Records that are no rows say why, and are not rejected again the next night, though the API gives them."""
        api.records += [row(1, 1), [2], {"id": 3}, row(4, [4])]
        first = Night(source(api))
        assert [bad.reason for bad in first.bad] == [
            "a record must be a JSON object, however this is a list",
            "a record must have the cursor 'at', however this one has none",
            "the cursor 'at' must be a number or a text, however it is a list",
        ]
        assert [bad.text for bad in first.bad] == ["[2]", '{"id": 3}', '{"id": 4, "at": [4]}']
        assert sorted(first.rows + [bad.row for bad in first.bad]) == [0, 1, 2, 3]
        api.records.append({"id": 5})
        second = Night(source(api), first.cursor)
        assert [bad.text for bad in second.bad] == ['{"id": 5}']
        assert second.bad[0].row == 4
        assert Night(source(api), second.cursor).chunks == []

    def test_records_that_cannot_be_parsed(self, api: Api) -> None:
        """A record with bytes that are no UTF-8, or a number beyond all, is a bad row; the others are read."""
        api.behaviour = answering(b'\xef\xbb\xbf[{"id": "\xff", "at": 1}, {"id": 1, "at": 1e999}, {"id": 2, "at": 1}]')
        night = Night(source(api, records=""))
        assert (night.ids, len(night.bad)) == ([2], 2)

    @pytest.mark.parametrize("cursor", [{"files": {}}, {"rows": 1, "generation": 0, "digest": ""}])
    def test_cursor_of_another_kind(self, api: Api, cursor: Cursor) -> None:
        """A cursor that another kind of source wrote is an error."""
        with pytest.raises(ConfigError, match="give it another name"):
            Night(source(api), cursor)
        with pytest.raises(ConfigError, match="give it another name"):
            Night(listing(api), {"after": [1], "at": [], "bad": [], "rows": 1})


class TestList:
    """An API without a cursor."""

    def test_same_answer(self, api: Api) -> None:
        """The same records, in whatever order of their keys, are nothing new."""
        api.records += [{"a": 1, "id": 1}, {"id": 2}]
        first = Night(listing(api))
        api.records[0] = {"id": 1, "a": 1}
        second = Night(listing(api), first.cursor)
        assert (first.ids, second.chunks, second.notes) == ([1, 2], [], [])

    @pytest.mark.parametrize("records", [[{"id": 9}], [{"id": 9}, {"id": 2}, {"id": 3}]])
    def test_other_answer(self, api: Api, records: list[object]) -> None:
        """Another list is read from its start, as a new generation, and a note says so."""
        api.records += [{"id": 1}, {"id": 2}]
        first = Night(listing(api))
        api.records = records
        second = Night(listing(api), first.cursor)
        assert second.ids == [record["id"] for record in records]  # type: ignore[index]
        assert {chunk.generation for chunk in second.chunks} == {1}
        assert second.rows[0] == 0
        assert "should only get more records at its end" in second.notes[0]
        assert Night(listing(api), second.cursor).chunks == []

    def test_emptied(self, api: Api) -> None:
        """A list that was emptied moves the cursor, so that this is said once."""
        api.records += [{"id": 1}]
        first = Night(listing(api))
        api.records.clear()
        second = Night(listing(api), first.cursor)
        assert [len(chunk.table) for chunk in second.chunks] == [0]
        third = Night(listing(api), second.cursor)
        assert (third.chunks, third.notes) == ([], [])


class TestConfigs:
    """What a config cannot say."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"since": "s"}, "set cursor"),
            ({"pages": "token"}, "set next"),
            ({"next": "n"}, "set pages"),
            ({"max_pages": 0}, "max_pages and max_bytes must be at least 1"),
            ({"timeout_s": 0}, "timeout_s above 0"),
            ({"patience_s": -1}, "patience_s at least 0"),
        ],
    )
    def test_keys_that_do_not_fit(self, options: dict[str, Any], message: str) -> None:
        """Keys that need each other, and numbers out of range, are errors."""
        with pytest.raises(ValueError, match=message):
            HttpConfig("http://a", **options)

    @pytest.mark.parametrize(
        "url", ["http://", "http://u:p%/w@h/", "http://a:99999/", "http://u:secret/x@h/", "http:///x"]
    )
    def test_url_that_is_none(self, url: str) -> None:
        """A url that cannot be one is an error that does not show it."""
        with pytest.raises(ConfigError, match=r"^the url of source 'shop' must be one of http or https") as caught:
            HttpSource(HttpConfig(url, "shop"), url=url)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("headers", "fact"),
        [
            ({"X": "two\nlines"}, "one line"),
            ({"X": "n\u00f6"}, "ASCII"),
            ({"X Y": "a"}, "a name"),
            ({"X": "${NOT_SET}"}, "NOT_SET"),
        ],
    )
    def test_header_that_cannot_be_sent(self, headers: dict[str, str], fact: str) -> None:
        """A header that HTTP cannot send is an error that does not show its value."""
        with pytest.raises(ConfigError, match=fact) as caught:
            HttpSource(HttpConfig("http://a", "shop", headers=headers), url="http://a")
        assert "two" not in str(caught.value)

    def test_header_instead_of_the_url(self, api: Api) -> None:
        """An Authorization among the headers takes the place of the url's user and password."""
        url = api.url.replace("http://", "http://u:p@")
        Night(source(api, url=url, headers={"authorization": "Bearer x"}))
        assert api.requests[0][1]["authorization"] == "Bearer x"


class TestBrokenOff:
    """A reading that is broken off."""

    def test_no_connection_is_left(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        """After the first chunk there is no connection left to close."""
        monkeypatch.setattr(http_module, "CHUNK_ROWS", 2)
        api.records += [row(i, i) for i in range(9)]
        reading = source(api).read(None, lambda _: None)
        next(reading)
        deadline = time.monotonic() + 10
        while len(api.closed) < len(api.opened) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(api.closed) == len(api.opened) == 1
        reading.close()  # type: ignore[attr-defined]
        assert len(api.requests) == 1

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from api import (
    PAGES,
    Api,
    Night,
    answering,
    endless,
    listing,
    row,
    serving,
    source,
)
from nightfit.errors import DataError


@pytest.fixture
def api() -> Iterator[Api]:
    """Serve an API of no records yet."""
    with serving() as served:
        yield served


class TestPages:
    """From page to page."""

    @pytest.mark.parametrize("pages", PAGES)
    def test_each_page_once(self, api: Api, pages: str) -> None:
        """Each page is asked for once, and the connection is used again."""
        api.records += [row(i, i) for i in range(9)]
        api.pages = pages
        assert Night(source(api)).ids == list(range(9))
        assert len(api.requests) == {"none": 1, "number": 4}.get(pages, 3)

    def test_names(self, api: Api) -> None:
        """The page's parameter, the first number and names with dots are the config's."""
        api.next_behaviours = [answering('{"@odata.list": [{"id": 1}]}'), answering('{"@odata.list": []}')]
        Night(listing(api, pages="number", page_parameter="p", first_page=0, records="@odata.list"))
        assert api.queries == [{"p": "0"}, {"p": "1"}]

    @pytest.mark.parametrize("last", ['{"meta": null}', '{"meta": {"next": ""}}', "{}", '{"meta": {"next": false}}'])
    def test_last_page(self, api: Api, last: str) -> None:
        """A page that names no next one, in any of the usual ways, is the last."""
        api.behaviour = answering(last[:-1] + (", " if len(last) > 2 else "") + '"data": {"items": [{"id": 1}]}}')
        assert Night(listing(api, pages="token", next="meta.next")).ids == [1]

    def test_no_content(self, api: Api) -> None:
        """An answer 204 is a page without records."""
        api.behaviour = answering("", 204)
        assert Night(listing(api, pages="token", next="meta.next")).chunks == []

    @pytest.mark.parametrize("path", ["", "meta.next"])
    def test_next_page_on_another_host(self, api: Api, path: str) -> None:
        """A next page on another host is an error, and nothing is sent there."""
        with serving() as other:
            body = json.dumps({"data": {"items": []}, "meta": {"next": other.url}})
            api.behaviour = answering(body, Link=f'<{other.url}>; rel="next"')
            with pytest.raises(DataError, match=f"must be on its own host, .* http://127.0.0.1:{other.port}, where"):
                Night(listing(api, pages="next", next=path, headers={"X-Key": "k"}))
            assert other.requests == []

    @pytest.mark.parametrize("url", ["https://127.0.0.1/x", "//evil.example/", "ftp://127.0.0.1/", "http://[x"])
    def test_next_page_of_another_scheme(self, api: Api, url: str) -> None:
        """A next page of another scheme, port or of none is an error as well."""
        api.behaviour = answering(json.dumps({"data": {"items": []}, "next": url}))
        with pytest.raises(DataError, match="must be on its own host"):
            Night(listing(api, pages="next", next="next"))

    @pytest.mark.parametrize(
        ("options", "body"),
        [
            ({"pages": "next", "next": "next"}, {"next": "/rows?page=2#top"}),
            ({"pages": "token", "next": "next"}, {"next": "same"}),
            ({"pages": "number"}, {}),
        ],
        ids=["next", "token", "number is ignored"],
    )
    def test_page_comes_again(self, api: Api, options: dict[str, Any], body: dict[str, str]) -> None:
        """A page that leads to one that came before is an error, not an endless loop."""
        api.behaviour = answering(json.dumps({"data": {"items": [{"id": 1}]}, **body}))
        with pytest.raises(DataError, match=r"each page of .* must be another, however page 2 leads to one"):
            Night(listing(api, **options))
        assert len(api.requests) == 2

    @pytest.mark.parametrize("pages", ["number", "token", "body", "link"])
    def test_too_many_pages(self, api: Api, pages: str) -> None:
        """Pages without an end stop at max_pages, which the error names."""
        api.records += [row(i, i) for i in range(100)]
        api.pages = pages
        with pytest.raises(DataError, match=r"must have at most 3 pages in a night, .*; raise max_pages$"):
            Night(source(api, max_pages=3))
        assert len(api.requests) == 3

    def test_next_that_is_no_text(self, api: Api) -> None:
        """A token that is neither text nor number is an error."""
        api.behaviour = answering('{"data": {"items": []}, "next": [1]}')
        with pytest.raises(DataError, match="must be a text or a number, however it is a list; mend next"):
            Night(listing(api, pages="token", next="next"))


class TestAnswers:
    """Answers that are not what they should be."""

    @pytest.mark.parametrize(
        ("body", "fact"),
        [
            ("<!doctype html>\n<title>Sign in</title>" + "x" * 200, "invalid character"),
            ("", "truncated"),
            ('{"data": {"items": [1', "truncated"),
            ('{"data": {"items": [{"a": NaN}]}}', "invalid character"),
            ('{"data": {"items": {"a": 1}}}', "Expected `array`, got `object`"),
            ('{"data": {"rows": []}}', "it has nothing at 'data.items'"),
            ('{"data": [1]}', "it has nothing at 'data.items'"),
            ("[]", "it has nothing at 'data.items'"),
            ("[" * 100_000, ""),
        ],
    )
    def test_no_list(self, api: Api, body: str, fact: str) -> None:
        """A body without the list of records is an error that shows status, content type and how it begins."""
        api.behaviour = answering(body, Content_Type="text/html")
        with pytest.raises(DataError) as caught:
            Night(listing(api))
        message = str(caught.value)
        shown = " ".join(body.split())[:80]
        assert f"{fact}" in message
        assert f"It answered 200, text/html: {shown!r};" in message
        assert "\n" not in message

    def test_content_type_does_not_matter(self, api: Api) -> None:
        """JSON is JSON, whatever it is called."""
        api.behaviour = answering('{"data": {"items": [{"id": 1}]}}', Content_Type="text/plain")
        assert Night(listing(api)).ids == [1]

    def test_corrupt_gzip(self, api: Api) -> None:
        """A body that cannot be unpacked is an error."""
        api.behaviour = answering(gzip.compress(b"[]" * 99)[:-20] + bytes(20), Content_Encoding="gzip")
        with pytest.raises(DataError, match="must answer sound gzip"):
            Night(listing(api))

    def test_too_many_bytes(self, api: Api) -> None:
        """The bytes of all pages count, unpacked, and the error names max_bytes."""
        api.records += [row(i, i) for i in range(9)]
        api.pages, api.is_packed = "body", True
        assert Night(source(api, max_bytes=400)).ids
        with pytest.raises(DataError, match=r"must have at most 300 bytes in a night, .*; raise max_bytes$"):
            Night(source(api, max_bytes=300))
        assert len(api.requests) == 3 + 3

    def test_endless_body(self, api: Api) -> None:
        """A body without an end stops at max_bytes, and the connection is closed."""
        api.behaviour = endless(piece=b" " * 10_000)
        with pytest.raises(DataError, match="raise max_bytes"):
            Night(listing(api, max_bytes=1 << 20))
        assert api.broken.wait(10)

    def test_bomb(self, api: Api) -> None:
        """A small gzip that unpacks to far more than max_bytes is never unpacked beyond that."""
        api.behaviour = answering(gzip.compress(bytes(256 << 20)), Content_Encoding="gzip")
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match="raise max_bytes"):
                Night(listing(api, max_bytes=1 << 20))
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()

"""From page to page of an API: the list of records in each, and where the next one is."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from nightfit.errors import DataError
from nightfit.sources.client import Answer
from nightfit.sources.configs import HttpConfig
from nightfit.sources.endpoint import Endpoint, with_parameter

NO_CONTENT = 204
SHOWN_CHARACTERS = 80
"""Of a body that is not what it must be."""
_LINK = re.compile(r'<([^<>]*)>((?:[^<",]|"[^"]*")*)')
"""A target and its parameters in a Link header (RFC 8288)."""
_REL = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s;]+))', re.IGNORECASE)


class Pages:
    """All pages of a reading, as lists of records that are not parsed yet."""

    def __init__(self, get: Callable[[str], Answer], config: HttpConfig, endpoint: Endpoint) -> None:
        self._get = get
        self._config = config
        self._endpoint = endpoint

    def read(self, url: str) -> Iterator[list[Raw]]:
        """Yield the records of the page at a url of the API, and of all that follow.

        Raises `DataError` for a page without a list of records, one that came before, one on another host, and more
        pages than `max_pages`; and what the `Client` raises.
        """
        seen: set[str] = set()
        previous: list[Raw] = []
        following: str | None = self._numbered(url, 0) if self._config.pages == "number" else url
        for n in range(self._config.max_pages):
            assert following is not None
            seen.add(following)
            answer = self._get(following)
            records = self._records(answer)
            yield records
            following = self._following(answer, url, n) if records or self._config.pages != "number" else None
            if following is None:
                return
            if following in seen or (self._config.pages == "number" and records == previous):
                raise DataError(
                    f"each page of {self._endpoint.label} must be another, however page {n + 1} leads to one that came "
                    "before; mend pages, page_parameter and next"
                )
            previous = records
        raise DataError(
            f"{self._endpoint.label} must have at most {self._config.max_pages} pages in a night, however there are "
            "more; raise max_pages"
        )

    def _following(self, answer: Answer, url: str, n: int) -> str | None:
        """Return where the page after the n-th is; None after the last."""
        if self._config.pages == "none":
            return None
        if self._config.pages == "number":
            return self._numbered(url, n + 1)
        named = self._named(answer)
        if named is None or self._config.pages == "token":
            return named and with_parameter(url, self._config.page_parameter, named)
        target, origin = self._endpoint.joined(named, answer.url)
        if origin != self._endpoint.origin:
            raise DataError(
                f"the pages of {self._endpoint.label} must be on its own host, however page {n + 1} leads to "
                f"{origin or 'no http url'}, where the headers are not sent; mend the API"
            )
        return target.partition("#")[0]

    def _numbered(self, url: str, n: int) -> str:
        return with_parameter(url, self._config.page_parameter, str(self._config.first_page + n))

    def _named(self, answer: Answer) -> str | None:
        """Return the next page's URL or token as the page names it; None if it names none."""
        if not self._config.next:
            return _next_link(answer.link)
        if answer.status == NO_CONTENT:
            return None
        raw = _dig(_json(answer), self._config.next)
        value: Any = None if raw is None else msgspec.json.decode(raw)
        if value is None or value is False or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise DataError(
                f"{self._config.next!r} in a page of {self._endpoint.label} must be a text or a number, however it is "
                f"a {type(value).__name__}; mend next"
            )
        return str(value)

    def _records(self, answer: Answer) -> list[Raw]:
        if answer.status == NO_CONTENT:
            return []
        try:
            raw = _dig(_json(answer), self._config.records)
            fact = f"it has nothing at {self._config.records!r}"
            if raw is not None:
                return msgspec.json.decode(raw, type=list[Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            fact = str(error)
        where = f"at {self._config.records!r}" if self._config.records else "and nothing around it"
        shown = answer.body.decode(errors="replace").strip()
        # Scrubbed before it is cut: half a secret would not be known as one.
        shown = " ".join(self._endpoint.scrub(shown[: 100 * SHOWN_CHARACTERS]).split())[:SHOWN_CHARACTERS]
        raise DataError(
            f"a page of {self._endpoint.label} must be JSON with the list of records {where}, however: {fact}. It "
            f"answered {answer.status}, {answer.content_type or 'no content type'}: {shown!r}; mend url, headers or "
            "records"
        )


def find(record: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - JSON
    """Return what a record has at a dotted path; None if nothing.

    >>> find({"meta": {"at": 5}}, "meta.at"), find({"meta.at": 5}, "meta.at"), find({"meta": 5}, "meta.at")
    (5, 5, None)
    """
    found: Any = record
    while path and isinstance(found, dict):
        if path in found:
            return found[path]
        name, _, path = path.partition(".")
        found = found.get(name)
    return None if path else found


def _json(answer: Answer) -> bytes:
    return answer.body.removeprefix(codecs.BOM_UTF8)


def _dig(data: bytes | Raw, path: str) -> bytes | Raw | None:
    """Do what `find` does in JSON, without parsing what lies beside the path."""
    while path:
        try:
            fields = msgspec.json.decode(data, type=dict[str, Raw])
        except msgspec.ValidationError:  # JSON, but no object
            return None
        if path in fields:
            return fields[path]
        name, _, path = path.partition(".")
        if name not in fields:
            return None
        data = fields[name]
    return data


def _next_link(header: str) -> str | None:
    """Return the target of `rel="next"` in a Link header.

    >>> _next_link('<a?page=1>; rel="prev", <a?page=3>; title="a, b"; rel="last next"')
    'a?page=3'
    """
    for target, parameters in _LINK.findall(header):
        relation = _REL.search(parameters)
        if relation and "next" in (relation[1] or relation[2] or "").lower().split():
            return str(target)
    return None

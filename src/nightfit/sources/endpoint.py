"""Where an API is, what is sent to it, and what of that must never be said: the url, the headers, the secrets."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from json import dumps
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlencode, urljoin, urlsplit, urlunsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from nightfit.errors import ConfigError
from nightfit.sources.base import from_environment
from nightfit.sources.configs import HttpConfig

_PORTS = {"http": 80, "https": 443}
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A header's name (RFC 9110, 5.1)."""
_OPEN = ("accept", "content-type", "user-agent")
"""Headers, or how their names start, whose values are no secrets."""
_SHORTEST_SECRET = 4
"""Characters; hiding shorter texts would make messages unreadable and hide nothing."""


@dataclass(frozen=True)
class Endpoint:
    """An API. `url` has neither user nor password; `label` is what messages call it."""

    url: str
    label: str
    headers: Mapping[str, str]
    secrets: tuple[str, ...]

    @property
    def origin(self) -> str:
        """Scheme, host and port: all that the headers may be sent to."""
        return origin_of(self.url)

    def joined(self, reference: str, base: str) -> tuple[str, str]:
        """Resolve a reference that an answer from `base` holds; return it and its origin ("" if it has none)."""
        try:
            target = urljoin(base, reference.strip())
        except ValueError:
            return "", ""
        return target, origin_of(target)

    def scrub(self, text: str) -> str:
        """Take the secrets out of a text for people: libraries and servers repeat what they were sent."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def endpoint_of(config: HttpConfig, url: str) -> Endpoint:
    """Return the API of a config, whose url with everything from the environment is `url`.

    A user and a password in the url become basic authentication, unless the headers have an Authorization.
    Raises `ConfigError` for a url that is none, a header that cannot be sent, a name that is not set.
    """
    parsed = _parse(url)
    if parsed is None:
        raise ConfigError(
            f"the url of source {config.name!r} must be one of http or https, however it is none; mend it, and write "
            "@ / ? # within a user or a password as %40 %2F %3F %23"
        )
    headers = dict(_headers(config))
    auth = unquote(parsed.auth or "")
    if auth and "authorization" not in map(str.lower, headers):
        headers["Authorization"] = f"Basic {b64encode(auth.encode()).decode()}"
    bare = parsed._replace(auth=None, fragment=None)
    secrets = _secrets([*_values_from_environment(config), *auth.split(":", 1), *_words(headers)])
    place = bare._replace(query=None).url
    endpoint = Endpoint(bare.url, f"source {config.name!r} ({place})", headers, secrets)
    return Endpoint(bare.url, endpoint.scrub(endpoint.label), headers, secrets)


def origin_of(url: str) -> str:
    """Return scheme://host:port of a url of http or https, "" for any other.

    >>> origin_of("https://user@Example.com/rows?page=2")
    'https://example.com:443'
    """
    parsed = _parse(url)
    return f"{parsed.scheme}://{parsed.host}:{parsed.port or _PORTS[parsed.scheme or '']}" if parsed else ""


def request_target(url: str) -> str:
    """Return path and query of a url, as they are sent."""
    return parse_url(url).request_uri


def with_parameter(url: str, name: str, value: str) -> str:
    """Set a query parameter, and leave all others as they are spelled.

    >>> with_parameter("http://a/rows?page=1&x=a,b", "page", "2 3")
    'http://a/rows?x=a,b&page=2+3'
    """
    parts = urlsplit(url)
    others = [part for part in parts.query.split("&") if part and unquote_plus(part.partition("=")[0]) != name]
    return urlunsplit(parts._replace(query="&".join([*others, urlencode({name: value})])))


def _parse(url: str) -> Url | None:
    # urllib3's parser, which connects: another might see another host in the same text.
    try:
        parsed = parse_url(url)
    except LocationParseError:
        return None
    return parsed if parsed.scheme in _PORTS and parsed.host else None


def _headers(config: HttpConfig) -> Iterator[tuple[str, str]]:
    for name, template in config.headers.items():
        what = f"header {name!r} of source {config.name!r}"
        value = from_environment(template, what)
        if not _TOKEN.fullmatch(name):
            raise ConfigError(f"{what} must have a name of letters, digits and -, however it has not; mend it")
        if not (value.isprintable() and value.isascii()):
            raise ConfigError(f"{what} must be one line of ASCII, however it is not; mend it (a newline at its end?)")
        yield name, value


def _values_from_environment(config: HttpConfig) -> Iterator[str]:
    for text in (config.url, *config.headers.values()):
        yield from (os.environ.get(name, "") for name in re.findall(r"\$\{(\w+)\}", text))


def _words(headers: Mapping[str, str]) -> Iterator[str]:
    for name, value in headers.items():
        if not name.lower().startswith(_OPEN):
            yield from (value, *value.split())


def _secrets(values: Iterable[str]) -> tuple[str, ...]:
    """Return the secrets as urls, JSON and HTML spell them, the longest first."""
    plain = {form for v in values for form in (v, unquote(v), unquote_plus(v)) if len(form) >= _SHORTEST_SECRET}
    spelled = {
        form for v in plain for form in (v, quote(v), quote(v, safe=""), quote_plus(v), escape(v), dumps(v)[1:-1])
    }
    return tuple(sorted(spelled | {form.replace("/", "\\/") for form in spelled}, key=lambda s: (-len(s), s)))

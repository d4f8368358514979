"""A POST of JSON that a night does not wait long for, follows nowhere, and whose url is never said: it is a secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from threading import Thread

import urllib3
from urllib3.exceptions import HTTPError

from nightfit.errors import ConfigError
from nightfit.jsontypes import Json
from nightfit.notify.config import NotifyConfig
from nightfit.sources.base import from_environment
from nightfit.sources.endpoint import origin_of


def post(config: NotifyConfig, told: Mapping[str, Json]) -> str:
    """Send what is told; return what went wrong, as "rule, however: fact", or nothing.

    Raises `ConfigError` for a name that the environment has not, or a url that is none.
    """
    url = from_environment(config.webhook, "notify.webhook")
    headers = {name: from_environment(text, f"header {name!r} of notify") for name, text in config.headers.items()}
    origin = origin_of(url)
    if not origin:
        raise ConfigError("notify.webhook must be a url of http or https, however it is none; mend it")
    facts: list[str] = []
    body = json.dumps(told, allow_nan=False).encode()
    sending = Thread(target=_send, args=(url, headers, body, config.timeout_s, facts), daemon=True)
    sending.start()
    sending.join(config.timeout_s)  # an answer that drips would reset a socket's own timeout for ever
    fact = next(iter(facts), f"did not within {config.timeout_s:g} s")
    return f"the webhook must take what it is told, however {origin} {fact}" if fact else ""


def _send(url: str, headers: Mapping[str, str], body: bytes, timeout_s: float, facts: list[str]) -> None:
    """Send, and append what went wrong, or an empty text."""
    sent = {"Content-Type": "application/json", "User-Agent": "nightfit", **headers}
    try:
        with urllib3.PoolManager() as pool:
            answer = pool.request(
                "POST", url, body=body, headers=sent, retries=False, redirect=False, timeout=timeout_s,
                preload_content=False,
            )  # fmt: skip
            is_taken = 200 <= answer.status < 300  # noqa: PLR2004 - as HTTP has them
            facts.append("" if is_taken else f"answered {answer.status}")
            answer.close()
    except (HTTPError, OSError, ValueError) as error:  # whose own words may hold the url
        facts.append(f"could not be sent it ({type(error).__name__})")

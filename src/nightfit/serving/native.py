"""nightfit's own protocol: `{"features": ...}` in; prediction, probability of each class, model and version out."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from nightfit.serving.answers import Answers
from nightfit.serving.errors import RequestError, unusable
from nightfit.serving.features import Inputs
from nightfit.serving.http import Reply
from nightfit.serving.served import Served


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    features: list[float | None]


class _Rows(msgspec.Struct, forbid_unknown_fields=True):
    features: list[list[float | None]]


_ROW, _ROWS = msgspec.json.Decoder(_Row), msgspec.json.Decoder(_Rows)
_ENCODER = msgspec.json.Encoder()

_find_keys = re.compile(rb'"\s*:').findall
_FEW = 100
_AT_BYTE, _NOT_FINITE = re.compile(r"byte (\d+)"), re.compile(rb"-?(?:NaN|Infinity)")


def decode(body: bytes, served: Served) -> Inputs:
    """Read rows of values, or records by column name, or one of either; raises `RequestError`."""
    if served.features.is_numeric and body.count(b'"') == 2:  # noqa: PLR2004 - one key
        try:
            if b"[[" in body[:64]:
                return served.features.numbers(_ROWS.decode(body).features)
            return served.features.numbers([_ROW.decode(body).features])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # not only numbers: the careful way says what it is
    return rows(field(parse_json(body), "features"), served)


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - what JSON holds
    """Decode JSON; raises `RequestError` for what is none: NaN and infinities are none, and text must be UTF-8.

    A key that comes twice is refused too: parsers differ in which one they take (RFC 8259, 4).
    """
    try:
        document = msgspec.json.decode(body)
        n = _n_keys(document)
        if body.count(b":") > n and len(_find_keys(body)) > n:  # or texts hold what looks like a key
            _check_keys(body.decode())
    except RecursionError:
        raise RequestError(400, "JSON must be nested only a few levels deep, however the body is deeper") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        fact = _not_finite(body, str(error)) or str(error)
        raise RequestError(400, f"the body must be JSON of finite numbers, however: {fact}") from None
    return document


def _n_keys(value: Any) -> int:  # noqa: ANN401
    """Count keys, and not all of them in places where no protocol has objects."""
    if type(value) is dict:
        return len(value) + sum(map(_n_keys, value.values()))
    if type(value) is not list or not value or type(value[0]) is not dict:
        return 0
    if len(value) <= _FEW:
        return sum(map(_n_keys, value))
    return sum(len(row) for row in value if type(row) is dict)


def _check_keys(text: str) -> None:
    """Raise `RequestError` if an object of valid JSON has a key twice: slower than to decode, and exact."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise RequestError(400, f"an object must have every key once, however '{twice[:60]}' is there twice")

    json.JSONDecoder(object_pairs_hook=check, parse_int=str, parse_float=str).decode(text)


def _not_finite(body: bytes, error: str) -> str:
    """Say where a decoder stopped at a number that JSON has not; nothing if it stopped at something else."""
    at = _AT_BYTE.search(error)
    word = _NOT_FINITE.search(body, max(int(at[1]) - 1, 0), int(at[1]) + 9) if at else None
    return f"{word[0].decode()} (byte {word.start()}) is none; null means missing" if word else ""


def field(document: Any, name: str) -> Any:  # noqa: ANN401
    """Return the one field of a JSON object; raises `RequestError` for any other document."""
    if not isinstance(document, dict) or list(document) != [name]:
        has = f"has {', '.join(map(repr, document)) or 'nothing'}" if isinstance(document, dict) else "is no object"
        raise unusable(f"the body must be an object with '{name}' alone", f"it {has[:200]}")
    return document[name]


def rows(value: Any, served: Served) -> Inputs:  # noqa: ANN401
    """Read one row or many, as lists or as records; raises `RequestError`."""
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise unusable("features must be a row, a list of rows, or records by column name", f"they are {value!r:.60}")
    if isinstance(value[0], dict):
        return served.features.records(value)
    return served.features.lists(value if isinstance(value[0], list) else [value])


def encode(answers: Answers) -> Reply:
    """Write the answers."""
    told: dict[str, Any] = {"prediction": answers.predictions}
    if answers.proba is not None:
        told |= {"probability": answers.proba.tolist(), "classes": answers.served.schema.classes}
    return Reply(200, _ENCODER.encode(told | {"model": answers.served.model, "model_version": answers.served.number}))

"""nightfit's own protocol: `{"features": ...}` in; prediction, probability of each class, model and version out."""

from __future__ import annotations

from typing import Any

import msgspec

from nightfit.serving.answers import Answers
from nightfit.serving.errors import RequestError, unusable
from nightfit.serving.features import Inputs
from nightfit.serving.served import Served


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    features: list[float | None]


class _Rows(msgspec.Struct, forbid_unknown_fields=True):
    features: list[list[float | None]]


_ROW, _ROWS = msgspec.json.Decoder(_Row), msgspec.json.Decoder(_Rows)
_ENCODER = msgspec.json.Encoder()


def decode(body: bytes, served: Served) -> Inputs:
    """Read rows of values, or records by column name, or one of either; raises `RequestError`."""
    if served.features.is_numeric:
        try:
            if b"[[" in body[:64]:
                return served.features.numbers(_ROWS.decode(body).features)
            return served.features.numbers([_ROW.decode(body).features])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # not only numbers: the careful way says what it is
    return rows(field(parse_json(body), "features"), served)


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - what JSON holds
    """Decode JSON; raises `RequestError` for what is none: NaN and infinities are none, and text must be UTF-8."""
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise RequestError(400, "JSON must be nested only a few levels deep, however the body is deeper") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RequestError(400, f"the body must be JSON of finite numbers, however: {error}") from None


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


def encode(answers: Answers) -> bytes:
    """Write the answers."""
    told: dict[str, Any] = {"prediction": answers.predictions}
    if answers.proba is not None:
        told |= {"probability": answers.proba.tolist(), "classes": answers.served.schema.classes}
    return _ENCODER.encode(told | {"model": answers.served.model, "model_version": answers.served.number})

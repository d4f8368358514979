"""From one TOML table to the dataclass of its keys: each mistake is named with its place and the nearest legal word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from nightfit.errors import ConfigError
from nightfit.lines import Place

T = TypeVar("T")


def build(cls: type[T], table: Any, at: Place = (), *, also: Iterable[str] = ()) -> T:  # noqa: ANN401 - what TOML holds
    """Make a dataclass of the TOML table at a place, with every key and every type checked; `also`: keys of others.

    Raises `ConfigError` for an unknown key (naming the nearest legal one), a missing one, and a wrong type or value.
    """
    import msgspec

    if not isinstance(table, dict):
        raise ConfigError(f"{spelled(at)} must be a table, however it is a {type(table).__name__}", at)
    legal = fields_of(cls)
    for key in table:
        if key not in legal:
            raise ConfigError(f"unknown key '{spelled((*at, key))}'{nearest(key, [*legal, *also])}", (*at, key))
    for key, field in legal.items():
        if key not in table and is_needed(field):
            raise ConfigError(f"'{spelled((*at, key))}' is needed, however it is not there; add it", at)
    _check_choices(cls, table, at)
    try:
        return msgspec.convert(table, cls)
    except msgspec.ValidationError as error:
        what, _, inner = str(error).partition(" - at `$")
        raise _wrong(what, inner.strip(".`"), at, legal) from None


def fields_of(cls: type) -> dict[str, Field[Any]]:
    """Return the keys of a dataclass's table, by name."""
    return {field.name: field for field in fields(cls)}


def is_needed(field: Field[Any]) -> bool:
    """Say whether a key has no default."""
    return field.default is MISSING and field.default_factory is MISSING


def default_of(field: Field[Any]) -> Any:  # noqa: ANN401 - whatever a key may hold
    """Return the default of a key that has one."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def choices_of(cls: type) -> dict[str, tuple[str, ...]]:
    """Return the legal words of each key that takes one of a few."""
    hints = get_type_hints(cls)
    return {key: get_args(hint) for key, hint in hints.items() if get_origin(hint) is Literal}


def spelled(at: Place) -> str:
    """Spell a place as people do.

    >>> spelled(("sources", 0, "url"))
    'sources[0].url'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).removeprefix(".")


def nearest(word: str, legal: Iterable[str]) -> str:
    """Return a question for the nearest legal word, or the list of them, as the end of a message."""
    known = sorted(set(legal))
    near = get_close_matches(word, known, 1)
    return f"; did you mean '{near[0]}'?" if near else f"; the keys here are {', '.join(known)}"


def _check_choices(cls: type, table: Mapping[str, Any], at: Place) -> None:
    for key, words in choices_of(cls).items():
        value = table.get(key)
        if isinstance(value, str) and value not in words:
            near = get_close_matches(value, words, 1)
            raise ConfigError(
                f"{spelled((*at, key))} must be {' or '.join(map(repr, words))}, however it is {value!r}"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                (*at, key),
            )


def _wrong(what: str, inner: str, at: Place, legal: Iterable[str]) -> ConfigError:
    """Return the error for a wrong type, at its key, or for what the class says, which begins with the key's name."""
    if inner:
        key = re.split(r"[.\[]", inner)[0]
        return ConfigError(f"{spelled(at)}{'.' * bool(at)}{inner}: {what}", (*at, key))
    word = re.match(r"\w*", what)
    if word and word[0] in set(legal):
        return ConfigError(f"{spelled(at)}{'.' * bool(at)}{what}", (*at, word[0]))
    return ConfigError(f"{spelled(at)}: {what}" if at else what, at)

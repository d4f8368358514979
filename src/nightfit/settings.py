"""The config as it is in effect: every key, its value, and where that comes from, without the secrets."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightfit.config import ModelConfig, naming, parse, tables_of, text_of
from nightfit.described import Key, keys_of
from nightfit.lines import Place, lines_of
from nightfit.tables import spelled

HIDDEN = "***"
_NAMES = re.compile(r"\$\{(\w+)\}")
_ORIGIN = re.compile(r"https?://[^/?#]*/")
_OPTION = re.compile(r"(?<==)[^&#]+")


@dataclass(frozen=True)
class Setting:
    """A key's value, with its secrets hidden; its line in the file, 0: none; the environment's names that it needs."""

    of: type
    at: Place
    value: Any
    line: int
    is_default: bool
    variables: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Where the value comes from, in words."""
        place = "default" if self.is_default else f"line {self.line}" if self.line else "the file"
        unset = [name for name in self.variables if name not in os.environ]
        names = ", ".join(f"${{{name}}}{' (not set)' * (name in unset)}" for name in self.variables)
        return f"{place}, environment {names}" if names else place


def settings_of(path: Path) -> list[Setting]:
    """Return every setting of a config file, in the order of the tables; raises `ConfigError` for a wrong one."""
    text = text_of(path)
    with naming(path, text):
        document = tomllib.loads(text)
        parse(document, path.parent)
        tables = tables_of(document)
    written = _Written(document, lines_of(text))
    return [setting for at, table in tables.items() for setting in written.settings(at, table)]


@dataclass(frozen=True)
class _Written:
    """What stands in the file, and where."""

    document: Mapping[str, Any]
    lines: Mapping[Place, int]

    def settings(self, at: Place, table: Any) -> Iterator[Setting]:  # noqa: ANN401 - any table's dataclass
        """Yield the settings of a table."""
        if isinstance(table, ModelConfig):
            yield self._setting(ModelConfig, (*at, "kind"), table.kind, None)
            table = table.learner
        for name, key in keys_of(type(table)).items():
            yield self._setting(type(table), (*at, name), getattr(table, name), key)

    def _setting(self, of: type, at: Place, value: Any, key: Key | None) -> Setting:  # noqa: ANN401 - any key's
        is_short = at == ("store", "path") and isinstance(self.document.get("store"), str)
        is_secret, is_url = key is not None and key.is_secret, at[-1] in {"url", "uri"}
        return Setting(
            of,
            at,
            hidden(value, is_url=is_url) if is_secret else list(value) if isinstance(value, tuple) else value,
            self.lines.get(("store",) if is_short else at, 0),
            not (is_short or _holds(self.document, at)),
            tuple(dict.fromkeys(_NAMES.findall(str(value)))) if is_secret else (),
        )


def _holds(document: Any, at: Place) -> bool:  # noqa: ANN401 - what TOML holds
    for part in at:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def hidden(value: Any, *, is_url: bool = False) -> Any:  # noqa: ANN401 - whatever a key may hold
    """Hide a secret, but for its `${NAME}`: of a source's url users and options, of a webhook all after its host.

    >>> hidden("postgresql://me:secret@db/shop?password=${PW}", is_url=True)
    'postgresql://***@db/shop?password=${PW}'
    """
    if isinstance(value, Mapping):
        return {name: _but_names(text) for name, text in value.items()}
    if is_url:
        kind, mark, rest = value.partition("://")
        user, at, place = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
        return _OPTION.sub(lambda found: _but_names(found[0]), f"{kind}{mark}{_but_names(user)}{at}{place}")
    origin = _ORIGIN.match(value)
    start = origin[0] if origin and "@" not in value else ""
    return start + _but_names(value[len(start) :])


def _but_names(text: str) -> str:
    names = "".join(found[0] for found in _NAMES.finditer(text))
    return f"{HIDDEN if _NAMES.sub('', text) else ''}{names}"


def spelled_plainly(at: Place) -> str:
    """Spell a place without the numbers of its sources."""
    return spelled(tuple(part for part in at if isinstance(part, str)))

"""What `nightfit config` says: every setting with its origin, or one key explained in full."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nightfit.config import DEFAULT_KINDS, TABLES, ModelConfig
from nightfit.described import Key, keys_of
from nightfit.errors import ConfigError, UsageError
from nightfit.learners.base import KINDS
from nightfit.render import print_json, show, table
from nightfit.settings import Setting, settings_of, spelled_plainly
from nightfit.sources.base import SourceConfig
from nightfit.sources.configs import FileConfig, HttpConfig, KafkaConfig, NatsConfig, RedisConfig, SqlConfig
from nightfit.tables import spelled
from nightfit.tomltext import toml
from nightfit.toplevel import TopConfig

KINDS_OF_SOURCES = (FileConfig, SqlConfig, HttpConfig, KafkaConfig, RedisConfig, NatsConfig)
"""The classes of `[[sources]]`."""


@dataclass(frozen=True)
class Entry:
    """A key, how it is called in full, the header of its table, and the class that has it."""

    name: str
    key: Key
    header: str
    of: type

    @property
    def kind(self) -> str:
        """What sources have the key, where not all do."""
        return (self.of.__doc__ or "").partition("\n")[0].rstrip(".") if self.of in KINDS_OF_SOURCES else ""

    def among(self, settings: list[Setting]) -> list[Setting]:
        """Return the settings of this key."""
        return [s for s in settings if spelled_plainly(s.at) == self.name and issubclass(s.of, self.of)]


def tell(path: Path, origin: str, *, as_json: bool) -> None:
    """Print the whole config as it is in effect; `origin` says why this file is read."""
    settings = settings_of(path)
    if as_json:
        listed = {spelled(s.at): {"value": s.value, "from": s.origin, "line": s.line or None} for s in settings}
        print_json({"config": str(path), "from": origin, "settings": listed})
        return
    rows = [[spelled(setting.at), toml(setting.value), setting.origin] for setting in settings]
    show(f"{path} ({origin})", table(("key", "value", "from"), rows, left=("key", "value", "from")))


def explain(word: str, path: Path, *, as_json: bool) -> None:
    """Print all there is to know of a key: `gate.margin`, `models.deep.d_hidden`, or `margin` if there is but one."""
    try:
        settings, broken = settings_of(path), ""
    except ConfigError as error:
        settings, broken = [], str(error)
    entries = entries_of(word, settings)
    used = [entry for entry in entries if entry.among(settings)] or entries
    told = [_told(entry, entry.among(settings), broken) for entry in used]
    if as_json:
        print_json({"keys": told})
        return
    for one in told:
        show(table((one["key"], one["of"]), [*_lines(one)], left=(one["key"], one["of"])))


def entries_of(word: str, settings: list[Setting]) -> list[Entry]:
    """Return the entries that a word means; several where kinds of sources have a key of one name.

    Raises `UsageError` for a word that means none, naming the nearest, or that means keys of several tables.
    """
    known = list(_catalog(settings))
    asked = re.sub(r"\[\d*\]", "", word.strip())
    found = [entry for entry in known if entry.name == asked]
    if not found:
        found = [entry for entry in known if entry.name.rpartition(".")[2] == asked]
        names = list(dict.fromkeys(entry.name for entry in found))
        if len(names) > 1:
            raise UsageError(f"--explain must name one key, however '{word}' is {', '.join(names)}; say which")
    if not found:
        raise UsageError(f"--explain must name a key of the config, however '{word}' is none{_nearest(asked, known)}")
    return found


def _nearest(asked: str, known: list[Entry]) -> str:
    """Return a question for the nearest key: of the table that is named, or of all where there is no such table."""
    table_name, _, last = asked.rpartition(".")
    names = {entry.key.name: entry.name for entry in known if entry.name.rpartition(".")[0] == table_name}
    everywhere = {entry.key.name: entry.name for entry in known}
    near = get_close_matches(last, names or everywhere, 1) or get_close_matches(last, everywhere, 1)
    if near:
        return f"; did you mean '{names.get(near[0], everywhere[near[0]])}'?"
    return f"; there are {', '.join(names.values())}" if table_name and names else "; `nightfit config` lists them"


def _catalog(settings: list[Setting]) -> Iterator[Entry]:
    yield from _entries(TopConfig, "", "")
    for name, cls in TABLES.items():
        yield from _entries(cls, name, f"[{name}]")
    yield from _entries(SourceConfig, "sources", "[[sources]]")
    for cls in KINDS_OF_SOURCES:
        own = _entries(cls, "sources", "[[sources]]")
        yield from (entry for entry in own if entry.key.name not in keys_of(SourceConfig))
    for name, kind in _models(settings).items():
        yield Entry(f"models.{name}.kind", _KIND, f"[models.{name}]", ModelConfig)
        yield from _entries(KINDS[kind], f"models.{name}", f"[models.{name}]")


def _entries(cls: type, table_name: str, header: str) -> Iterator[Entry]:
    for key in keys_of(cls).values():
        yield Entry(f"{table_name}.{key.name}".lstrip("."), key, header, cls)


def _models(settings: list[Setting]) -> dict[str, str]:
    """Return the kind of each model of the config; without one, of those that there are then."""
    there = {str(s.at[1]): str(s.value) for s in settings if s.at[0] == "models" and s.at[-1] == "kind"}
    return there or {name: DEFAULT_KINDS[name] for name in ("deep", "linear")}


_KIND = Key(
    "kind",
    "one of a few words",
    "",
    tuple(KINDS),
    "The kind of learner. It follows from the table's name for `deep`, `linear` and the short names of estimators, "
    "and from `estimator` or `module`; needed otherwise.",
    "mlp",
)


def _told(entry: Entry, settings: list[Setting], broken: str) -> dict[str, Any]:
    key = entry.key
    return {
        "key": entry.name,
        "of": entry.kind,
        "type": key.type,
        "default": key.default,
        "needed": key.default is None,
        "legal": list(key.legal),
        "text": key.text,
        "example": f"{entry.header}\n{key.name} = {toml(key.example)}".strip(),
        "secret": key.is_secret,
        "set": [{"at": spelled(s.at), "value": s.value, "from": s.origin} for s in settings],
        "unknown": broken,
    }


def _lines(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is said of a key, line by line."""
    yield "what", told["text"]
    yield "type", told["type"] + (f": {', '.join(map(toml, told['legal']))}" if told["legal"] else "")
    yield "default", "none: it is needed" if told["needed"] else toml(told["default"])
    yield "example", told["example"]
    if told["secret"]:
        yield "secret", "write ${NAME}, and export NAME: what nobody should read is taken from the environment"
    for setting in told["set"]:
        yield "now", f"{setting['at']} = {toml(setting['value'])} ({setting['from']})"
    if not told["set"]:
        yield "now", told["unknown"] or "not in this config"

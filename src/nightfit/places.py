"""The places that nights read from and write to, as `doctor` looks at them: it reads a few rows and writes nothing."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightfit.errors import ConfigError, NightfitError
from nightfit.hints import column_hint
from nightfit.lock import holder
from nightfit.notify.config import NotifyConfig
from nightfit.sources.base import SourceConfig, Surroundings, from_environment
from nightfit.sources.listing import find
from nightfit.sources.make import make_source

if TYPE_CHECKING:
    from nightfit.config import Config
    from nightfit.schema import Rules
    from nightfit.sources.base import BadRow

_PATIENCE = {"timeout_s": 5.0, "patience_s": 0.0}
"""Seconds that a source may take here, where a night would wait longer."""
_LEAST_FREE = 100 << 20


@dataclass(frozen=True)
class Check:
    """One line of the doctor's: what was looked at, whether it works, and what was found; then what to do."""

    what: str
    ok: bool
    found: str


def source_check(source: SourceConfig, config: Config) -> Check:
    """Look whether a source can be read and has what the config names, by its first rows."""
    what, root = f"source {source.name}", config.root
    path = _path(source, root)
    if path is not None:
        try:
            is_there = path.exists() or bool(find(source.url, root))
        except OSError as error:
            return Check(what, False, f"{path} cannot be looked at: {error.strerror}; mend its permissions")
        if not is_there and (source.optional or glob.has_magic(source.url)):
            return Check(what, True, f"{path}, not there now")
        if not is_there:
            return Check(what, False, f"{path} is not there; put it there, or mend the url")
    try:
        around = Surroundings(config.rules.key, config.rules.target, root, is_look=True)
        names, table, bad = _first_rows(_hasty(source), around)
    except NightfitError as error:
        return Check(what, False, str(error))
    return _rows_check(what, names, table, bad, config)


def _rows_check(what: str, names: list[str], table: Any, bad: Sequence[BadRow], config: Config) -> Check:  # noqa: ANN401
    if not names and not bad:
        return Check(what, True, "it can be read, and has no rows yet")
    if bad and not table.num_rows:
        return Check(
            what, False, f"its rows must be readable, however of the first {len(bad):,} none is: {bad[0].reason}"
        )
    wrong = _missing(names, config) or _doubtful_key(table, config.rules)
    return Check(what, not wrong, wrong or f"{table.num_rows:,} rows looked at, {len(names)} columns")


def _path(source: SourceConfig, root: Path) -> Path | None:
    """Return the file that a source reads, or None for one that is elsewhere."""
    if source.url.startswith("sqlite:///"):
        return root / source.url.removeprefix("sqlite:///").partition("?")[0]
    return None if "://" in source.url else root / source.url


def _hasty(source: SourceConfig) -> SourceConfig:
    short = {f.name: min(_PATIENCE[f.name], getattr(source, f.name)) for f in fields(source) if f.name in _PATIENCE}
    return replace(source, **short)


def _first_rows(source: SourceConfig, around: Surroundings) -> tuple[list[str], Any, Sequence[BadRow]]:
    with closing(make_source(source, around).read(None, lambda _: None)) as chunks:  # type: ignore[type-var]
        first = next(chunks, None)
    return ([], None, ()) if first is None else (first.table.column_names, first.table, first.bad)


def _missing(names: list[str], config: Config) -> str:
    """Say which column the config names and the source has not; "" if it has all."""
    rules = config.rules
    named = {
        rules.target: "target",
        **dict.fromkeys(rules.key, "key"),
        **dict.fromkeys(config.gate.slices, "gate.slices"),
    }
    named |= dict.fromkeys(rules.schema.categorical, "schema.categorical")
    absent = next((name for name in named if name not in names), None)
    if absent is None:
        return ""
    return f"{named[absent]} must be a column, however '{absent}' is not there; {column_hint(absent, names)}"


def _doubtful_key(table: Any, rules: Rules) -> str:  # noqa: ANN401 - pyarrow ships no types
    """Say that the key does not identify the rows, if so."""
    if not rules.key:
        return ""
    from nightfit.kinds import as_text

    keys = table.select(list(rules.key))
    for i, name in enumerate(rules.key):
        keys = keys.set_column(i, name, as_text(keys[name].combine_chunks()))
    if any(keys[name].null_count for name in rules.key):
        return f"the key must have a value in every row, however {', '.join(rules.key)} has gaps; name another key"
    again = keys.num_rows - keys.group_by(list(rules.key)).aggregate([]).num_rows
    if not again or rules.on_update == "learn":
        return ""
    return (
        f"the key must name one row, however {again:,} of {keys.num_rows:,} rows have one that came before, and are "
        'rejected; add columns to key, or set on_update = "learn"'
    )


def store_checks(config: Config) -> list[Check]:
    """Look whether the store can be written to, has room, and is not being written to now."""
    folder = config.store / config.name
    there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return [Check("store", False, f"{there} must be a folder that can be written to; mend its permissions")]
    free = shutil.disk_usage(there).free
    if free < _LEAST_FREE:
        return [Check("store", False, f"{free >> 20:,} MiB are free at {there}; free some, or `nightfit prune`")]
    writer = holder(folder)
    running = f"; process {writer} is writing there now" if writer else ""
    return [Check("store", True, f"{folder}, {free >> 30:,} GiB free{running}")]


def notify_checks(config: NotifyConfig, root: Path) -> list[Check]:
    """Look whether those can be told whom the config names; nothing is sent."""
    checks = []
    if config.webhook:
        checks.append(_webhook(config))
    if config.textfile:
        path = root / config.textfile
        ok = path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)
        todo = f"{path.parent} must be a folder that can be written to; make it, or mend its permissions"
        checks.append(Check("notify.textfile", ok, str(path) if ok else todo))
    return checks


def _webhook(config: NotifyConfig) -> Check:
    from nightfit.sources.endpoint import origin_of

    try:
        origin = origin_of(from_environment(config.webhook, "notify.webhook"))
        for name, text in config.headers.items():
            from_environment(text, f"header {name!r} of notify")
    except ConfigError as error:
        return Check("notify.webhook", False, str(error))
    return Check(
        "notify.webhook", bool(origin), origin or "it must be a url of http or https, however it is none; mend it"
    )

"""Init: look at the data, guess what the config should say, and write it with comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from nightfit.config import TABLES
from nightfit.described import keys_of
from nightfit.errors import DataError, UsageError
from nightfit.guesses import Looked, cursor_of, key_of, night_of, target_of
from nightfit.hints import column_hint
from nightfit.kinds import as_text, infer_kind, is_quantity
from nightfit.learners.base import KINDS
from nightfit.schema import Schema
from nightfit.sources.base import Dialect
from nightfit.sources.make import kind_of
from nightfit.tomltext import toml
from nightfit.toplevel import TopConfig

if TYPE_CHECKING:
    from nightfit.kinds import Kind
    from nightfit.schema import Task
    from nightfit.sources.base import Chunk

_SAMPLE_CHUNKS = 4


@dataclass(frozen=True)
class Guess:
    """What was found. `kinds` has every column; `missing` the share of its rows that hold no value.

    `cursor` is what a database's table is read in the order of; `night` what cuts a history into nights, as options of
    `train`; `reasons` why target, key, cursor and night are what they are, in words. `environment` names what stands in
    place of the secrets that `data` was typed with.
    """

    name: str
    data: str
    table: str
    target: str
    key: str
    cursor: tuple[str, ...]
    night: str
    kinds: dict[str, Kind | None]
    missing: dict[str, float]
    task: Task
    n_classes: int
    n_rows: int
    reasons: dict[str, str]
    dialect: Dialect = Dialect()  # noqa: RUF009 - frozen
    environment: tuple[str, ...] = ()


def look(chunks: Iterator[Chunk], *, data: str, table: str, target: str | None, name: str = "") -> Guess:
    """Guess from the first rows; a target that is None is guessed, too.

    Raises `DataError` if the target is not there, or has no value, and `UsageError` if none can be guessed.
    """
    tables = [chunk.table for chunk in islice(chunks, _SAMPLE_CHUNKS)]
    n_rows = sum(table.num_rows for table in tables)
    if not n_rows:
        raise DataError(f"init needs rows to look at, however {data} has none; name data that has")
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    columns = {name: pa.concat_arrays([_text(table, name) for table in tables]) for name in names}
    looked = Looked(columns, {c: infer_kind(text) for c, text in columns.items()}, n_rows)
    reasons = {"target": "was said"}
    if target is None:
        target, reasons["target"] = target_of(looked)
    task, n_classes = _task(columns, target, data)
    key, reasons["key"] = key_of(looked, target)
    cursor: tuple[str, ...] = ()
    if "://" in data:
        cursor, reasons["cursor"] = cursor_of(looked, key)
    night, reasons["night"] = night_of(looked)
    return Guess(
        name=name or _name(data, table),
        data=data,
        table=table,
        target=target,
        key=key,
        cursor=cursor,
        night=night,
        kinds=dict(looked.kinds),
        missing={c: text.null_count / n_rows for c, text in columns.items()},
        task=task,
        n_classes=n_classes,
        n_rows=n_rows,
        reasons=reasons,
    )


def _task(columns: Mapping[str, Any], target: str, data: str) -> tuple[Task, int]:
    """Return the kind of target, and how many classes it has; raises an error for a target that is none."""
    if not target:
        raise UsageError(
            f"init must know the target, however no column of {data} looks like one; say --target, one of "
            f"{', '.join(columns)}"
        )
    if target not in columns:
        hint = column_hint(target, columns)
        raise DataError(f"--target must be a column of the data, however '{target}' is none of {data}; {hint}")
    values = pc.unique(columns[target].drop_null()).to_pylist()
    if not values:
        raise DataError(
            f"the target must have values, however '{target}' of {data} is empty in the rows looked at; "
            "choose another, or mend the data"
        )
    if is_quantity(columns[target]):
        return "regression", 0
    Schema().with_classes(values)  # not more than a model can learn
    return "classification", len(values)


def _text(table: Any, name: str) -> Any:  # noqa: ANN401 - pyarrow ships no types
    """Return a column as text; files of a folder need not all have it."""
    return as_text(table[name].combine_chunks()) if name in table.column_names else pa.nulls(len(table), pa.string())


def _name(data: str, table: str) -> str:
    stem = table or Path(data.rstrip("/")).name.split(".")[0]
    return re.sub(r"[^a-z0-9_-]+", "_", stem.lower()).strip("_-")[:64] or "pipeline"


def config_text(guess: Guess, root: str) -> str:
    """Return the config that the guess makes, every other key as a comment; it can be used as it is."""
    is_database = "://" in guess.data
    if is_database and not guess.cursor:
        raise UsageError(
            f"a database table needs a column that grows from row to row, however {guess.table} has neither a key "
            "(id, key, ...) nor a time without gaps; write the config by hand and set cursor"
        )
    texts = [c for c, kind in guess.kinds.items() if kind == "categorical" and c not in {guess.target, guess.key}]
    top = {"name": guess.name, "target": guess.target, "task": guess.task} | ({"key": guess.key} if guess.key else {})
    table, spelled = {"table": guess.table, "cursor": list(guess.cursor)}, asdict(guess.dialect)
    source = {"url": guess.data} | (table if is_database else {k: v for k, v in spelled.items() if k in guess.reasons})
    notes = {"target": guess.reasons["target"], "task": _why(guess), "key": guess.reasons["key"]}
    notes |= {name: guess.reasons.get(name, "") for name in ("cursor", "delimiter", "decimal")}
    history = f"nightfit train {guess.night}" if guess.night else "nightfit train"
    return "\n".join(
        [
            "# Written by `nightfit init`. A line that begins with # has the default: take the # away to change it.",
            "# `nightfit config --explain KEY` says all there is to know of a key.",
            *_keys(TopConfig, top | {"root": root}, notes),
            *_table("[store]", TABLES["store"]),
            *_table("[[sources]]", kind_of(guess.data).config, source, notes),
            f"# Learn what is there: {history}  # {guess.reasons['night']}",
            *_table("[schema]", TABLES["schema"]),
            f"# found as text: {', '.join(map(toml, texts)) or 'nothing'}",
            *_table("[gate]", TABLES["gate"]),
            *_table("[notify]", TABLES["notify"]),
            *_table("[mlflow]", TABLES["mlflow"]),
            *_table("[models.deep]", KINDS["mlp"]),
            *_table("[models.linear]", KINDS["partial_fit"]),
            "",
        ]
    )


def _table(
    header: str, cls: type, values: Mapping[str, Any] | None = None, notes: Mapping[str, str] | None = None
) -> list[str]:
    return ["", header, *_keys(cls, values or {}, notes or {})]


def _keys(cls: type, values: Mapping[str, Any], notes: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each key: with its value, or as a comment with its default, and what it is or why."""
    for name, key in keys_of(cls).items():
        line = f"{name} = {toml(values[name])}" if name in values else f"# {name} = {toml(key.default)}"
        yield f"{line}  # {notes.get(name) or key.brief}"


def _why(guess: Guess) -> str:
    if guess.task == "regression":
        return 'the target is a quantity; if its numbers are labels: "classification"'
    return f"{guess.n_classes} classes in {guess.n_rows:,} rows"

"""Init: look at the data, guess what the config should say, and write it with comments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from nightfit.errors import DataError, UsageError
from nightfit.inputs import column_hint
from nightfit.kinds import as_text, infer_kind, is_quantity
from nightfit.schema import Schema

if TYPE_CHECKING:
    from nightfit.kinds import Kind
    from nightfit.schema import Task
    from nightfit.sources.base import Chunk

_KEY_NAMES = re.compile(r"(^|_)(id|key|uuid|guid)$", re.IGNORECASE)
_SAMPLE_CHUNKS = 4


@dataclass(frozen=True)
class Guess:
    """What was found. `kinds` has every column; `missing` the share of its rows that hold no value."""

    name: str
    data: str
    table: str
    target: str
    key: str
    kinds: dict[str, Kind | None]
    missing: dict[str, float]
    task: Task
    n_classes: int
    n_rows: int


def look(chunks: Iterator[Chunk], *, data: str, table: str, target: str, name: str = "") -> Guess:
    """Guess from the first rows. The key is a column named like one whose values differ from row to row.

    Raises `DataError` if the target is not there, or has no value.
    """
    tables = [chunk.table for chunk in islice(chunks, _SAMPLE_CHUNKS)]
    n_rows = sum(table.num_rows for table in tables)
    if not n_rows:
        raise DataError(f"init needs rows to look at, however {data} has none; name data that has")
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    columns = {name: pa.concat_arrays([_text(table, name) for table in tables]) for name in names}
    if target not in columns:
        hint = column_hint(target, columns)
        raise DataError(f"--target must be a column of the data, however '{target}' is none of {data}; {hint}")
    values = pc.unique(columns[target].drop_null()).to_pylist()
    if not values:
        raise DataError(
            f"the target must have values, however '{target}' of {data} is empty in the rows looked at; "
            "choose another, or mend the data"
        )
    task: Task = "regression" if is_quantity(columns[target]) else "classification"
    if task == "classification":
        Schema().with_classes(values)  # not more than a model can learn
    return Guess(
        name=name or _name(data, table),
        data=data,
        table=table,
        target=target,
        key=next((c for c, text in columns.items() if c != target and _is_key(c, text)), ""),
        kinds={c: infer_kind(text) for c, text in columns.items()},
        missing={c: text.null_count / n_rows for c, text in columns.items()},
        task=task,
        n_classes=len(values) if task == "classification" else 0,
        n_rows=n_rows,
    )


def _text(table: Any, name: str) -> Any:  # noqa: ANN401 - pyarrow ships no types
    """Return a column as text; files of a folder need not all have it."""
    return as_text(table[name].combine_chunks()) if name in table.column_names else pa.nulls(len(table), pa.string())


def _is_key(name: str, text: Any) -> bool:  # noqa: ANN401 - pyarrow ships no types
    return bool(_KEY_NAMES.search(name)) and not text.null_count and len(pc.unique(text)) == len(text)


def _name(data: str, table: str) -> str:
    stem = table or Path(data.rstrip("/")).name.split(".")[0]
    return re.sub(r"[^a-z0-9_-]+", "_", stem.lower()).strip("_-")[:64] or "pipeline"


def config_text(guess: Guess, root: str) -> str:
    """Return the config that the guess makes, with comments; it can be used as it is."""
    is_database = "://" in guess.data
    if is_database and not guess.key:
        raise UsageError(
            f"a database table needs a column that grows and names a row, however {guess.table} has none named like "
            "one (id, key, ...) with distinct values; write the config by hand and set cursor"
        )
    texts = [c for c, kind in guess.kinds.items() if kind == "categorical" and c not in {guess.target, guess.key}]
    lines = [
        "# Written by `nightfit init`. Every key: docs/config.md.",
        f"name = {_toml(guess.name)}  # a folder of the store: <store>/{guess.name}/<model>/<version>/",
        f"target = {_toml(guess.target)}",
        f'task = "{guess.task}"  # {_why(guess)}',
        f"key = {_toml(guess.key)}  # identifies a row; never a feature"
        if guess.key
        else '# key = "..."  # no column identifies a row: rows are known by their position in the file',
        f"root = {_toml(root)}  # what relative paths are relative to",
        'store = "checkpoints"',
        "",
        "[[sources]]",
        f"url = {_toml(guess.data)}",
        *([f"table = {_toml(guess.table)}", f"cursor = {_toml(guess.key)}"] if is_database else []),
        "",
        "[schema]",
        f"# found as text: {', '.join(map(_toml, texts)) or 'nothing'}",
        "categorical = []  # columns that are categories although they look like numbers",
        "drop = []         # columns that must not be features: what is known only after the target is",
        'on_missing_column = "stop"',
        "",
        "[gate]",
        f"slices = []       # columns, such as {_toml(texts[0])}: with no value of theirs may a new version be worse"
        if texts
        else "slices = []       # categorical columns: with no value of theirs may a new version be worse",
        f"floors = {{}}       # scores that no version may be past: {_floor(guess)}",
        "",
        "[models.deep]     # an MLP, warm-started every night",
        "[models.linear]   # scikit-learn's SGD by partial_fit, on the same rows",
        "",
    ]
    return "\n".join(lines)


def _why(guess: Guess) -> str:
    if guess.task == "regression":
        return 'the target is a quantity; if its numbers are labels: "classification"'
    return f"{guess.n_classes} classes in {guess.n_rows:,} rows"


def _floor(guess: Guess) -> str:
    return "{ r2 = 0.5 }" if guess.task == "regression" else "{ accuracy = 0.7, log_loss = 0.6 }"


def _toml(text: str) -> str:
    """Return a TOML basic string, which is a JSON string whose odd characters are all escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)

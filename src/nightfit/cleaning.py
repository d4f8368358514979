"""From raw rows to clean ones: each row of the increment gets exactly one fate, and every reject its reason.

The chunks are parsed one by one, their keys and values hashed, and what is clean staged again, by column name, for the
schema to encode; `settling` then finds duplicates and conflicts over the whole night.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightfit.ahead import map_ahead
from nightfit.batch import Array
from nightfit.errors import DataError
from nightfit.fates import CleanNight, CleanPart, Fate, Hashes, Reject, Rejects
from nightfit.hints import column_hint
from nightfit.identity import hash_positions, hash_text, hash_word, mix
from nightfit.kinds import as_text, infer_kind, is_quantity, parse, whole
from nightfit.known import Known
from nightfit.pending import KEY_PARTS, Pending, expire
from nightfit.schema import Rules, Schema, Task
from nightfit.settling import settle
from nightfit.sources.increment import Increment, Part

_INFER_ROWS = 65_536


def adopt(schema: Schema, tables: Iterable[Any], rules: Rules) -> Schema:
    """Return the schema with every column that it does not know yet and that holds a value in the tables."""
    skip = {
        rules.target,
        *rules.key,
        *rules.schema.drop,
        *rules.not_features,
        *(c.name for c in schema.columns),
    }
    samples: dict[str, list[Any]] = {}
    for table in tables:
        for name in (name for name in table.column_names if name not in skip):
            held = samples.setdefault(name, [])
            if (n_left := _INFER_ROWS - sum(map(len, held))) > 0:
                held.append(as_text(whole(table[name].slice(0, n_left)), rules.schema.missing).drop_null())
    kinds = {name: infer_kind(pa.concat_arrays(texts)) for name, texts in samples.items()}
    hints = rules.schema.categorical
    return schema.with_columns(
        {name: "categorical" if name in hints else kind for name, kind in kinds.items() if kind is not None}
    )


def guess_task(tables: Iterable[Any], rules: Rules) -> Task:
    """Guess from the targets of the tables (of the first 65,536 rows that have one) whether they are a quantity."""
    texts: list[Any] = []
    for table in (table for table in tables if _has_target(table, rules)):
        texts.append(as_text(whole(table[rules.target]), rules.schema.missing).drop_null())
        if sum(map(len, texts)) >= _INFER_ROWS:
            break
    return "regression" if texts and is_quantity(pa.concat_arrays(texts)) else "classification"


def _has_target(table: Any, rules: Rules) -> bool:  # noqa: ANN401
    return rules.target in table.column_names


def target_of(table: Any, rules: Rules, task: Task) -> Any:  # noqa: ANN401
    """Return the target as labels (text) or numbers, null where a row has none."""
    column = whole(table[rules.target])
    if task == "regression":
        return parse(column, "numeric", rules.schema.missing)[0]
    return as_text(column, rules.schema.missing)


def parse_features(table: Any, schema: Schema, missing: tuple[str, ...]) -> tuple[Any, dict[str, Array]]:  # noqa: ANN401
    """Return the schema's columns as parsed values, and where (bool [n], by column) a value is of another kind."""
    columns: dict[str, Any] = {}
    bad: dict[str, Array] = {}
    there = dict(zip(table.column_names, table.columns, strict=True))
    for column in (column for column in schema.columns if column.name in there):
        columns[column.name], bad[column.name] = parse(whole(there[column.name]), column.kind, missing)
    return (pa.table(columns) if columns else _no_columns(table.num_rows)), bad


def clean(
    increment: Increment,
    schema: Schema,
    rules: Rules,
    *,
    known: Known,
    excluded: Array,
    delivered: Mapping[str, Iterable[str]],
    folder: Path,
    new: frozenset[str] = frozenset(),
    pending: Pending | None = None,
    now_s: float = 0.0,
) -> CleanNight:
    """Give every row of the increment, and every row that was pending, its fate.

    `known` holds the identities of the last nights; `excluded` (uint64, sorted) the keys that `--exclude` leaves out;
    `delivered` the columns that each source has delivered on earlier nights; `new` those that no night knew before: a
    known row that comes again with a value in one of them is the same row. `now_s` is in seconds since 1970.

    Raises `DataError` if a source lacks the key, or (unless it may be missing) a column that it delivered, and if no
    source has the target.
    """
    folder.mkdir(parents=True)
    night = CleanNight(
        rules.target,
        {source: set(names) for source, names in delivered.items()},
        Rejects(folder / "rejects.jsonl"),
        folder / "segment",
    )
    _check_target(increment, rules, night.delivered)
    night.parts += (pending or Pending()).parts(rules, folder)
    for part in increment.parts:
        night.n_bad += len(part.bad)
        _check_columns(part, schema, rules, night.delivered.setdefault(part.source, set()))
    parse = partial(_parse, folder=folder, schema=schema, rules=rules, new=new, excluded=excluded)
    for part, parsed, rejects in map_ahead(parse, (*increment.parts, *increment.looked_up)):
        night.rejects.add([Reject(part.place, bad.row, "", "", bad.reason, bad.text) for bad in part.bad])
        night.rejects.add(rejects)
        if part.n:
            night.parts.append(parsed)
    waiting = (pending or Pending()).key_hashes
    for asked in (parsed for parsed in night.parts if parsed.looked_up):  # by other models, too
        asked.fates[~np.isin(asked.hashes.keys, waiting)] = Fate.REJECTED
    settle(night, rules, known, excluded)
    expire(night, rules, now_s)
    return night


def labels_found(increment: Increment, rules: Rules, pending: Pending) -> dict[str, str]:
    """Return the labels (as text) that were looked up, by the keys of the pending rows that they are for."""
    waiting, found = set(pending.key_texts()), dict[str, str]()
    for part in increment.looked_up:
        keys, labels = (
            _keys(part.table, rules),
            as_text(whole(part.table[rules.target]), rules.schema.missing),
        )
        pairs = zip(keys.to_pylist(), labels.to_pylist(), strict=True)
        found.update((key, label) for key, label in pairs if label is not None and key in waiting)
    return found


def _parse(
    part: Part, *, folder: Path, schema: Schema, rules: Rules, new: frozenset[str], excluded: Array
) -> tuple[Part, CleanPart, list[Reject]]:
    """Parse one chunk: stage its features, hash its keys and values, reject what is of another kind."""
    raw = part.table
    table = raw.drop_columns([name for name in rules.schema.drop if name in raw.column_names])
    only_labels = has_only_labels(part, rules)
    if only_labels:
        table = table.select([name for name in table.column_names if name in rules.no_features])
    for name in {rules.target, *rules.key} - set(table.column_names):
        table = table.append_column(name, pa.nulls(part.n, pa.string()))
    labels = as_text(whole(table[rules.target]), rules.schema.missing)
    targets = labels if schema.task == "classification" else target_of(table, rules, schema.task)
    keys = _keys(table, rules)
    features, bad = parse_features(table, schema, rules.schema.missing)
    key_hashes = _key_hash(part, keys, rules)
    check = _Check(part, table, keys, np.isin(key_hashes, excluded))
    if only_labels or not rules.waits:
        check.reject(_null(labels), rules.target, "(the target) has no value")
    check.reject(_null(targets) & ~_null(labels), rules.target, f"(the target) must be {_AN['numeric']}")
    if keys is not None:
        check.reject(_null(keys), rules.key[0], "(the key) has no value")
    for column in (column for column in schema.columns if column.name in bad):
        check.reject(bad[column.name], column.name, f"must be {_AN[column.kind]}")
    staged = {name: features[name] for name in bad} | {rules.target: targets}  # neither target nor key is a feature
    dropped = [c for c in schema.columns if c.name in rules.schema.drop and c.name in raw.column_names]
    were = {c.name: parse(whole(raw[c.name]), c.kind, rules.schema.missing)[0] for c in dropped}
    table = pa.table(staged if keys is None else {**staged, rules.key[0]: keys})
    parsed = CleanPart.staged(
        folder / part.path.stem,
        table,
        Hashes(key_hashes, *_value_hashes(staged, were, rules.target, new), part.rows.astype(np.uint64)),
        place=part.place,
        fates=check.fates,
        has_features=not only_labels,
        is_sparse=part.is_sparse and rules.waits,
        looked_up=part.looked_up,
        raw=part.path,
        borrowed=tuple(name for name in table.column_names if _is_of(raw, name, table[name])),
    )
    return part, parsed, check.rejects


def _is_of(table: Any, name: str, column: Any) -> bool:  # noqa: ANN401 - pyarrow ships no types
    """Say whether a column is that of the table, the very bytes."""
    if name not in table.column_names or table[name].type != column.type:
        return False
    own, other = (
        [buffer and buffer.address for chunk in c.chunks for buffer in chunk.buffers()] for c in (column, table[name])
    )
    return own == other


class _Check:
    """The fates of a chunk's rows as far as one row alone decides them, and the reasons.

    What is excluded (bool [n]) is no reject, whatever is wrong with it: a reject would keep what was to be forgotten.
    """

    def __init__(self, part: Part, table: Any, keys: Any, excluded: Array) -> None:  # noqa: ANN401 - pyarrow ships no types
        self._part, self._table, self._keys = part, table, keys
        self.fates = np.where(excluded, Fate.EXCLUDED, Fate.LEARNED).astype(np.uint8)
        self.rejects: list[Reject] = []

    def reject(self, mask: Array, column: str, reason: str) -> None:
        """Reject the rows of a mask (bool [n]) that have no other fate yet."""
        if not mask.any():
            return
        fresh = np.flatnonzero(mask & (self.fates == Fate.LEARNED))
        self.fates[fresh] = Fate.REJECTED
        if not len(fresh) or self._part.looked_up:
            return
        values = self._table[column].take(pa.array(fresh)).to_pylist()
        keys = self._keys.take(pa.array(fresh)).to_pylist() if self._keys is not None else [None] * len(fresh)
        for value, key, row in zip(values, keys, self._part.rows[fresh].tolist(), strict=True):
            text = "" if value is None else str(value)
            self.rejects.append(Reject(self._part.place, row, key or "", column, reason, text))


def _value_hashes(
    columns: Mapping[str, Any], dropped: Mapping[str, Any], target: str, new: frozenset[str]
) -> tuple[Array, Array, Array]:
    """Hash parsed columns: all values, what is new of them, and the target's part, uint64 [n] each.

    What is dropped since a row was met is part of its old hash.
    """
    hashes = {name: _value_hash(name, whole(column)) for name, column in columns.items()}
    n = len(hashes[target])
    values, added = np.zeros(n, np.uint64), np.zeros(n, np.uint64)
    for name, h in hashes.items():
        values += h
        if name in new:
            added += h
    for name, column in dropped.items():
        added -= _value_hash(name, column)
    return values, added, hashes[target]


_AN = {
    "numeric": "a number",
    "boolean": "true or false",
    "datetime": "an ISO 8601 time",
    "categorical": "text",
}


def _no_columns(n: int) -> Any:  # noqa: ANN401
    """Return a table of n rows for a schema without features: pyarrow keeps a length only with a column."""
    return pa.table({"": pa.nulls(n)})


def _null(column: Any) -> Array:  # noqa: ANN401
    return np.asarray(pc.is_null(column).to_numpy(zero_copy_only=False))


def _check_target(increment: Increment, rules: Rules, delivered: Mapping[str, set[str]]) -> None:
    """Stop where no source has the target, though each of them has delivered rows: it is misspelt.

    With labels that come late one source may have the features, and another, which may have nothing yet, the labels;
    and records that name their own columns may have none yet.
    """
    if not increment.parts or any(rules.target in names for names in delivered.values()):
        return
    there = {part.source: part.names for part in increment.parts}
    if any(rules.target in names for names in there.values()):
        return
    some_are_silent = set(increment.n_read) - set(there) - set(delivered)
    if rules.waits and (some_are_silent or any(part.is_sparse for part in increment.parts)):
        return
    part = increment.parts[0]
    raise DataError(
        f"the target '{rules.target}' must be a column of a source, however {part.place} has none; "
        f"{column_hint(rules.target, part.names)}"
    )


def has_only_labels(part: Part, rules: Rules) -> bool:
    """Say whether a chunk has a key and a target and nothing to predict from: its rows were, or will be, elsewhere."""
    return rules.waits and (part.looked_up or set(part.names) - set(rules.schema.drop) <= rules.no_features)


def _check_columns(part: Part, schema: Schema, rules: Rules, delivered: set[str]) -> None:
    """Stop at a lack of the key, or of a column that this source has `delivered` before; add to those.

    Sources may differ in their columns, so what one never had it may lack; what it had and loses is a broken export.
    Of sparse records a column that none of them has is missing, the key too.
    """
    names = part.names
    known = {rules.target, *(column.name for column in schema.columns)}
    if part.is_sparse:
        delivered.update(known.intersection(names))
        return
    for name in set(rules.key) - set(names):
        rule = f"the key '{name}' must be a column of every source"
        raise DataError(f"{rule}, however {part.place} has none; {column_hint(name, names)}")
    if rules.target not in names and (rules.target in delivered or not rules.waits):
        rule = f"the target '{rules.target}' must be a column of every source"
        raise DataError(f"{rule}, however {part.place} has none; {column_hint(rules.target, names)}")
    missing = sorted(delivered - set(names) - set(rules.schema.drop))
    if missing and rules.schema.on_missing_column == "stop":
        raise DataError(
            f"a source must go on delivering its columns, however {part.place} has no '{missing[0]}' any more"
            f"{f' (nor {len(missing) - 1} others)' if len(missing) > 1 else ''}; mend the source, "
            'or set schema.on_missing_column = "missing", or name the column in schema.drop',
        )
    delivered.update(known.intersection(names))


def _keys(table: Any, rules: Rules) -> Any:  # noqa: ANN401
    """Return the key as text, null where any part of it is missing; None if rows have no key."""
    if not rules.key:
        return None
    parts = [as_text(whole(table[name]), rules.schema.missing) for name in rules.key]
    return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, KEY_PARTS)


def _key_hash(part: Part, keys: Any, rules: Rules) -> Array:  # noqa: ANN401
    if keys is None:
        return hash_positions(part.place, part.generation, part.rows)
    h = hash_text(pc.fill_null(keys, ""))
    return mix(h ^ hash_word(part.source)) if rules.key_scope == "source" else mix(h)


def _value_hash(name: str, column: Any) -> Array:  # noqa: ANN401
    """Hash a column's values with its name; missing ones count as 0, so that a new column changes no old hash."""
    if pa.types.is_floating(column.type):
        numbers = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        h = (numbers + 0.0).view(np.uint64)  # -0.0 is 0.0
    else:
        words = pc.fill_null(column, "").dictionary_encode()  # of which there are few
        h = hash_text(words.dictionary)[words.indices.to_numpy()]
    h += hash_word(name)
    h = mix(h)
    if column.null_count:
        h[_null(column)] = 0
    return h

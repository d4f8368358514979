"""From raw rows to clean ones: each row of the increment gets exactly one fate, and every reject its reason.

Two passes: the first parses the chunks one by one and hashes keys and values; the second, over the hashes of the
whole night, finds duplicates and conflicts. What is clean is staged again, by column name, for the schema to encode.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightfit.batch import Array
from nightfit.errors import DataError
from nightfit.fates import CleanNight, CleanPart, Fate, Reject
from nightfit.identity import hash_positions, hash_text, hash_word, is_held_out, mix
from nightfit.kinds import as_text, infer_kind, is_quantity, parse
from nightfit.known import Known
from nightfit.schema import Rules, Schema, Task
from nightfit.sources.increment import Increment, Part, read_table, write_table

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
            if sum(map(len, held)) < _INFER_ROWS:
                held.append(as_text(table[name].combine_chunks(), rules.schema.missing).drop_null())
    kinds = {name: infer_kind(pa.concat_arrays(texts)) for name, texts in samples.items()}
    hints = rules.schema.categorical
    return schema.with_columns(
        {name: "categorical" if name in hints else kind for name, kind in kinds.items() if kind is not None}
    )


def guess_task(tables: Iterable[Any], rules: Rules) -> Task:
    """Guess from the first table with a target whether it is a quantity."""
    texts = (as_text(t[rules.target].combine_chunks(), rules.schema.missing) for t in tables if _has_target(t, rules))
    first = next((text for text in texts if text.null_count < len(text)), None)
    return "regression" if first is not None and is_quantity(first) else "classification"


def _has_target(table: Any, rules: Rules) -> bool:  # noqa: ANN401
    return rules.target in table.column_names


def target_of(table: Any, rules: Rules, task: Task) -> Any:  # noqa: ANN401
    """Return the target as labels (text) or numbers, null where a row has none."""
    column = table[rules.target].combine_chunks()
    if task == "regression":
        return parse(column, "numeric", rules.schema.missing)[0]
    return as_text(column, rules.schema.missing)


def parse_features(table: Any, schema: Schema, missing: tuple[str, ...]) -> tuple[Any, dict[str, Array]]:  # noqa: ANN401
    """Return the schema's columns as parsed values, and where (bool [n], by column) a value is of another kind."""
    columns: dict[str, Any] = {}
    bad: dict[str, Array] = {}
    there = dict(zip(table.column_names, table.columns, strict=True))
    for column in (column for column in schema.columns if column.name in there):
        columns[column.name], bad[column.name] = parse(there[column.name].combine_chunks(), column.kind, missing)
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
) -> CleanNight:
    """Give every row of the increment its fate.

    `known` holds the identities of the last nights; `excluded` (uint64, sorted) the keys that `--exclude` leaves out;
    `delivered` the columns that each source has delivered on earlier nights; `new` those that no night knew before: a
    known row that comes again with a value in one of them is the same row.

    Raises `DataError` if a source lacks the target, the key, or (unless it may be missing) a column that it delivered.
    """
    folder.mkdir(parents=True)
    night = CleanNight(rules.target, {source: set(names) for source, names in delivered.items()})
    for i, part in enumerate(increment.parts):
        night.n_bad += len(part.bad)
        night.rejects += [Reject(part.place, bad.row, "", "", bad.reason, bad.text[:200]) for bad in part.bad]
        if len(part.rows):
            night.parts.append(_parse(part, schema, rules, folder / f"{i:06d}.arrow", night, new=new))
    _settle(night, rules, known, excluded)
    return night


def _parse(
    part: Part, schema: Schema, rules: Rules, path: Path, night: CleanNight, *, new: frozenset[str]
) -> CleanPart:
    """Parse one chunk: stage its features, hash its keys and values, reject what is of another kind."""
    whole = part.table
    table = whole.drop_columns([name for name in rules.schema.drop if name in whole.column_names])
    _check_columns(part, table, schema, rules, night.delivered.setdefault(part.source, set()))
    labels = as_text(table[rules.target].combine_chunks(), rules.schema.missing)
    targets = target_of(table, rules, schema.task)
    keys = _keys(table, rules)
    fates = np.zeros(len(part.rows), np.uint8)

    def reject(mask: Array, column: str, reason: str) -> None:
        fresh = np.flatnonzero(mask & (fates != Fate.REJECTED))
        fates[fresh] = Fate.REJECTED
        for i in fresh.tolist():
            value, key = table[column][i].as_py(), keys[i].as_py() if keys is not None else None
            text = "" if value is None else str(value)[:200]
            night.rejects.append(Reject(part.place, int(part.rows[i]), key or "", column, reason, text))

    reject(_null(labels), rules.target, "(the target) has no value")
    reject(_null(targets), rules.target, f"(the target) must be {_AN['numeric']}")
    if keys is not None:
        reject(_null(keys), rules.key[0], "(the key) has no value")
    features, bad = parse_features(table, schema, rules.schema.missing)
    for column in schema.columns:
        if column.name in bad:
            reject(bad[column.name], column.name, f"must be {_AN[column.kind]}")
    values, added = _value_hash(rules.target, targets), np.zeros(len(part.rows), np.uint64)
    for name in bad:
        h = _value_hash(name, features[name].combine_chunks())
        values += h
        if name in new:
            added += h
    for column in schema.columns:  # what is dropped since a row was met is part of its old hash
        if column.name in rules.schema.drop and column.name in whole.column_names:
            parsed, _ = parse(whole[column.name].combine_chunks(), column.kind, rules.schema.missing)
            added -= _value_hash(column.name, parsed)
    staged = {name: features[name] for name in bad} | {rules.target: targets}  # neither target nor key is a feature
    write_table(pa.table(staged if keys is None else {**staged, rules.key[0]: keys}), path)
    return CleanPart(part.place, path, part.rows, _key_hash(part, keys, rules), values, values - added, fates)


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


def _check_columns(part: Part, table: Any, schema: Schema, rules: Rules, delivered: set[str]) -> None:  # noqa: ANN401
    """Stop at a lack of the target, of the key, or of a column that this source has `delivered` before; add to those.

    Sources may differ in their columns, so what one never had it may lack; what it had and loses is a broken export.
    """
    names = table.column_names
    for role, wanted in (("the target", (rules.target,)), ("the key", rules.key)):
        for name in set(wanted) - set(names):
            near = get_close_matches(name, names, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(names)}"
            raise DataError(f"{role} '{name}' must be a column of every source, however {part.place} has none; {hint}")
    missing = sorted(delivered - set(names) - set(rules.schema.drop))
    if missing and rules.schema.on_missing_column == "stop":
        raise DataError(
            f"a source must go on delivering its columns, however {part.place} has no '{missing[0]}' any more"
            f"{f' (nor {len(missing) - 1} others)' if len(missing) > 1 else ''}; mend the source, "
            'or set schema.on_missing_column = "missing", or name the column in schema.drop',
        )
    delivered.update(column.name for column in schema.columns if column.name in names)


def _keys(table: Any, rules: Rules) -> Any:  # noqa: ANN401
    """Return the key as text, null where any part of it is missing; None if rows have no key."""
    if not rules.key:
        return None
    parts = [as_text(table[name].combine_chunks(), rules.schema.missing) for name in rules.key]
    return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, "\x1f")


def _key_hash(part: Part, keys: Any, rules: Rules) -> Array:  # noqa: ANN401
    if keys is None:
        return hash_positions(part.place, part.generation, part.rows)
    h = hash_text(pc.fill_null(keys, ""))
    return mix(h ^ hash_word(part.source)) if rules.key_scope == "source" else mix(h)


def _value_hash(name: str, column: Any) -> Array:  # noqa: ANN401
    """Hash a column's values with its name; missing ones count as 0, so that a new column changes no old hash."""
    if pa.types.is_floating(column.type):
        numbers = np.asarray(pc.fill_null(column, np.nan).to_numpy(zero_copy_only=False), np.float64) + 0.0
        h = numbers.view(np.uint64)
    else:
        h = hash_text(pc.fill_null(column, ""))
    return np.where(_null(column), np.uint64(0), mix(mix(h) + hash_word(name)))  # a sum: no value undoes a name


def _settle(night: CleanNight, rules: Rules, known: Known, excluded: Array) -> None:
    """Decide, over the whole night: excluded, met before, in conflict, held out or learned."""
    if not night.parts:
        return
    keys, values, old_values, fates = (
        np.concatenate([getattr(p, a) for p in night.parts]) for a in ("key_hash", "value_hash", "old_hash", "fates")
    )
    place = np.repeat(np.arange(len(night.parts)), [len(part.rows) for part in night.parts])
    names = [part.place for part in night.parts]
    open_ = fates != Fate.REJECTED
    fates[open_ & np.isin(keys, excluded)] = Fate.EXCLUDED
    open_ &= fates != Fate.EXCLUDED
    learns_updates = rules.on_update == "learn"

    @functools.cache
    def keys_of(path: Path) -> Any:  # noqa: ANN401
        return read_table(path)[rules.key[0]].combine_chunks() if rules.key else None

    earlier = _earlier_with_key(keys, open_, newest=learns_updates)
    in_night, same_in_night = earlier != np.arange(len(keys)), values == values[earlier]
    met, same, where = known.find(keys, values)
    same |= known.find(keys, old_values)[1]
    again = open_ & (met | in_night)
    # What a key said last counts if updates are learned; otherwise what it said first, as the rest was rejected.
    same = np.where(in_night if learns_updates else ~met, same_in_night, same)
    fates[again & same] = Fate.DUPLICATE
    if not learns_updates:
        for i in np.flatnonzero(again & ~same).tolist():
            fates[i] = Fate.REJECTED
            other = known.place(int(where[i])) if met[i] else names[place[earlier[i]]]
            part, local = night.parts[place[i]], i - int(np.searchsorted(place, place[i]))
            night.rejects.append(_conflict(part, local, keys_of(part.path), other))
    held = is_held_out(keys, rules.holdout) & (fates == Fate.LEARNED)
    fates[held] = Fate.HELD_OUT
    ends = np.cumsum([len(part.rows) for part in night.parts])[:-1]
    night.parts = [p._replace(fates=f) for p, f in zip(night.parts, np.split(fates, ends), strict=True)]


def _earlier_with_key(keys: Array, open_: Array, *, newest: bool) -> Array:
    """Return for each row the index of the first open row with its key, or (newest) of the last one before it.

    It is the row's own index where there is none.
    """
    index = np.flatnonzero(open_)
    index = index[np.argsort(keys[index], kind="stable")]
    is_first = np.append(True, keys[index][1:] != keys[index][:-1])[: len(index)]
    at = np.arange(len(index))
    found = np.where(is_first, at, at - 1) if newest else np.maximum.accumulate(np.where(is_first, at, 0))
    earlier = np.arange(len(keys))
    earlier[index] = index[found]
    return earlier


def _conflict(part: CleanPart, i: int, keys: Any, other: str) -> Reject:  # noqa: ANN401
    key = keys[i].as_py() if keys is not None else ""
    reason = f"the key's row came before, with other values, from {other}"
    return Reject(part.place, int(part.rows[i]), key, "", reason, "")

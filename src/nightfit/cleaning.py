"""From raw rows to clean ones: each row of the increment gets exactly one fate, and every reject its reason.

Two passes: the first parses the chunks one by one and hashes keys and values; the second, over the hashes of the
whole night, finds duplicates and conflicts. What is clean is staged again, by column name, for the schema to encode.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightfit.batch import Array, Batch
from nightfit.errors import DataError
from nightfit.identity import hash_positions, hash_text, hash_word, is_held_out, mix
from nightfit.kinds import as_text, infer_kind, parse
from nightfit.known import Known, Segment
from nightfit.schema import Rules, Schema
from nightfit.sources.increment import Increment, Part, read_table, write_table

_INFER_ROWS = 65_536


class Fate(IntEnum):
    """What becomes of a row that was read; exactly one of these."""

    LEARNED = 0
    HELD_OUT = 1
    DUPLICATE = 2
    EXCLUDED = 3
    REJECTED = 4


class Reject(NamedTuple):
    """A row that is not used: where it is, and why. `column` and `value` are empty if no single one is to blame."""

    place: str
    row: int
    key: str
    column: str
    reason: str
    value: str


class _CleanPart(NamedTuple):
    """A parsed chunk: features on disk; label, key (text) and hashes in memory; `fates` are filled in last."""

    source: str
    place: str
    path: Path
    rows: Array
    labels: Any
    keys: Any
    key_hash: Array
    value_hash: Array
    fates: Array


@dataclass
class CleanNight:
    """A night's rows with their fates."""

    rejects: list[Reject] = field(default_factory=list)
    parts: list[_CleanPart] = field(default_factory=list)
    n_bad: int = 0

    def count(self, fate: Fate) -> int:
        """Return how many rows have a fate; records that could not even be split into columns are rejects."""
        n = sum(int((part.fates == fate).sum()) for part in self.parts)
        return n + self.n_bad if fate is Fate.REJECTED else n

    def encode(self, schema: Schema, *fates: Fate) -> Iterator[Batch]:
        """Yield the rows of the given fates, in order, as one schema sees them."""
        for part, mask in self._select(fates):
            table, labels = read_table(part.path), part.labels
            yield schema.encode(table.filter(mask), part.key_hash[mask], labels.filter(pa.array(mask)))

    def labels(self, *fates: Fate) -> Iterator[Any]:
        """Yield the labels (text) of the rows of the given fates."""
        for part, mask in self._select(fates):
            yield part.labels.filter(pa.array(mask))

    def grown(self, schema: Schema) -> Schema:
        """Return the schema with the classes and categories of the learned rows, and of no others."""
        labels: set[str] = set()
        values: dict[str, set[str]] = {column.name: set() for column in schema.categorical}
        for part, mask in self._select((Fate.LEARNED,)):
            labels.update(pc.unique(part.labels.filter(pa.array(mask))).to_pylist())
            table = read_table(part.path).filter(mask)
            for name, known in values.items():
                if name in table.column_names:
                    known.update(v for v in pc.unique(table[name]).to_pylist() if v is not None)
        return schema.with_classes(labels).with_categories(values)

    def segment(self) -> Segment:
        """Return the identities of the rows that were used or met again; rejects leave none."""
        places = sorted({part.place for part in self.parts})
        kept = [np.isin(part.fates, (Fate.LEARNED, Fate.HELD_OUT, Fate.DUPLICATE)) for part in self.parts]
        pairs = list(zip(self.parts, kept, strict=True))
        return Segment.sort(
            np.concatenate([np.zeros(0, np.uint64), *(p.key_hash[m] for p, m in pairs)]),
            np.concatenate([np.zeros(0, np.uint64), *(p.value_hash[m] for p, m in pairs)]),
            np.concatenate(
                [
                    np.zeros(0, np.int32),
                    *(np.full(m.sum(), places.index(p.place), np.int32) for p, m in pairs),
                ]
            ),
            places,
        )

    def write_rejects(self, path: Path) -> None:
        """Write one JSON object per reject."""
        with path.open("w", encoding="utf-8") as file:
            for reject in self.rejects:
                file.write(json.dumps(reject._asdict(), ensure_ascii=False) + "\n")

    def why_rejected(self, n: int = 3) -> str:
        """Return the most frequent reasons, with an example each."""
        counts = Counter((r.column, r.reason) for r in self.rejects).most_common(n)
        examples = {(r.column, r.reason): r for r in reversed(self.rejects)}
        return "; ".join(f"{describe(examples[kind])} ({count} row{'s' * (count > 1)})" for kind, count in counts)

    def _select(self, fates: tuple[Fate, ...]) -> Iterator[tuple[_CleanPart, Array]]:
        for part in self.parts:
            mask = np.isin(part.fates, fates)
            if mask.any():
                yield part, mask


def describe(reject: Reject) -> str:
    """Return a reject as a phrase: the reason, and where it was met."""
    what = f"column '{reject.column}' {reject.reason}" if reject.column else reject.reason
    value = f" ('{reject.value}')" if reject.value else ""
    return f"{what}{value} in row {reject.row + 1} of {reject.place}"


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
    n_seen = 0
    for table in tables:
        for name in table.column_names:
            if name not in skip:
                samples.setdefault(name, []).append(as_text(table[name].combine_chunks(), rules.schema.missing))
        n_seen += table.num_rows
        if n_seen >= _INFER_ROWS:
            break
    return schema.with_columns(
        {
            name: "categorical" if name in rules.schema.categorical else kind
            for name, texts in samples.items()
            if (kind := infer_kind(pa.concat_arrays(texts))) is not None
        }
    )


def parse_features(table: Any, schema: Schema, missing: tuple[str, ...]) -> tuple[Any, dict[str, Array]]:  # noqa: ANN401
    """Return the schema's columns as parsed values, and where (bool [n], by column) a value is of another kind."""
    columns: dict[str, Any] = {}
    bad: dict[str, Array] = {}
    for column in schema.columns:
        if column.name in table.column_names:
            columns[column.name], bad[column.name] = parse(table[column.name].combine_chunks(), column.kind, missing)
    return (pa.table(columns) if columns else _no_columns(table.num_rows)), bad


def clean(
    increment: Increment, schema: Schema, rules: Rules, *, known: Known, excluded: Array, folder: Path
) -> CleanNight:
    """Give every row of the increment its fate.

    `known` holds the identities of the last nights; `excluded` (uint64, sorted) the keys that `--exclude` leaves out.

    Raises `DataError` if a source lacks the target, the key, or (unless they may be missing) a known column.
    """
    folder.mkdir(parents=True)
    night = CleanNight()
    for i, part in enumerate(increment.parts):
        night.n_bad += len(part.bad)
        night.rejects += [Reject(part.place, bad.row, "", "", bad.reason, bad.text[:200]) for bad in part.bad]
        if len(part.rows):
            night.parts.append(_parse(part, schema, rules, folder / f"{i:06d}.arrow", night.rejects))
    _settle(night, rules, known, excluded)
    return night


def _parse(part: Part, schema: Schema, rules: Rules, path: Path, rejects: list[Reject]) -> _CleanPart:
    """Parse one chunk: stage its features, hash its keys and values, reject what is of another kind."""
    table = part.table
    _check_columns(part, table, schema, rules)
    labels = as_text(table[rules.target].combine_chunks(), rules.schema.missing)
    keys = _keys(table, rules)
    fates = np.zeros(len(part.rows), np.uint8)

    def reject(mask: Array, column: str, reason: str) -> None:
        new = np.flatnonzero(mask & (fates != Fate.REJECTED))
        fates[new] = Fate.REJECTED
        for i in new.tolist():
            value = str(table[column][i].as_py())[:200] if column in table.column_names else ""
            key = keys[i].as_py() if keys is not None else None
            rejects.append(Reject(part.place, int(part.rows[i]), key or "", column, reason, value))

    reject(_null(labels), rules.target, "(the target) has no value")
    if keys is not None:
        reject(_null(keys), rules.key[0], "(the key) has no value")
    features, bad = parse_features(table, schema, rules.schema.missing)
    for column in schema.columns:
        if column.name in bad:
            reject(bad[column.name], column.name, f"must be {_AN[column.kind]}")
    write_table(features, path)
    values = _value_hash(rules.target, labels)
    for name in bad:
        values += _value_hash(name, features[name].combine_chunks())
    return _CleanPart(
        part.source, part.place, path, part.rows, labels, keys, _key_hash(part, keys, rules), values, fates
    )


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


def _check_columns(part: Part, table: Any, schema: Schema, rules: Rules) -> None:  # noqa: ANN401
    names = table.column_names
    for role, wanted in (("the target", (rules.target,)), ("the key", rules.key)):
        for name in set(wanted) - set(names):
            near = get_close_matches(name, names, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(names)}"
            raise DataError(f"{role} '{name}' must be a column of every source, however {part.place} has none; {hint}")
    missing = [column.name for column in schema.columns if column.name not in names]
    if missing and rules.schema.on_missing_column == "stop":
        raise DataError(
            f"a known column must not vanish, however {part.place} has no '{missing[0]}'"
            f"{f' (nor {len(missing) - 1} more)' if len(missing) > 1 else ''}; mend the source, "
            'or set schema.on_missing_column = "missing"',
        )


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
    return np.where(_null(column), np.uint64(0), mix(h ^ hash_word(name)))


def _settle(night: CleanNight, rules: Rules, known: Known, excluded: Array) -> None:
    """Decide, over the whole night: excluded, met before, in conflict, held out or learned."""
    if not night.parts:
        return
    keys, values, fates = (
        np.concatenate([getattr(p, a) for p in night.parts]) for a in ("key_hash", "value_hash", "fates")
    )
    place = np.repeat(np.arange(len(night.parts)), [len(part.rows) for part in night.parts])
    names = [part.place for part in night.parts]
    open_ = fates != Fate.REJECTED
    fates[open_ & np.isin(keys, excluded)] = Fate.EXCLUDED
    open_ &= fates != Fate.EXCLUDED
    first = _first_of_key(keys, open_)
    met, same, where = known.find(keys, values)
    again = open_ & (met | (first != np.arange(len(keys))))
    same = np.where(met, same, values == values[first])
    fates[again & same] = Fate.DUPLICATE
    if rules.on_update == "reject":
        for i in np.flatnonzero(again & ~same).tolist():
            fates[i] = Fate.REJECTED
            other = known.place(int(where[i])) if met[i] else names[place[first[i]]]
            night.rejects.append(_conflict(night, int(place[i]), i, place, other))
    held = is_held_out(keys, rules.holdout) & (fates == Fate.LEARNED)
    fates[held] = Fate.HELD_OUT
    ends = np.cumsum([len(part.rows) for part in night.parts])[:-1]
    night.parts = [p._replace(fates=f) for p, f in zip(night.parts, np.split(fates, ends), strict=True)]


def _first_of_key(keys: Array, open_: Array) -> Array:
    """Return for each row the index of the first open row with its key (its own, for rows that are not open)."""
    first = np.arange(len(keys))
    index = np.flatnonzero(open_)
    _, start, inverse = np.unique(keys[index], return_index=True, return_inverse=True)
    first[index] = index[start][inverse]
    return first


def _conflict(night: CleanNight, p: int, i: int, place: Array, other: str) -> Reject:
    part = night.parts[p]
    local = i - int(np.searchsorted(place, p))
    key = part.keys[local].as_py() if part.keys is not None else ""
    return Reject(
        part.place,
        int(part.rows[local]),
        key,
        "",
        f"the key's row came before, with other values, from {other}",
        "",
    )


def too_many_rejects(night: CleanNight, n_read: int, limit: float) -> str | None:
    """Return the sentence that stops a night with too many rejects, or None."""
    n = night.count(Fate.REJECTED)
    if n <= limit * n_read:
        return None
    return (
        f"at most {limit:.0%} of a night's rows may be rejected, however {n} of {n_read} were: {night.why_rejected()}; "
        'mend the source, or raise schema.max_reject_share, or run once with --accept "why"'
    )

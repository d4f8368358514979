"""Which rows are the same row: over the whole night every row gets its fate, and every late label its row.

Hashes lie on disk and are settled in slices of equal leading bits of the key, so that a night of any size needs the
memory of one slice. Rows with a label of their own follow one rule, those of a key that waits for its label, or whose
label comes alone, another: both are stated where they are decided.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightfit.ahead import map_ahead
from nightfit.batch import Array
from nightfit.fates import CleanNight, Fate, Reject
from nightfit.identity import is_held_out
from nightfit.known import Known, Met, Segment, write_segment
from nightfit.schema import Rules

SLICE_ROWS = 1 << 18
"""Rows of a slice, about; a few are held at a time."""

_LEAVES_IDENTITY = np.isin(list(Fate), (Fate.LEARNED, Fate.HELD_OUT, Fate.DUPLICATE))
_NO_ROW = np.iinfo(np.int64).max


@dataclass
class _Slice:
    """Some rows of the night, sorted by key, then by the night's order; all of their keys' rows are among them.

    `part` and `local` (int32 [n]) say which row of which part each is.
    """

    keys: Array
    values: Array
    added: Array
    targets: Array
    part: Array
    local: Array
    fates: Array
    only_labels: Array
    met: Met
    said: Array = field(init=False)
    """What is remembered of each row: a hash of values (uint64 [n]), and the target's part of it."""
    said_target: Array = field(init=False)
    forgets: Array = field(init=False)
    """Rows (bool [n]) that leave no identity whatever their fate: the row that they repeat still waits."""
    labels: list[tuple[Array, Array]] = field(default_factory=list)
    """Rows that get a label, and the rows that bring it, as indices."""
    renewed: list[tuple[Array, Array]] = field(default_factory=list)
    """Rows that wait on, and what their values hash to since they came again with new columns."""
    conflicts: list[tuple[int, str, int]] = field(default_factory=list)
    """Rows that are rejected, why, and the row of the slice that they contradict (-1: one of an earlier night)."""

    def __post_init__(self) -> None:
        self.said, self.said_target = self.values, self.targets
        self.forgets = np.zeros(len(self.keys), bool)

    @property
    def features(self) -> Array:
        """Hashes of all values but the target, uint64 [n]."""
        return self.values - self.targets

    def where(self, at: Array) -> Array:
        """Return part and row within it, int32 [m, 2], of rows by their indices."""
        return np.stack([self.part[at], self.local[at]], 1)


def settle(night: CleanNight, rules: Rules, known: Known, excluded: Array) -> None:
    """Decide for every row: excluded, met before, in conflict, pending, held out or learned; write the identities."""
    places = sorted({part.place for part in night.parts})
    place_of = np.array([places.index(part.place) for part in night.parts], np.int32)
    looked_up = np.array([part.looked_up for part in night.parts], bool)
    starts = np.cumsum([0, *(len(part.fates) for part in night.parts)])
    fates = np.concatenate([np.zeros(0, np.uint8), *(part.fates for part in night.parts)])
    labels: list[tuple[Array, Array]] = []

    def pieces() -> Iterator[Segment]:
        for rows in _slices(night, known):
            _decide(rows, rules, excluded)
            fates[starts[rows.part] + rows.local] = rows.fates
            _reject(night, rows, rules, known)
            for to, values in rows.renewed:
                for i in np.unique(rows.part[to]).tolist():
                    chosen = rows.part[to] == i
                    night.parts[i].renew(rows.local[to[chosen]], values[chosen])
            for to, by in rows.labels:
                labels.append((rows.where(to), rows.where(by)))
            used = np.flatnonzero(_LEAVES_IDENTITY[rows.fates] & ~rows.forgets & ~looked_up[rows.part])
            keys = rows.keys[used]
            last = used[np.append(keys[1:] != keys[:-1], True)[: len(keys)]]  # of a key's rows
            yield Segment(rows.keys[last], rows.said[last], rows.said_target[last], place_of[rows.part[last]])

    write_segment(pieces(), places, night.segment)
    for part, start in zip(night.parts, starts.tolist(), strict=False):
        part.fates[:] = fates[start : start + len(part.fates)]
    _bring_labels(night, labels)


def _slices(night: CleanNight, known: Known) -> Iterator[_Slice]:
    """Yield the night's rows by the leading bits of their keys, ascending; each slice sorted by key, then by order."""
    n_rows = sum(len(part.fates) for part in night.parts)
    bits = (n_rows // SLICE_ROWS).bit_length()
    yield from map_ahead(functools.partial(_slice, night, known, bits), range(1 << bits) if night.parts else ())


def _slice(night: CleanNight, known: Known, bits: int, number: int) -> _Slice:
    """Take the rows whose keys start with the bits of a number."""
    found: list[list[Array]] = []
    for i, part in enumerate(night.parts):
        columns = [np.asarray(column) for column in part.hashes[:4]]  # keys, values, added, targets
        at = np.flatnonzero(columns[0] >> np.uint64(64 - bits) == number) if bits else np.arange(len(part.fates))
        columns = [np.take(column, at) for column in columns]
        n = len(at)
        only_labels = np.full(n, not part.has_features)
        if part.is_sparse:  # no feature has a value: their hash is 0
            only_labels |= (columns[1] == columns[3]) & (columns[3] != 0)
        found.append([*columns, np.full(n, i, np.int32), at.astype(np.int32), part.fates[at], only_labels])
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    order = _order(columns[0])
    columns = [np.take(column, order) for column in columns]
    return _Slice(*columns, known.find(columns[0]))  # type: ignore[arg-type, call-arg]


def _order(keys: Array) -> Array:
    """Return what sorts keys, equal ones in the order that they have; where none are equal, much the faster way."""
    order = np.argsort(keys)
    ascending = keys[order]
    return np.argsort(keys, kind="stable") if (ascending[1:] == ascending[:-1]).any() else order


def _decide(rows: _Slice, rules: Rules, excluded: Array) -> None:
    is_open = rows.fates != Fate.REJECTED
    rows.fates[is_open & np.isin(rows.keys, excluded)] = Fate.EXCLUDED
    index = np.flatnonzero(is_open & (rows.fates != Fate.EXCLUDED))
    late = _late(rows, index)
    _decide_whole(rows, index[~late], rules)
    _decide_late(rows, index[late], rules)
    held = is_held_out(rows.keys, rules.holdout) & (rows.fates == Fate.LEARNED)
    rows.fates[held] = Fate.HELD_OUT


def _late(rows: _Slice, index: Array) -> Array:
    """Say which rows (bool, as many as indices) have a key of which one has no target yet, or is a label alone."""
    late: Array = (rows.targets[index] == 0) | rows.only_labels[index]
    if not late.any():
        return late
    keys = rows.keys[index]
    group = np.cumsum(np.append(True, keys[1:] != keys[:-1])) - 1
    return np.asarray((np.bincount(group, late) > 0)[group])


def _decide_whole(rows: _Slice, index: Array, rules: Rules) -> None:
    """Decide for rows that all have features and a target.

    A key with the values that it had is a duplicate. With others it is rejected, or with `on_update = "learn"` learned:
    then what it said last counts, otherwise what it said first.
    """
    learns = rules.on_update == "learn"
    keys = rows.keys[index]
    is_first = np.append(True, keys[1:] != keys[:-1])[: len(index)]
    met = rows.met.found[index]
    if is_first.all() and not met.any():
        return
    at = np.arange(len(index))
    earlier = index[np.where(is_first, at, at - 1) if learns else np.maximum.accumulate(np.where(is_first, at, 0))]
    values = rows.values[index]
    was = rows.met.values[index]
    same_as_met = met & ((values == was) | (values - rows.added[index] == was))
    same_in_night = values == rows.values[earlier]
    same = np.where(~is_first if learns else ~met, same_in_night, same_as_met)
    again = met | ~is_first
    rows.fates[index[again & same]] = Fate.DUPLICATE
    if not learns:
        for i in np.flatnonzero(again & ~same).tolist():
            _contradict(rows, int(index[i]), -1 if met[i] else int(earlier[i]))


def _decide_late(rows: _Slice, index: Array, rules: Rules) -> None:
    """Decide for the rows of keys of which one has no target yet, or comes as a label alone.

    The first row with features that has no target waits, unless the key was met before: it gets the first label that
    its key has tonight, or stays pending. The row that brings the label is a duplicate, whatever its features: those
    count that were there before the label was. Every other row of the key is a duplicate if it says nothing else than
    what is known by then, and otherwise a conflict; a label without its row is rejected.
    """
    if not len(index):
        return
    rows.said, rows.said_target = rows.values.copy(), rows.targets.copy()
    learns = rules.on_update == "learn"
    keys, targets, only_label = rows.keys[index], rows.targets[index], rows.only_labels[index]
    is_first = np.append(True, keys[1:] != keys[:-1])
    group, starts = np.cumsum(is_first) - 1, np.flatnonzero(is_first)
    features, bare = rows.features[index], rows.features[index] - rows.added[index]
    carrier = _first_of_group(group, ~only_label, len(starts))
    bringer = _first_of_group(group, targets != 0, len(starts))
    has_row, has_label = carrier != _NO_ROW, bringer != _NO_ROW
    carrier, bringer = np.where(has_row, carrier, 0), np.where(has_label, bringer, 0)
    waits = has_row & (targets[carrier] == 0)

    met = rows.met.found[index][starts]
    met_targets = rows.met.targets[index][starts]
    met_features = rows.met.values[index][starts] - met_targets
    was_pending = has_row & (rows.fates[index][carrier] == Fate.PENDING)
    news = (features[carrier] != met_features) & (bare[carrier] != met_features)
    is_new = ~met | was_pending | (learns & waits & news)
    takes_label = is_new & waits & has_label

    label = np.where(takes_label, targets[bringer], np.where(waits, 0, targets[carrier]))
    ref_target = np.where(is_new, label, met_targets)[group]
    ref_features = np.where(is_new, features[carrier], met_features)[group]
    is_carrier = np.arange(len(index)) == np.where(is_new & has_row, carrier, -1)[group]
    is_bringer = np.arange(len(index)) == np.where(takes_label, bringer, -1)[group]

    same_features = (features == ref_features) | (bare == ref_features)
    same_target = targets == ref_target
    brought = rows.values[index] == rows.values[index][bringer][group]  # the bringer's row, delivered again
    same = np.where(only_label, same_target, np.where(targets == 0, same_features, same_features & same_target))
    same |= (takes_label[group] & brought & (targets != 0)) | is_bringer | (learns & (targets == 0))
    alone = only_label & (is_new & ~has_row)[group]

    fates = np.where(same, Fate.DUPLICATE, Fate.LEARNED if learns else Fate.REJECTED).astype(np.uint8)
    fates[only_label & ~same] = Fate.REJECTED
    fates[alone] = Fate.REJECTED
    fates[is_carrier] = np.where((waits & ~takes_label)[group], Fate.PENDING, Fate.LEARNED)[is_carrier]
    rows.fates[index] = fates

    refers = is_carrier | (same & (only_label | (targets == 0))) | is_bringer
    values = rows.values[index]
    last_said = np.where(takes_label & ~only_label[bringer], values[bringer], ref_features[starts] + ref_target[starts])
    rows.said[index] = np.where(refers, last_said[group], values)
    rows.said_target[index] = np.where(refers, ref_target, targets)
    rows.forgets[index] = (is_new & waits & ~takes_label)[group]
    rows.labels.append((index[carrier[takes_label]], index[bringer[takes_label]]))
    repeats = np.flatnonzero(same & (targets == 0) & (bare == ref_features) & rows.forgets[index])
    rows.renewed.append((index[carrier[group[repeats]]], features[repeats]))
    for i in np.flatnonzero((fates == Fate.REJECTED) & ~alone).tolist():
        _contradict(rows, int(index[i]), int(index[carrier[group[i]]]) if is_new[group[i]] else -1)
    rows.conflicts += [
        (int(i), "a label must come with or after its row, of which there is none", i) for i in index[alone]
    ]


def _first_of_group(group: Array, mask: Array, n_groups: int) -> Array:
    """Return the position of each group's first row in the mask, int64 [n_groups]; `_NO_ROW` without one."""
    first = np.full(n_groups, _NO_ROW)
    at = np.flatnonzero(mask)[::-1]
    first[group[at]] = at
    return first


def _contradict(rows: _Slice, row: int, earlier: int) -> None:
    rows.fates[row] = Fate.REJECTED
    rows.conflicts.append((row, "the key's row came before, with other values, from", earlier))


def _reject(night: CleanNight, rows: _Slice, rules: Rules, known: Known) -> None:
    """Say of each conflict what it contradicts."""

    @functools.lru_cache(maxsize=8)
    def columns_of(part: int) -> tuple[Any, Array]:
        table = night.parts[part].table
        return (table[rules.key[0]] if rules.key else None), night.parts[part].hashes.rows

    found = []
    for row, reason, other in sorted(rows.conflicts, key=lambda conflict: int(rows.part[conflict[0]])):
        part = night.parts[rows.part[row]]
        if other != row:
            earlier = known.place(int(rows.met.places[row])) if other < 0 else night.parts[rows.part[other]].place
            reason = f"{reason} {earlier}"  # noqa: PLW2901
        keys, numbers = columns_of(int(rows.part[row]))
        local = int(rows.local[row])
        if not part.looked_up:
            key = keys[local].as_py() if keys is not None else ""
            found.append(Reject(part.place, int(numbers[local]), key, "", reason, ""))
    night.rejects.add(found)


def _bring_labels(night: CleanNight, labels: list[tuple[Array, Array]]) -> None:
    """Write the targets that came tonight into the staged rows that waited for them."""
    if not any(len(to) for to, _ in labels):
        return
    to, by = (np.concatenate(side) for side in zip(*labels, strict=True))
    for i in np.unique(to[:, 0]).tolist():
        chosen = to[:, 0] == i
        chosen = np.flatnonzero(chosen)[np.argsort(to[chosen, 1])]
        part, sources = night.parts[i], by[chosen]
        order = np.argsort(sources[:, 0], kind="stable")
        found = [
            night.parts[j].table[night.target].take(pa.array(sources[sources[:, 0] == j, 1]))
            for j in np.unique(sources[:, 0]).tolist()
        ]
        values = pa.chunked_array([chunk for column in found for chunk in column.chunks]).combine_chunks()
        values = values.take(pa.array(np.argsort(order)))
        mask = np.zeros(len(part.fates), bool)
        mask[to[chosen, 1]] = True
        table = part.table
        column = pc.replace_with_mask(table[night.target].combine_chunks().cast(values.type), pa.array(mask), values)
        part.write(table.set_column(table.column_names.index(night.target), night.target, column))

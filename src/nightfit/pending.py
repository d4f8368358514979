"""Rows that wait for their label: kept in the checkpoint, their features as they were when the row came."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nightfit.batch import Array
from nightfit.checkpoint import PENDING
from nightfit.errors import CheckpointError
from nightfit.fates import CleanNight, CleanPart, Fate, Hashes, Reject
from nightfit.schema import Rules
from nightfit.sources.increment import write_table

KEY_PARTS = "\x1f"
"""What stands between the parts of a composite key."""

_FEATURE = "feature:"
_META = ("place", "row", "key", "key_hash", "value_hash", "since")


@dataclass(frozen=True)
class Pending:
    """Pending rows: a table with their places, numbers, keys, hashes and times of coming, and their parsed features."""

    table: Any = None

    @classmethod
    def of(cls, files: dict[str, bytes]) -> Pending:
        """Read those of a version's files; raises `CheckpointError` for what is no such table."""
        if PENDING not in files:
            return cls()
        try:
            return cls(pa.ipc.open_file(pa.BufferReader(files[PENDING])).read_all())
        except (pa.ArrowException, OSError) as error:
            raise CheckpointError(f"{PENDING} of a version must be an Arrow file, however: {error}") from None

    def __len__(self) -> int:
        return 0 if self.table is None else int(self.table.num_rows)

    @property
    def key_hashes(self) -> Array:
        """The identities, uint64 [n]."""
        return self._numbers("key_hash") if len(self) else np.zeros(0, np.uint64)

    def key_texts(self) -> list[str]:
        """Return the keys as text."""
        return list(self.table["key"].to_pylist()) if len(self) else []

    def waiting_keys(self) -> list[tuple[str, ...]]:
        """Return the keys as text, part by part."""
        return [tuple(key.split(KEY_PARTS)) for key in self.key_texts()]

    def without(self, keys: Array) -> Pending:
        """Return those of other identities (uint64)."""
        return Pending(self.table.filter(pa.array(~np.isin(self.key_hashes, keys)))) if len(self) else self

    def packed(self) -> bytes:
        """Return the bytes of a file of them."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, self.table.schema) as writer:
            writer.write_table(self.table)
        return bytes(sink.getvalue())

    def n_expired(self, rules: Rules, now_s: float) -> int:
        """Count those whose label did not come in time; `now_s` is in seconds since 1970."""
        return int(_expired(self._numbers("since"), rules, now_s).sum()) if len(self) else 0

    def _numbers(self, name: str) -> Array:
        return np.asarray(self.table[name].to_numpy())

    def parts(self, rules: Rules, folder: Path) -> Iterator[CleanPart]:
        """Stage the rows in `folder`, those of one place together, as rows that are pending still."""
        if not len(self):
            return
        meta = {name: self._numbers(name) for name in _META if name not in {"place", "key"}}
        places = self.table["place"].to_numpy()
        features = {
            name.removeprefix(_FEATURE): self.table[name].combine_chunks()
            for name in self.table.column_names
            if name.startswith(_FEATURE) and name.removeprefix(_FEATURE) not in rules.schema.drop
        }
        for i, place in enumerate(dict.fromkeys(places.tolist())):
            at = np.flatnonzero(places == place)
            zeros = np.zeros(len(at), np.uint64)
            columns = {name: column.take(pa.array(at)) for name, column in features.items()}
            columns |= {
                rules.target: pa.nulls(len(at)),
                rules.key[0]: self.table["key"].combine_chunks().take(pa.array(at)),
            }
            hashes = Hashes(
                meta["key_hash"][at], meta["value_hash"][at], zeros, zeros, meta["row"][at].astype(np.uint64)
            )
            yield CleanPart.staged(
                folder / f"pending-{i:06d}",
                pa.table(columns),
                hashes,
                place=place,
                fates=np.full(len(at), Fate.PENDING, np.uint8),
                since=meta["since"][at],
            )


def expire(night: CleanNight, rules: Rules, now_s: float) -> None:
    """Reject the pending rows whose label did not come in time, and the oldest ones beyond the bound."""
    n_over = sum(int((part.fates == Fate.PENDING).sum()) for part in night.parts) - rules.pending_rows
    waiting = [(part, mask) for part, mask in night.select(Fate.PENDING)]
    since = np.concatenate([np.zeros(0), *(_since(part, now_s)[mask] for part, mask in waiting)])
    late = _expired(since, rules, now_s)
    over = np.zeros(len(since), bool)
    over[np.argsort(np.where(late, np.inf, since), kind="stable")[: max(n_over - int(late.sum()), 0)]] = True
    start = 0
    for part, mask in waiting:
        at = np.flatnonzero(mask)
        own = slice(start, start + len(at))
        start += len(at)
        _reject(night, part, at[late[own]], f"(the target) did not come within {rules.label_wait}", rules)
        _reject(
            night, part, at[over[own]], f"(the target) has not come, and {rules.pending_rows} newer rows wait", rules
        )


def _since(part: CleanPart, now_s: float) -> Array:
    return np.full(len(part.fates), now_s) if part.since is None else part.since


def _expired(since: Array, rules: Rules, now_s: float) -> Array:
    return np.asarray(since + rules.label_wait_s < now_s)


def _reject(night: CleanNight, part: CleanPart, at: Array, reason: str, rules: Rules) -> None:
    if not len(at):
        return
    part.fates[at] = Fate.REJECTED
    keys, rows = part.table[rules.key[0]].take(pa.array(at)).to_pylist(), part.hashes.rows[at].tolist()
    night.rejects.add(
        [Reject(part.place, row, key, rules.target, reason, "") for row, key in zip(rows, keys, strict=True)]
    )


def write_pending(night: CleanNight, rules: Rules, now_s: float, path: Path) -> bool:
    """Write the rows that wait after the night, those that came first first; say whether there are any."""
    tables = []
    for part, mask in night.select(Fate.PENDING):
        table, hashes, n = part.table.filter(pa.array(mask)), part.hashes, int(mask.sum())
        meta = {
            "place": pa.array([part.place] * n, pa.string()),
            "row": pa.array(hashes.rows[mask].astype(np.int64)),
            "key": table[rules.key[0]],
            "key_hash": pa.array(hashes.keys[mask]),
            "value_hash": pa.array(hashes.values[mask]),
            "since": pa.array(_since(part, now_s)[mask]),
        }
        features = [name for name in table.column_names if name not in {rules.target, rules.key[0]}]
        tables.append(pa.table(meta | {_FEATURE + name: table[name] for name in features}))
    if not tables:
        return False
    joined = pa.concat_tables(tables, promote_options="default").combine_chunks()
    order = np.argsort(joined["since"].to_numpy(), kind="stable")
    write_table(joined.take(pa.array(order)), path)
    return True

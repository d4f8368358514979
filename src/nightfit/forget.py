"""Forget rows by their keys: a version without them in any memory, after which the older memories are deleted.

Weights, and statistics over all rows, keep what little of a row is in them: nothing is unlearned. The row's hash stays
among the excluded keys, so that it is not learned when it is delivered again.
"""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightfit.checkpoint import EXCLUDED, MEMORY, PENDING, REJECTS, Draft, Manifest, RowCounts, pack
from nightfit.errors import DataError, UsageError
from nightfit.identity import hash_text, hash_word, mix
from nightfit.kinds import as_text
from nightfit.pending import KEY_PARTS, Pending
from nightfit.prune import finish_erasing
from nightfit.resume import data_of, load_model
from nightfit.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from nightfit.batch import Array
    from nightfit.config import Config
    from nightfit.schema import Rules
    from nightfit.store import Lineage

_UNSPLIT = json.dumps({"key": "", "column": ""})[1:-1]
"""How a reject that is a whole record, for it could not be split into columns, is told from others."""


def forget(config: Config, lineage: Lineage, keys: Sequence[str], *, now: datetime) -> tuple[Manifest, int]:
    """Commit a version without the rows of these keys, and delete the memories of all older ones.

    `keys`: as they are in the data, a composite one as a line of CSV. Return the new head and how many
    kept rows were deleted from its memories. Needs the pipeline's lock.

    Raises `DataError` where there is no head that can be gone on from, `UsageError` for what cannot be a key.
    """
    standing = Standing.of(lineage, lineage.model)
    head = standing.head
    if head is None:
        raise DataError(
            f"forgetting needs a version that was accepted, however {lineage.name} has none; accept one with `nightfit "
            'train --accept "why"`, or delete the folder of the model, for refused versions hold rows, too'
        )
    sources = [*{source.name for source in config.sources}.union(data_of(head)["columns"])]  # those that are gone, too
    texts, hashes = identities(keys, config.rules, sources)
    model = load_model(head, standing.files, config.models[lineage.model], seed=config.seed)
    n_rows = model.forget(hashes)
    waiting = Pending.of(standing.files)
    left = waiting.without(hashes)
    n_waiting = len(waiting) - len(left)
    files: dict[str, bytes | Path] = {**standing.files, MEMORY: pack(model.state()[1]["memory"])}
    files.pop(PENDING, None)
    if len(left):
        files[PENDING] = left.packed()
    files[EXCLUDED] = pack({"keys": np.union1d(standing.excluded_keys(None), hashes)})
    gone = n_rows + n_waiting
    draft = Draft(
        act="forget",
        parent=head.version,
        status="accepted",
        created_at=now.isoformat(timespec="seconds"),
        cursors=head.cursors,
        rows=RowCounts(excluded=n_waiting, pending=len(left)),
        prequential={},
        verdict=f"accepted: {len(keys)} key{'s' * (len(keys) > 1)} forgotten, {gone:,} rows of them were kept",
        night={"settings": head.night.get("settings"), "notes": [*standing.alarms]},
        state=head.state,
        segments=head.known_segments,
        excluded=standing.excluded(None),
        files=files,
        erased=_to_erase(lineage, texts),
    )
    manifest = lineage.commit(draft, onto=standing.onto)
    finish_erasing(lineage, manifest)
    return manifest, gone


def _to_erase(lineage: Lineage, keys: Sequence[str]) -> dict[str, list[str]]:
    """Name the files of every version, be it rotten, that hold rows: all memories, and rejects that may hold a key.

    A record that could not be split into columns has no key that we know: it may be anybody's row.
    """
    said = [*(json.dumps(key, ensure_ascii=False) for key in keys), _UNSPLIT]
    pattern = re.compile("|".join(map(re.escape, said)))
    versions = [item.version for item in lineage.items() if item.kind == "version"]
    found = {str(version): [*_holding(lineage.path(version), pattern)] for version in versions}
    return {version: names for version, names in found.items() if names}


def _holding(folder: Path, pattern: re.Pattern[str]) -> Iterator[str]:
    yield from (name for name in (MEMORY, PENDING) if (folder / name).exists())
    if (folder / REJECTS).exists():
        with (folder / REJECTS).open(encoding="utf-8", errors="replace") as file:
            if any(pattern.search(line) for line in file):
                yield REJECTS


def identities(keys: Sequence[str], rules: Rules, sources: Sequence[str]) -> tuple[list[str], Array]:
    """Return typed keys as kept rows spell them, and their identities (uint64, sorted), in whatever source they may be.

    Parts of a composite key are a line of CSV. Raises `UsageError` where rows have no key, or one has other parts.
    """
    if odd := next((key for key in keys if key != key.encode(errors="replace").decode()), None):
        raise UsageError(f"a key must be UTF-8 text, however {odd!a} is not")
    parts = [_split(key) if len(rules.key) > 1 else [key] for key in keys]
    odd = next((key for key, of in zip(keys, parts, strict=True) if len(of) != len(rules.key)), None)
    if odd is not None:
        if not rules.key:
            raise UsageError("rows must have a key to be asked for, however the config's `key` names no columns")
        raise UsageError(
            f"rows of this pipeline are known by a key of {len(rules.key)} ({', '.join(rules.key)}) columns, however "
            f"'{odd}' was typed; put commas between the parts, and quotes (\") around one that holds a comma"
        )
    columns = [as_text(pa.array(column, pa.string()), rules.schema.missing) for column in zip(*parts, strict=True)]
    text = pc.binary_join_element_wise(*columns, KEY_PARTS) if len(columns) > 1 else columns[0]
    if text.null_count:
        raise UsageError("a key must be a value, however one that was typed means 'missing'")
    h = hash_text(text)
    found = [mix(h ^ hash_word(s)) for s in sources] if rules.key_scope == "source" else [mix(h)]
    return text.to_pylist(), np.unique(np.concatenate(found))


def _split(key: str) -> list[str]:
    try:
        return next(csv.reader([key]), [""])
    except csv.Error:  # a line break, which only quotes may hold
        return key.split(",")

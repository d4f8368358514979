"""Forget rows by their keys: a version without them in any memory, after which the older memories are deleted.

Weights, and statistics over all rows, keep what little of a row is in them: nothing is unlearned. The row's hash stays
among the excluded keys, so that it is not learned when it is delivered again.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np

from nightfit.checkpoint import EXCLUDED, MEMORY, PENDING, REJECTS, Draft, Manifest, RowCounts, pack
from nightfit.cleaning import identities
from nightfit.errors import DataError
from nightfit.pending import Pending
from nightfit.prune import finish_erasing
from nightfit.resume import load_model
from nightfit.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from nightfit.config import Config
    from nightfit.store import Lineage


def forget(config: Config, lineage: Lineage, keys: Sequence[str], *, now: datetime) -> tuple[Manifest, int]:
    """Commit a version without the rows of these keys, and delete the memories of all older ones.

    `keys`: as they are in the data, the parts of a composite one with commas between. Return the new head and how many
    kept rows were deleted from its memories. Needs the pipeline's lock.

    Raises `DataError` where there is no head that can be gone on from, `UsageError` for what cannot be a key.
    """
    standing = Standing.of(lineage, lineage.model)
    head = standing.head
    if head is None:
        raise DataError(f"forgetting needs a version, however {lineage.name} has none; nothing is kept there")
    texts, hashes = identities(keys, config.rules, [source.name for source in config.sources])
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
        night={"settings": head.night.get("settings")},
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
    """Name the files of every version that hold rows: all memories, and the rejects in which a key stands."""
    pattern = re.compile("|".join(re.escape(json.dumps(key, ensure_ascii=False)) for key in keys))
    found = {str(m.version): [*_holding(lineage, m, pattern)] for m in lineage.newest_first()}
    return {version: names for version, names in found.items() if names}


def _holding(lineage: Lineage, manifest: Manifest, pattern: re.Pattern[str]) -> Iterator[str]:
    folder = lineage.path(manifest.version)
    yield from (name for name in (MEMORY, PENDING) if (folder / name).exists())
    if (folder / REJECTS).exists():
        with (folder / REJECTS).open(encoding="utf-8", errors="replace") as file:
            if any(pattern.search(line) for line in file):
                yield REJECTS

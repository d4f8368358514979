"""Going back: put the state of an older version into service again, as a new entry of the log.

Nothing is undone: the entry has the older version's state and cursors, so that the next night reads again what that
version had not read, or, asked to skip it, today's cursors. Nothing heavy is imported: this must be quick.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from nightfit.checkpoint import EXCLUDED, MEMORY, PENDING, SKIPPED, Draft, Manifest, RowCounts, pack, unpack
from nightfit.errors import CheckpointError, DataError, UsageError
from nightfit.names import is_record

if TYPE_CHECKING:
    from nightfit.sources.base import Cursor
    from nightfit.store import Lineage


def rollback(lineage: Lineage, *, now: datetime, skip_rows: bool = False) -> tuple[Manifest, bool]:
    """Promote the version that the head's state grew from; returns and raises as `promote`, and for a first version.

    What only forgot rows has the state of the version before it. So has what skipped rows: to skip again goes on back.
    """
    state, same = lineage.resolve(_head(lineage)), {"forget", "promote"} if skip_rows else {"forget"}
    while state.act in same and state.parent is not None:
        state = lineage.resolve(lineage.manifest(state.parent))
    if state.parent is None:
        raise DataError(
            f"rolling back needs a version before, however version {state.version} of {lineage.name}, which serves, is "
            "the first; `nightfit log` shows what there is"
        )
    try:
        return promote(lineage, state.parent, now=now, skip_rows=skip_rows)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; `nightfit promote N` puts an older version into service") from None


def promote(lineage: Lineage, version: int, *, now: datetime, skip_rows: bool = False) -> tuple[Manifest, bool]:
    """Commit an entry with the state of a version; needs the pipeline's lock.

    Return the head, and whether it is new: where the head has that state already, nothing is done. With `skip_rows` the
    cursors and the known rows stay today's, and the rows that the head's nights read after that version are excluded.

    Raises `CheckpointError` for a version that is not there or does not verify, `DataError` for one whose tensors were
    pruned or whose rows were erased, and `UsageError` for rows to skip where that version is none of the head's.
    """
    head, asked = _head(lineage), lineage.manifest(version)
    wanted = lineage.resolve(asked)
    is_there = lineage.resolve(head).version == wanted.version
    if is_there or (skip_rows and head.act == "promote" and head.parent == wanted.version):
        return head, False
    erased = _check(lineage, asked, skip_rows=skip_rows)
    skipped = _read_since(lineage, head, wanted) if skip_rows else 0
    lost = wanted.rows.pending if erased else 0
    newest = lineage.newest() or head
    left_out = {EXCLUDED, *((MEMORY, PENDING) if erased else ()), *((SKIPPED,) if skip_rows else ())}
    names = [name for name in asked.files if not is_record(name) and name not in left_out]
    files = lineage.load(asked, names)  # as good, if that one was pruned or rotted
    if EXCLUDED in newest.files:
        files |= lineage.load(newest, [EXCLUDED])
    if skip_rows:
        files |= _skipped(lineage.load(head, {PENDING, SKIPPED} & set(head.files)), files)
    cursors: dict[str, Cursor] = head.cursors if skip_rows else wanted.cursors
    rows = RowCounts(read=skipped, excluded=skipped + lost, pending=wanted.rows.pending - lost)
    draft = Draft(
        act="promote",
        parent=wanted.version,
        status="accepted",
        created_at=now.isoformat(timespec="seconds"),
        cursors=cursors,
        rows=rows,
        prequential={},
        verdict=_verdict(wanted, rows, skip_rows=skip_rows),
        night={"skip_rows": skip_rows, "from": head.version},
        state=wanted.state,
        segments=(head if skip_rows else wanted).known_segments,
        excluded=newest.excluded,
        files={**files},
    )
    return lineage.commit(draft, onto=head.version), True


def _head(lineage: Lineage) -> Manifest:
    head = lineage.head()
    if head is None:
        raise DataError(f"a version is needed, however {lineage.name} has none that was accepted; run `nightfit train`")
    return head


def _check(lineage: Lineage, wanted: Manifest, *, skip_rows: bool) -> bool:
    """Say whether the version's rows were erased; raises unless its state can be put into service."""
    if lineage.was("pruned", wanted.version):
        raise DataError(
            f"a version must have its tensors to serve again, however those of version {wanted.version} of "
            f"{lineage.name} were pruned; choose a newer one, and raise store.keep for the next time"
        )
    erased = lineage.was("erased", wanted.version)
    if erased and not skip_rows:
        raise DataError(
            f"a version must have its memories to be gone on from, however those of version {wanted.version} of "
            f"{lineage.name} were erased by `forget`; with --skip-rows its weights serve with empty memories"
        )
    return erased


def _read_since(lineage: Lineage, head: Manifest, wanted: Manifest) -> int:
    """Count the rows that the head's nights read after a version."""
    chain = lineage.ancestry(head)
    if wanted.version not in {manifest.version for manifest in chain}:
        broken = chain[-1].parent
        fact = (
            f"has not grown from version {wanted.version}" if broken is None else f"grew from {broken}, which is broken"
        )
        raise UsageError(
            f"--skip-rows needs a version that the head grew from, however version {head.version} of {lineage.name} "
            f"{fact}; promote version {wanted.version} without, and rows after it are read again"
        )
    return sum(manifest.rows.read for manifest in chain if manifest.version > wanted.version)


def _skipped(of_head: dict[str, bytes], files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the file of the keys that wait for a label at the head, and no longer will: it may come any day."""
    if PENDING not in of_head:
        return of_head
    import numpy as np  # only where rows wait: going back is quick

    from nightfit.pending import Pending

    gone = np.setdiff1d(Pending.of(of_head).key_hashes, Pending.of(files).key_hashes)
    before = unpack(of_head[SKIPPED])["keys"] if SKIPPED in of_head else gone
    return {SKIPPED: pack({"keys": np.union1d(before, gone)})}


def _verdict(wanted: Manifest, rows: RowCounts, *, skip_rows: bool) -> str:
    again = f"{rows.excluded:,} rows that came after it are left out" if skip_rows else "rows after it are read again"
    return f"accepted: version {wanted.version} serves again; {again}"

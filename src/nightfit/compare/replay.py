"""Compare: several models over the same nights of past data, each night predicted whole before it is learned.

The rows are read, cleaned and encoded once; then every model goes through the nights by itself, in this process or,
with `jobs`, several side by side in processes of their own. What each came to is kept by a digest of everything that
it depends on, so that nothing which has been done is done again.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nightfit import __version__
from nightfit.cleaning import guess_task
from nightfit.compare.entrant import go_through, result_in
from nightfit.compare.failure import Failure, failure
from nightfit.compare.logged import NIGHT, LogCut
from nightfit.compare.nights import nights
from nightfit.compare.reading import check_target, check_typed, count, with_target
from nightfit.compare.result import assemble
from nightfit.compare.sidebyside import crew, work
from nightfit.compare.staging import Staged, stage_nights
from nightfit.errors import DataError
from nightfit.sources.increment import read_increment

if TYPE_CHECKING:
    from nightfit.batch import Array, Batch
    from nightfit.compare.bench import Bench, Unit
    from nightfit.compare.ledger import Ledger
    from nightfit.compare.nights import Cutting, Piece
    from nightfit.jsontypes import Json
    from nightfit.sources.base import Source


def versions() -> dict[str, str]:
    """Return the versions that figures depend on."""
    found = {name: version(name) for name in ("torch", "scikit-learn", "numpy")}
    with suppress(PackageNotFoundError):  # an extra
        found["lightgbm"] = version("lightgbm")
    return {"nightfit": __version__, **found, "python": platform.python_version(), "platform": platform.platform()}


def compare(
    bench: Bench,
    sources: Iterable[Source],
    folder: Path,
    *,
    kept: Path | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda *_: None,
    watch: Callable[[str, Array, Batch], None] = lambda *_: None,
) -> dict[str, Json]:
    """Replay the sources' rows as nights for every model; `folder` is for staging. Return the JSON of the design.

    `kept` is where results stay. Of `jobs` > 1 so many models run side by side, in processes of their own. `progress`
    is told how many of how many rows are done, over all models; `watch`, in this process alone, each model's name with
    its answers to a block of a night, and the block with its outcomes. Raises `DataError` if there are too few nights,
    and if all models fail what the first one failed of.
    """
    place = kept or folder / "kept"
    with crew() if jobs > 1 else nullcontext() as process:
        staged, left_out = prepare(bench, sources, folder)
        folders = {unit: place / unit.key(staged.digest, versions()) for unit in bench.units}
        if process is None:
            failures = _one_by_one(staged, folders, progress, watch, saves=kept is not None)
        else:
            failures = work(process, folders, staged, jobs, progress, saves=kept is not None)
    ledgers: dict[str, list[Ledger]] = {}
    for unit in (unit for unit in folders if unit.name not in failures):
        ledger = result_in(folders[unit])
        if ledger is None:
            raise RuntimeError(f"{unit.name} must have come to an end, however nothing is in {folders[unit]}")
        ledgers.setdefault(unit.name, []).append(ledger)
    if not ledgers:
        raise next(iter(failures.values())).error()
    failed = {name: failure.said for name, failure in failures.items()}
    return {**assemble(bench, staged, ledgers, failed), "left_out": left_out}


def prepare(bench: Bench, sources: Iterable[Source], folder: Path) -> tuple[Staged, int]:
    """Read, cut, clean and encode; return the nights, and how many rows were left out."""
    increment = read_increment(sources, {}, folder / "raw")
    check_typed(increment, bench.typed)
    check_target(increment, bench.rules)
    task = bench.rules.task or guess_task((part.table for part in increment.parts), bench.rules)
    labels, n_total = count(increment, bench.rules, task)
    declared = labels if bench.protocol.classes == "declared" else ()
    numbers = bench.cut.number(increment) if isinstance(bench.cut, LogCut) else {}
    cut = nights(with_target(increment, bench.rules, task, folder, numbers), bench.cut)
    schema = bench.rules.schema
    rules = replace(bench.rules, schema=replace(schema, drop=(*schema.drop, NIGHT)))
    staged = stage_nights(cut, rules, task, declared, folder / "nights", period_of=partial(_period, bench.cut))
    if len(staged) <= bench.protocol.first_scored:
        raise DataError(_too_few(bench, len(staged), n_total))
    return staged, increment.n_rows - n_total


def _too_few(bench: Bench, n_nights: int, n_rows: int) -> str:
    needed = bench.protocol.first_scored + 1
    rule = "two nights at least" if needed == 2 else f"{needed} nights at least, with this warm-up and label delay"  # noqa: PLR2004 - one to learn, one to score
    return (
        f"a comparison needs {rule}, however {n_rows} rows with a target make {n_nights}; "
        "take a smaller --night-rows, or another --night-column and --every"
    )


def _period(cut: Cutting, pieces: Sequence[Piece]) -> str | None:
    """Return when a night began, where a column of times cuts nights."""
    if cut.n_rows is not None:
        return None
    found = np.concatenate([cut.periods(piece.table) for piece in pieces])
    known = found[np.isfinite(found)]
    return cut.spelt(float(known.max())) if len(known) else None


def _one_by_one(
    staged: Staged,
    folders: Mapping[Unit, Path],
    progress: Callable[[int, int], None],
    watch: Callable[[str, Array, Batch], None],
    *,
    saves: bool,
) -> dict[str, Failure]:
    """Bring every unit to its end in this process; return what models failed of."""
    n_rows, failures = staged.n_rows, dict[str, Failure]()

    def told(k: int, n: int) -> None:
        progress(k * n_rows + n, n_rows * len(folders))

    for k, (unit, folder) in enumerate(folders.items()):
        try:
            go_through(unit, staged, folder, tell=partial(told, k), watch=partial(watch, unit.name), saves=saves)
        except Exception as error:  # noqa: BLE001 - what one model fails of is none of the others'
            failures.setdefault(unit.name, Failure(*failure(error).values()))
        told(k, n_rows)
    return failures

"""A night of a pipeline: one read for all models that stand at the same place, then a night for each of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nightfit.checkpoint import RowCounts
from nightfit.cleaning import labels_found
from nightfit.errors import NightfitError
from nightfit.night import MANY_REFUSALS, Night, Request, digest, settings
from nightfit.prune import finish_erasing, prune
from nightfit.sources.base import Acknowledging, Numbers, Source, Surroundings
from nightfit.sources.increment import Increment, look_up, read_increment
from nightfit.sources.make import make_source
from nightfit.standing import Standing
from nightfit.store import Pipeline, Store

if TYPE_CHECKING:
    from nightfit.config import Config
    from nightfit.schema import Rules


@dataclass(frozen=True)
class NightResult:
    """What a night came to for one model. `status`: "accepted", "refused" or "nothing" (there was nothing new).

    `version` is the entry that tells of it: a new one, or for a repeated verdict the refused one; None if nothing.
    """

    model: str
    status: str
    verdict: str
    version: int | None = None
    rows: RowCounts = field(default_factory=RowCounts)
    prequential: dict[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    alarms: Sequence[str] = ()
    seconds: float = 0.0
    task: str = ""
    drift: Mapping[str, Any] = field(default_factory=dict)
    """The figures of `drift.Seen`."""


def run(config: Config, names: Sequence[str], request: Request) -> list[NightResult]:
    """Run one night for the named models; the caller holds the pipeline's lock.

    Models with equal cursors share one read. Each model is committed by itself: the first error is raised when all
    of them have had their night, so that one which fails keeps no other from learning.
    """
    pipeline = Store(config.store).pipeline(config.name)
    pipeline.clear_staging()
    standings = [Standing.of(pipeline.lineage(name), name) for name in names]
    for standing in standings:
        finish_erasing(standing.lineage, standing.newest)
        standing.excluded(request.exclude)  # what was typed wrong is said before anything is read
    around = Surroundings(config.rules.key, config.rules.target, config.root)
    sources = [make_source(source, around) for source in config.sources]
    results: list[NightResult] = []
    errors: list[NightfitError] = []
    for group in _same_reads(standings, request):
        try:
            folder = pipeline.staging()
            numbers = _numbers(group, config.rules)
            increment = _read(sources, group, folder / "_raw", request, numbers)  # no model can have that name
            for standing in group:
                try:
                    results.append(_night(config, standing, increment, folder / standing.name, request))
                except NightfitError as error:
                    errors.append(error)
        finally:  # a full disk must not stay full
            pipeline.clear_staging()
    unheard = tuple(_acknowledge(config, pipeline, sources))
    if errors:
        raise errors[0]
    ordered = sorted(results, key=lambda result: list(names).index(result.model))
    return [replace(result, alarms=[*result.alarms, *unheard]) for result in ordered]


def backfill(config: Config, names: Sequence[str], request: Request) -> Iterator[list[NightResult]]:
    """Learn a long history night by night: yield each night's results until nothing is new for any model.

    A refused night joins the next; three in a row end it.
    """
    while True:
        results = run(config, names, request)
        yield results
        refused = [r for r in results if r.status == "refused"]
        stands_still = all(r.status == "nothing" or not r.rows.read for r in results)
        if stands_still or any(_refusals(config, r.model) >= MANY_REFUSALS for r in refused):
            return


def _refusals(config: Config, name: str) -> int:
    return len(Standing.of(Store(config.store).pipeline(config.name).lineage(name), name).refused)


def _same_reads(standings: Iterable[Standing], request: Request) -> list[list[Standing]]:
    """Group the models whose read would be the same."""
    groups: dict[str, list[Standing]] = {}
    for standing in standings:
        read = [standing.cursors, standing.skip if request.cut else None]
        groups.setdefault(json.dumps(read, sort_keys=True), []).append(standing)
    return list(groups.values())


def _numbers(group: Iterable[Standing], rules: Rules) -> Numbers:
    """Return the columns that all models of a group know as numbers: only these need no text."""
    known = [standing.numbers for standing in group]
    return Numbers(frozenset.intersection(*known) - rules.no_features, rules.schema.missing)


def _read(
    sources: Sequence[Source], group: Sequence[Standing], folder: Path, request: Request, numbers: Numbers
) -> Increment:
    """Read what is new for models that stand at the same place, and look for the labels that their rows wait for."""
    n_read, first = 0, group[0]

    def count(n: int) -> None:
        nonlocal n_read
        n_read += n
        request.progress(f"reading: {n_read:,} rows")

    increment = read_increment(
        sources, first.cursors, folder, cut=request.cut, skip=first.skip, numbers=numbers, progress=count
    )
    look_up(increment, sources, sorted({key for standing in group for key in standing.pending.waiting_keys()}), folder)
    return increment


def _acknowledge(config: Config, pipeline: Pipeline, sources: Sequence[Source]) -> Iterator[str]:
    """Tell brokers how far every lineage of the config has come; one that has read nothing yet keeps all rows.

    It is said after the commit, and again every night: a run that dies in between, or a broker that does not hear it
    (of which the sentences are yielded), costs nothing.
    """
    heads = [pipeline.lineage(name).head() for name in config.models]
    for source in (source for source in sources if isinstance(source, Acknowledging)):
        cursors = [head.cursors[source.name] for head in heads if head and source.name in head.cursors]
        if len(cursors) == len(heads):
            try:
                source.acknowledge(cursors)
            except NightfitError as error:
                yield f"{error}; the next night tells it again"


def _has_news(config: Config, standing: Standing, increment: Increment, request: Request) -> bool:
    """Say whether there is anything to commit: rows, the end of rows that wait, or a cursor to be kept."""
    if increment.n_rows:
        return True
    if standing.head and increment.keeps_cursors and increment.cursors != standing.cursors:
        return True
    return bool(standing.pending.n_expired(config.rules, request.now().timestamp()))


def _night(config: Config, standing: Standing, increment: Increment, folder: Path, request: Request) -> NightResult:
    """Do one model's night, and commit it; nothing new, and a verdict that still stands, commit nothing."""
    started = time.monotonic()
    found = labels_found(increment, config.rules, standing.pending)
    if not (found or _has_news(config, standing, increment, request)):
        since = f"version {standing.head.version} of {standing.head.created_at}" if standing.head else "the start"
        return NightResult(
            standing.name, "nothing", f"nothing new since {since}", notes=increment.notes, alarms=standing.alarms
        )
    last = standing.refused[-1] if standing.refused else None
    asked = request.accept is not None or (last and request.exclude not in {None, *last.excluded})
    changed = last and last.night.get("settings") != settings(config, standing.name)
    repeats = last and last.cursors == increment.cursors and last.night.get("looked_up", "") == digest(found)
    if last and repeats and not asked and not changed:
        return NightResult(
            standing.name,
            "refused",
            f"no rows beyond version {last.version}: {last.verdict}",
            last.version,
            notes=increment.notes,
            alarms=standing.alarms,
        )
    folder.mkdir()
    night = Night(config, standing, increment, folder, request)
    draft = night.run()
    seconds = round(time.monotonic() - started, 3)
    draft = replace(draft, night=draft.night | {"notes": [*night.alarms, *increment.notes], "seconds": seconds})
    manifest = standing.lineage.commit(draft, onto=standing.onto)
    prune(standing.lineage, config.keep)
    return NightResult(
        standing.name, manifest.status, manifest.verdict, manifest.version, manifest.rows, manifest.prequential,
        increment.notes, night.alarms, seconds, night.task, cast("dict[str, Any]", manifest.night["drift"]),
    )  # fmt: skip

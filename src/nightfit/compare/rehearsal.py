"""`--history`: past data through the very path of the nights, into a store that is thrown away.

Every model goes through `train`'s own backfill: rows are rejected, held out, pending, the gate refuses, what was
refused comes again the next night. What each version scored on the rows that were new to it stands in its log, and is
all that is compared: nothing here predicts or learns by itself. A run that was killed goes on where the store stands.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nightfit.atomic import whole_file
from nightfit.compare.bench import options
from nightfit.compare.entrant import peak_mib, reset_peak
from nightfit.compare.failure import Failure, failure
from nightfit.compare.replay import versions
from nightfit.compare.result import Series, deciding, held_against, summary
from nightfit.errors import DataError
from nightfit.learners.base import import_path
from nightfit.learners.importing import digest
from nightfit.lock import writer_lock
from nightfit.night import Request, settings
from nightfit.nightly import backfill
from nightfit.store import Store

if TYPE_CHECKING:
    from nightfit.checkpoint import Manifest
    from nightfit.compare.bench import Bench
    from nightfit.config import Config
    from nightfit.store import Lineage

_COST = "cost.json"
POOLED = ("log_loss", "accuracy", "rmse", "mae")
"""Scores that follow from those of the nights; squared errors are averaged before the root is taken."""


@dataclass(frozen=True)
class Rehearsed:
    """A model's log, oldest first, refused versions included, and what all its nights cost."""

    log: Sequence[Manifest]
    accepted: Sequence[Manifest]
    cpu_s: float
    peak_mib: float | None
    disk_bytes: int

    @cached_property
    def ends(self) -> list[int]:
        """How many records had been read at the end of each accepted night."""
        return list(accumulate(m.rows.read for m in self.accepted))

    def between(self, start: int, end: int) -> dict[str, float]:
        """Return the scores on the rows of the nights between two ends, and how many rows these were."""
        nights = [m.prequential for m, until in zip(self.accepted, self.ends, strict=True) if start < until <= end]
        rows = np.array([night["rows"] for night in nights])
        found = {"rows": float(rows.sum())}
        for name in POOLED:
            values = np.array([night[name] for night in nights if name in night])
            if len(values):
                squared = name == "rmse"
                mean = float(np.average(values**2 if squared else values, weights=rows))
                found[name] = math.sqrt(mean) if squared else mean
        return found


def rehearse(
    bench: Bench,
    config: Config,
    request: Request,
    place: Path,
    identity: str,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Send every model through its nights, and return what the comparison of their logs came to.

    `identity` says which data these are. Raises what the first model failed of if all do, and `DataError` if there is
    no night that all have scored.
    """
    rehearsed, failed = dict[str, Rehearsed](), dict[str, Failure]()
    for name in config.models:
        told = {
            **settings(config, name), "seed": config.seed, "fresh_every": config.fresh_every, "cut": repr(request.cut),
            "data": identity, "device": bench.device, "versions": versions(),
            "code": digest(import_path(config.models[name].learner)),
        }  # fmt: skip
        key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]
        own = replace(config, store=place / key, models={name: config.models[name]}, keep=1)
        try:
            rehearsed[name] = _one(own, name, request, progress)
        except Exception as error:  # noqa: BLE001 - what one model fails of is none of the others'
            failed[name] = Failure(*failure(error).values())
    if not rehearsed:
        raise next(iter(failed.values())).error()
    return _result(bench, rehearsed, {name: each.said for name, each in failed.items()})


def _one(config: Config, name: str, request: Request, progress: Callable[[str], None]) -> Rehearsed:
    """Learn one model's history, from wherever its store stands."""
    reset_peak()
    cost = config.store / _COST
    spent = json.loads(cost.read_text(encoding="utf-8")) if cost.exists() else {"cpu_s": 0.0, "rows": 0}
    with writer_lock(config.store / config.name):
        started = time.process_time()
        for results in backfill(config, [name], request):
            now = time.process_time()
            spent["cpu_s"] += now - started
            spent["rows"] += sum(result.rows.read for result in results if result.status == "accepted")
            with whole_file(cost) as file:
                file.write(json.dumps(spent).encode())
            progress(f"{name}: {spent['rows']:,} rows behind it")
            started = now
    lineage = Store(config.store).pipeline(config.name).lineage(name)
    return _read(lineage, spent["cpu_s"])


def _read(lineage: Lineage, cpu_s: float) -> Rehearsed:
    head = lineage.head()
    if head is None:
        raise DataError("a rehearsal needs a night that is accepted, however there is none; look at the rows")
    log = [entry.manifest for entry in lineage.entries() if entry.manifest is not None]
    n_bytes = sum(file.size for file in head.files.values())
    accepted = list(reversed(lineage.ancestry(head)))
    return Rehearsed(sorted(log, key=lambda m: m.version), accepted, cpu_s, peak_mib(), n_bytes)


def _result(bench: Bench, rehearsed: Mapping[str, Rehearsed], failed: Mapping[str, str]) -> dict[str, Any]:
    common = sorted(set.intersection(*(set(each.ends) for each in rehearsed.values())))
    blocks = [(start, end) for start, end in pairwise(common) if end > start]
    scored = {name: [each.between(*block) for block in blocks] for name, each in rehearsed.items()}
    if not blocks:
        raise DataError(
            "a comparison needs a night at least that all models have predicted, however there is none; take a "
            "smaller --night-rows"
        )
    is_quantity = "rmse" in next(iter(scored.values()))[0]
    rows = np.array([block["rows"] for block in next(iter(scored.values()))])
    series = {name: _series(nights) for name, nights in scored.items()}
    pairs, reference, best = held_against(series, rows, bench.margin)
    models: dict[str, Any] = {}
    for name, config in bench.models.items():
        kind = {"kind": config.kind, "config": options(config)}
        if name in failed:
            models[name] = {"failed": failed[name], **kind}
            continue
        whole = rehearsed[name].between(common[0], common[-1])
        models[name] = {**whole, "rows": int(whole["rows"]), **_costs(rehearsed[name]), **kind, "failed": None}
    result = {
        "task": "regression" if is_quantity else "classification",
        "rows": int(rows.sum()),
        "nights": len(blocks),
        "left_out": 0,
        "score": deciding(series, is_quantity=is_quantity),
        "seed": bench.seeds[0],
        "seeds": list(bench.seeds),
        "classes": "observed",
        "models": models,
        "per_night": [
            {
                "night": k + 2,
                "rows": int(rows[k]),
                "period": None,
                "models": {name: _without_rows(nights[k]) for name, nights in scored.items()},
            }
            for k in range(len(blocks))
        ],
        "drifts": [],
        "protocol": {
            "cut": bench.cut.text,
            "label_delay": 0,
            "warm_up": 1,
            "margin": bench.margin,
            "history": True,
        },
        "costs": {name: _tonight(each) for name, each in rehearsed.items()},
        "log": {name: [_entry(m) for m in each.log] for name, each in rehearsed.items()},
    }
    return summary(result, pairs, reference, best)


def _series(nights: Sequence[Mapping[str, float]]) -> Series:
    """Return the mean loss of each night's rows, log loss or squared error, and the share of wrong ones."""
    if "rmse" in nights[0]:
        return Series(np.array([night["rmse"] for night in nights]) ** 2)
    errors = 1 - np.array([night["accuracy"] for night in nights])
    if "log_loss" not in nights[0]:
        return Series(errors, errors, votes=True)
    return Series(np.array([night["log_loss"] for night in nights]), errors)


def _without_rows(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if name != "rows"}


def _costs(each: Rehearsed) -> dict[str, Any]:
    """Return what a model's nights cost, cleaning, gate and commit included: no part of it is timed apart."""
    return {
        "learn_cpu_s": round(each.cpu_s, 3),
        "predict_cpu_s": None,
        "learn_wall_s": round(sum(_seconds(m) for m in each.accepted), 3),
        "predict_wall_s": 0.0,
        "peak_mib": each.peak_mib,
        "disk_bytes": each.disk_bytes,
        **dict.fromkeys(("forgetting", "negative_flips", "recovery_nights", "recovered", "retrain_s", "spread")),
        "reliability": [],
        "refused": sum(m.status == "refused" for m in each.log),
    }


def _tonight(each: Rehearsed) -> dict[str, Any]:
    tonight = float(np.median([_seconds(m) for m in each.accepted][-30:]))
    return {"tonight_s": tonight, "retrain_s": None, "ratio": None, "text": None}


def _seconds(manifest: Manifest) -> float:
    seconds = manifest.night.get("seconds", 0.0)
    return float(seconds) if isinstance(seconds, (int, float)) else 0.0


def _entry(m: Manifest) -> dict[str, Any]:
    return {
        "version": m.version,
        "status": m.status,
        "rows": asdict(m.rows),
        "prequential": m.prequential,
        "verdict": m.verdict,
    }

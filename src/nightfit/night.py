"""One model's night: clean, test, train, compare, decide; what comes out is a draft for the store to commit.

`Night.run` reads as the design's lines 3 to 8. Nothing here is visible to anybody: until the draft is committed the
night may die at any point, and the next run does it again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nightfit.batch import Rows, stage
from nightfit.checkpoint import EXCLUDED, PENDING, REJECTS, SKIPPED, Draft, Manifest, RowCounts, pack
from nightfit.cleaning import adopt, clean, guess_task, labels_found
from nightfit.demands import check_demands
from nightfit.drift import ERROR_ROWS, Seen
from nightfit.errors import ConfigError, DataError
from nightfit.evidence import Kept, collect, find_kept
from nightfit.fates import CleanNight, Fate, too_many_rejects
from nightfit.fresh import against_fresh, is_due
from nightfit.gate import NOT_FINITE, Decision, decide
from nightfit.known import N_NIGHTS
from nightfit.metrics import constant_loss
from nightfit.model import Model
from nightfit.pending import write_pending
from nightfit.resume import continued, data_of, head_or_fresh, last_drift, task_of
from nightfit.standing import Standing

if TYPE_CHECKING:
    from nightfit.config import Config
    from nightfit.device import Device
    from nightfit.jsontypes import Json
    from nightfit.schema import Task
    from nightfit.sources.increment import Cut, Increment

LOSS_ROWS = 50_000
"""Rows by which a night says how its own learning went: to a percent, and answering a million twice takes as long as a
third of learning them."""

MANY_REFUSALS = 3
"""Refusals in a row after which a person should look."""


@dataclass(frozen=True)
class Request:
    """What a person may ask of a night besides the config. `now` returns the time, in UTC."""

    device: Device
    now: Callable[[], datetime]
    accept: str | None = None
    exclude: int | None = None
    cut: Cut | None = None
    progress: Callable[[str], None] = lambda _: None


class Night:
    """One model's night over an increment that is staged already; `folder` is for work that may be lost."""

    def __init__(
        self, config: Config, standing: Standing, increment: Increment, folder: Path, request: Request
    ) -> None:
        self._config, self._standing, self._increment = config, standing, increment
        self._folder, self._request = folder, request
        self.alarms = list(standing.alarms)
        self._labels_found = labels_found(increment, config.rules, standing.pending)
        self._now = request.now()
        self._now_s = self._now.timestamp()

    def run(self) -> Draft:
        """Do everything but the commit.

        Raises `DataError` for rows that cannot be learned from, before anything is learned.
        """
        self.task = self._find_task()
        champion, candidate = self._load(), self._load()
        night = self._clean(champion)
        self._drift, self._seen = last_drift(self._standing), Seen()
        prequential = self._test(champion, night)
        self._say("learning")
        learning = self._learn(candidate, night)
        self._say("deciding")
        held_out = self._stage(night, candidate, Fate.HELD_OUT)
        evidence = collect(
            champion, candidate, night, held_out, folder=self._folder, kept=self._kept(), config=self._config.gate
        )
        if learning.get("loss_after", 0) is None:
            evidence = replace(evidence, broken=evidence.broken or NOT_FINITE)
        decision = decide(evidence, self._config.gate, override=self._request.accept)
        if decision.starts_anew:
            candidate.holdout.clear()
        told: dict[str, Json] = {"learning": learning}
        if decision.accepted and is_due(self._config.fresh_every, champion, candidate):
            told["fresh"] = self._against_fresh(candidate, night, held_out)
        for block in held_out.chunks():
            candidate.holdout.add(block)
        return self._draft(candidate, night, decision, prequential, told)

    def _say(self, what: str) -> None:
        self._request.progress(f"{self._standing.name}: {what}")

    def _find_task(self) -> Task:
        """Return the lineage's task; until it has learned something the config's, or a guess."""
        asked = self._config.rules.task
        head = self._standing.head
        if head is None or (not head.state["n_nights"] and not asked):
            parts = (*self._increment.parts, *self._increment.looked_up)
            return asked or guess_task((part.table for part in parts), self._config.rules)
        task = task_of(head)
        if asked and asked != task and head.state["n_nights"]:
            raise ConfigError(
                f"a lineage keeps its task, however it is '{asked}' now and was '{task}' in version {head.version} of "
                f"{head.model}; set it back, or give the model or the pipeline a new name"
            )
        return asked or task

    def _load(self) -> Model:
        """Return the head's model, or a fresh one: the first night is not special."""
        return head_or_fresh(self._config, self._standing, self.task, self._request.device.name)

    def _clean(self, champion: Model) -> CleanNight:
        """Give every row its fate, and stop if too many are rejects."""
        self._say("cleaning")
        standing, head = self._standing, self._standing.head
        self._schema = adopt(champion.schema, (part.table for part in self._increment.parts), self._config.rules)
        gate, kinds = self._config.gate, {column.name: column.kind for column in self._schema.columns}
        check_demands(gate.floors, gate.slices, task=self.task, kinds=kinds, votes=champion.learner.votes)
        self._excluded = standing.excluded_keys(self._request.exclude, self.alarms.append)
        night = clean(
            self._increment,
            self._schema,
            self._config.rules,
            known=standing.known(self.alarms.append),
            excluded=np.union1d(self._excluded, standing.skipped_keys),
            delivered=data_of(head)["columns"] if head else {},
            folder=self._folder / "clean",
            new=frozenset(c.name for c in self._schema.columns[len(champion.schema.columns) :]),
            pending=standing.pending,
            now_s=self._now_s,
        )
        sentence = too_many_rejects(night, self._increment.n_rows, self._config.rules.schema.max_reject_share)
        if sentence and not self._request.accept:
            raise DataError(sentence)
        return night

    def _test(self, champion: Model, night: CleanNight) -> dict[str, float]:
        """Score the champion on all new rows, before anything learns them."""
        self._say("testing")
        if not champion.n_nights:
            return {}
        rows = self._stage(night, champion, Fate.LEARNED, Fate.HELD_OUT)
        if not len(rows):
            return {}
        sample = rows.sample(ERROR_ROWS)
        self._seen.rise = self._drift.watch(champion.predict(sample), sample)
        found = champion.tally(rows).scores() | {"rows": len(rows)}
        return {name: score for name, score in found.items() if math.isfinite(score)}

    def _learn(self, candidate: Model, night: CleanNight) -> dict[str, Json]:
        """Grow, see what moved, observe, learn; return how the loss on the learned rows, or a sample of many, went."""
        was_blank = not candidate.n_nights
        candidate.grow(night.grown(self._schema))
        rows = self._stage(night, candidate, Fate.LEARNED)
        if not len(rows):
            return {"rows": 0}
        self._seen = replace(self._drift.observe(rows, candidate.schema), rise=self._seen.rise)
        sample = Rows([rows.sample(LOSS_ROWS)])
        before = candidate.tally(sample).mean_loss
        candidate.learner.observe(rows)
        candidate.learn(rows, seed=self._config.seed)
        self.alarms += candidate.learner.notes
        after = candidate.tally(sample).mean_loss
        return {
            "rows": len(rows),
            "loss_before": None if was_blank else _figure(before),
            "loss_after": _figure(after),
            **({"figures": dict(candidate.learner.figures)} if candidate.learner.figures else {}),
            "loss_of_constant": _figure(constant_loss(block.y for block in sample.chunks())),
        }

    def _stage(self, night: CleanNight, model: Model, *fates: Fate) -> Rows:
        name = "-".join(fate.name for fate in fates).lower()
        return stage(night.encode(model.schema, *fates), self._folder / name)

    def _against_fresh(self, candidate: Model, night: CleanNight, held_out: Rows) -> dict[str, Json]:
        self._say("training a fresh one, to compare")
        return against_fresh(
            candidate,
            self._stage(night, candidate, Fate.LEARNED),
            held_out,
            self._config.models[self._standing.name],
            device=self._request.device.name,
            seed=self._config.seed,
            min_rows=self._config.gate.min_rows,
        )

    def _kept(self) -> Kept | None:
        return find_kept(
            self._standing,
            self._request.exclude,
            self._load_kept,
            alarm=self.alarms.append,
            min_rows=self._config.gate.min_rows,
        )

    def _load_kept(self, manifest: Manifest) -> Model:
        files = self._standing.lineage.load(manifest)
        return continued(self._config, manifest, files, self._request.device.name)

    def _draft(
        self,
        candidate: Model,
        night: CleanNight,
        decision: Decision,
        prequential: dict[str, float],
        told: dict[str, Json],
    ) -> Draft:
        self.alarms += self._seen.alarms()
        state, arrays = candidate.state()
        state["drift"], arrays["drift"] = self._drift.state()
        files: dict[str, bytes | Path] = {f"{name}.safetensors": pack(a) for name, a in arrays.items()}
        if len(night.rejects):
            files[REJECTS] = night.rejects.path
        waiting = self._folder / PENDING
        if write_pending(night, self._config.rules, self._now_s, waiting):
            files[PENDING] = waiting
        if len(self._excluded):
            files[EXCLUDED] = pack({"keys": self._excluded})
        if SKIPPED in self._standing.files:
            files[SKIPPED] = self._standing.files[SKIPPED]
        segment = self._standing.lineage.segments.add(night.segment)
        return Draft(
            parent=self._standing.version,
            status="accepted" if decision.accepted else "refused",
            created_at=self._now.isoformat(timespec="seconds"),
            cursors=self._increment.cursors,
            rows=self._count(night),
            prequential=prequential if decision.accepted else {},
            verdict=decision.verdict + self._ways_out(decision),
            night={
                "read": dict(self._increment.n_read),
                "looked_up": digest(self._labels_found),
                **told,
                "gate": {"reason": decision.reason, **decision.figures},
                "settings": settings(self._config, self._standing.name),
                "device": {"name": self._request.device.name, "reason": self._request.device.reason},
                "drift": self._seen.to_json(),
                "why_rejected": night.rejects.why(),
            },
            state=state | {"data": self._data(night)},
            segments=[segment, *self._standing.segments][:N_NIGHTS],
            excluded=self._standing.excluded(self._request.exclude),
            files=files,
        )

    def _data(self, night: CleanNight) -> dict[str, Json]:
        """Return what the lineage must hold on to of its data, and the columns that each source delivers."""
        rules = self._config.rules
        columns: dict[str, Json] = {source: [*sorted(names)] for source, names in night.delivered.items()}
        return {"target": rules.target, "key": list(rules.key), "columns": columns}

    def _count(self, night: CleanNight) -> RowCounts:
        """Count the fates, and assert that every row read has exactly one."""
        counts = RowCounts(
            read=self._increment.n_rows,
            learned=night.count(Fate.LEARNED),
            held_out=night.count(Fate.HELD_OUT),
            rejected=night.count(Fate.REJECTED),
            duplicate=night.count(Fate.DUPLICATE),
            excluded=night.count(Fate.EXCLUDED),
            pending=night.count(Fate.PENDING),
        )
        before = self._standing.head.rows.pending if self._standing.head else 0
        if not counts.conserved(pending_before=before):  # no assert, which -O would leave out
            raise AssertionError(f"every row must have one fate, however of {before} pending and the read: {counts}")
        return counts

    def _ways_out(self, decision: Decision) -> str:
        n = len(self._standing.refused) + 1
        if decision.accepted or n < MANY_REFUSALS:
            return ""
        first = self._standing.refused[0].version
        accept = "" if decision.reason == "broken" else 'either --accept "why" to serve it anyway, or '
        return (
            f"; refused {n} times in a row: look at the rows, then with --model {self._standing.name} {accept}"
            f"--exclude {first} to leave out the rows of the first refused night"
        )


def digest(labels: dict[str, str]) -> str:
    """Return a digest of labels that were looked up; empty where there are none."""
    return hashlib.sha256(repr(sorted(labels.items())).encode()).hexdigest()[:16] if labels else ""


def settings(config: Config, name: str) -> dict[str, Json]:
    """Return what a verdict depends on besides the rows: a model's options, the gate's, and the rules of cleaning."""
    rules = asdict(config.rules) | {"not_features": sorted(config.rules.not_features)}
    model = {"kind": config.models[name].kind, **asdict(config.models[name].learner)}
    plain: dict[str, Json] = json.loads(json.dumps({"model": model, "gate": asdict(config.gate), "rules": rules}))
    return plain


def _figure(value: float) -> float | None:
    """Return a number for JSON, which knows neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else None

"""One model's night: clean, test, train, compare, decide; what comes out is a draft for the store to commit.

`Night.run` reads as the design's lines 3 to 8. Nothing here is visible to anybody: until the draft is committed the
night may die at any point, and the next run does it again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nightfit.batch import Array, Rows, stage
from nightfit.checkpoint import Draft, Manifest, RowCounts, pack, unpack
from nightfit.cleaning import adopt, clean, guess_task, labels_found
from nightfit.errors import CheckpointError, ConfigError, DataError
from nightfit.fates import CleanNight, Fate, too_many_rejects
from nightfit.gate import LEAST_LOSS, Decision, Evidence, decide
from nightfit.known import N_NIGHTS, Segment
from nightfit.metrics import constant_loss, row_losses, spread
from nightfit.model import Model
from nightfit.pending import FILE as PENDING
from nightfit.pending import write_pending
from nightfit.schema import Schema
from nightfit.standing import EXCLUDED, Standing

if TYPE_CHECKING:
    from nightfit.config import Config, ModelConfig
    from nightfit.device import Device
    from nightfit.jsontypes import Json
    from nightfit.schema import Task
    from nightfit.sources.increment import Cut, Increment

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
        prequential = self._test(champion, night)
        self._say("learning")
        learning = self._learn(candidate, night)
        self._say("deciding")
        held_out = self._stage(night, candidate, Fate.HELD_OUT)
        evidence = self._evidence(champion, candidate, night, held_out)
        decision = decide(evidence, self._config.gate, override=self._request.accept)
        for block in held_out.chunks():
            candidate.holdout.add(block)
        return self._draft(candidate, night, decision, prequential, learning)

    def _say(self, what: str) -> None:
        self._request.progress(f"{self._standing.name}: {what}")

    def _find_task(self) -> Task:
        """Return the lineage's task; until it has learned something the config's, or a guess."""
        asked = self._config.rules.task
        head = self._standing.head
        if head is None or (not head.state["n_nights"] and not asked):
            parts = (*self._increment.parts, *self._increment.looked_up)
            return asked or guess_task((part.table for part in parts), self._config.rules)
        task = _task_of(head)
        if asked and asked != task and head.state["n_nights"]:
            raise ConfigError(
                f"a lineage keeps its task, however it is '{asked}' now and was '{task}' in version {head.version} of "
                f"{head.model}; set it back, or give the model or the pipeline a new name"
            )
        return asked or task

    @property
    def _is_quantity(self) -> bool:
        return self.task == "regression"

    def _load(self) -> Model:
        """Return the head's model, or a fresh one: the first night is not special.

        Nor is one after nights without any target, from which a wrong task was guessed.
        """
        wanted = self._config.models[self._standing.name]
        head = self._standing.head
        if head is None or _task_of(head) != self.task:
            device, seed = self._request.device.name, self._config.seed
            model = Model.fresh(wanted.kind, wanted.learner, task=self.task, device=device, seed=seed)
            if head is not None:  # its columns are those of rows that wait
                columns = Schema.from_json(head.state["schema"])  # type: ignore[arg-type]
                model.grow(replace(columns, task=self.task, classes=()))
            return model
        return self._loaded(head, self._standing.files)

    def _loaded(self, manifest: Manifest, files: dict[str, bytes]) -> Model:
        wanted, rules = self._config.models[self._standing.name], self._config.rules
        data = _data(manifest)
        for what, was, now in (("target", data["target"], rules.target), ("key", data["key"], list(rules.key))):
            if was != now:
                raise ConfigError(
                    f"a lineage keeps its {what}, however it is {now!r} now and was {was!r} in version "
                    f"{manifest.version} of {manifest.model}; set it back, or give the model or the pipeline a new name"
                )
        model = load_model(manifest, files, wanted, device=self._request.device.name, seed=self._config.seed)
        for column in model.schema.numeric:
            if column.name in rules.schema.categorical:
                raise ConfigError(
                    f"a lineage keeps its kinds, however schema.categorical names '{column.name}', which "
                    f"{manifest.model} knows as {column.kind}; take it out, or give the model a new name"
                )
        return model

    def _clean(self, champion: Model) -> CleanNight:
        """Give every row its fate, and stop if too many are rejects."""
        self._say("cleaning")
        standing, head = self._standing, self._standing.head
        self._schema = adopt(champion.schema, (part.table for part in self._increment.parts), self._config.rules)
        self._excluded = standing.excluded_keys(self._request.exclude)
        night = clean(
            self._increment,
            self._schema,
            self._config.rules,
            known=standing.known(self.alarms.append),
            excluded=self._excluded,
            delivered=_data(head)["columns"] if head else {},
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
        found = champion.tally(rows).scores() | {"rows": len(rows)}
        return {name: score for name, score in found.items() if math.isfinite(score)}

    def _learn(self, candidate: Model, night: CleanNight) -> dict[str, Json]:
        """Grow, observe, learn; return how the loss on the learned rows went."""
        was_blank = not candidate.n_nights
        candidate.grow(night.grown(self._schema))
        rows = self._stage(night, candidate, Fate.LEARNED)
        if not len(rows):
            return {"rows": 0}
        before = candidate.tally(rows).mean_loss
        candidate.learner.observe(rows)
        candidate.learn(rows, seed=self._config.seed)
        after = candidate.tally(rows).mean_loss
        return {
            "rows": len(rows),
            "loss_before": None if was_blank else _figure(before),
            "loss_after": _figure(after),
            "loss_of_constant": _figure(constant_loss(block.y for block in rows.chunks())),
        }

    def _stage(self, night: CleanNight, model: Model, *fates: Fate) -> Rows:
        name = "-".join(fate.name for fate in fates).lower()
        return stage(night.encode(model.schema, *fates), self._folder / name)

    def _evidence(self, champion: Model, candidate: Model, night: CleanNight, held_out: Rows) -> Evidence:
        """Let candidate and champion predict the same held-out rows: tonight's, and the memory's."""
        if not champion.n_nights:
            return Evidence(finite=candidate.is_finite(), has_champion=False)
        seen = stage(night.encode(champion.schema, Fate.HELD_OUT), self._folder / "held_out_champion")
        kept, beside = self._kept(champion, night)
        unit = spread(np.concatenate([champion.holdout.batch.y, seen.y])) if self._is_quantity else 1.0
        return Evidence(
            loss="squared error" if self._is_quantity else "log loss",
            least_loss=LEAST_LOSS * unit,
            finite=candidate.is_finite(),
            tonight_candidate=candidate.losses(held_out),
            tonight_champion=champion.losses(seen),
            memory_candidate=_losses(candidate),
            memory_champion=_losses(champion),
            kept_candidate=kept,
            kept_champion=beside,
        )

    def _kept(self, champion: Model, night: CleanNight) -> tuple[Array, Array]:
        """Return the losses of the candidate kept by an earlier night, and the champion's, on rows new to both.

        One that learned what is excluded by now is not asked.
        """
        excluded = self._standing.excluded(self._request.exclude)
        for manifest in (m for m in self._standing.refused if _is_forgetting(m) and m.excluded == excluded):
            try:
                kept = self._loaded(manifest, self._standing.lineage.load(manifest))
                segment = self._standing.segment(manifest.segments[0])
            except CheckpointError as error:
                self.alarms.append(f"{error}; the candidate that was kept cannot be tried")
                break
            losses = [_new_losses(model, night, segment) for model in (kept, champion)]
            return losses[0], losses[1]
        return np.zeros(0), np.zeros(0)

    def _draft(
        self,
        candidate: Model,
        night: CleanNight,
        decision: Decision,
        prequential: dict[str, float],
        learning: dict[str, Json],
    ) -> Draft:
        state, arrays = candidate.state()
        files: dict[str, bytes | Path] = {f"{name}.safetensors": pack(a) for name, a in arrays.items()}
        if len(night.rejects):
            files["rejects.jsonl"] = night.rejects.path
        waiting = self._folder / PENDING
        if write_pending(night, self._config.rules, self._now_s, waiting):
            files[PENDING] = waiting
        if len(self._excluded):
            files[EXCLUDED] = pack({"keys": self._excluded})
        segment = self._standing.lineage.add_segment(night.segment)
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
                "learning": learning,
                "gate": {"reason": decision.reason, **decision.figures},
                "settings": settings(self._config, self._standing.name),
                "device": {"name": self._request.device.name, "reason": self._request.device.reason},
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
        return (
            f"; refused {n} times in a row: look at the rows, then with --model {self._standing.name} either "
            f'--accept "why" to serve it anyway, or --exclude {first} to leave out the rows of the first refused night'
        )


def load_model(
    manifest: Manifest, files: dict[str, bytes], wanted: ModelConfig, *, device: str = "cpu", seed: int = 0
) -> Model:
    """Return the model of a version, on any device.

    Raises `ConfigError` if the config now asks for another kind of learner, `CheckpointError` for broken tensors.
    """
    if manifest.state["kind"] != wanted.kind:
        raise ConfigError(
            f"a lineage keeps its kind of learner, however models.{manifest.model}.kind is '{wanted.kind}' and version "
            f"{manifest.version} is '{manifest.state['kind']}'; give the new one another name"
        )
    of = f"of version {manifest.version} of {manifest.model}"
    arrays = {
        name: unpack(files[f"{name}.safetensors"], name=f"{name}.safetensors {of}")
        for name in ("model", "learning", "holdout")
    }
    return Model.load(manifest.state, arrays, wanted.learner, device=device, seed=seed)


def digest(labels: dict[str, str]) -> str:
    """Return a digest of labels that were looked up; empty where there are none."""
    return hashlib.sha256(repr(sorted(labels.items())).encode()).hexdigest()[:16] if labels else ""


def settings(config: Config, name: str) -> str:
    """Return a digest of what a verdict depends on besides the rows: a model's options and the gate's."""
    return hashlib.sha256(repr((config.models[name], config.gate)).encode()).hexdigest()[:16]


def _data(manifest: Manifest) -> dict[str, Any]:
    data = manifest.state["data"]
    assert isinstance(data, dict)
    return data


def _task_of(manifest: Manifest) -> Task:
    schema: Any = manifest.state["schema"]
    task: Task = schema["task"]
    return task


def _losses(model: Model) -> Array:
    """Return the model's losses on its holdout memory."""
    batch = model.holdout.batch
    return row_losses(model.predict(batch), batch.y) if len(batch) else np.zeros(0)


def _new_losses(model: Model, night: CleanNight, seen: Segment) -> Array:
    """Return the model's losses on tonight's clean rows that are not in a segment."""
    losses = [np.zeros(0)]
    for batch in night.encode(model.schema, Fate.LEARNED, Fate.HELD_OUT):
        new = batch.take(~seen.find(batch.key_hash)[0])
        if len(new):
            losses.append(row_losses(model.predict(new), new.y))
    return np.concatenate(losses)


def _is_forgetting(manifest: Manifest) -> bool:
    gate = manifest.night.get("gate")
    return isinstance(gate, dict) and gate.get("reason") == "forgetting"


def _figure(value: float) -> float | None:
    """Return a number for JSON, which knows neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else None

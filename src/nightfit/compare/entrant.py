"""One model with one seed on its way through the nights: predict, score, learn; saved from time to time.

Nothing is held out and no gate decides: this asks which model is better, not whether tonight's is safe. It can stop at
any moment: what was saved last goes on as if nothing had been.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nightfit.atomic import whole_file
from nightfit.checkpoint import pack, unpack
from nightfit.compare.ledger import Ledger, Marks, NightScore
from nightfit.errors import NotKeptError
from nightfit.metrics import Tally
from nightfit.model import Model

if TYPE_CHECKING:
    from nightfit.batch import Array, Batch, Rows
    from nightfit.compare.bench import Unit
    from nightfit.compare.staging import Staged
    from nightfit.jsontypes import Json
    from nightfit.learners.base import Arrays

SAVE_SHARE = 0.03
"""Share of the time that saving may take: the next one waits until the last is so small a part."""

RESULT, STATE = "result.safetensors", "state.safetensors"
_JSON, _MODEL, _LEDGER = "json", "model/", "ledger/"


@dataclass
class Entrant:
    """A model at a night: `ledger.nights` counts those that are behind it."""

    unit: Unit
    staged: Staged
    folder: Path
    watch: Callable[[Array, Batch], None] = lambda *_: None
    saves: bool = True
    model: Model = field(init=False)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / STATE
        self.ledger, self.model = self._restored(path) if path.exists() else self._begun()
        self._saved_at, self._save_s = time.monotonic(), 0.0

    def _begun(self) -> tuple[Ledger, Model]:
        model = fresh(self.unit, self.staged)
        return Ledger(total=Tally(votes=model.learner.votes)), model

    def _restored(self, path: Path) -> tuple[Ledger, Model]:
        plain, arrays = read(path)
        files: dict[str, Any] = {name: {} for name in ("model", "learning", "memory")}
        for name, array in arrays.items():
            if name.startswith(_MODEL):
                file, _, key = name.removeprefix(_MODEL).partition("/")
                files[file][key] = array
        unit = self.unit
        model = Model.load(plain["model"], files, unit.config.learner, device=unit.device, seed=unit.seed)
        return _ledger(plain, arrays), model

    def run(self, tell: Callable[[int], None]) -> None:
        """Go through the nights that are left; `tell` is told after each how many rows are behind."""
        reset_peak()
        n_done = sum(night.rows for night in self.ledger.nights)
        for i in range(len(self.ledger.nights), len(self.staged)):
            self._night(i)
            n_done += self.staged.nights[i].rows
            tell(n_done)
            if self.saves:
                self._save_if_due()
        self._finish()

    def _night(self, i: int) -> None:
        """Predict night i if it is one that is scored, then learn the one whose labels have come."""
        protocol = self.unit.protocol
        schema, rows = self.staged.schemas[i], self.staged.rows(i)
        self.ledger.nights.append(NightScore(len(rows)))
        self.model.grow(schema)
        if i >= protocol.first_scored:
            self._test(i, rows)
        labelled = i - protocol.label_delay
        if labelled >= 0:
            self._learn(labelled, rows if labelled == i else self.staged.rows_as(labelled, schema))

    def _test(self, i: int, rows: Rows) -> None:
        night, marks = self.ledger.nights[i], Marks(Tally(votes=self.model.learner.votes))
        with _timed(night, "predict"):
            for predicted, block in self.model.predicted(rows):
                marks.add(predicted, block)
                self.ledger.total.add(predicted, block.y)
                self.watch(predicted, block)
        self.ledger.score(night, marks.tally, np.concatenate(marks.hits), np.concatenate(marks.losses))

    def _learn(self, i: int, rows: Rows) -> None:
        """Let calibration learn from the outcomes, then the model; what preparing the rows took counts, too."""
        night = self.ledger.nights[i]
        if i:
            with _timed(night, "predict"):
                self.model.learner.observe(rows)
        with _timed(night, "learn"):
            self.model.learn(rows, seed=self.unit.seed)
        night.learn_cpu_s += self.staged.nights[i].shared_s
        night.learn_s += self.staged.nights[i].shared_s
        if not i and len(self.staged) > 1:
            self.ledger.first_loss = self.model.tally(rows).mean_loss

    def _state(self) -> tuple[dict[str, Json], dict[str, Arrays]] | None:
        """Return the model's state; None if it cannot be kept: then it goes through all nights at once."""
        try:
            return self.model.state()
        except NotKeptError:
            return None

    def _finish(self) -> None:
        """Look back at the first night, weigh the model, and write down what came of it all."""
        ledger = self.ledger
        if ledger.last_loss is None and ledger.first_loss is not None:
            ledger.last_loss = self.model.tally(self.staged.rows_as(0, self.staged.schemas[-1])).mean_loss
        ledger.figures = dict(self.model.learner.figures)
        if kept := self._state():
            state, files = kept
            ledger.disk_bytes = len(json.dumps(state)) + sum(len(pack(arrays)) for arrays in files.values())
        ledger.peak_mib = _highest(ledger.peak_mib, peak_mib())
        write_result(ledger, self.folder)
        (self.folder / STATE).unlink(missing_ok=True)

    def _save_if_due(self) -> None:
        now = time.monotonic()
        if now - self._saved_at < max(self._save_s / SAVE_SHARE, 1.0) or not (kept := self._state()):
            return
        self.ledger.peak_mib = _highest(self.ledger.peak_mib, peak_mib())
        state, files = kept
        plain, arrays = self.ledger.state()
        named = {_LEDGER + name: a for name, a in arrays.items()}
        named |= {f"{_MODEL}{file}/{name}": a for file, kept in files.items() for name, a in kept.items()}
        write(self.folder / STATE, {"ledger": plain, "model": state}, named)
        self._saved_at = time.monotonic()
        self._save_s = self._saved_at - now


def go_through(
    unit: Unit,
    staged: Staged,
    folder: Path,
    *,
    tell: Callable[[int], None] = lambda _: None,
    watch: Callable[[Array, Batch], None] = lambda *_: None,
    saves: bool = True,
) -> None:
    """Bring a unit to its end from wherever it stands; its result then lies in the folder.

    `tell` is told how many rows are behind it, `watch` what was said of each block. It `saves` where it stands, unless
    the folder goes with the run.
    """
    ledger = result_in(folder)
    if ledger is None:
        Entrant(unit, staged, folder, watch, saves).run(tell)
    if unit.protocol.retrain and (ledger := result_in(folder)) and ledger.retrain_s is None:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            ledger.retrain_s = retrained(unit, staged, Path(scratch))
        write_result(ledger, folder)


def fresh(unit: Unit, staged: Staged) -> Model:
    """Return a unit's model before its first night."""
    model = Model.fresh(unit.config.kind, unit.config.learner, task=staged.task, device=unit.device, seed=unit.seed)
    if staged.declared:
        model.declare(staged.declared)
    return model


def retrained(unit: Unit, staged: Staged, folder: Path) -> float:
    """Train a fresh model on all nights at once, and return the seconds that it took; `folder` is for staging."""
    started = time.monotonic()
    rows = staged.everything(folder)
    model = fresh(unit, staged)
    model.grow(staged.schemas[-1])
    model.learn(rows, seed=unit.seed)
    return time.monotonic() - started


def write_result(ledger: Ledger, folder: Path) -> None:
    """Write down what a unit came to."""
    plain, arrays = ledger.state()
    write(folder / RESULT, {"ledger": plain}, {_LEDGER + name: a for name, a in arrays.items()})


def result_in(folder: Path) -> Ledger | None:
    """Return what a unit came to; None if it has not ended."""
    path = folder / RESULT
    return _ledger(*read(path)) if path.exists() else None


def _ledger(plain: dict[str, Any], arrays: dict[str, Array]) -> Ledger:
    own = {name.removeprefix(_LEDGER): a for name, a in arrays.items() if name.startswith(_LEDGER)}
    return Ledger.load(plain["ledger"], own)


def write(path: Path, plain: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Write JSON and arrays as one file, whole or not at all."""
    text = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    with whole_file(path) as file:
        file.write(pack({**arrays, _JSON: text}))


def read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read what `write` wrote; raises `CheckpointError` for anything else."""
    arrays = unpack(path.read_bytes(), name=str(path))
    plain: dict[str, Any] = json.loads(arrays.pop(_JSON).tobytes())
    return plain, arrays


@contextmanager
def _timed(night: NightScore, what: str) -> Iterator[None]:
    """Add what happens inside to a night's seconds, by the clock and of the processor."""
    wall, cpu = time.monotonic(), time.process_time()
    yield
    for name, seconds in ((f"{what}_s", time.monotonic() - wall), (f"{what}_cpu_s", time.process_time() - cpu)):
        setattr(night, name, getattr(night, name) + seconds)


def peak_mib() -> float | None:
    """Return the most memory that this process has held, in MiB; None where the system does not say.

    Linux's own mark: what getrusage tells is that of the process which this one was started from, if it was larger.
    """
    with suppress(OSError, LookupError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return None


def reset_peak() -> None:
    """Let the mark begin anew, where the system can: several models may run in one process, one after the other."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _highest(*marks: float | None) -> float | None:
    return max((mark for mark in marks if mark is not None), default=None)

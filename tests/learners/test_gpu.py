"""The deep learner on a CUDA device. The tolerances are those that docs/gpu.md states."""

from __future__ import annotations

import csv
import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nightfit.batch import Array, Rows, stage
from nightfit.learners import pools
from nightfit.learners.base import MlpConfig
from nightfit.learners.deep import DeepLearner
from nightfit.learners.steps import Steps
from nightfit.metrics import row_losses
from nightfit.model import Model
from nightfit.schema import TASKS, Task
from nightfit.testing import model_of, random_night, saved_and_loaded, schema_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device on this machine")

SAMPLE = Path(__file__).parents[2] / "scripts" / "samples" / "hotel_bookings.csv.gz"


def a_model(device: str, task: Task = "classification", **options: Any) -> Model:  # noqa: ANN401
    """Give a model that knows its columns."""
    model = model_of(partial(DeepLearner, MlpConfig(**options), device=device, task=task), task)
    model.grow(schema_of(6, 2, n_categories=5, n_classes=3, task=task))
    return model


def learned(model: Model, n_nights: int = 3, n_rows: int = 5000) -> Model:
    """Let a model learn nights as `nightfit train` does."""
    for night in range(n_nights):
        rows = random_night(model.schema, n_rows, night)
        model.learner.observe(rows)
        model.learn(rows, seed=0)
    return model


def answers(model: Model) -> Array:
    """Return what a model says about rows that it has not learned."""
    return model.predict_rows(random_night(model.schema, 5000, 99))


@pytest.mark.parametrize("task", TASKS)
def test_both_devices_learn_the_same(task: Task) -> None:
    """Three nights on the GPU and on the processor: losses within 1 %, answers as near as a few hundred steps allow."""
    test = random_night(schema_of(6, 2, n_categories=5, n_classes=3, task=task), 5000, 99)
    there, here = (answers(learned(a_model(device, task))) for device in ("cuda", "cpu"))
    ours, theirs = row_losses(there, test.y).mean(), row_losses(here, test.y).mean()
    assert ours == pytest.approx(theirs, rel=0.01)
    assert np.abs(there - here).mean() < 0.01 * np.ptp(here)


def test_one_checkpoint_answers_the_same_everywhere() -> None:
    """No tf32 in answers: the same weights give the same probabilities to 1e-5 on GPU, processor and in numpy."""
    from nightfit.scorer import Scorer

    model = learned(a_model("cuda"))
    there = answers(model)
    here = answers(saved_and_loaded(model, partial(DeepLearner, MlpConfig(), device="cpu")))
    (batch,) = random_night(model.schema, 5000, 99).chunks()
    learner_arrays, _, _ = model.learner.state()
    plain = Scorer("mlp", model.normaliser.arrays(), learner_arrays).predict(batch)
    assert max(np.abs(there - here).max(), np.abs(there - plain).max()) < 1e-5


def test_captured_steps_do_what_eager_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph replays the very step: after a night the weights differ by the order of atomic additions at most."""
    captured = learned(a_model("cuda", batch_size=512))
    again = learned(a_model("cuda", batch_size=512))
    monkeypatch.setattr(Steps, "_run", lambda self, index, counts, _: self._step(index, counts))
    eager = learned(a_model("cuda", batch_size=512))
    noise, gap = (np.abs(answers(captured) - answers(other)).mean() for other in (again, eager))
    assert gap < max(1e-3, 3 * noise)


def test_most_steps_are_replayed() -> None:
    """Of a night of many steps all but the first few of their size are one launch."""
    model, replays = a_model("cuda"), []
    replay = torch.cuda.CUDAGraph.replay

    def counted(self: torch.cuda.CUDAGraph) -> None:
        replays.append(self)
        replay(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda.CUDAGraph, "replay", counted)
        learned(model, 2, 20_000)
    step = model.learner._descent.moments["step"]  # type: ignore[attr-defined]
    assert len(replays) > 0.8 * int(step)


@pytest.mark.parametrize("room", [0.0, 0.5])
def test_a_night_larger_than_the_gpu_streams_through_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, room: float
) -> None:
    """Whether blocks stay or come anew each epoch, a night of several is learned as the processor learns it."""
    monkeypatch.setattr(pools, "ROOM", room)
    results = []
    for device in ("cuda", "cpu"):
        model = a_model(device, batch_size=4096, n_epochs=2)
        batches = (batch for seed in range(3) for batch in random_night(model.schema, 60_000, seed).chunks())
        rows = stage(batches, tmp_path / device)
        model.learn(rows, seed=0)
        results.append(answers(model))
    test = random_night(model.schema, 5000, 99)
    ours, theirs = (row_losses(result, test.y).mean() for result in results)
    assert ours == pytest.approx(theirs, rel=0.01)


def test_steps_get_smaller_when_the_gpus_memory_runs_out() -> None:
    """A batch that does not fit is learned in smaller steps, and people are told; the night goes on."""
    wide = partial(a_model, "cuda", d_hidden=512, batch_size=40_000)
    rows = random_night(schema_of(6, 2, n_categories=5, n_classes=3), 60_000, 0)
    roomy = wide()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    roomy.learn(rows, seed=0)
    assert list(roomy.learner.notes) == []
    peak = torch.cuda.max_memory_allocated()
    cramped = wide()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((before + 0.6 * (peak - before)) / total)
    try:
        cramped.learn(rows, seed=0)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "however there was room for" in cramped.learner.notes[0]
    test = random_night(cramped.schema, 5000, 99)
    ours, theirs = (row_losses(answers(model), test.y).mean() for model in (cramped, roomy))
    assert ours < 1.05 * theirs


def test_a_lineage_goes_on_where_it_was() -> None:
    """Saved and loaded between nights, on the GPU: moments of the optimiser, memories, weights are all there."""
    whole = learned(a_model("cuda"), 4)
    broken = learned(a_model("cuda"), 2)
    broken = saved_and_loaded(broken, partial(DeepLearner, MlpConfig(), device="cuda"))
    for night in (2, 3):
        rows = random_night(broken.schema, 5000, night)
        broken.learner.observe(rows)
        broken.learn(rows, seed=0)
    gap = np.abs(answers(whole) - answers(broken)).mean()
    assert gap < 0.01


@pytest.mark.parametrize("sizes", [(0, 2), (3, 0), (0, 0)])
def test_odd_nights_are_learned(sizes: tuple[int, int]) -> None:
    """No numbers, no categories, neither; one row, new columns and classes: nothing of it is special on a GPU."""
    schema = schema_of(*sizes, n_categories=3, n_classes=2)
    model = model_of(partial(DeepLearner, MlpConfig(), device="cuda"))
    model.grow(schema)
    for night, n in enumerate((300, 1, 0, 40)):
        model.learner.observe(random_night(schema, n, night))
        model.learn(random_night(schema, n, night), seed=0)
    model.grow(schema.with_columns({"late": "numeric"}).with_classes(["new"]))
    rows = random_night(model.schema, 200, 5)
    model.learner.observe(rows)
    model.learn(rows, seed=0)
    assert np.isfinite(model.predict_rows(rows)).all()


def nightfit(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line, as cron does."""
    command = [sys.executable, "-m", "nightfit", *arguments]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)


@pytest.fixture
def hotel(tmp_path: Path) -> tuple[Path, list[str]]:
    """Give a pipeline over hotel bookings, and the lines of the file; it has the first 5,000 rows."""
    lines = gzip.decompress(SAMPLE.read_bytes()).decode().splitlines(keepends=True)
    (tmp_path / "all.csv").write_text("".join(lines[:5001]))
    done = nightfit(tmp_path, "init", "all.csv", "--target", "is_canceled")
    assert done.returncode == 0, done.stderr
    return tmp_path, lines


def probabilities(home: Path, data: str, *options: str) -> Array:
    """Return what the newest version says about a file's rows."""
    done = nightfit(home, "predict", data, "-o", "out.csv", *options)
    assert done.returncode == 0, done.stderr
    with (home / "out.csv").open(newline="") as file:
        return np.array([float(row["probability_1"]) for row in csv.DictReader(file)])


def test_nights_on_a_gpu_from_the_command_line(hotel: tuple[Path, list[str]]) -> None:
    """Train, train on new rows, predict on either device, verify: the whole way, on real rows."""
    home, lines = hotel
    train = ("train", "--device", "cuda", "--accept", "the gate is tested elsewhere", "--json")
    first = nightfit(home, *train)
    assert first.returncode == 0, first.stderr
    with (home / "all.csv").open("a") as file:
        file.writelines(lines[5001:8001])
    second = nightfit(home, *train)
    assert second.returncode == 0, second.stderr
    (home / "next.csv").write_text("".join([lines[0], *lines[8001:9001]]))
    there, here = probabilities(home, "next.csv", "--device", "cuda"), probabilities(home, "next.csv")
    assert np.abs(there - here).max() < 2e-5
    truth = np.array([float(row["is_canceled"]) for row in csv.DictReader([lines[0], *lines[8001:9001]])])
    assert np.square(there - truth).mean() < 0.8 * truth.var()
    assert nightfit(home, "verify").returncode == 0
    assert nightfit(home, "train", "--device", "cpu").returncode == 0


def test_a_night_on_a_gpu_that_is_killed_is_run_again(hotel: tuple[Path, list[str]]) -> None:
    """Killed anywhere, the store stays sound, and the next run learns each row once."""
    home, _ = hotel
    shutil.rmtree(home / "checkpoints", ignore_errors=True)
    command = [sys.executable, "-m", "nightfit", "train", "--device", "cuda", "--model", "deep"]
    for delay in (2.5, 4.5):
        running = subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(delay)
        os.kill(running.pid, signal.SIGKILL)
        running.communicate()
        assert nightfit(home, "verify").returncode == 0
    done = nightfit(home, "train", "--device", "cuda", "--model", "deep")
    assert done.returncode == 0, done.stderr
    log = nightfit(home, "log", "--json", "--model", "deep")
    assert '"read": 5000' in log.stdout.replace('"read":5000', '"read": 5000'), log.stdout


def test_nothing_waits_for_the_gpu_within_a_block() -> None:
    """Torch's own check finds no synchronisation while steps are taken."""
    model = learned(a_model("cuda"), 1)
    rows = Rows(random_night(model.schema, 5000, 7).chunks())
    take = Steps._run

    def watched(self: Steps, *arguments: Any) -> None:  # noqa: ANN401
        if self._graphs.get(arguments[1:]) is not None:  # capturing waits once
            torch.cuda.set_sync_debug_mode("error")
        try:
            take(self, *arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Steps, "_run", watched)
        model.learn(rows, seed=0)

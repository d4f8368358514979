"""Minibatches as indices into pools on the device, and steps that get smaller where memory is short."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nightfit.batch import BLOCK_ROWS, Batch, Rows, concat, in_memory, stage
from nightfit.errors import ConfigError
from nightfit.learners.base import MlpConfig
from nightfit.learners.mlp import numbers_of
from nightfit.learners.pools import Pools, Sent
from nightfit.learners.replay import NEW, Counts, Mix, PerPool, Replay
from nightfit.learners.steps import LEAST_MINIBATCH, Steps, halves
from nightfit.metrics import row_losses
from nightfit.model import Model
from nightfit.moments import merged, no_moments
from nightfit.normaliser import merged_by_torch
from nightfit.ranks import Alone
from nightfit.schema import Sizes
from nightfit.testing import random_night, schema_of

CPU = torch.device("cpu")


def numbered(n: int, start: int = 0) -> Batch:
    """Give rows whose number is in every array."""
    i = np.arange(start, start + n)
    return Batch(i.astype(np.uint64), i[:, None].astype(float), i[:, None].astype(np.int32), i)


def sent(batch: Batch) -> Sent:
    """Bring rows to a device that is the processor."""
    z, ids, y = (torch.from_numpy(np.array(a)) for a in (batch.x_num, batch.x_cat, batch.y))
    return Sent(numbers_of(z, flagged=bool(z.isnan().any())), ids, y)


def test_a_minibatch_names_the_rows_of_its_pools(tmp_path: Path) -> None:
    """Each epoch learns every new row once; what a minibatch's parts name are rows of the pools they stand for."""
    replay = Replay(MlpConfig(batch_size=4096, n_epochs=2, memory_rows=400))
    replay.grow(Sizes(1, 1, 1, 1), np.zeros(1, np.int32))
    replay.remember(Rows([numbered(900, 1_000_000)]))
    rows = stage([numbered(BLOCK_ROWS + 5000)], tmp_path / "night")
    pools = Pools(replay.pools(len(rows), Alone()), sent, CPU)
    learned: list[int] = []
    for mix in replay.mixes(rows, len(rows), Alone(), seed=3):
        pools.enter(mix.block)
        assert sum(sum(counts.own) for counts in mix.counts) == len(mix.rows)
        start = 0
        for counts, _ in mix.counts:
            index = torch.from_numpy(mix.rows[start : start + sum(counts)])
            start += sum(counts)
            numbers, _, outcomes = (pool[index] for pool in pools.tensors)
            of_pool = torch.split(outcomes, list(counts))
            assert [bool((y < 1_000_000).all()) for y in of_pool] == [False, True, False]
            assert torch.equal(numbers[:, 1], outcomes.double())
            learned += of_pool[NEW].tolist()
    assert np.array_equal(np.bincount(learned), np.full(BLOCK_ROWS + 5000, 2))


def test_flags_are_read_from_the_first_missing_value_on() -> None:
    """Replayed rows and the blocks so far count; a block that misses nothing changes nothing but its rows."""
    replayed, full, holed = numbered(4), numbered(3), numbered(3)
    holed = replace(holed, x_num=np.array([[1.0], [np.nan], [2.0]]))
    pools = Pools([replayed, replayed], sent, CPU)
    for block, flagged in ((full, False), (holed, True), (full, True), (numbered(2), True)):
        pools.enter(block)
        assert pools.kind == pools.tensors[0].shape[1] == (3 if flagged else 2)
        for start, rows in ((0, replayed), (4, replayed), (8, block)):
            there = pools.tensors[0][start : start + len(rows)]
            assert torch.equal(there, numbers_of(torch.from_numpy(rows.x_num), flagged=flagged))


@given(st.tuples(*[st.integers(0, 9)] * 3))
def test_halves_share_every_pool(counts: PerPool) -> None:
    """Two halves hold each row once, in the order of the pools, and half of each pool to a row."""
    index = torch.arange(sum(counts))
    parts = list(halves(index, Counts(counts, counts)))
    assert sorted(torch.cat([part for part, _ in parts]).tolist()) == index.tolist()
    for part, (n_rows, whole) in parts:
        assert n_rows == whole
        assert part.tolist() == sorted(part.tolist())
        assert len(part) == sum(n_rows)
        assert all(abs(2 * n - count) <= 1 for n, count in zip(n_rows, counts, strict=True))


class Small:
    """A step for which memory suffices for so many rows."""

    def __init__(self, n_most: int) -> None:
        self.n_most, self.n_failed = n_most, 0
        self.taken: list[int] = []

    def __call__(self, index: Tensor, counts: Counts) -> None:
        """Learn, or fail as torch does."""
        if len(index) > self.n_most:
            self.n_failed += 1
            raise torch.OutOfMemoryError("no room")
        assert len(index) == sum(counts.own)
        self.taken.append(len(index))


def test_steps_get_smaller_when_memory_runs_out() -> None:
    """All rows are learned, in as many smaller steps as are needed; a size that failed is not tried again."""
    step = Small(300)
    steps = Steps(step, CPU)
    assert steps.notes == []
    mix = Mix(numbered(1), np.arange(4000), [Counts(*[(200, 600, 200)] * 2)] * 4)
    steps.take(mix, "kind")
    assert sum(step.taken) == 4000
    assert (step.n_failed, max(step.taken)) == (2, 250)
    (note,) = steps.notes
    assert "must fit into the GPU's memory, however there was room for 253 rows at most" in note


def test_where_no_step_fits_the_error_stays() -> None:
    """A device without room for a handful of rows fails the night, as it should."""
    mix = Mix(numbered(1), np.arange(4000), [Counts(*[(0, 4000, 0)] * 2)])
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        Steps(Small(LEAST_MINIBATCH // 2 - 2), CPU).take(mix, "kind")


def test_a_step_of_several_ranks_is_not_halved() -> None:
    """A rank without room for its part says so: with smaller steps of its own it would leave the others waiting."""
    mix = Mix(numbered(1), np.arange(4000), [Counts((0, 4000, 0), (0, 8000, 0))])
    with pytest.raises(ConfigError, match=r"a minibatch must fit into its GPU, however .* 4,000 rows"):
        Steps(Small(300), CPU).take(mix, "kind")


def test_a_night_of_smaller_steps_learns_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory runs out within a night the weights are those of no half step, and people are told."""
    schema = schema_of(4, 2, n_categories=4, n_classes=3)
    losses, notes = [], []
    run = Steps._run

    def cramped(self: Steps, index: Tensor, counts: Counts, kind: object) -> None:
        if len(index) > 600:
            raise torch.OutOfMemoryError("no room")
        run(self, index, counts, kind)

    test = random_night(schema, 2000, 9)
    for patched in (run, cramped):
        monkeypatch.setattr(Steps, "_run", patched)
        model = Model.fresh("mlp", MlpConfig(batch_size=2048))
        model.grow(schema)
        for night in range(2):
            model.learn(random_night(schema, 4000, night), seed=0)
        losses.append(row_losses(model.predict_rows(test), test.y).mean())
        notes.append(len(model.learner.notes))
    assert notes == [0, 1]
    assert losses[1] < 1.02 * losses[0]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_moments_on_a_device_are_those_of_numpy(sizes: list[int], seed: int, missing: float) -> None:
    """Whatever is missing, torch's merging gives what numpy's does, to the last bits."""
    random = np.random.default_rng(seed)
    ours = {name: torch.from_numpy(values) for name, values in no_moments(3).items()}
    theirs = no_moments(3)
    for n in sizes:
        x = 1e6 + random.normal(size=(n, 3))
        x[random.random(x.shape) < missing] = np.nan
        ours, theirs = merged_by_torch(ours, torch.from_numpy(x)), merged(theirs, x)
    for name, values in theirs.items():
        assert np.allclose(ours[name].numpy(), values, rtol=1e-12, atol=1e-12)


def test_a_night_in_memory_is_cut_into_blocks() -> None:
    """However large the batches that a caller has, a block is never larger than what is shuffled at a time."""
    rows = Rows([numbered(2 * BLOCK_ROWS + 7)])
    assert [len(block) for block in rows.chunks()] == [BLOCK_ROWS, BLOCK_ROWS, 7]
    orders = list(rows.orders(seed=0))
    found = concat(in_memory(block).take(order) for block, order in orders)
    assert np.array_equal(np.sort(found.y), np.arange(len(rows)))

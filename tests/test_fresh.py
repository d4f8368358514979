from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightfit.batch import Batch, Rows
from nightfit.config import ModelConfig
from nightfit.fresh import against_fresh, is_due
from nightfit.learners.base import KINDS, MlpConfig
from nightfit.model import Model
from nightfit.schema import Schema
from pipe import CONFIG, Pipe, make_rows

DEEP = CONFIG.replace("[models.linear]", "[models.deep]\n[models.linear]")


def rows_of(n: int, seed: int, *, flipped: bool = False) -> Rows:
    """Make rows whose class is mostly the sign of their first number, or (flipped) its opposite."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 3))
    y = ((x[:, 0] + 0.5 * random.normal(size=n)) > 0) ^ flipped
    keys = random.integers(0, 2**63, n).astype(np.uint64)
    return Rows([Batch(keys, x, np.zeros((n, 0), np.int32), y.astype(np.int64))])


def model_of(kind: str = "mlp") -> Model:
    """Return a model of three numbers and two classes."""
    model = Model.fresh(kind, KINDS[kind]())
    model.grow(Schema().with_columns({f"x{i}": "numeric" for i in range(3)}).with_classes(["a", "b"]))
    return model


def compared(warm: Model, learned: Rows, held_out: Rows, **options: Any) -> Any:  # noqa: ANN401 - JSON
    """Compare with a fresh model of the same kind."""
    config = ModelConfig(warm.kind, KINDS[warm.kind]())
    return against_fresh(warm, learned, held_out, config, **{"device": "cpu", "seed": 1, "min_rows": 200, **options})


def test_it_is_due_every_so_many_nights_that_learned() -> None:
    """Every third of the nights that learned something, and never with 0 or after a night without rows."""
    before, after = model_of("partial_fit"), model_of("partial_fit")
    due = []
    for n in range(1, 10):
        before.n_nights, after.n_nights = n - 1, n
        due += [n] if is_due(3, before, after) else []
        assert not is_due(0, before, after)
    assert due == [3, 6, 9]
    before.n_nights, after.n_nights = 0, 1
    assert not is_due(1, before, after), "the first is a fresh one itself"
    assert not is_due(3, after, after)


def test_harm_from_starting_warm_shows() -> None:
    """A warm model that learned the opposite for long is found worse than a fresh one, with the figures."""
    warm = model_of()
    for night in range(3):
        warm.learn(rows_of(2000, night, flipped=True), seed=night)
    keys = np.concatenate([block.key_hash for night in range(3) for block in rows_of(2000, night).chunks()])
    warm.forget(keys)  # nothing of it is left in the memory
    tonight = rows_of(600, 9)
    warm.learn(tonight, seed=9)
    found = compared(warm, tonight, rows_of(500, 10))
    assert found["difference"]["high"] < 0
    assert found["rows"] == 600, "tonight's rows lie in the memory too, and are learned once"
    assert found["verdict"].startswith("fresh is better, a fresh model of 600 rows has log loss -")
    assert found["verdict"].endswith("on 500 held-out rows")


def test_memory_pays() -> None:
    """A warm model of many nights beats one that starts with what the memory holds of them, if that is little."""
    config = ModelConfig("mlp", MlpConfig(memory_rows=100))
    warm = Model.fresh("mlp", config.learner)
    warm.grow(model_of().schema)
    for night in range(8):
        warm.learn(rows_of(1000, night), seed=night)
    tonight = rows_of(50, 98)
    warm.learn(tonight, seed=98)
    found: Any = against_fresh(warm, tonight, rows_of(2000, 99), config, device="cpu", seed=0, min_rows=200)
    assert found["difference"]["low"] > 0
    assert found["verdict"].startswith("warm is better")
    assert found["rows"] <= 150


def test_it_is_skipped_where_it_says_nothing() -> None:
    """A learner without replay memory has nothing to start from, few held-out rows are no evidence: both are said."""
    linear, deep = model_of("partial_fit"), model_of()
    for model in (linear, deep):
        model.learn(rows_of(300, 0), seed=0)
    assert "no rows for replay" in compared(linear, rows_of(300, 0), rows_of(300, 1))["verdict"]
    few = compared(deep, rows_of(300, 0), rows_of(199, 1))
    assert few == {"verdict": "not enough evidence, 199 held-out rows of the 200 needed"}


def test_the_warm_one_is_left_alone() -> None:
    """Comparing changes no bit of the candidate."""
    warm = model_of()
    warm.learn(rows_of(300, 0), seed=0)
    before = {name: a.copy() for arrays in warm.state()[1].values() for name, a in arrays.items()}
    compared(warm, rows_of(300, 0), rows_of(300, 1))
    after = {name: a for arrays in warm.state()[1].values() for name, a in arrays.items()}
    assert all(np.array_equal(before[name], after[name], equal_nan=name == "x_num") for name in before)


@pytest.mark.parametrize("every", [2, 0])
def test_nights_record_it(tmp_path: Path, every: int) -> None:
    """Every so many accepted nights the record says which was better; it is told while it runs, and never served."""
    pipe, told = Pipe(tmp_path, DEEP.replace("[[", f"fresh_every = {every}\n[[")), list[str]()
    plain = Pipe(tmp_path / "plain", DEEP.replace("[[", "fresh_every = 0\n[["))
    plain.root.mkdir()
    for night in range(3):
        for p in (pipe, plain):
            p.append(make_rows(1000, start=1000 * night))
        pipe.nights(progress=told.append)
        plain.nights()
    records: list[Any] = [pipe.lineage("deep").manifest(v).night.get("fresh") for v in (1, 2, 3)]
    assert [bool(record) for record in records] == [False, every == 2, False]
    assert ("deep: training a fresh one, to compare" in told) is (every == 2)
    assert pipe.weights(name="deep") == plain.weights(name="deep")
    if every:
        assert records[1]["difference"]["n"] > 150
        assert "better" in records[1]["verdict"]
        linear: Any = pipe.lineage("linear").manifest(2).night["fresh"]
        assert linear["verdict"].startswith("skipped")

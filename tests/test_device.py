from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from nightfit import device
from nightfit.device import choose
from nightfit.errors import ConfigError
from nightfit.learners.base import MlpConfig
from nightfit.learners.deep import DeepLearner
from nightfit.testing import model_of, random_night, saved_and_loaded, schema_of


@pytest.mark.parametrize(
    ("there", "wanted", "name"),
    [
        ((0, False), "auto", "cpu"),
        ((0, True), "auto", "mps"),
        ((1, False), "auto", "cuda:0"),
        ((2, True), "auto", "cuda:0"),
        ((2, True), "cpu", "cpu"),
        ((2, False), "cuda", "cuda:0"),
        ((2, False), "cuda:1", "cuda:1"),
        ((0, True), "mps", "mps"),
    ],
)
def test_a_device_that_is_there_is_chosen(
    monkeypatch: pytest.MonkeyPatch, there: tuple[int, bool], wanted: str, name: str
) -> None:
    """Names become torch's own; auto takes CUDA, then Metal, then the processor, and says why."""
    monkeypatch.setattr(device, "available", lambda: there)
    chosen = choose(wanted)
    assert chosen.name == name
    assert str(torch.device(chosen.name)) == name
    assert chosen.reason.startswith("auto: ") == (wanted == "auto")


@pytest.mark.parametrize(
    ("wanted", "fact"),
    [
        ("cuda", "torch finds 0"),
        ("cuda:3", "torch finds 0"),
        ("cuda:99999999999999999999", "torch finds 0"),
        ("mps", "torch finds none"),
    ],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, wanted: str, fact: str) -> None:
    """A night that asked for a GPU never runs on the processor silently: the error says what to do."""
    monkeypatch.setattr(device, "available", lambda: (0, False))
    with pytest.raises(ConfigError, match=f"{fact}.*use --device cpu or auto"):
        choose(wanted)


@pytest.mark.parametrize(
    "wanted", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:01", "cuda:\u0661", "cuda:0\n", "cpu:0"]
)
def test_a_name_that_is_none_is_refused(wanted: str) -> None:
    """What is no device's name is named in the error."""
    with pytest.raises(ConfigError, match="must be auto, cpu, cuda, cuda:N or mps, however"):
        choose(wanted)


def test_what_torch_finds_is_what_counts() -> None:
    """The machine's own answer agrees with torch's."""
    n_cuda, has_mps = device.available()
    assert (n_cuda > 0) == torch.cuda.is_available()
    assert has_mps == torch.backends.mps.is_available()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device on this machine")
def test_a_checkpoint_moves_between_processor_and_gpu() -> None:
    """What was learned on a GPU predicts the same on the processor, learns on there, and the other way round."""
    schema = schema_of(3, 2, n_categories=4, n_classes=3)
    rows = random_night(schema, 300, 0)
    model = model_of(partial(DeepLearner, MlpConfig(), device="cuda"))
    model.grow(schema)
    for name in ("cpu", "cuda"):
        model.learn(rows, seed=0)
        before = model.predict_rows(rows)
        model = saved_and_loaded(model, partial(DeepLearner, MlpConfig(), device=name))
        assert np.abs(model.predict_rows(rows) - before).max() < 1e-4

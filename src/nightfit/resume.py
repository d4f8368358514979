"""Where a night goes on: the model of a version, on any device, with what a lineage keeps held against the config."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nightfit.checkpoint import DRIFT, Manifest, unpack
from nightfit.drift import Drift
from nightfit.errors import ConfigError
from nightfit.model import Model
from nightfit.schema import Schema

if TYPE_CHECKING:
    from nightfit.config import Config, ModelConfig
    from nightfit.schema import Task
    from nightfit.standing import Standing


def head_or_fresh(config: Config, standing: Standing, task: Task, device: str) -> Model:
    """Return the head's model, or a fresh one: the first night is not special.

    Nor is one after nights without any target, from which a wrong task was guessed.
    """
    wanted, head = config.models[standing.name], standing.head
    if head is not None and task_of(head) == task:
        return continued(config, head, standing.files, device)
    model = Model.fresh(wanted.kind, wanted.learner, task=task, device=device, seed=config.seed)
    model.learner.state()  # what cannot be kept is told before it learns
    if head is not None:  # its columns are those of rows that wait
        columns = Schema.from_json(head.state["schema"])  # type: ignore[arg-type]
        model.grow(replace(columns, task=task, classes=()))
    return model


def last_drift(standing: Standing) -> Drift:
    """Return what the head remembers of how rows were distributed; nothing before the first night."""
    if standing.head is None:
        return Drift()
    return Drift.load(standing.head.state["drift"], unpack(standing.files[DRIFT], name=DRIFT))  # type: ignore[arg-type]


def continued(config: Config, manifest: Manifest, files: dict[str, bytes], device: str) -> Model:
    """Return a version's model.

    Raises `ConfigError` if the config now has another target or key, or other kinds of columns.
    """
    rules, data = config.rules, data_of(manifest)
    for what, was, now in (("target", data["target"], rules.target), ("key", data["key"], list(rules.key))):
        if was != now:
            raise ConfigError(
                f"a lineage keeps its {what}, however it is {now!r} now and was {was!r} in version "
                f"{manifest.version} of {manifest.model}; set it back, or give the model or the pipeline a new name"
            )
    model = load_model(manifest, files, config.models[manifest.model], device=device, seed=config.seed)
    for column in model.schema.numeric:
        if column.name in rules.schema.categorical:
            raise ConfigError(
                f"a lineage keeps its kinds, however schema.categorical names '{column.name}', which "
                f"{manifest.model} knows as {column.kind}; take it out, or give the model a new name"
            )
    return model


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
    there = {name: files.get(f"{name}.safetensors") for name in ("model", "learning", "memory")}
    arrays = {name: unpack(data, name=f"{name}.safetensors {of}") for name, data in there.items() if data is not None}
    return Model.load(manifest.state, arrays, wanted.learner, device=device, seed=seed)


def data_of(manifest: Manifest) -> dict[str, Any]:
    """Return what a lineage holds on to of its data: target, key, and the columns that each source delivers."""
    data = manifest.state["data"]
    assert isinstance(data, dict)
    return data


def task_of(manifest: Manifest) -> Task:
    """Return what a version predicts: classes, or a quantity."""
    schema: Any = manifest.state["schema"]
    task: Task = schema["task"]
    return task

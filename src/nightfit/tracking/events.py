"""Events for TensorBoard: every figure of every version, a run for each model."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nightfit.atomic import whole_file
from nightfit.errors import ConfigError
from nightfit.tracking.run import metrics

if TYPE_CHECKING:
    from nightfit.checkpoint import Manifest

FILE = "events.out.tfevents.nightfit"
"""TensorBoard reads what has "tfevents" in its name, and of several files of a run the last one alone."""

FORMAT = "brain.Event:2"
"""What TensorBoard expects the first event of a file to say."""


def write_events(manifests: Iterable[Manifest], folder: Path) -> Path:
    """Write a model's versions as a run, in the place of what was written before; return its file.

    A figure is a scalar whose step is the version and whose time is when it was committed.

    Raises `ConfigError` where TensorBoard is not installed, `DataError` where the file cannot be written.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--tensorboard needs TensorBoard, however {error.name} is not installed; pip install "
            "'nightfit[tensorboard]'"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / FILE) as file:
        record = RecordWriter(file)
        record.write(Event(file_version=FORMAT).SerializeToString())
        for manifest in manifests:
            figures = [
                Summary.Value(tag=name.replace(".", "/", 1), simple_value=value)
                for name, value in metrics(manifest).items()
            ]
            at = datetime.fromisoformat(manifest.created_at).timestamp()
            event = Event(wall_time=at, step=manifest.version, summary=Summary(value=figures))
            record.write(event.SerializeToString())
        record.flush()
    return folder / FILE

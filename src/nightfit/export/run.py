"""What `nightfit export` does: build the graph of a version, hold it against the scorer, and only then write it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from nightfit.atomic import whole_file
from nightfit.checkpoint import MEMORY, WEIGHTS
from nightfit.errors import ConfigError
from nightfit.version import find_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from nightfit.schema import SchemaConfig
    from nightfit.store import Lineage

FORMAT = "onnx"


@dataclass(frozen=True)
class Exported:
    """What was written, and how it was found to answer as nightfit does."""

    output: Path
    model: str
    model_version: int
    bytes: int
    rows_checked: int
    max_difference: float


def export(
    lineage: Lineage,
    number: int | None,
    config: SchemaConfig,
    output: Path | None,
    on_broken: Callable[[int, str], None],
) -> Exported:
    """Write a version (the head, if no number is given) as one ONNX graph.

    Without an output it is PIPELINE-MODEL-VERSION.onnx in the present folder. Raises `ConfigError` where onnx or
    onnxruntime is not installed, `DataError` for a version that cannot be a graph, for a graph that does not answer
    as nightfit does (nothing is written then), and for an output that cannot be written.
    """
    _check_installed()
    from nightfit.export.check import check
    from nightfit.export.model import onnx_model

    erased = number is not None and lineage.was("erased", number)
    wanted = {WEIGHTS} if erased else {WEIGHTS, MEMORY}
    manifest, files = find_version(lineage, number, wanted.__contains__, on_broken)
    graph = onnx_model(manifest, files, config).SerializeToString()
    agreement = check(graph, manifest, files, config)
    path = output or Path(f"{manifest.pipeline}-{manifest.model}-{manifest.version}.{FORMAT}")
    with whole_file(path) as file:
        file.write(graph)
    return Exported(path, manifest.model, manifest.version, len(graph), agreement.rows, agreement.difference)


def _check_installed() -> None:
    for name in ("onnx", "onnxruntime"):
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"exporting needs onnx and onnxruntime, however {error.name} is not installed; "
                "pip install 'nightfit[onnx]'"
            ) from None

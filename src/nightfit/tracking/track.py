"""Log every version of a night in MLflow, once; what goes wrong is a warning, as the night itself is committed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightfit.errors import ConfigError, NightfitError
from nightfit.sources.base import from_environment
from nightfit.store import Store
from nightfit.tracking.run import identity, metrics, params, tags

if TYPE_CHECKING:
    from nightfit.checkpoint import Manifest
    from nightfit.config import Config
    from nightfit.nightly import NightResult
    from nightfit.store import Lineage

MODEL = "model"
"""The folder of a run's artifacts that holds the model."""

_MANNERS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
"""Unless the environment says otherwise MLflow is not waited for, sends nothing elsewhere, and is silent."""


def track(config: Config, rounds: Iterable[Sequence[NightResult]]) -> Iterator[str]:
    """Log what nights have committed, and the newest version where a run died before it was; yield what went wrong."""
    if not config.mlflow.uri:
        return
    numbers: dict[str, set[int]] = {}
    for result in (result for results in rounds for result in results):
        numbers.setdefault(result.model, set()).update({result.version} - {None})  # type: ignore[arg-type]
    try:
        tracker = Tracker.of(config)
        for model, versions in numbers.items():
            lineage = Store(config.store).pipeline(config.name).lineage(model)
            newest = lineage.newest()
            for number in sorted(versions | ({newest.version} if newest else set())):
                tracker.log(lineage, lineage.manifest(number))
    except NightfitError as error:
        yield f"{error}; this changes nothing about the night"
    except Exception as error:  # noqa: BLE001 - MLflow raises what its stores raise, and the night is committed
        yield (
            f"MLflow must take what it is told, however it did not ({type(error).__name__}); the next night tells it "
            "again; this changes nothing about the night"
        )


@dataclass(frozen=True)
class Tracker:
    """An experiment of an MLflow, and the config whose versions go there."""

    config: Config
    client: Any
    experiment: str

    @classmethod
    def of(cls, config: Config) -> Tracker:
        """Find the experiment, or make it; raises `ConfigError` where MLflow is not installed."""
        for name, value in _MANNERS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"[mlflow] needs MLflow, however {error.name} is not installed; pip install 'nightfit[mlflow]'"
            ) from None
        uri = from_environment(config.mlflow.uri, "mlflow.uri")
        client, name = MlflowClient(tracking_uri=uri), config.mlflow.experiment or config.name
        found = client.get_experiment_by_name(name)
        place = str(config.root / config.mlflow.artifacts) if config.mlflow.artifacts else None
        return cls(config, client, found.experiment_id if found else client.create_experiment(name, place))

    def log(self, lineage: Lineage, manifest: Manifest) -> None:
        """Log a version, unless a whole run of it is there."""
        wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in identity(manifest).items())
        if self.client.search_runs([self.experiment], f"{wanted} and attributes.status = 'FINISHED'", max_results=1):
            return
        run = self.client.create_run(
            self.experiment, tags=tags(manifest), run_name=f"{manifest.model}-{manifest.version}"
        )
        try:
            self._fill(run.info.run_id, lineage, manifest)
        except BaseException:
            self.client.set_terminated(run.info.run_id, "FAILED")
            raise
        self.client.set_terminated(run.info.run_id)

    def _fill(self, run: str, lineage: Lineage, manifest: Manifest) -> None:
        for name, text in params(manifest, self.config.seed, str(self.config.store)).items():
            self.client.log_param(run, name, text)
        for name, value in metrics(manifest).items():
            self.client.log_metric(run, name, value)
        if manifest.status == "accepted" and self.config.mlflow.models:
            self._log_model(run, lineage, manifest)

    def _log_model(self, run: str, lineage: Lineage, manifest: Manifest) -> None:
        """Log the version's graph as MLflow's ONNX flavour; of models that have no graph a tag says so."""
        from nightfit.export.run import export
        from nightfit.version import has_graph

        if not has_graph(manifest):
            self.client.set_tag(run, "nightfit.no_model", "its learner has no graph: see nightfit export")
            return
        with tempfile.TemporaryDirectory() as folder:
            graph = Path(folder) / "graph.onnx"
            try:
                export(lineage, manifest.version, self.config.rules.schema, graph, lambda *_: None)
            except NightfitError as error:
                self.client.set_tag(run, "nightfit.no_model", str(error))
                return
            import mlflow.onnx
            import onnx

            mlflow.onnx.save_model(
                onnx.load(graph), str(Path(folder) / MODEL), pip_requirements=["onnx", "onnxruntime"]
            )
            self.client.log_artifacts(run, str(Path(folder) / MODEL), MODEL)

"""The `[mlflow]` table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MlflowConfig:
    """Where every version is logged as a run."""

    uri: str = ""
    """MLflow's tracking uri: a server's, or `sqlite:////path/to/mlflow.db`; empty: nothing is logged. `${NAME}` is
    taken from the environment. Example: `"https://${MLFLOW_HOST}"`."""
    experiment: str = ""
    """The experiment's name; empty: the pipeline's. Example: `"bookings-nightly"`."""
    artifacts: str = ""
    """Where an experiment that is made here keeps its models; empty: where MLflow does. Example: `"mlflow-models"`."""
    models: bool = True
    """Whether accepted versions are logged as models, where onnx is installed."""

    def __post_init__(self) -> None:
        if (self.experiment or self.artifacts) and not self.uri:
            raise ValueError("experiment and artifacts go with a uri, however there is none; set uri")

"""Versions logged elsewhere, by figures of their manifests: as runs in MLflow, as events for TensorBoard."""

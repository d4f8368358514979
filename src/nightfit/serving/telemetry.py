"""What a server tells its operators: Prometheus metrics, and one JSON line for each thing that happens."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from nightfit.checkpoint import Manifest
from nightfit.serving.served import Served

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds. Most answers take well under the first."""

_FATES = ("learned", "held_out", "rejected", "duplicate", "excluded")


def log(event: str, **more: object) -> None:
    """Write one line of JSON to standard error: the time (UTC), what happened, and its particulars.

    A full disk or a reader that has gone costs the line, and no answer.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    with suppress(OSError):
        os.write(2, (json.dumps({"time": now, "event": event, **more}, default=str) + "\n").encode())


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = cache(self._counter("http_requests", "Requests answered.", "route", "method", "status").labels)
        seconds = Histogram(
            "nightfit_http_request_duration_seconds", "From the request's head to its answer.", ["route"],
            buckets=_BUCKETS, registry=self._registry,
        )  # fmt: skip
        self._seconds = cache(seconds.labels)
        self.in_flight = Gauge("nightfit_http_requests_in_flight", "Requests being answered.", registry=self._registry)
        self._predictions = cache(self._counter("predictions", "Rows predicted.", "model", "model_version").labels)
        self.info = self._gauge("model_info", "The version in service.", "model", "version", "sha256")
        self.loaded = self._gauge("model_loaded_timestamp_seconds", "When it was loaded.", "model")
        self.created = self._gauge("model_created_timestamp_seconds", "When it was committed.", "model")
        self.reloads = self._counter("model_reloads", "Versions loaded, or found wanting.", "model", "result")
        self.trained = self._gauge("train_last_success_timestamp_seconds", "The last night's commit.", "model")
        self.rows = self._counter("train_rows", "Rows of nights since the server started.", "model", "result")
        self.decisions = self._counter("gate_decisions", "Verdicts since the server started.", "model", "decision")

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"nightfit_{name}", about, labels, registry=self._registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"nightfit_{name}", about, labels, registry=self._registry)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests(route, method, str(status)).inc()
        self._seconds(route).observe(seconds)

    def predicted(self, served: Served, n_rows: int) -> None:
        """Count predicted rows."""
        self._predictions(served.model, str(served.number)).inc(n_rows)

    def swap(self, old: Served | None, new: Served) -> None:
        """Tell that a version went into service."""
        if old is not None:
            self.info.remove(old.model, str(old.number), old.digest)
        self.info.labels(new.model, str(new.number), new.digest).set(1)
        self.loaded.labels(new.model).set(time.time())
        self.created.labels(new.model).set(new.created_at)
        self.reloads.labels(new.model, "success").inc()

    def night(self, manifest: Manifest) -> None:
        """Tell of an entry that was committed while the server ran."""
        self.decisions.labels(manifest.model, manifest.status).inc()
        if manifest.status == "accepted":
            self.trained.labels(manifest.model).set(datetime.fromisoformat(manifest.created_at).timestamp())
            for fate in _FATES:
                self.rows.labels(manifest.model, fate).inc(getattr(manifest.rows, fate))

"""Telling others what came of a night: a webhook, and a file for Prometheus' node_exporter."""

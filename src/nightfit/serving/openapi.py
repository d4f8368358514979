"""The API's description (OpenAPI 3.1), made for the columns and classes that are in service."""

from __future__ import annotations

from typing import Any, TypeAlias

from nightfit import __version__
from nightfit.schema import Column
from nightfit.serving.features import MAX_ROWS, Features
from nightfit.serving.served import Served
from nightfit.values import LIMIT

Schema: TypeAlias = dict[str, Any]

_NUMBER: Schema = {"type": ["number", "null"], "minimum": -LIMIT, "maximum": LIMIT}
_KINDS: dict[str, Schema] = {
    "numeric": _NUMBER,
    "categorical": {"type": ["string", "number", "boolean", "null"]},
    "boolean": {"enum": [True, False, 1, 0, None]},
    "datetime": {"anyOf": [{"type": "string", "format": "date-time"}, _NUMBER]},
}
_ABOUT = {
    "numeric": "a number, null if missing",
    "categorical": "a category; one that was never seen is legal",
    "boolean": "true, false, or null if missing",
    "datetime": "a time (ISO 8601, UTC if it names no zone), or seconds since 1970; null if missing",
}


def describe(served: Served | None, models: list[str], *, needs_token: bool) -> Schema:
    """Return the description; without a version in service that of the probes alone."""
    paths: Schema = {path: {"get": _probe(about, path)} for path, about in _PROBES.items()}
    if served is not None:
        for path, operation in _posts(served).items():
            paths[path] = {"post": operation}
        paths["/predict/{model}"]["parameters"] = [_path_parameter(models)]
        paths["/v2/models/{model}/infer"]["parameters"] = [_path_parameter([served.model])]
    security = {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}} if needs_token else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "nightfit", "version": __version__, "description": _title(served)},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR, "MlflowError": _MLFLOW_ERROR}, **security},
        **({"security": [{"bearer": []}]} if needs_token else {}),
    }


def _title(served: Served | None) -> str:
    if served is None:
        return "No version is in service yet."
    return f"Predictions of the newest good version; {served.model} is the default model."


def _posts(served: Served) -> dict[str, Schema]:
    """Describe what answers rows."""
    features, records = served.features, _record(served.features)
    row = _row(features)
    one_or_many = {"anyOf": [row, records, _many(row), _many(records)]}
    native = _object({"features": one_or_many})
    answer = _answer(served)
    forms = [
        _object({"dataframe_records": _many(records)}),
        _object({"instances": {"anyOf": [_many(row), _many(records)]}}),
        _object({"inputs": {"anyOf": [_many(row), _many(records)]}}),
        _object({"dataframe_split": _object({"columns": {"const": features.names}, "data": _many(row)}, ["data"])}),
    ]
    return {
        "/predict": _post("Predict with the default model", native, answer),
        "/predict/{model}": _post("Predict with a model", native, answer),
        "/invocations": _post(
            "MLflow's scoring protocol", {"anyOf": forms}, _object({"predictions": {"type": "array"}}), "MlflowError"
        ),
        "/v2/models/{model}/infer": _post(
            "Open Inference Protocol v2: one tensor a column, here of one row", _tensors(features), _INFERENCE
        ),
    }


def _record(features: Features) -> Schema:
    properties = {column.name: _value(column, features) for column in features.columns}
    ignored: Schema = {name: {} for name in sorted(features.ignored - properties.keys())}
    return _object(properties | ignored, required=features.needed)


def _row(features: Features) -> Schema:
    n = len(features.columns)
    return {
        "type": "array", "prefixItems": [_value(c, features) for c in features.columns],
        "minItems": features.n_least, "maxItems": n, "items": False, "title": ", ".join(features.names),
    }  # fmt: skip


def _value(column: Column, features: Features) -> Schema:
    kind = _KINDS[column.kind]
    if column.kind == "datetime":  # text, and so whatever text means "missing"
        kind = {"anyOf": [*kind["anyOf"], {"enum": sorted(features.missing)}]}
    return {**kind, "title": column.name, "description": _ABOUT[column.kind]}


def _many(item: Schema) -> Schema:
    return {"type": "array", "items": item, "minItems": 1, "maxItems": MAX_ROWS}


def _tensors(features: Features) -> Schema:
    tensors = []
    for column in features.columns:
        datatype = {"categorical": "BYTES", "boolean": "BOOL"}.get(column.kind, "FP64")
        kinds: dict[str, Schema] = {"BYTES": {"type": ["string", "null"]}, "BOOL": {"enum": [True, False, None]}}
        value = kinds.get(datatype, _NUMBER)
        one = {"type": "array", "minItems": 1, "maxItems": 1, "items": value}
        fixed = {"name": column.name, "shape": [1], "datatype": datatype}
        properties = {name: {"const": what} for name, what in fixed.items()} | {"data": one}
        tensors.append(_object(properties) | {"additionalProperties": True})
    inputs = {
        "type": "array", "prefixItems": tensors, "items": False,
        "minItems": max(features.n_least, 1), "maxItems": len(tensors),
    }  # fmt: skip
    asked = _object({"inputs": inputs, "id": {"type": ["string", "null"]}}, ["inputs"])
    return asked | {"additionalProperties": True}


def _answer(served: Served) -> Schema:
    schema: Schema = {
        "prediction": {"type": "array", "items": {"type": "number"}},
        "model": {"type": "string"},
        "model_version": {"type": "integer"},
    }
    if served.schema.classes:
        classes = list(served.schema.classes)
        schema["prediction"] = {"type": "array", "items": {"enum": classes}}
        schema["classes"] = {"const": classes}
        schema["probability"] = {"type": "array", "items": {"type": "array", "items": _PROBABILITY}}
    return _object(schema)


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    required = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_ERROR: Schema = _object({"error": {"type": "string"}, "request_id": {"type": "string"}})
_MLFLOW_ERROR: Schema = _object(
    {"error_code": {"const": "BAD_REQUEST"}, "message": {"type": "string"}, "request_id": {"type": "string"}}
)
_INFERENCE: Schema = _object(
    {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": {"type": "object"}},
    },
    required=["model_name", "model_version", "outputs"],
)
_STATUSES = {
    "400": "no JSON, or no such host",
    "401": "no valid token",
    "404": "no such model or version",
    "405": "another method",
    "408": "the body came too slowly",
    "413": "too many bytes or rows",
    "415": "another content type",
    "422": "values that cannot be used",
    "503": "no version in service, or too many requests at once",
}
_PROBES = {
    "/v2/health/live": "The process answers",
    "/v2/health/ready": "Every model has a version in service",
    "/ping": "MLflow's probe",
    "/health": "MLflow's probe",
    "/version": "nightfit's version",
    "/v2": "About the server",
    "/metrics": "Prometheus metrics",
}
_NOT_JSON = {"/version", "/metrics"}


def _probe(about: str, path: str) -> Schema:
    kind = "text/plain" if path in _NOT_JSON else "application/json"
    return {
        "summary": about,
        "responses": {"200": {"description": "so it is", "content": {kind: {}}}, **_errors("Error")},
    }


def _post(about: str, body: Schema, answer: Schema, error: str = "Error") -> Schema:
    return {
        "summary": about,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "the answers", "content": {"application/json": {"schema": answer}}},
            **_errors(error),
        },
    }


def _errors(name: str) -> Schema:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {status: {"description": about, "content": content} for status, about in _STATUSES.items()}


def _path_parameter(models: list[str]) -> Schema:
    return {"name": "model", "in": "path", "required": True, "schema": {"enum": models}}

"""MLflow's scoring protocol: `/invocations` with its four JSON forms and CSV, answered by `{"predictions": [...]}`."""

from __future__ import annotations

import csv
import io
from typing import Any

from nightfit.serving.answers import Answers
from nightfit.serving.errors import RequestError, unusable
from nightfit.serving.features import Inputs
from nightfit.serving.http import Reply, to_json
from nightfit.serving.native import parse_json, rows
from nightfit.serving.served import Served

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def decode(body: bytes, served: Served) -> Inputs:
    """Read exactly one of the four forms; `params` have no meaning here. Raises `RequestError`."""
    document = parse_json(body)
    if not isinstance(document, dict):
        raise unusable(f"the body must be an object with one of {', '.join(FORMS)}", "it is no object")
    forms = [name for name in document if name != "params"]
    if len(forms) != 1 or forms[0] not in FORMS:
        has = ", ".join(map(repr, forms))[:200] or "nothing"
        raise unusable(f"the body must be an object with exactly one of {', '.join(FORMS)}", f"it has {has}")
    value = document[forms[0]]
    if forms[0] == "dataframe_split":
        return _split(value, served)
    if forms[0] == "inputs" and isinstance(value, dict):
        return _columns(value, served)
    return rows(value, served)


def _split(value: Any, served: Served) -> Inputs:  # noqa: ANN401 - what JSON holds
    rule = "dataframe_split must hold a list of columns and a list of rows as long"
    if not isinstance(value, dict) or not {"data"} <= value.keys() <= {"columns", "data", "index"}:
        raise unusable(rule, "it holds something else")
    names, data = value.get("columns", served.features.names), value["data"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise unusable(rule, "columns are no list of different names")
    if not isinstance(data, list) or any(not isinstance(row, list) or len(row) != len(names) for row in data):
        raise unusable(rule, f"not every row is a list of {len(names)} values")
    return served.features.by_column(dict(zip(names, _transposed(data, len(names)), strict=True)))


def _columns(value: dict[str, Any], served: Served) -> Inputs:
    if not all(isinstance(values, list) for values in value.values()):
        if any(isinstance(values, list) for values in value.values()):
            raise unusable("inputs must hold a list of values for every column, or one value", "they are mixed")
        value = {name: [one] for name, one in value.items()}
    return served.features.by_column(value)


def decode_csv(body: bytes, served: Served) -> Inputs:
    """Read CSV with a header; raises `RequestError`."""
    try:
        table = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise RequestError(400, f"the body must be CSV in UTF-8, however: {error}") from None
    table = [row for row in table if row]
    if not table or len(set(table[0])) < len(table[0]):
        raise unusable("CSV must start with a header of different names", "it does not")
    for i, row in enumerate(table[1:]):
        if len(row) != len(table[0]):
            raise unusable(f"every record must have {len(table[0])} values", f"record {i} has {len(row)}")
    names = table[0]
    return served.features.by_column(dict(zip(names, _transposed(table[1:], len(names)), strict=True)), are_texts=True)


def _transposed(rows: list[list[Any]], n: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(n)]


def encode(answers: Answers) -> Reply:
    """Write the answers."""
    return to_json({"predictions": answers.predictions})


def encode_error(error: RequestError) -> dict[str, object]:
    """Say what is wrong as MLflow does."""
    return {"error_code": "BAD_REQUEST", "message": error.message}

"""The Open Inference Protocol, version 2, over REST: metadata, and inference on tensors in JSON, or in bytes after it.

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

from nightfit import __version__
from nightfit.serving import binary
from nightfit.serving.answers import Answers
from nightfit.serving.errors import unusable
from nightfit.serving.features import Inputs
from nightfit.serving.http import Reply
from nightfit.serving.native import parse_json
from nightfit.serving.served import Served

_INTEGERS = {f"{sign}INT{bits}": (sign, bits) for sign in ("", "U") for bits in (8, 16, 32, 64)}
_FLOATS = ("FP16", "FP32", "FP64")
_NUMBERS = {int, float, type(None)}
_ONE_TENSOR = "features"


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


class Asked(msgspec.Struct):
    """What an inference request wants besides rows: its id, the outputs by name (None: all), those in bytes."""

    id: str | None = None
    outputs: list[str] | None = None
    binary: frozenset[str] = frozenset()


def server_metadata() -> dict[str, Any]:
    """Describe the server."""
    return {"name": "nightfit", "version": __version__, "extensions": [binary.EXTENSION]}


def metadata(served: Served) -> dict[str, Any]:
    """Describe a model: one tensor of all columns where they are numbers, one a column otherwise."""
    columns = served.features.columns
    if served.features.is_numeric:
        inputs = [{"name": _ONE_TENSOR, "datatype": "FP64", "shape": [-1, len(columns)]}]
    else:
        words = {"categorical": "BYTES", "boolean": "BOOL", "datetime": "BYTES", "numeric": "FP64"}
        inputs = [{"name": c.name, "datatype": words[c.kind], "shape": [-1]} for c in columns]
    outputs = [{"name": "prediction", "datatype": "BYTES" if served.schema.classes else "FP64", "shape": [-1]}]
    if served.schema.classes:
        outputs.append({"name": "probability", "datatype": "FP64", "shape": [-1, len(served.schema.classes)]})
    return {
        "name": served.model, "versions": [str(served.number)], "platform": "nightfit",
        "inputs": inputs, "outputs": outputs,
    }  # fmt: skip


def decode(body: bytes, served: Served, json_bytes: bytes | None = None) -> tuple[Inputs, Asked]:
    """Read tensors: one [n, d] of any name, or one a column; `json_bytes` is the header of `binary`.

    Raises `RequestError`.
    """
    text, rest = binary.split(body, json_bytes)
    try:
        request = msgspec.convert(parse_json(text), _Request)
    except msgspec.ValidationError as error:
        raise unusable("the body must be an inference request", str(error)) from None
    _take_bytes(request.inputs, rest)
    return _inputs(request.inputs, served), _asked(request, served)


def _asked(request: _Request, served: Served) -> Asked:
    known = [output["name"] for output in metadata(served)["outputs"]]
    for output in request.outputs or ():
        if output.name not in known:
            raise unusable(f"outputs must be among {', '.join(known)}", f"'{output.name[:60]}' is not")
    if request.outputs is None:
        in_bytes = known if (request.parameters or {}).get("binary_data_output") is True else []
        return Asked(request.id, None, frozenset(in_bytes))
    in_bytes = [output.name for output in request.outputs if (output.parameters or {}).get("binary_data") is True]
    return Asked(request.id, [output.name for output in request.outputs], frozenset(in_bytes))


def _take_bytes(tensors: list[_Tensor], rest: bytes) -> None:
    """Give every tensor that has a size its part of the bytes after the JSON, and see that they are used up."""
    at = 0
    for tensor in tensors:
        n = (tensor.parameters or {}).get("binary_data_size")
        if n is not None:
            rule = f"binary_data_size of '{tensor.name[:60]}' must be what its data has after the JSON"
            if type(n) is not int or not 0 <= n <= len(rest) - at or tensor.data is not None:
                raise unusable(rule, f"it is {n!r:.60}, with {len(rest) - at} bytes left")
            _legal(tensor.datatype)
            tensor.data = binary.decode(tensor.name, tensor.datatype, rest[at : at + n])
            at += n
    if at < len(rest):
        raise unusable("all bytes after the JSON must belong to inputs", f"{len(rest) - at} are left over")


def _inputs(tensors: list[_Tensor], served: Served) -> Inputs:
    d, n_least = len(served.features.columns), served.features.n_least
    if len(tensors) == 1 and len(tensors[0].shape) == 2 and (d != 1 or tensors[0].name not in served.features.names):  # noqa: PLR2004
        tensor = tensors[0]
        width = tensor.shape[1]
        if not max(n_least, 1) <= width <= d:  # 0 would let a shape claim any number of rows
            raise unusable(f"a tensor of all columns must have the shape [n, {d}]", f"its shape is {_told(tensor)}")
        flat = _flat(tensor)
        rows = [flat[start : start + width] for start in range(0, len(flat), width)]
        if served.features.is_numeric and tensor.datatype not in {"BYTES", "BOOL"}:
            return served.features.numbers(rows)
        return served.features.lists(rows, are_texts=tensor.datatype == "BYTES")
    columns: dict[str, list[Any]] = {}
    for tensor in tensors:
        if tensor.name in columns:
            raise unusable("every input must be there once", f"'{tensor.name[:60]}' is there twice")
        if len(tensor.shape) not in {1, 2} or tensor.shape[1:] not in ([], [1]):
            raise unusable(
                f"inputs must be one tensor of shape [n, {d}], or one of shape [n] or [n, 1] for every column",
                f"'{tensor.name[:60]}' of {len(tensors)} has shape {_told(tensor)}",
            )
        columns[tensor.name] = _flat(tensor)
    if not columns:
        raise unusable("an inference request must have inputs", "it has none")
    return served.features.by_column(columns)


def _flat(tensor: _Tensor) -> list[Any]:
    """Return a tensor's values in row-major order, checked against its shape and datatype."""
    flat = tensor.data
    if flat is None:
        raise unusable("every input must have data", f"'{tensor.name[:60]}' has none")
    while list in (types := set(map(type, flat))):
        if len(types) > 1:
            raise unusable(f"data of '{tensor.name[:60]}' must be flat, or nested as its shape", "it is uneven")
        flat = [value for part in flat for value in part]
    if any(n < 0 for n in tensor.shape) or math.prod(tensor.shape) != len(flat):
        raise unusable(
            f"data of '{tensor.name[:60]}' must fill its shape {_told(tensor)}", f"it has {len(flat)} values"
        )
    if tensor.datatype in _FLOATS and types <= _NUMBERS:
        return flat
    legal = _legal(tensor.datatype)
    wrong = next((value for value in flat if value is not None and not legal(value)), None)
    if wrong is not None:
        raise unusable(f"data of '{tensor.name[:60]}' must be {tensor.datatype} or null", f"one is {wrong!r:.60}")
    return flat


def _told(tensor: _Tensor) -> str:
    return f"{tensor.shape[:5]!r:.60}"


def _legal(datatype: str) -> Callable[[Any], bool]:
    """Return what says whether a value is of a datatype; raises `RequestError` for one that the protocol has not."""
    if datatype == "BYTES":
        return lambda value: type(value) is str
    if datatype == "BOOL":
        return lambda value: type(value) is bool
    if datatype in _FLOATS:
        return lambda value: type(value) in {int, float}
    if datatype in _INTEGERS:
        sign, bits = _INTEGERS[datatype]
        low, high = (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return lambda value: type(value) is int and low <= value <= high
    names = ", ".join(["BOOL", *_INTEGERS, *_FLOATS, "BYTES"])
    raise unusable(f"a datatype must be one of {names}", f"one is '{datatype[:60]}'")


def encode(answers: Answers, asked: Asked) -> Reply:
    """Write the answers: as JSON, or with bytes after it where they were asked for."""
    outputs: list[dict[str, Any]] = [
        {"name": "prediction", "shape": [len(answers.predictions)], "datatype": "FP64", "data": answers.predictions}
    ]
    if answers.proba is not None:
        outputs[0]["datatype"] = "BYTES"
        shape, data = list(answers.proba.shape), answers.proba.ravel().tolist()
        outputs.append({"name": "probability", "shape": shape, "datatype": "FP64", "data": data})
    told: dict[str, Any] = {"model_name": answers.served.model, "model_version": str(answers.served.number)}
    if asked.id is not None:
        told["id"] = asked.id
    wanted = [output for output in outputs if asked.outputs is None or output["name"] in asked.outputs]
    parts = [_to_bytes(output) for output in wanted if output["name"] in asked.binary]
    text = msgspec.json.encode(told | {"outputs": wanted})
    if not parts:
        return Reply(200, text)
    headers = ((binary.JSON_BYTES, str(len(text)).encode()),)
    return Reply(200, b"".join([text, *parts]), binary.CONTENT_TYPE, headers)


def _to_bytes(output: dict[str, Any]) -> bytes:
    """Take an output's data out of the JSON, and return it as bytes."""
    data = binary.encode(output["datatype"], output.pop("data"))
    output["parameters"] = {"binary_data_size": len(data)}
    return data

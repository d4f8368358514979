from __future__ import annotations

import json
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from shop import ROW, Client, Reply

RECORDED = Path(__file__).parent / "clients"
VALUES = list(ROW.values())
NAMES = list(ROW)


def replay(client: Client, request: bytes) -> Reply:
    """Send bytes as they are, and read the answer."""
    with socket.create_connection(client.address, timeout=30) as s, s.makefile("rb") as answer:
        s.sendall(request)
        status = int(answer.readline().split()[1])
        headers = dict(line.decode().strip().lower().split(": ", 1) for line in iter(answer.readline, b"\r\n"))
        return Reply(status, headers, answer.read(int(headers["content-length"])))


def probabilities(client: Client, *rows: list[Any]) -> list[float]:
    """Ask for the native answer, flat."""
    found = client.post("/predict", {"features": list(rows)}).json["probability"]
    return [value for row in found for value in row]


def in_bytes(reply: Reply) -> tuple[dict[str, Any], list[str], list[float]]:
    """Take an answer in bytes apart: its JSON, the predictions, and the probabilities."""
    assert reply.headers["content-type"] == "application/octet-stream"
    n = int(reply.headers["inference-header-content-length"])
    told, rest = json.loads(reply.body[:n]), reply.body[n:]
    sizes = [output["parameters"]["binary_data_size"] for output in told["outputs"]]
    assert sum(sizes) == len(rest)
    texts, at = [], 0
    while at < sizes[0]:
        length = int.from_bytes(rest[at : at + 4], "little")
        texts.append(rest[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return told, texts, [value for (value,) in struct.iter_unpack("<d", rest[sizes[0] :])]


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("triton-binary", [None, "blue", None, False]),
        ("kserve-binary", [1.0, "blue", None, False]),
        ("triton-json", [1.0, "blue", None, False]),
        ("kserve-json", [1.0, "blue", None, False]),
    ],
)
def test_inference_clients_are_answered_as_they_come(server: Client, name: str, second: list[Any]) -> None:
    """What Triton's and KServe's own clients send, by default too, has the native answer in the form they read."""
    wanted = probabilities(server, VALUES, second)
    classes = server.post("/predict", {"features": [VALUES, second]}).json["prediction"]
    reply = replay(server, (RECORDED / f"{name}.http").read_bytes())
    assert reply.status == 200, reply
    if "binary" in name:
        told, texts, found = in_bytes(reply)
    else:
        told = reply.json
        texts, found = (output["data"] for output in told["outputs"])
    assert texts == classes
    assert found == wanted
    assert [output["shape"] for output in told["outputs"]] == [[2], [2, 2]]
    assert told.get("id") == ("9" if "kserve" in name else None)


def test_mlflow_s_client_is_answered_as_it_comes(server: Client) -> None:
    """A pandas table that MLflow's client sends has the native answer."""
    rows = [VALUES, [1.0, "blue", "2026-01-03", False]]
    reply = replay(server, (RECORDED / "mlflow.http").read_bytes())
    assert reply.json == {"predictions": server.post("/predict", {"features": rows}).json["prediction"]}


def binary(client: Client, tensors: list[dict[str, Any]], rest: bytes, json_bytes: str = "", **more: Any) -> Reply:  # noqa: ANN401
    """Ask with bytes after the JSON."""
    text = json.dumps({"inputs": tensors, **more}).encode()
    length = {"inference-header-content-length": json_bytes or str(len(text))}
    return client.ask("POST", "/v2/models/deep/infer", text + rest, content_type="application/octet-stream", **length)


def tensor(name: str, datatype: str, size: Any) -> dict[str, Any]:  # noqa: ANN401
    """Describe a tensor of one value whose data comes after the JSON."""
    return {"name": name, "shape": [1], "datatype": datatype, "parameters": {"binary_data_size": size}}


def test_one_output_may_come_in_bytes(server: Client) -> None:
    """Outputs are JSON or bytes one by one, as they are asked for, and the metadata names the extension."""
    assert server.ask("GET", "/v2").json["extensions"] == ["binary_tensor_data"]
    inputs = [
        tensor("price", "FP32", 4), tensor("fresh", "BOOL", 1),
        {"name": "colour", "shape": [1], "datatype": "BYTES", "data": ["red"]},
        {"name": "at", "shape": [1], "datatype": "BYTES", "data": ["2026-01-02 10:00"]},
    ]  # fmt: skip
    outputs = [{"name": "probability", "parameters": {"binary_data": True}}, {"name": "prediction"}]
    reply = binary(server, inputs, struct.pack("<f", 0.5) + b"\x01", outputs=outputs)
    told = json.loads(reply.body[: int(reply.headers["inference-header-content-length"])])
    assert told["outputs"][0]["data"] == server.post("/predict", {"features": VALUES}).json["prediction"]
    assert list(struct.unpack("<2d", reply.body[-16:])) == probabilities(server, VALUES)


PRICE, TEXT = tensor("price", "FP64", 8), tensor("colour", "BYTES", 8)


@pytest.mark.parametrize(
    ("tensors", "rest", "status", "says"),
    [
        ([PRICE], b"1234567", 422, "what its data has"),
        ([PRICE], b"123456789", 422, "1 are left over"),
        ([tensor("price", "FP64", -8)], b"", 422, "what its data has"),
        ([tensor("price", "FP64", True)], b"1", 422, "what its data has"),
        ([tensor("price", "FP64", "8")], b"12345678", 422, "what its data has"),
        ([PRICE | {"data": [1.0]}], b"12345678", 422, "what its data has"),
        ([PRICE | {"datatype": "BF16"}], b"12345678", 422, "a datatype must be"),
        ([tensor("price", "FP64", 7)], b"1234567", 422, "no whole number"),
        ([PRICE | {"shape": [2]}], b"12345678", 422, "fill its shape"),
        ([TEXT], b"\x05\0\0\0red!", 422, "cut off"),
        ([TEXT], b"\x01\0\0\0r\x01\0\0", 422, "lengths and texts"),
        ([TEXT], b"\x04\0\0\0\xff\xff\xff\xff", 422, "UTF-8"),
        ([tensor("fresh", "BOOL", 1)], b"\x02", 422, "0 or 1"),
        ([PRICE | {"parameters": None}], b"", 422, "must have data"),
        ([PRICE], struct.pack("<d", float("inf")), 422, "lacks"),
    ],
)
def test_bytes_that_make_no_sense_are_refused(
    server: Client, tensors: list[dict[str, Any]], rest: bytes, status: int, says: str
) -> None:
    """Sizes, shapes and texts are checked before anything is read from them."""
    reply = binary(server, tensors, rest)
    assert reply.status == status, reply
    assert says in reply.json["error"]


def test_infinity_in_bytes_is_refused(server: Client) -> None:
    """NaN is how an array says "missing"; infinity says nothing that a model has learned from."""
    rest = [{"name": n, "shape": [1], "datatype": "BYTES", "data": [None]} for n in NAMES[1:3]]
    fresh = {"name": "fresh", "shape": [1], "datatype": "BOOL", "data": [None]}
    reply = binary(server, [PRICE, *rest, fresh], struct.pack("<d", float("inf")))
    assert (reply.status, "up to 1e+100" in reply.json["error"]) == (422, True), reply
    reply = binary(server, [PRICE, *rest, fresh], struct.pack("<d", float("nan")))
    assert reply.status == 200


@pytest.mark.parametrize("length", ["-1", "x", "99999", "9" * 30, "1_0", "\u00b2"])
def test_a_length_of_json_that_is_none_is_refused(server: Client, length: str) -> None:
    """The header must be a number up to the body's length."""
    reply = binary(server, [PRICE], b"12345678", json_bytes=length)
    assert (reply.status, "must be the number of bytes" in reply.json["error"]) == (400, True), reply


def test_no_content_type_is_json_but_not_from_a_page(server: Client) -> None:
    """Triton's client names none; a page of another site could do so too, and names its origin."""
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "BYTES", "data": ["1", "red", "", ""]}]})
    assert server.ask("POST", "/v2/models/deep/infer", body.encode()).status == 200
    assert server.ask("POST", "/v2/models/deep/infer", body.encode(), origin="http://evil.example").status == 415
    assert server.ask("POST", "/v2/models/deep/infer", body.encode(), content_type="text/plain").status == 415
    assert server.ask("POST", "/predict", b"{}").status == 415

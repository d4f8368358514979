"""Tensors as bytes after the JSON: the Open Inference Protocol's extension that Triton's and KServe's clients use.

A tensor's values are little-endian, row-major and without padding; a text has its length (four bytes) before it.
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol/binary-tensor-data-extension
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from nightfit.serving.errors import RequestError, unusable

EXTENSION = "binary_tensor_data"
"""Its name in the server's metadata."""

JSON_BYTES = b"inference-header-content-length"
"""The header that says where the JSON ends; without it a body is JSON alone."""

CONTENT_TYPE = b"application/octet-stream"

_DTYPES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BOOL": "u1"} | {
    f"{sign}INT{8 * size}": f"<{kind}{size}" for sign, kind in (("", "i"), ("U", "u")) for size in (1, 2, 4, 8)
}


def split(body: bytes, json_bytes: bytes | None) -> tuple[bytes, bytes]:
    """Return a body's JSON and the bytes after it, by the header's value (None: all is JSON).

    Raises `RequestError` for a header that is no number up to the body's length.
    """
    if json_bytes is None:
        return body, b""
    if not (json_bytes.isdigit() and len(json_bytes) < 12 and int(json_bytes) <= len(body)):  # noqa: PLR2004 - digits
        rule = f"{JSON_BYTES.decode()} must be the number of bytes that JSON has of the body's {len(body):,}"
        raise RequestError(400, f"{rule}, however it is '{json_bytes[:20].decode('latin-1')}'")
    n = int(json_bytes)
    return body[:n], body[n:]


def decode(name: str, datatype: str, data: bytes) -> list[Any]:
    """Return a tensor's values; NaN, by which arrays of numbers say "missing", is None.

    Raises `RequestError` for bytes that are no such tensor; `datatype` is one of the protocol's.
    """
    if datatype == "BYTES":
        return _texts(name, data)
    dtype = np.dtype(_DTYPES[datatype])
    if len(data) % dtype.itemsize:
        raise unusable(f"binary data of '{name[:60]}' must be {datatype}", f"{len(data)} bytes are no whole number")
    values: list[Any] = np.frombuffer(data, dtype).tolist()
    if datatype == "BOOL":
        if not set(values) <= {0, 1}:
            raise unusable(f"binary data of '{name[:60]}' must be BOOL, bytes of 0 or 1", "one is another")
        return [value == 1 for value in values]
    return [value if value == value else None for value in values] if dtype.kind == "f" else values  # noqa: PLR0124 - NaN


def _texts(name: str, data: bytes) -> list[Any]:
    texts, at = [], 0
    try:
        while at < len(data):
            (n,) = struct.unpack_from("<I", data, at)
            at += 4 + n
            texts.append(data[at - n : at].decode())
    except (struct.error, UnicodeDecodeError) as error:
        raise unusable(f"binary data of '{name[:60]}' must be lengths and texts in UTF-8", str(error)) from None
    if at > len(data):
        raise unusable(f"binary data of '{name[:60]}' must be lengths and texts in UTF-8", "the last one is cut off")
    return texts


def encode(datatype: str, values: list[Any]) -> bytes:
    """Return a tensor's bytes."""
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.array(values, _DTYPES[datatype]).tobytes()

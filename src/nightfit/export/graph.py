"""Building a graph: nodes, constants and inputs, each under a name that a reader of the graph understands.

Only operators of ai.onnx 13 and ai.onnx.ml 2 are used, in a file of IR version 7: onnxruntime has run these since 1.6
(December 2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nightfit.batch import Array

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OPSET, ML_OPSET, IR_VERSION = 13, 2, 7

ML = "ai.onnx.ml"
ROWS = "rows"
"""The name of the one dimension that is not fixed."""

Value: TypeAlias = str
"""The name of a tensor that a node makes."""

Argument: TypeAlias = Value | Array | np.generic | float


class Graph:
    """Nodes in order, and the constants and inputs that they read.

    What it names itself starts with a mark that none of the names of the inputs has.
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self._mark = "/"
        while any(name.startswith(self._mark) for name in reserved):
            self._mark += "/"
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    @property
    def first_input(self) -> Value:
        """An input, whose shape tells the number of rows."""
        return str(self._inputs[0].name)

    def input(self, name: str, dtype: type, doc: str) -> Value:
        """Declare an input of one column, [n, 1]."""
        self._inputs.append(_info(name, dtype, 1, doc))
        return name

    def output(self, value: Value, name: str, dtype: type, width: int, doc: str) -> None:
        """Give a value, [n, width], out under a name."""
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"{self._mark}{name}"))
        self._outputs.append(_info(name, dtype, width, doc))

    def __call__(self, op: str, *arguments: Argument, name: str, domain: str = "", **options: Any) -> Value:  # noqa: ANN401 - an operator's
        """Add a node, and return the value that it makes; arrays and numbers (float64) become constants."""
        from onnx import helper

        made = f"{self._mark}{name}"
        given = [
            argument if isinstance(argument, str) else self._constant(np.asarray(argument), f"{made}.{i}")
            for i, argument in enumerate(arguments)
        ]
        self._nodes.append(helper.make_node(op, given, [made], name=made, domain=domain, **options))
        return made

    def side_by_side(self, values: Sequence[Value], *, name: str, axis: int = 1) -> Value:
        """Join values along an axis; a single one stays as it is."""
        return values[0] if len(values) == 1 else self("Concat", *values, name=name, axis=axis)

    def columns(self, value: Value, index: Array, width: int, *, name: str) -> Value:
        """Return the columns (int64 [m]) of a value [n, width], in that order."""
        if np.array_equal(index, np.arange(width)):
            return value
        return self("Gather", value, index.astype(np.int64), name=name, axis=1)

    def rows_of(self, row: Array, *, name: str) -> Value:
        """Repeat one row [1, w] for each row that comes in."""
        return self("Expand", row, self("Shape", self.first_input, name=f"{name}.shape"), name=name)

    def cast(self, value: Value, dtype: type, *, name: str) -> Value:
        """Convert a value."""
        return self("Cast", value, name=name, to=_type(dtype))

    def _constant(self, array: Array, name: str) -> Value:
        from onnx import numpy_helper

        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def model(self, *, name: str, version: int, producer_version: str, doc: str, about: Mapping[str, str]) -> Any:  # noqa: ANN401 - a ModelProto
        """Return the whole as a checked ModelProto; `about` becomes its metadata."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._constants)
        model = helper.make_model(
            graph,
            producer_name="nightfit",
            producer_version=producer_version,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)],
            model_version=version,
            doc_string=doc,
        )
        helper.set_model_props(model, dict(about))
        onnx.checker.check_model(model)
        return model


def _info(name: str, dtype: type, width: int, doc: str) -> Any:  # noqa: ANN401 - a ValueInfoProto
    from onnx import helper

    return helper.make_tensor_value_info(name, _type(dtype), [ROWS, width], doc_string=doc)


def _type(dtype: type) -> int:
    from onnx import TensorProto, helper

    return int(TensorProto.STRING if dtype is str else helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

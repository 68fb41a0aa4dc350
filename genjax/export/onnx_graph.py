"""A graph of ONNX operations that grows by one operation at a time; sizes may be symbolic."""

import ast
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Value = str | np.ndarray  # the name of a value in the graph, or an array that depends on weights alone
Size = Any  # an int, or a symbolic size of JAX, such as 4*h + 6

TYPES = {
    "float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int64": TensorProto.INT64, "bool": TensorProto.BOOL,
}  # fmt: skip
"""Types of ONNX for those of JAX."""

ARITHMETIC = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}


class Graph:
    """Nodes and constants, with the inputs of a program as its first values."""

    def __init__(self, inputs: dict[str, jax.ShapeDtypeStruct]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names: dict[tuple, str] = {}  # of constants
        self._sizes: dict[str, Value] = {}  # int64 [1], by their expression
        for name, aval in inputs.items():
            for axis, size in enumerate(aval.shape):
                # A symbolic size h is known from an input, of which an axis is h or a multiple of it.
                found = re.fullmatch(r"(?:(\d+)\*)?([a-z]+)", str(size))
                if found and found[2] not in self._sizes:
                    whole = self.add("Shape", name, start=axis, end=axis + 1)
                    self._sizes[found[2]] = self.add("Div", whole, np.array([int(found[1] or 1)]))

    def add(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Adds an operation with one output; returns the output's name."""
        return self.add_several(1, kind, *inputs, **attributes)[0]

    def add_several(self, num: int, kind: str, *inputs: Value, **attributes: Any) -> list[str]:
        """Adds an operation with `num` outputs; returns their names."""
        outputs = [f"{kind.lower()}_{len(self.nodes)}_{i}" for i in range(num)]
        self.nodes.append(helper.make_node(kind, [self.name(value) for value in inputs], outputs, **attributes))
        return outputs

    def name(self, value: Value) -> str:
        """Returns the name of a value; an array becomes a constant, and equal ones the same."""
        if isinstance(value, str):
            return value
        key = (str(value.dtype), value.shape, value.tobytes())
        if key not in self._names:
            self._names[key] = f"constant_{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(value, self._names[key]))
        return self._names[key]

    def shape(self, sizes: Sequence[Size]) -> Value:
        """Returns sizes as int64 [rank]."""
        if all(map(is_known, sizes)):
            return np.array(sizes, np.int64)
        return self.add("Concat", *map(self.size, sizes), axis=0)

    def size(self, size: Size) -> Value:
        """Returns a size as int64 [1]."""
        if str(size) not in self._sizes:
            # JAX writes sizes as expressions of Python, but for the sign of powers.
            self._sizes[str(size)] = self._evaluated(ast.parse(str(size).replace("^", "**"), mode="eval").body)
        return self._sizes[str(size)]

    def reshape(self, x: Value, sizes: Sequence[Size]) -> str:
        """Reshapes x; one symbolic size follows from the others."""
        if sum(not is_known(size) for size in sizes) == 1:
            sizes = [size if is_known(size) else -1 for size in sizes]
        return self.add("Reshape", x, self.shape(sizes))

    def _evaluated(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(int(value)):
                return np.array([value], np.int64)
            case ast.Name(name):
                return self._sizes[name]
            case ast.UnaryOp(ast.USub(), operand):
                return self.add("Neg", self._evaluated(operand))
            case ast.BinOp(left, operator, right) if type(operator) in ARITHMETIC:
                return self.add(ARITHMETIC[type(operator)], self._evaluated(left), self._evaluated(right))
        raise ValueError(f"ONNX: the size {ast.unparse(node)} is no sum of products")


def is_known(size: Size) -> bool:
    """Returns True for a number, False for a symbolic size."""
    return isinstance(size, int | np.integer)


def sizes_of(atom: Any) -> tuple[Size, ...]:
    """Returns the shape of a variable of a trace."""
    shape: tuple[Size, ...] = atom.aval.shape
    return shape

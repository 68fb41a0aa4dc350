"""ONNX: a program as JAX traces it, operation by operation, as a graph of ONNX operations.

So the networks are described once, in JAX, and whatever is built of the operations in onnx_operations.py can be
exported. Where a layer has several forms, the native one is taken. What depends on weights alone is computed here.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal
from onnx import helper

from genjax.export.onnx_graph import TYPES, Graph, Value, is_known, sizes_of
from genjax.export.onnx_operations import TABLE
from genjax.export.programs import Program
from genjax.files import Json

OPSET = 18
"""Version of ONNX's operations: the first in which all reductions take their axes as an input (December 2022)."""
IR_VERSION = 8  # of the file's format, which came with that opset


def serialized(program: Program, about: Json) -> bytes:
    """Returns the ONNX file of a program, with `about` in its metadata; ValueError for what ONNX cannot express."""
    traced = jax.jit(program.fn).trace(*program.inputs.values())
    graph = Graph(program.inputs)
    values = _converted(graph, traced.jaxpr, list(program.inputs))
    # An Identity names each output, also one that is an input or a constant.
    for name, value in zip(program.outputs, values, strict=True):
        graph.nodes.append(helper.make_node("Identity", [graph.name(value)], [name]))
    outputs = zip(program.outputs, traced.jaxpr.out_avals, strict=True)
    made = helper.make_graph(
        graph.nodes, "genjax", _declared(program.inputs.items()), _declared(outputs), graph.constants
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION, producer_name="genjax")
    helper.set_model_props(model, {"genjax": json.dumps(about)})
    onnx.checker.check_model(model, full_check=True)  # with all shapes inferred
    return bytes(model.SerializeToString(deterministic=True))


def _declared(arrays: Iterable[tuple[str, Any]]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(
            name, TYPES[str(array.dtype)], [d if is_known(d) else str(d) for d in array.shape]
        )
        for name, array in arrays
    ]


def _converted(graph: Graph, traced: ClosedJaxpr, inputs: Sequence[Value]) -> list[Value]:
    """Adds the operations of a trace to the graph; returns its outputs."""
    jaxpr = traced.jaxpr
    values: dict[Any, Value] = dict(zip(jaxpr.constvars, map(_wide, traced.consts), strict=True))
    values |= dict(zip(jaxpr.invars, inputs, strict=True))

    def value_of(atom: Any) -> Value:
        return _wide(atom.val) if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        outputs = _operation(graph, eqn, [value_of(atom) for atom in eqn.invars])
        values |= dict(zip(eqn.outvars, outputs, strict=True))
    return [value_of(atom) for atom in jaxpr.outvars]


def _operation(graph: Graph, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
    params, primitive = eqn.params, eqn.primitive
    if primitive.name == "platform_index":
        return [np.zeros((), np.int32)]  # not used: the branch is chosen here
    if "branches_platforms" in params:
        native = params["branches_platforms"].index(None)
        return _converted(graph, params["branches"][native], inputs[1:])
    if inner := params.get("jaxpr") or params.get("call_jaxpr"):
        return _converted(graph, inner, inputs)
    if primitive.name == "convert_element_type" and str(params["new_dtype"]) == "bfloat16":
        return inputs  # few runtimes compute in it: a graph is in float32, only its weights are rounded
    static = all(is_known(size) for var in eqn.outvars for size in sizes_of(var))
    known = static and all(isinstance(value, np.ndarray) for value in inputs)
    if known and primitive.name != "dim_as_value":  # a size that is symbolic has no inputs either
        found = primitive.bind(*inputs, **params)
        return [np.asarray(out) for out in (found if primitive.multiple_results else [found])]
    if primitive.name not in TABLE:
        raise ValueError(f"ONNX: there is no rule for {primitive.name}, an operation of JAX: see onnx_operations.py")
    outputs = TABLE[primitive.name](graph, eqn, *inputs)
    return list(outputs) if isinstance(outputs, list) else [outputs]


def _wide(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(np.float32) if str(array.dtype) == "bfloat16" else array

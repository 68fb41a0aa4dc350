"""JAX's primitives as operations of ONNX: a line in `TABLE` for each."""

from collections.abc import Callable

import numpy as np
from jax.extend.core import JaxprEqn

from genjax.checks import require
from genjax.export.onnx_graph import TYPES, Graph, Value, sizes_of

FIRST, LAST = np.iinfo(np.int64).min, np.iinfo(np.int64).max  # before the first element of an axis, after the last

Rule = Callable[..., str | list[str]]  # (graph, equation, *inputs) -> output or outputs


def _same(kind: str) -> Rule:
    """Makes the rule of a primitive that is an operation of the same inputs."""
    return lambda graph, eqn, *inputs: graph.add(kind, *inputs)


def _reduce(kind: str) -> Rule:
    return lambda graph, eqn, x: graph.add(kind, x, np.array(eqn.params["axes"], np.int64), keepdims=0)


def _broadcast(graph: Graph, eqn: JaxprEqn, x: Value) -> str:
    sizes = eqn.params["shape"]
    given = dict(zip(eqn.params["broadcast_dimensions"], sizes_of(eqn.invars[0]), strict=True))
    spread = [given.get(axis, 1) for axis in range(len(sizes))]  # 1 along new axes
    x = graph.reshape(x, spread)
    return x if list(map(str, spread)) == list(map(str, sizes)) else graph.add("Expand", x, graph.shape(sizes))


def _slice(graph: Graph, eqn: JaxprEqn, x: Value) -> str:
    starts, ends, steps = (eqn.params[name] for name in ("start_indices", "limit_indices", "strides"))
    axes = np.arange(len(starts))
    return graph.add("Slice", x, graph.shape(starts), graph.shape(ends), axes, np.array(steps or (1,) * len(axes)))


def _reverse(graph: Graph, eqn: JaxprEqn, x: Value) -> str:
    axes = np.array(eqn.params["dimensions"], np.int64)
    # From the last element to before the first, in steps of -1.
    return graph.add("Slice", x, *(np.full_like(axes, value) for value in (LAST, FIRST)), axes, np.full_like(axes, -1))


def _pad(graph: Graph, eqn: JaxprEqn, x: Value, filler: Value) -> str:
    before, after, between = zip(*eqn.params["padding_config"], strict=True)
    require(not any(between), "ONNX: zeros between elements are no padding")
    return graph.add("Pad", x, graph.shape([*before, *after]), filler)


def _split(graph: Graph, eqn: JaxprEqn, x: Value) -> list[str]:
    sizes = eqn.params["sizes"]
    return graph.add_several(len(sizes), "Split", x, graph.shape(sizes), axis=eqn.params["axis"])


def _gather(graph: Graph, eqn: JaxprEqn, x: Value, index: Value) -> str:
    """Cuts one window out at a known place: what indexing is, where other axes have symbolic sizes."""
    axes, sizes = eqn.params["dimension_numbers"].start_index_map, eqn.params["slice_sizes"]
    require(isinstance(index, np.ndarray) and index.shape == (len(axes),), "ONNX: only one window can be gathered")
    starts = np.asarray(index, np.int64)
    window = graph.add("Slice", x, starts, starts + [sizes[axis] for axis in axes], np.array(axes))
    return graph.reshape(window, sizes_of(eqn.outvars[0]))


def _concatenate(graph: Graph, eqn: JaxprEqn, *parts: Value) -> str:
    # onnxruntime does not broadcast empty arrays to a batch.
    held = [part for part, var in zip(parts, eqn.invars, strict=True) if 0 not in sizes_of(var)]
    return graph.add("Concat", *held, axis=eqn.params["dimension"])


def _stack(graph: Graph, eqn: JaxprEqn, *parts: Value) -> str:
    axis, sizes = eqn.params["axis"], list(sizes_of(eqn.outvars[0]))
    sizes[axis] = 1
    return graph.add("Concat", *(graph.reshape(part, sizes) for part in parts), axis=axis)


def _product(graph: Graph, eqn: JaxprEqn, a: Value, b: Value) -> str:
    (sums_a, sums_b), (batch_a, batch_b) = eqn.params["dimension_numbers"]
    ranks = [len(sizes_of(var)) for var in eqn.invars]
    # The last axis of a meets the first of a matrix b: a plain product.
    if (sums_a, sums_b, batch_a, ranks[1]) == ((ranks[0] - 1,), (0,), (), 2):
        return graph.add("MatMul", a, b)
    letters = [list("abcdefgh"[: ranks[0]]), list("mnopqrst"[: ranks[1]])]
    # Axes that meet, in batches or in sums, share a letter.
    for i, j in zip((*batch_a, *sums_a), (*batch_b, *sums_b), strict=True):
        letters[1][j] = letters[0][i]
    free = [[letter for i, letter in enumerate(each) if i not in used]
            for each, used in zip(letters, ({*sums_a, *batch_a}, {*sums_b, *batch_b}), strict=True)]  # fmt: skip
    output = [*(letters[0][i] for i in batch_a), *free[0], *free[1]]
    return graph.add("Einsum", a, b, equation=f"{''.join(letters[0])},{''.join(letters[1])}->{''.join(output)}")


def _convolve(graph: Graph, eqn: JaxprEqn, x: Value, kernel: Value) -> str:
    """Convolves in NCHW; zeros between the pixels of x make it a transposed convolution."""
    params, (x_axes, kernel_axes, out_axes) = eqn.params, eqn.params["dimension_numbers"]
    require(isinstance(kernel, np.ndarray), "ONNX: the kernel of a convolution must be known")
    weights, groups = np.transpose(kernel, kernel_axes), params["feature_group_count"]
    size, pads = np.array(weights.shape[2:]), np.array(params["padding"], np.int64)
    x, up = graph.add("Transpose", x, perm=x_axes), params["lhs_dilation"]
    if all(step == 1 for step in up):
        y = graph.add("Conv", x, weights, strides=params["window_strides"], pads=pads.T.reshape(-1),
                      dilations=params["rhs_dilation"], group=groups)  # fmt: skip
    else:
        plain = all(step == 1 for step in (*params["window_strides"], *params["rhs_dilation"], groups))
        # JAX says how far the input is padded, ONNX how much of the full output is cut off.
        pads = size[:, None] - 1 - pads
        require(plain and pads.min() >= 0, "ONNX: no such transposed convolution")
        # ONNX describes it as the gradient of a convolution: taps flipped, inputs before outputs.
        turned = np.flip(weights, tuple(range(2, weights.ndim))).swapaxes(0, 1)
        y = graph.add("ConvTranspose", x, turned, strides=up, pads=pads.T.reshape(-1))
    return graph.add("Transpose", y, perm=np.argsort(out_axes))


TABLE: dict[str, Rule] = {
    **{name: _same(kind) for name, kind in {
        "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "neg": "Neg", "max": "Max", "min": "Min",
        "pow": "Pow", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "abs": "Abs", "sign": "Sign", "tanh": "Tanh",
        "logistic": "Sigmoid", "asinh": "Asinh", "erf": "Erf", "eq": "Equal", "lt": "Less", "le": "LessOrEqual",
        "gt": "Greater", "ge": "GreaterOrEqual", "and": "And", "or": "Or", "not": "Not", "copy": "Identity",
        "stop_gradient": "Identity",
    }.items()},
    "square": lambda graph, eqn, x: graph.add("Mul", x, x),
    "rsqrt": lambda graph, eqn, x: graph.add("Reciprocal", graph.add("Sqrt", x)),
    "integer_pow": lambda graph, eqn, x: graph.add("Pow", x, np.array(eqn.params["y"], np.float32)),
    "ne": lambda graph, eqn, a, b: graph.add("Not", graph.add("Equal", a, b)),
    "clamp": lambda graph, eqn, low, x, high: graph.add("Min", graph.add("Max", x, low), high),
    "select_n": lambda graph, eqn, which, no, yes: graph.add("Where", which, yes, no),
    "convert_element_type": lambda graph, eqn, x: graph.add("Cast", x, to=TYPES[str(eqn.params["new_dtype"])]),
    "dim_as_value": lambda graph, eqn: graph.add(
        "Cast", graph.add("Squeeze", graph.size(eqn.params["dim"])), to=TYPES["int32"]
    ),
    **{name: lambda graph, eqn, x: graph.reshape(x, sizes_of(eqn.outvars[0]))
       for name in ("reshape", "squeeze", "expand_dims")},
    "broadcast_in_dim": _broadcast,
    "transpose": lambda graph, eqn, x: graph.add("Transpose", x, perm=eqn.params["permutation"]),
    "concatenate": _concatenate,
    "stack": _stack,
    "slice": _slice,
    "rev": _reverse,
    "pad": _pad,
    "split": _split,
    "gather": _gather,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "dot_general": _product,
    "conv_general_dilated": _convolve,
}  # fmt: skip
"""Rules by the name of the primitive."""

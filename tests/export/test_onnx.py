"""ONNX files of all networks: onnxruntime computes what genjax does, for any number and size of images."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exportable import GENERATORS, VAES, make_sampler, make_translator
from genjax.export import onnx_file, programs
from genjax.export.onnx_graph import TYPES
from genjax.export.programs import Program

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

SIZES = [{"n": 1, "h": 2, "w": 5}, {"n": 3, "h": 4, "w": 3}, {"n": 3, "h": 7, "w": 2}]


def difference(program, sizes=SIZES, seed=0):
    """The largest difference between the outputs of onnxruntime and of JAX, as a share of outputs above 1."""
    session, rng = onnxruntime.InferenceSession(onnx_file.serialized(program, {})), np.random.default_rng(seed)
    worst, compiled = 0.0, jax.jit(program.fn)
    for each in sizes:
        shapes = [[eval(str(size), each) for size in aval.shape] for aval in program.inputs.values()]
        inputs = [rng.random(shape, np.float32) for shape in shapes]
        ours = jax.tree.leaves(compiled(*inputs))
        theirs = session.run(list(program.outputs), dict(zip(program.inputs, inputs, strict=True)))
        for a, b in zip(ours, theirs, strict=True):
            assert a.shape == b.shape
            worst = max(worst, float(np.abs(a - b).max() / max(1, np.abs(b).max())))
    return worst


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
def test_serialized_translates_at_three_sizes(name):
    found = programs.of_model(make_translator(name))
    assert list(found) == ["a2b", "b2a"] and difference(found["a2b"]) < 1e-5


LONG = ("ladder", "spatial", "wavelet")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in VAES])
def test_serialized_encodes_and_decodes_batches(name):
    found = programs.of_model(make_sampler(name))
    for program in ("encode", "decode"):
        assert difference(found[program], [{"n": 1}, {"n": 3}]) < 1e-5


def test_serialized_computes_a_bfloat16_run_in_float32():
    """With the weights that the run rounds: in bfloat16 maps are rounded too, to three digits."""
    program = programs.of_model(make_translator("resnet", precision="bfloat16"))["a2b"]
    assert 1e-5 < difference(program, SIZES[:1]) < 0.01
    model = onnx.load_from_string(onnx_file.serialized(program, {}))
    assert {each.data_type for each in model.graph.initializer} <= set(TYPES.values())


def test_serialized_states_opset_sizes_and_metadata():
    program = programs.of_model(make_translator("resnet"))["a2b"]
    model = onnx.load_from_string(onnx_file.serialized(program, {"step": 7}))
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    (given,) = model.graph.input
    assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["n", "4*h", "4*w", 3]
    assert json.loads(model.metadata_props[0].value) == {"step": 7}
    assert onnx_file.serialized(program, {"step": 7}) == model.SerializeToString(deterministic=True)


def test_serialized_takes_products_slices_and_selections():
    """What no network above uses in this form."""
    (n,) = jax.export.symbolic_shape("n")

    def fn(x):
        y = jax.lax.slice_in_dim(jnp.flip(jnp.einsum("nab,ncb->nca", x, x), 1), 1, 3, axis=2)
        return jnp.where(y > 1, jnp.max(y, axis=2, keepdims=True), jnp.clip(y, 0.5, 0.75)) ** 3

    program = Program(fn, {"x": jax.ShapeDtypeStruct((n, 3, 4), jnp.float32)}, ("y",))
    assert difference(program, [{"n": 2}, {"n": 5}]) < 1e-5


def test_serialized_names_an_operation_without_a_rule():
    program = Program(jnp.cumsum, {"x": jax.ShapeDtypeStruct((3,), jnp.float32)}, ("y",))
    with pytest.raises(ValueError, match="no rule for cumsum, an operation of JAX: see onnx_operations.py"):
        onnx_file.serialized(program, {})

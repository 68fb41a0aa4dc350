"""StableHLO files in a process that has jax alone: the pictures of genjax, for any number and size."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from exportable import make_sampler, make_translator
from genjax.export import programs, stablehlo

pytest.importorskip("flatbuffers")
pytestmark = pytest.mark.process

ALONE = """
import pathlib, sys, jax, numpy as np
folder, outputs = sys.argv[1], {}
with np.load(f"{folder}/inputs.npz") as file:
    calls = dict(file)
for name in calls["calls"]:
    program, call = name.split("-")
    exported = jax.export.deserialize(bytearray(pathlib.Path(folder, f"{program}.stablehlo").read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    found = exported.call(*(calls[f"{name}-{i}"] for i in range(len(exported.in_avals))))
    outputs |= {f"{name}-{i}": np.asarray(each) for i, each in enumerate(jax.tree.leaves(found))}
assert not [name for name in sys.modules if name.split(".")[0] in ("genjax", "flax")]
np.savez(f"{folder}/outputs.npz", **outputs)
"""


def computed_alone(folder, found, calls):
    """Computes each `PROGRAM-CALL` of `calls` in a process without genjax; returns lists of outputs."""
    for name in {call.split("-")[0] for call in calls}:
        (folder / f"{name}.stablehlo").write_bytes(stablehlo.serialized(found[name]))
    inputs = {f"{name}-{i}": value for name, values in calls.items() for i, value in enumerate(values)}
    np.savez(folder / "inputs.npz", calls=list(calls), **inputs)
    (folder / "alone.py").write_text(ALONE)
    # -P, and a folder of its own: genjax is not on the path unless it is installed, and then it is not imported.
    command = [sys.executable, "-P", "-W", "ignore", folder / "alone.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(folder / "outputs.npz") as outputs:
        return {name: [outputs[key] for key in outputs if key.startswith(f"{name}-")] for name in calls}


def test_serialized_translates_without_genjax(tmp_path):
    model, rng = make_translator("resnet"), np.random.default_rng(0)
    images = {name: rng.random(shape, np.float32) for name, shape in (
        ("a2b-1", (1, 8, 20, 3)), ("a2b-2", (3, 24, 16, 3)), ("b2a-1", (2, 16, 16, 1)))}  # fmt: skip
    found = computed_alone(tmp_path, programs.of_model(model), {name: (value,) for name, value in images.items()})
    for name, value in images.items():
        np.testing.assert_allclose(found[name][0], model.translate(name[:3], value), rtol=0, atol=1e-6)


def test_serialized_draws_the_images_of_the_sampler(tmp_path):
    sampler, rng = make_sampler("conv"), np.random.default_rng(0)
    levels = rng.integers(0, 256, (3, 8, 8, 1), np.uint8)
    images, e = (levels / 255).astype(np.float32), rng.normal(size=(4, 4)).astype(np.float32)
    seed, position = np.int32(3), np.array([7, 0, 2], np.int32)
    found = computed_alone(tmp_path, programs.of_model(sampler), {
        "prior-1": (seed, position, np.float32(0.7)), "prior-2": (seed, position[:1], np.float32(0.7)),
        "reconstruct-1": (seed, position, levels), "encode-1": (images,), "decode-1": (e,),
    })  # fmt: skip
    expected = {
        "prior-1": [sampler.prior(3, position, 0.7)], "prior-2": [sampler.prior(3, position[:1], 0.7)],
        "reconstruct-1": [sampler.reconstruct(3, position, levels)], "encode-1": list(sampler.encode(levels)),
        "decode-1": [sampler.decode(e)],
    }  # fmt: skip
    for name, outputs in expected.items():
        for output, each in zip(found[name], outputs, strict=True):
            np.testing.assert_allclose(output, each, rtol=0, atol=1e-6)


def test_described_names_sizes():
    sampler = programs.of_model(make_sampler("mlp"))
    assert json.loads(json.dumps(sampler["prior"].described())) == {
        "inputs": {"seed": "int32[]", "position": "int32[n]", "temperature": "float32[]"},
        "outputs": {"images": "float32[n, 8, 8, 1]"},
    }
    unet = programs.of_model(make_translator("unet"))["a2b"].described()
    assert unet == {
        "inputs": {"images": "float32[n, 8*h, 8*w, 3]"},
        "outputs": {"translated": "float32[n, 8*h, 8*w, 1]"},
    }


def test_of_model_leaves_out_a_generator_that_is_not_there():
    model = make_translator("resnet")
    params = {**model.params, "b2a": jax.tree.map(lambda leaf: leaf * np.nan, model.params["b2a"])}
    assert list(programs.of_model(dataclasses.replace(model, params=params))) == ["a2b"]

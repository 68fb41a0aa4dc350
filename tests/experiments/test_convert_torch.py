"""Generators of CycleGAN's PyTorch implementation as runs, and back: the same pictures."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import convert_torch
from genjax import cut, cyclegan, keys
from genjax.train import config_file, starts
from tiny import tiny_cut
from untrained import write_checkpoint

torch = pytest.importorskip("torch", reason="PyTorch is needed: pip install -e '.[torch]'")

from torch_originals import Resnet, Unet, assert_same_pictures, images_of, made, saved, translator_of  # noqa: E402

pytestmark = pytest.mark.slow

OLD = {"_use_new_zipfile_serialization": False}
FILES = {
    "zip": {},
    "old, of several GPUs, with dead buffers": {"prefix": "module.", "buffers": True, **OLD},
    "half precision": {"dtype": torch.float16},
}


@pytest.mark.parametrize("name", FILES)
def test_to_genjax_keeps_the_pictures(tmp_path, name):
    network = made(Resnet(3, 1))
    dtype = FILES[name].get("dtype", torch.float32)
    path = saved(network, tmp_path / "latest_net_G.pth", **FILES[name])
    results = convert_torch.to_genjax(str(tmp_path / "run"), a2b=path)
    assert results["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    network.to(dtype).float()  # the numbers that the file can hold
    assert_same_pictures(translator_of(tmp_path / "run").a2b(images_of(3)), network, images_of(3))


NETWORKS = {
    "resnet with dropout": (lambda a, b: Resnet(a, b, 8, 1, dropout=True), (16, 16)),
    "unet": (lambda a, b: Unet(a, b, 6), (64, 64)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_to_torch_is_inverse_of_to_genjax(tmp_path, name):
    make, size = NETWORKS[name]
    networks = {"a2b": made(make(3, 1), 1), "b2a": made(make(1, 3), 2)}
    paths = {direction: saved(network, tmp_path / f"{direction}.pth") for direction, network in networks.items()}
    convert_torch.to_genjax(str(tmp_path / "run"), **paths, image_size=size)
    translator = translator_of(tmp_path / "run")
    assert (translator.config.data.channels, translator.config.data.image_size, translator.step) == ((3, 1), size, 0)
    for direction, network in networks.items():
        images = images_of(3 if direction == "a2b" else 1, size)
        assert_same_pictures(getattr(translator, direction)(images), network, images)

    results = convert_torch.to_torch(str(tmp_path / "run"), str(tmp_path / "back"))
    assert results["files"] == "latest_net_G_A.pth latest_net_G_B.pth"
    for letter, network in zip("AB", networks.values(), strict=True):
        state = torch.load(tmp_path / "back" / f"latest_net_G_{letter}.pth", weights_only=True)
        again = torch.load(paths["a2b" if letter == "A" else "b2a"], weights_only=True)
        if "dropout" in name:  # which has no weights, and is off: what comes back is without
            state = {key.replace("conv_block.5.", "conv_block.6."): value for key, value in state.items()}
        assert state.keys() == again.keys() and all(torch.equal(state[key], again[key]) for key in state)
        network.load_state_dict(state, strict=True)


@pytest.fixture
def write_run(make_cyclegan):
    """A run of colour images with the given networks, of the step and state of a training of this code."""

    def write(**fields):
        config = make_cyclegan(data={"channels": (3, 3)}, cyclegan={"base_channels": 4, "num_blocks": 1, **fields})
        state = jax.jit(lambda: cyclegan.TASK.init(config, keys.root_key(0)))()
        state = state._replace(ema=jax.tree.map(lambda x: 10 * x + 0.1, state.ema))  # unlike those of the last step
        write_checkpoint(config, state, 7)
        return config.workdir

    return write


def test_to_torch_keeps_pictures_and_existing_files(write_run, tmp_path):
    run = write_run()
    assert convert_torch.to_torch(run, str(tmp_path / "out"))["step"] == 7
    network = Resnet(3, 3, 4, 1).eval()
    network.load_state_dict(torch.load(tmp_path / "out" / "latest_net_G_B.pth", weights_only=True), strict=True)
    assert_same_pictures(translator_of(run).b2a(images_of(3)), network, images_of(3))
    with pytest.raises(ValueError, match="latest_net_G_A.pth exists already: give another --out"):
        convert_torch.to_torch(run, str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("fields", "named"), [({"generator_norm": "layer"}, "norm layer,"), ({"norm_affine": True}, "instance with gains,")]
)
def test_to_torch_refuses_other_norms(write_run, tmp_path, fields, named):
    with pytest.raises(ValueError, match=f"{named} and the original's code reads plain instance normalisation"):
        convert_torch.to_torch(write_run(num_blocks=0, **fields), str(tmp_path / "out"))


def test_to_torch_refuses_the_residual_form(write_run, tmp_path):
    with pytest.raises(ValueError, match=r"x \+ T\(G\(x\)\) \(output residual\), and the original's code cannot"):
        convert_torch.to_torch(write_run(output="residual", num_blocks=0), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_generators_of_cut_come_and_go(tmp_path):
    """From a file of the public code into a training, and from a checkpoint to a file, with the same pictures."""
    network = made(Resnet(3, 3, 4, 1))
    config = tiny_cut(
        str(tmp_path / "run"), data={"channels": (3, 3)}, cut={"base_channels": 4},
        init_from=(saved(network, tmp_path / "latest_net_G.pth"),),
    )  # fmt: skip
    config, parts = starts.prepared(cut.TASK, config)
    assert parts.keys() == {"a2b"}
    begun = cut.TASK.starts.begin(jax.jit(lambda: cut.TASK.init(config, keys.root_key(0)))(), parts)
    write_checkpoint(config, begun, 7)
    assert convert_torch.to_torch(config.workdir, str(tmp_path / "out"))["files"] == "latest_net_G.pth"
    again = Resnet(3, 3, 4, 1).eval()
    again.load_state_dict(torch.load(tmp_path / "out" / "latest_net_G.pth", weights_only=True), strict=True)
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)
    assert_same_pictures(translator_of(config.workdir).a2b(images_of(3)), network, images_of(3))
    with pytest.raises(ValueError, match=r"--init-from \S+ \S+: give one file, and one key or none"):
        starts.prepared(cut.TASK, dataclasses.replace(config, init_from=("a.pth", "b.pth"), init_from_sha256=()))


def test_script_prints_one_json_line_or_names_pytorch(tmp_path):
    path = saved(made(Resnet(3, 3)), tmp_path / "latest_net_G_A.pth")

    def call(workdir, before):
        flags = ["to-genjax", "--a2b", path, "--workdir", workdir, "--image-size", 32, 64]
        command = [sys.executable, convert_torch.__file__, *map(str, flags)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(before), *sys.path])}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    done = call(tmp_path / "run", tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert (results["directions"], results["generator"]) == ("a2b", "resnet")
    assert config_file.load(tmp_path / "run").data.image_size == (32, 64)

    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "torch.py").write_text("raise ImportError('not installed')")
    done = call(tmp_path / "other", tmp_path / "without")
    assert done.returncode == 1 and "error: files of PyTorch need PyTorch: pip install" in done.stderr
    assert not (tmp_path / "other").exists()

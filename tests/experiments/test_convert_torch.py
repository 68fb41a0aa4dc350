"""Generators of CycleGAN's PyTorch implementation as runs, and back: the same pictures, or one clear error."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import convert_torch
import translate
from genjax import cut, cyclegan, files, keys, parallel
from genjax.data import sources
from genjax.data.splits import Splits
from genjax.loading import load_translator
from genjax.train import checkpoint, config_file, loop, run_directory, starts
from tiny import tiny_cut

torch = pytest.importorskip("torch", reason="PyTorch is needed: pip install -e '.[torch]'")

from torch import nn  # noqa: E402

import torch_cyclegan as reference  # noqa: E402

pytestmark = pytest.mark.slow

torch.set_num_threads(1)
SIZE = (16, 32)


@pytest.fixture(autouse=True)
def compiled_in_a_third_of_the_time():
    yield


# The original's networks: the layers of tests/torch_cyclegan.py, under the original's names.


class Block(nn.Module):
    def __init__(self, block, dropout):
        super().__init__()
        layers = list(block.body)
        self.conv_block = nn.Sequential(*layers[:4], *([nn.Dropout(0.5)] if dropout else []), *layers[4:])

    def forward(self, x):
        return x + self.conv_block(x)


class Resnet(nn.Module):
    def __init__(self, source, target, width=4, blocks=2, dropout=False):
        super().__init__()
        layers = list(reference.ResnetGenerator(source, target, width, blocks).body)
        layers = [Block(layer, dropout) if isinstance(layer, reference.ResnetBlock) else layer for layer in layers]
        self.model = nn.Sequential(*layers, nn.Tanh())

    def forward(self, x):
        return self.model(x)


class Level(nn.Module):
    """One level of the original's U-Net around what is below; the skip is what LeakyReLU, in place, makes of it."""

    def __init__(self, block):
        super().__init__()
        inner = [] if isinstance(block.submodule, nn.Identity) else [block.down_norm, Level(block.submodule)]
        self.model = nn.Sequential(
            nn.LeakyReLU(0.2, inplace=True), block.down, *inner, nn.ReLU(), block.up, block.up_norm
        )

    def forward(self, x):
        x = x.clone()
        below = self.model(x)
        return torch.cat([x, below], dim=1)


class Outermost(nn.Module):
    def __init__(self, unet):
        super().__init__()
        self.model = nn.Sequential(unet.down, Level(unet.submodule), nn.ReLU(), unet.up, nn.Tanh())

    def forward(self, x):
        return self.model(x)


class Unet(nn.Module):
    def __init__(self, source, target, depth=5, width=2):
        super().__init__()
        self.model = Outermost(reference.UnetGenerator(source, target, depth, width))

    def forward(self, x):
        return self.model(x)


def made(network, seed=0):
    """With weights large enough for every layer to matter."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.3, generator=generator)
    return network.eval()


def saved(network, path, prefix="", buffers=False, dtype=torch.float32, **options):
    """The path of a file as the original writes it."""
    state = OrderedDict((prefix + name, value.to(dtype)) for name, value in network.state_dict().items())
    if buffers:
        for name, module in network.named_modules():
            if isinstance(module, nn.InstanceNorm2d):
                state[f"{prefix}{name}.running_mean"] = torch.full((module.num_features,), 7.0)
                state[f"{prefix}{name}.running_var"] = torch.full((module.num_features,), 9.0)
                state[f"{prefix}{name}.num_batches_tracked"] = torch.tensor(266800)
    torch.save(state, path, **options)
    return str(path)


def pictures(network, images):
    """What the network makes of images [n, h, w, c] in [0, 1]."""
    with torch.no_grad():
        x = torch.tensor(np.moveaxis(2 * images - 1, -1, 1).copy())
        return (np.moveaxis(network(x).numpy(), 1, -1) + 1) / 2


def images_of(channels, size=SIZE, num=2):
    return np.random.default_rng(0).uniform(0, 1, (num, *size, channels)).astype(np.float32)


def translator_of(workdir):
    return load_translator(workdir, mesh=parallel.make_mesh(jax.devices()[:1]))


def assert_same_pictures(found, network, images, atol=1e-4):
    expected = pictures(network, images)
    assert expected.std() > 0.1 and np.abs(expected - images.mean(-1, keepdims=True)).max() > 0.3
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


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
        run = run_directory.Run(config, files.resolve(config.workdir), Splits((), (), ()), {}, {})
        run_directory.write(run, unfinished=True)
        with checkpoint.Saver(Path(config.workdir, "checkpoints"), config.train) as checkpoints:
            checkpoints.save(7, state, {}, None)
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
    run = run_directory.Run(config, files.resolve(config.workdir), Splits((), (), ()), {}, {})
    run_directory.write(run, unfinished=True)
    with checkpoint.Saver(Path(config.workdir, "checkpoints"), config.train) as checkpoints:
        checkpoints.save(7, begun, {}, None)
    assert convert_torch.to_torch(config.workdir, str(tmp_path / "out"))["files"] == "latest_net_G.pth"
    again = Resnet(3, 3, 4, 1).eval()
    again.load_state_dict(torch.load(tmp_path / "out" / "latest_net_G.pth", weights_only=True), strict=True)
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)
    assert_same_pictures(translator_of(config.workdir).a2b(images_of(3)), network, images_of(3))
    with pytest.raises(ValueError, match=r"--init-from \S+ \S+: give one file, and one key or none"):
        starts.prepared(cut.TASK, dataclasses.replace(config, init_from=("a.pth", "b.pth"), init_from_sha256=()))


# A run of one direction, which is for translation alone.


@pytest.fixture(scope="module")
def one_sided(tmp_path_factory):
    root = tmp_path_factory.mktemp("one-sided")
    path = saved(made(Resnet(3, 3)), root / "latest_net_G.pth")
    convert_torch.to_genjax(str(root / "run"), b2a=path)
    return root / "run"


def run_translate(monkeypatch, workdir, direction, root):
    Image.fromarray(np.uint8(255 * images_of(3)[0])).save(root / "in.png")
    arguments = ["--workdir", workdir, "--direction", direction, "--images", root / "in.png", "--out", root / "out.png"]
    monkeypatch.setattr(sys, "argv", ["translate.py", *map(str, arguments)])
    return translate.main()


def test_translate_refuses_the_direction_without_file(one_sided, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="has no generator a2b.*Convert again with --a2b FILE too"):
        run_translate(monkeypatch, one_sided, "a2b", tmp_path)
    assert not (tmp_path / "out.png").exists()
    assert run_translate(monkeypatch, one_sided, "b2a", tmp_path)["images"] == 1
    results = convert_torch.to_torch(str(one_sided), str(tmp_path / "back"))
    assert results["files"] == "latest_net_G_B.pth" == " ".join(os.listdir(tmp_path / "back"))


def test_to_genjax_records_file_and_sha256(one_sided):
    environment = json.loads((one_sided / "environment.json").read_text())
    sha256 = hashlib.sha256((one_sided.parent / "latest_net_G.pth").read_bytes()).hexdigest()
    assert environment["converted"] == {"b2a": {"file": "latest_net_G.pth", "sha256": sha256}}
    assert config_file.load(one_sided).data.source == "converted:latest_net_G.pth"


def test_fit_refuses_a_converted_run(one_sided, make_cyclegan):
    before = sorted(one_sided.rglob("*"))
    with pytest.raises(ValueError, match=r"another configuration:[\s\S]*data.source: converted:latest_net_G.pth -> "):
        loop.fit(cyclegan.TASK, make_cyclegan(str(one_sided)))
    with pytest.raises(ValueError, match="unknown data source 'converted:latest_net_G.pth'"):
        sources.load(config_file.load(one_sided).data, 0)
    assert sorted(one_sided.rglob("*")) == before
    # Nor could it unnoticed if there were images: all but the generators is NaN.
    init = lambda: cyclegan.TASK.init(config_file.load(one_sided), keys.root_key(0))  # noqa: E731
    abstract = parallel.abstract(parallel.make_mesh(), init)
    state = checkpoint.restore(one_sided / "checkpoints", 0, abstract).state
    weights = jax.tree.leaves((state.g_a2b, state.g_b2a, state.d_a, state.d_b, state.ema["a2b"]))
    assert all(np.isnan(leaf).all() for leaf in weights if leaf.ndim)


def test_to_genjax_cut_off_leaves_no_run(tmp_path, monkeypatch, make_cyclegan):
    path = saved(made(Resnet(1, 1)), tmp_path / "latest_net_G.pth")
    monkeypatch.setattr(run_directory, "write", lambda run, unfinished: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        convert_torch.to_genjax(str(tmp_path / "run"), a2b=path)
    for resume, said in [
        (lambda: translator_of(tmp_path / "run"), "holds no run"),
        (lambda: loop.fit(cyclegan.TASK, make_cyclegan()), "is not empty and holds no run"),
        (lambda: convert_torch.to_genjax(str(tmp_path / "run"), a2b=path), "exists already: give another --workdir"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=said):
            resume()


def test_to_genjax_overwrites_nothing(tmp_path):
    path = saved(made(Resnet(1, 1)), tmp_path / "G.pth")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    for taken in (tmp_path / "full", tmp_path / "G.pth"):
        with pytest.raises(ValueError, match="exists already: give another --workdir"):
            convert_torch.to_genjax(str(taken), a2b=path)
    assert os.listdir(tmp_path / "full") == ["note"]


# What is refused.


def norms_for(network, kind):
    """The network with other normalisations."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.InstanceNorm2d):
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, kind(module.num_features))
    return network


def without(network, *names):
    state = network.state_dict()
    return {name: value for name, value in state.items() if name not in names}


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = reference.PatchDiscriminator(3, 4)


def with_weight(network, name, value):
    network.get_parameter(name).data = value
    return network


def with_buffer(network, name):
    network.model[4].register_buffer(name, torch.zeros(1))
    return network


WRONG = {
    "a discriminator": (Discriminator, r"no generator \(a discriminator\?\).* not model.0.weight \[4, 3, 4, 4\]"),
    "blurs": (
        lambda: with_buffer(Resnet(3, 3), "filt"),
        r"has 1 layers that blur before they change the size \(model.4.filt \[1\]\), as CUT's generators have",
    ),
    "batch normalisation": (
        lambda: norms_for(Resnet(3, 3), nn.BatchNorm2d),
        r"has 9 normalisations with weights \(model.2.weight \[4\], .*and 6 more\), as batch normalisation",
    ),
    "batch normalisation and dropout": (lambda: norms_for(Unet(3, 3), nn.BatchNorm2d), "normalisations with weights"),
    "kernels of another size": (
        lambda: with_weight(Resnet(3, 3), "model.4.weight", torch.zeros(8, 4, 5, 5)),
        r"ResNet of 2 blocks, base_channels 4, .* seems: model.4.weight is \(8, 4, 5, 5\) instead of \(8, 4, 3, 3\)",
    ),
    "another width within": (
        lambda: with_weight(Unet(3, 3), "model.model.1.model.1.weight", torch.zeros(8, 2, 4, 4)),
        r"U-Net of 5 downsamplings, .* that it seems: model.model.1.model.1.weight is \(8, 2, 4, 4\) instead of \(4, 2",
    ),
    "another end": (
        lambda: nn.ModuleDict({"model": Resnet(3, 3).model[:12]}),
        "begins as a generator but has no model.19.bias",
    ),
    "a weight that is not finite": (
        lambda: with_weight(Resnet(3, 3), "model.1.bias", torch.full((4,), torch.inf)),
        r"not finite in float32: model.1.bias \[4\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_to_genjax_refuses_other_networks(tmp_path, name):
    make, said = WRONG[name]
    path = tmp_path / "G.pth"
    torch.save(make().state_dict(), path)
    with pytest.raises(ValueError, match=said):
        convert_torch.to_genjax(str(tmp_path / "run"), a2b=str(path))
    assert not (tmp_path / "run").exists()


def test_to_genjax_names_absent_and_unknown_weights(tmp_path):
    state = {**without(Resnet(3, 3), "model.11.conv_block.5.bias"), "model.7.odd": torch.zeros(4, 1, 3, 3)}
    torch.save(state, tmp_path / "G.pth")
    missing, unknown = (
        r"model.11.conv_block.5.bias is absent instead of \(16,\)",
        r"model.7.odd is \(4, 1, 3, 3\) instead",
    )
    with pytest.raises(ValueError, match=f"G.pth is not the ResNet of 2 blocks, .*{missing}; {unknown} of absent"):
        convert_torch.to_genjax(str(tmp_path / "run"), a2b=str(tmp_path / "G.pth"))


def test_to_genjax_refuses_mismatched_files_and_none(tmp_path):
    narrow, wide = (saved(made(Resnet(3, 3, width, 1)), tmp_path / f"{width}.pth") for width in (4, 8))
    with pytest.raises(
        ValueError, match="not of one CycleGAN .*4.pth: ResNet of 1 blocks, base_channels 4.*8.pth: .*base_channels 8"
    ):
        convert_torch.to_genjax(str(tmp_path / "run"), a2b=narrow, b2a=wide)
    grey = saved(made(Resnet(1, 3, 4, 1)), tmp_path / "grey.pth")
    with pytest.raises(ValueError, match=r"channels 3 to 3; .*channels 1 to 3\): convert each"):
        convert_torch.to_genjax(str(tmp_path / "run"), a2b=narrow, b2a=grey)
    with pytest.raises(ValueError, match="nothing to convert: give --a2b latest_net_G_A.pth, --b2a"):
        convert_torch.to_genjax(str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


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

"""Converted runs translate alone, and files of other networks are refused with one clear error."""

import hashlib
import json
import os
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import convert_torch
import translate
from genjax import cyclegan, keys, parallel
from genjax.data import sources
from genjax.train import checkpoint, config_file, loop, run_directory

torch = pytest.importorskip("torch", reason="PyTorch is needed: pip install -e '.[torch]'")

from torch import nn  # noqa: E402

from torch_networks import PatchDiscriminator  # noqa: E402
from torch_originals import Resnet, Unet, images_of, made, saved, translator_of  # noqa: E402

pytestmark = pytest.mark.slow


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
        self.model = PatchDiscriminator(3, 4)


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

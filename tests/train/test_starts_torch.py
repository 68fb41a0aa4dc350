"""Starts from files of PyTorch: which generators are taken, and which are refused."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from genjax.gan import torch_weights
from starting import equal, prepared

pytestmark = pytest.mark.slow


def saved(path, prefix="", channels=(1, 1), width=2, blocks=1):
    torch = pytest.importorskip("torch", reason="PyTorch is needed: pip install -e '.[torch]'")
    sizes = torch_weights.GeneratorSizes("resnet", width, blocks, *channels)
    rng = np.random.default_rng(len(str(path)))
    tensors = {}
    for layer in torch_weights.layers(sizes):
        tensors[f"{prefix}{layer.name}.weight"] = torch.tensor(rng.normal(size=layer.weight_shape), dtype=torch.float32)
        tensors[f"{prefix}{layer.name}.bias"] = torch.tensor(rng.normal(size=layer.out_channels), dtype=torch.float32)
    torch.save(tensors, path)
    return str(path)


def test_prepared_reads_generators_of_pytorch(make_cyclegan, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is needed: pip install -e '.[torch]'")
    a, b = saved(tmp_path / "A.pth", "module."), saved(tmp_path / "longer.pth", "netG._orig_mod.")
    config, parts = prepared(make_cyclegan(), a, b)
    assert equal(parts, {"a2b": torch_weights.read_generator(a)[1], "b2a": torch_weights.read_generator(b)[1]})
    assert config.init_from_sha256 == tuple(hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in (a, b))
    config, parts = prepared(make_cyclegan(), "-", b)
    assert list(parts) == ["b2a"] and config.init_from_sha256[0] == ""
    assert prepared(make_cyclegan(), a)[1].keys() == {"a2b"}
    both = tmp_path / "training.ckpt"
    networks = {"netG_A2B": torch.load(a, weights_only=True), "netG_B2A": torch.load(b, weights_only=True)}
    torch.save({"epoch": 3, "state_dict": networks}, both)
    _, parts = prepared(make_cyclegan(), both, init_key=("netG_B2A", "netG_A2B"))
    assert equal(parts, {"a2b": torch_weights.read_generator(b)[1], "b2a": torch_weights.read_generator(a)[1]})
    with pytest.raises(ValueError, match="training.ckpt holds several generators: name one of .*netG_A2B.module"):
        prepared(make_cyclegan(), both)


REFUSED = {
    "another width": (
        [{"width": 4}], {}, r"0.pth: a2b/decoder/ConvTranspose_0/bias is \[8\], not \[4\] .*: give --cyclegan.base-ch"
    ),
    "other blocks and channels": (
        [{"blocks": 2, "channels": (3, 3)}], {}, "give --cyclegan.num-blocks 2 --data.channels 3 3$"
    ),
    "another form": ([{}], {"cyclegan": {"output": "residual"}}, "was trained with --cyclegan.output tanh, and"),
    "two sizes": ([{}, {"blocks": 3}], {}, "not of one CycleGAN .*0.pth: ResNet of 1 .*1.pth: ResNet of 3"),
    "a missing generator": ([{}], {"init_parts": "all"}, "0.pth: it holds no b2a d_a d_b: give --init-parts g"),
    "three files": ([{}, {}, {}], {}, "give one or two files"),
    "another key": ([{}], {"init_key": ("netG",)}, r"0.pth holds no generator called netG: it holds \(no name\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_prepared_refuses_generators_that_do_not_fit(make_cyclegan, tmp_path, name):
    sizes, changes, said = REFUSED[name]
    paths = [saved(tmp_path / f"{i}.pth", **of_one) for i, of_one in enumerate(sizes)]
    with pytest.raises(ValueError, match=said):
        prepared(make_cyclegan(init_from=("x",), **changes), *paths)


def test_prepared_refuses_missing_files_of_pytorch(make_cyclegan, tmp_path):
    for path, said in (("-", "names no file"), (tmp_path / "none.pth", "there is no file .*none.pth")):
        with pytest.raises((ValueError, FileNotFoundError), match=said):
            prepared(make_cyclegan(), path)

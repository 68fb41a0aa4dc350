"""State dicts of PyTorch, read and written: exact tensors, nothing executed, one clear error for any other file."""

import io
import os
import pickle
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from genjax import torch_files

torch = pytest.importorskip("torch", reason="PyTorch is needed: pip install -e '.[torch]'")

OLD = {"_use_new_zipfile_serialization": False}
FORMATS = pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "old"])


def state_dict():
    layers = (torch.nn.Conv2d(3, 4, 7), torch.nn.BatchNorm2d(4), torch.nn.ConvTranspose2d(4, 1, 3))
    return torch.nn.Sequential(*layers).state_dict()


@FORMATS
def test_read_gives_every_type_as_float32(tmp_path, options):
    state = state_dict()
    for name in ("float64", "float16", "bfloat16", "int64"):
        state[name] = torch.arange(-3, 3).to(getattr(torch, name)).reshape(2, 3)
    state["transposed"], state["part"] = state["0.weight"].transpose(0, 1), state["0.weight"][1:3, :, ::2, 3]
    torch.save(state, tmp_path / "x.pth", **options)
    found = torch_files.read(tmp_path / "x.pth")
    assert list(found) == list(state)
    for name, value in state.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], value.float().numpy())


@FORMATS
def test_read_takes_nested_tensors_of_a_training(tmp_path, options):
    state = state_dict()
    optimiser = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3}]}
    training = {"epoch": 3, "state_dict": {"net": state}, "optimizer": optimiser, "note": "text", "ema": torch.ones(1)}
    torch.save(training, tmp_path / "x.pth", **options)
    found = torch_files.read(tmp_path / "x.pth", nested=True)
    assert list(found) == [*(f"state_dict.net.{name}" for name in state), "ema"]
    np.testing.assert_array_equal(found["state_dict.net.0.weight"], state["0.weight"].numpy())
    torch.save({"epoch": 3}, tmp_path / "y.pth", **options)
    with pytest.raises(ValueError, match="y.pth .*other things than tensors by name: epoch"):
        torch_files.read(tmp_path / "y.pth", nested=True)


def test_read_names_a_pointer_of_git_lfs(tmp_path):
    (tmp_path / "x.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ValueError, match="x.pth is a Git LFS pointer.*git lfs pull"):
        torch_files.read(tmp_path / "x.pth")


def test_write_is_inverse_of_read(tmp_path):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1], "b": np.float32([[1]]).T}
    torch_files.write(tmp_path / "below" / "x.pth", tensors)
    found = torch_files.read(tmp_path / "below" / "x.pth")
    assert list(found) == list(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name], value)


def test_missing_pytorch_is_named_with_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (lambda path: torch_files.read(path), lambda path: torch_files.write(path, {"a": np.zeros(3)})):
        with pytest.raises(ValueError, match=r"need PyTorch: pip install 'genjax-images\[torch\]'"):
            call(tmp_path / "x.pth")
    assert not (tmp_path / "x.pth").exists()


class Attack:
    """Asks for a command to be run when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@FORMATS
def test_read_executes_nothing(tmp_path, options):
    marker = tmp_path / "marker"
    torch.save(OrderedDict(state_dict()) | {"0.weight": Attack(f"touch {marker}")}, tmp_path / "bad.pth", **options)
    torch.load(tmp_path / "bad.pth", weights_only=False)
    assert marker.exists()  # a real attack
    marker.unlink()
    with pytest.raises(ValueError, match="bad.pth .*asks for posix.system, which is refused.* nothing .* was executed"):
        torch_files.read(tmp_path / "bad.pth")
    assert not marker.exists()


def saved(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def archive():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("x.npy", "a")
    return stream.getvalue()


OTHERS = {
    "a module": (lambda: saved(torch.nn.Conv2d(1, 1, 1)), "asks for torch.nn.modules.conv.Conv2d, which is refused"),
    "a training's checkpoint": (
        lambda: saved({"state_dict": state_dict(), "epoch": 3}),
        "other things than tensors by name: state_dict, epoch",
    ),
    "a list": (lambda: saved([1, 2]), "it holds list, not tensors by name"),
    "an empty dictionary": (lambda: saved({}), "it holds dict, not tensors by name"),
    "another archive": (archive, ""),
    "another pickle": (lambda: pickle.dumps({"w": 1}, protocol=2), "Invalid magic number"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(40), "it is in no format of torch.save"),
    "text": (lambda: b"model.1.weight = 3\n", "it is in no format of torch.save"),
    "nothing": (lambda: b"", "EOFError"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_read_refuses_other_files(tmp_path, name):
    make, reason = OTHERS[name]
    (tmp_path / "bad.pth").write_bytes(make())
    with pytest.raises(ValueError, match=rf"bad.pth is no state dict that can be read \(.*{reason}.*\): give"):
        torch_files.read(tmp_path / "bad.pth")


@FORMATS
def test_read_refuses_truncated_and_missing_files(tmp_path, options):
    torch.save(state_dict(), tmp_path / "whole.pth", **options)
    content = (tmp_path / "whole.pth").read_bytes()
    for length in (3, 60, 1000, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.pth").write_bytes(content[:length])
        with pytest.raises(ValueError, match="cut.pth is no state dict that can be read"):
            torch_files.read(tmp_path / "cut.pth")
    with pytest.raises(FileNotFoundError, match="none.pth"):
        torch_files.read(tmp_path / "none.pth")

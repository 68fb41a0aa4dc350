"""Files of PyTorch, read without it: its tensors to the bit, and nothing that a file asks for is ever run."""

import io
import os
import pickle
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from genjax import torch_files

torch = pytest.importorskip("torch", reason="files of PyTorch are written by PyTorch: pip install -e '.[parity]'")

OLD = {"_use_new_zipfile_serialization": False}
DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32")


def state_dict():
    """Of a small network, as torch.save is given it, with what it says of the versions of its modules."""
    layers = (torch.nn.Conv2d(3, 4, 7), torch.nn.BatchNorm2d(4), torch.nn.ConvTranspose2d(4, 1, 3))
    state = torch.nn.Sequential(*layers).state_dict()
    assert state._metadata
    return state


@pytest.mark.parametrize("options", [{}, OLD, {"pickle_protocol": 4}, {"pickle_protocol": 4, **OLD}])
def test_the_tensors_of_either_format_in_their_own_types(tmp_path, options):
    state = state_dict()
    state.update({name: torch.arange(-3, 3).to(getattr(torch, name)).reshape(2, 3) for name in DTYPES})
    state["transposed"], state["part"] = state["0.weight"].transpose(0, 1), state["0.weight"][1:3, :, ::2, 3]
    torch.save(state, tmp_path / "x.pth", **options)
    found = torch_files.read(tmp_path / "x.pth")
    assert list(found) == list(state)
    for name, value in state.items():
        assert found[name].dtype.name == str(value.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(found[name].astype(np.float64), value.double().numpy())


def test_what_is_written_is_read_by_pytorch_and_here(tmp_path):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1], "b": np.float32([[1]]).T}
    torch_files.write(tmp_path / "below" / "x.pth", tensors)
    found, theirs = torch_files.read(tmp_path / "below" / "x.pth"), torch.load(tmp_path / "below" / "x.pth")
    assert list(found) == list(theirs) == list(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name], value)
        np.testing.assert_array_equal(theirs[name].numpy(), value)


def test_writing_without_pytorch_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match="writing files of PyTorch needs PyTorch .*: pip install torch"):
        torch_files.write(tmp_path / "x.pth", {"a": np.zeros(3, np.float32)})
    assert not (tmp_path / "x.pth").exists()


# What a file may not ask for.

ATTACKS = {
    "os.system": lambda marker: ("os", "system", f"touch {marker}"),
    "eval": lambda marker: ("builtins", "eval", f"open({str(marker)!r}, 'w')"),
    "getattr": lambda marker: ("builtins", "getattr", f"touch {marker}"),
    "another function of torch._utils": lambda marker: ("torch._utils", "_import_dotted_name", "os.system"),
    "a dotted name": lambda marker: ("torch._utils", "_rebuild_tensor_v2.__globals__", "x"),
}


class Attack:
    """Asks for a function to be called when it is read."""

    def __init__(self, fn, *arguments):
        self.call = (fn, arguments)

    def __reduce__(self):
        return self.call


def asking(module, name, argument):
    """A pickle of a state dict one of whose values is what a function, found by name, returns."""
    text = b"X" + len(argument.encode()).to_bytes(4, "little") + argument.encode()
    call = b"\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93"
    return b"\x80\x04}X\x01\x00\x00\x00w" + call + text + b"\x85Rs."


def zipped(data, **storages):
    """A file in the zip format, with storages named s0, s1, ..."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x/data.pkl", data)
        archive.writestr("x/version", "3\n")
        for key, content in storages.items():
            archive.writestr(f"x/data/{key.removeprefix('s')}", content)
    return stream.getvalue()


def wrapped(data, kind, **storages):
    """A pickle in either format, as torch.save would put it there."""
    if kind == "zip":
        return zipped(data, **storages)
    stream = io.BytesIO()
    for value in (torch_files.MAGIC, torch_files.VERSION, {"little_endian": True}):
        pickle.dump(value, stream, protocol=2)
    keys = pickle.dumps([key.removeprefix("s") for key in storages], protocol=2)
    numbers = [(len(content) // 4).to_bytes(8, "little") + content for content in storages.values()]
    return stream.getvalue() + data + keys + b"".join(numbers)


@pytest.mark.parametrize("kind", ["zip", "old", "bare"])
@pytest.mark.parametrize("name", ATTACKS)
def test_what_a_file_asks_to_run_is_named_and_not_run(tmp_path, name, kind):
    module, function, argument = ATTACKS[name](tmp_path / "marker")
    data = asking(module, function, argument)
    (tmp_path / "bad.pth").write_bytes(data if kind == "bare" else wrapped(data, kind))
    with pytest.raises(
        ValueError, match=rf"bad.pth .*asks for '{module}.{function}', which is refused: nothing was run"
    ):
        torch_files.read(tmp_path / "bad.pth")
    assert sorted(os.listdir(tmp_path)) == ["bad.pth"]


def test_an_attack_that_pytorchs_own_reader_would_run_is_refused(tmp_path):
    marker = tmp_path / "marker"
    state = OrderedDict(state_dict())
    state["0.weight"] = Attack(os.system, f"touch {marker}")
    for options in ({}, OLD):
        torch.save(state, tmp_path / "bad.pth", **options)
        torch.load(tmp_path / "bad.pth", weights_only=False)
        assert marker.exists()  # a real one
        marker.unlink()
        with pytest.raises(ValueError, match="asks for 'posix.system', which is refused"):
            torch_files.read(tmp_path / "bad.pth")
        assert not marker.exists()


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"


def tensor(offset=0, shape=(4,), strides=(1,), storage=STORAGE):
    """A pickle of a state dict of one tensor in a storage of 4 numbers."""
    parts = b"".join(pickle.dumps(part, protocol=2)[2:-1] for part in (offset, shape, strides))
    return b"\x80\x02}X\x01\x00\x00\x00w" + REBUILD + b"(" + storage + parts + b"\x89}tRs."


def four(data):
    return zipped(data, s0=np.arange(4, dtype="<f4").tobytes())


def test_views_of_a_storage_are_read_as_they_are_strided(tmp_path):
    for options, expected in [
        ({}, [0, 1, 2, 3]),
        ({"shape": (2, 2), "strides": (1, 2)}, [[0, 2], [1, 3]]),
        ({"offset": 1, "shape": (2,), "strides": (2,)}, [1, 3]),
        ({"offset": 2, "shape": (3,), "strides": (0,)}, [2, 2, 2]),
        ({"shape": (), "strides": (), "offset": 3}, 3),
        ({"shape": (0, 3), "strides": (3, 1)}, np.zeros((0, 3))),
    ]:
        (tmp_path / "x.pth").write_bytes(four(tensor(**options)))
        found = torch_files.read(tmp_path / "x.pth")["w"]
        np.testing.assert_array_equal(found, expected)
        torch.testing.assert_close(torch.load(tmp_path / "x.pth")["w"], torch.tensor(found), rtol=0, atol=0)


def test_the_byte_order_of_the_machine_that_wrote_it_is_honoured(tmp_path):
    content = io.BytesIO(zipped(tensor(), s0=np.arange(4, dtype=">f4").tobytes()))
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("x/byteorder", "big")
    (tmp_path / "x.pth").write_bytes(content.getvalue())
    np.testing.assert_array_equal(torch_files.read(tmp_path / "x.pth")["w"], [0, 1, 2, 3])


def test_names_of_pytorch_before_0_4(tmp_path):
    torch.save(state_dict(), tmp_path / "new.pth", **OLD)
    content = (tmp_path / "new.pth").read_bytes()
    assert REBUILD in content
    (tmp_path / "old.pth").write_bytes(content.replace(REBUILD, REBUILD.replace(b"_v2", b"")))
    found, expected = (torch_files.read(tmp_path / name) for name in ("old.pth", "new.pth"))
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])


EXTENSION = b"\x80\x02}X\x01\x00\x00\x00w\x82\x01s."
NESTED = {"state_dict": {"w": 1}, "epoch": 3}
MALFORMED = {
    "beyond the storage": (four(tensor(offset=1)), r"w with shape \(4,\) reaches beyond the 4 elements"),
    "beyond by its strides": (four(tensor(shape=(2, 2), strides=(3, 1))), r"reaches beyond"),
    "before the storage": (four(tensor(offset=3, strides=(-1,))), r"has shape \(4,\) and strides \(-1,\)"),
    "an absurd size": (four(tensor(shape=(10**12,), strides=(0,))), r"\(1000000000000,\) reaches beyond"),
    "shapes that are no numbers": (four(tensor(shape=("x",))), r"has shape \('x',\)"),
    "no storage": (zipped(tensor()), "no item named 'x/data/0'"),
    "a storage cut off": (zipped(tensor(), s0=b"1234"), "for 4 elements of w's storage there are 4 bytes"),
    "another size than named": (wrapped(tensor(), "old", s0=bytes(8)), "elements of w's storage there are 8 bytes"),
    "a storage that is not there": (wrapped(tensor(), "old"), "for 4 elements of w's storage there are 0 bytes"),
    "another kind of reference": (four(tensor(storage=b"(X\x06\x00\x00\x00moduleNtQ")), "which is no storage"),
    "an extension": (zipped(EXTENSION), "it holds EXT1 1, which torch.save does not write"),
    "a place far out": (zipped(b"\x80\x02}r\xff\xff\xff\x7f."), "it holds LONG_BINPUT 2147483647"),
    "state set on a stand-in": (zipped(b"\x80\x02" + REBUILD + b"}X\x01\x00\x00\x00aK\x01sb."), "attribute"),
    "a storage that is called": (zipped(b"\x80\x02ctorch\nFloatStorage\n)R."), "it calls torch.FloatStorage"),
    "no dictionary": (zipped(pickle.dumps([1, 2], protocol=2)), "it holds list instead of tensors by name"),
    "an empty dictionary": (zipped(pickle.dumps({}, protocol=2)), "it holds dict instead of tensors by name"),
    "a training's checkpoint": (zipped(pickle.dumps(NESTED, protocol=2)), "other things.*: 'state_dict', 'epoch'"),
    "another archive": (zipped(b"").replace(b"x/data.pkl", b"x/note.txt"), "not enough values"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(40), ""),
    "text": (b"model.1.weight = 3\n", ""),
    "nothing": (b"", ""),
    "another pickle": (pickle.dumps(1) + pickle.dumps(2) + pickle.dumps(3), "in neither format of torch.save"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_file_that_is_malformed_is_one_error(tmp_path, name):
    content, said = MALFORMED[name]
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s)bad.pth is no state dict that can be read.*{said}"):
        torch_files.read(tmp_path / "bad.pth")


@pytest.mark.parametrize("options", [{}, OLD])
def test_a_truncated_or_damaged_file_is_one_error(tmp_path, options):
    torch.save(state_dict(), tmp_path / "whole.pth", **options)
    content = (tmp_path / "whole.pth").read_bytes()
    for length in (3, 60, 1000, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.pth").write_bytes(content[:length])
        with pytest.raises(ValueError, match="cut.pth is no state dict that can be read"):
            torch_files.read(tmp_path / "cut.pth")
    with pytest.raises(FileNotFoundError):
        torch_files.read(tmp_path / "none.pth")


def test_a_whole_module_is_refused_by_the_name_of_its_class(tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)), tmp_path / "module.pth")
    with pytest.raises(ValueError, match=r"asks for 'torch.nn.modules.container.Sequential'.*network.state_dict\(\)"):
        torch_files.read(tmp_path / "module.pth")

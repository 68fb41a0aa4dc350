"""State dicts in PyTorch's files: read without PyTorch, and without ever running what a file asks to have run.

`torch.load(..., weights_only=True)` refuses such requests too, and is not used because it would take PyTorch, which
nothing else here needs. Both formats of `torch.save` hold a pickle that names tensors, and raw numbers beside it. The
pickle is read by an unpickler to which the few permitted names mean inert stand-ins; tensors are made when it is done.
"""

import io
import math
import pickle
import pickletools
import reprlib
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from etils import epath

from genjax import files

DTYPES = {
    "torch.FloatStorage": np.dtype(np.float32), "torch.DoubleStorage": np.dtype(np.float64),
    "torch.HalfStorage": np.dtype(np.float16), "torch.BFloat16Storage": np.dtype(jnp.bfloat16),
    "torch.LongStorage": np.dtype(np.int64), "torch.IntStorage": np.dtype(np.int32),
}  # fmt: skip
DICTIONARY = "collections.OrderedDict"
TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
"""The second is PyTorch's before 0.4."""

ZIP, MAGIC, VERSION = b"PK\x03\x04", 0x1950A86A20F9469CFC6C, 1001
"""How the zip format begins, and what the first two pickles of the one before PyTorch 1.6 hold."""


def read(path: epath.PathLike) -> dict[str, np.ndarray]:
    """The tensors in a file of PyTorch, by name, in their own types; those in bfloat16 in that of `ml_dtypes`.

    Raises ValueError if the file holds anything but a state dict, naming what it asks for, or is damaged, and OSError
    if there is none. Nothing in the file is executed.
    """
    content = files.resolve(path).read_bytes()
    try:
        return _read_zip(content) if content.startswith(ZIP) else _read_legacy(content)
    except Exception as error:  # a damaged file, or a spiteful one, surfaces as nearly any error
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{path} is no state dict that can be read ({reason[:300]}): give a file that "
            "torch.save(network.state_dict(), FILE) wrote, whole"
        ) from error


def write(path: epath.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict for `torch.load`, by PyTorch itself; ValueError with the remedy where that is missing."""
    try:
        import torch
    except ImportError:
        raise ValueError("writing files of PyTorch needs PyTorch (reading does not): pip install torch") from None
    content = io.BytesIO()
    torch.save(OrderedDict((name, torch.tensor(np.ascontiguousarray(x))) for name, x in tensors.items()), content)
    files.write_atomically(path, content.getvalue())


class _Storage(NamedTuple):
    """Where the numbers of a tensor are."""

    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    """A part of a storage, as the file has it: unchecked."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


class _Dictionary(dict):
    """For an OrderedDict; what a file wants to set on it (versions of modules) is left out."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Global(NamedTuple):
    """A name in a pickle, and what a call of it makes. Nothing can be set on it, unlike on a function or a class."""

    name: str

    def __call__(self, *arguments: Any) -> Any:
        if self.name == DICTIONARY:
            return _Dictionary(*arguments)
        if self.name in TENSORS:
            return _Tensor(*arguments[:4])
        raise ValueError(f"it calls {self.name}")


class _Unpickler(pickle.Unpickler):
    """Knows the permitted names alone, and collects the storages that tensors refer to."""

    def __init__(self, stream: io.BytesIO):
        super().__init__(stream, encoding="utf-8")  # of text that Python 2 wrote
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> _Global:
        asked = f"{module}.{name}"
        if asked not in (DICTIONARY, *TENSORS, *DTYPES):
            raise ValueError(f"it asks for {asked[:100]!r}, which is refused: nothing was run")
        return _Global(asked)

    def persistent_load(self, reference: Any) -> _Storage:
        match reference:
            # The fourth is the device; a sixth makes views of storages, which PyTorch gave up early.
            case ["storage", _Global(name), str(key), _, int(size), *view] if name in DTYPES and view in ([], [None]):
                return self.storages.setdefault(key, _Storage(key, DTYPES[name], size))
        raise ValueError(f"it refers to {reprlib.repr(reference)}, which is no storage")


def _load(stream: io.BytesIO) -> tuple[Any, dict[str, _Storage]]:
    """The next pickle of a stream, and the storages that it refers to."""
    start = stream.tell()
    for code, argument, _ in pickletools.genops(stream):
        # Extensions that this process has used before would not come by find_class, and a place far beyond those in use
        # would take memory up to it.
        if code.name.startswith("EXT") or ("PUT" in code.name and (argument or 0) > stream.tell()):
            raise ValueError(f"it holds {code.name} {argument}, which torch.save does not write")
    stream.seek(start)
    unpickler = _Unpickler(stream)
    return unpickler.load(), unpickler.storages


def _read_zip(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        (folder,) = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        found, _ = _load(io.BytesIO(archive.read(f"{folder}data.pkl")))
        order = archive.read(f"{folder}byteorder").decode() if f"{folder}byteorder" in names else "little"
        return _tensors(found, lambda storage: archive.read(f"{folder}data/{storage.key}"), order)


def _read_legacy(content: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(content)
    magic, version, _ = (_load(stream)[0] for _ in range(3))  # the third is about the machine that wrote it
    if (magic, version) != (MAGIC, VERSION):
        raise ValueError("it is in neither format of torch.save")
    found, storages = _load(stream)
    keys, _ = _load(stream)
    numbers = {}
    for key in keys:
        (size,) = struct.unpack("<q", stream.read(8))
        numbers[key] = stream.read(size * storages[key].dtype.itemsize)
    return _tensors(found, lambda storage: numbers.get(storage.key, b""), "little")


def _tensors(found: Any, numbers: Callable[[_Storage], bytes], order: str) -> dict[str, np.ndarray]:
    """The arrays of an unpickled state dict; `numbers` are the bytes of a storage, in byte order `order`."""
    if not isinstance(found, dict) or not found:
        raise ValueError(f"it holds {type(found).__name__.lstrip('_').lower()} instead of tensors by name")
    others = [
        reprlib.repr(name) for name, value in found.items() if not (isinstance(name, str) and type(value) is _Tensor)
    ]
    if others:
        raise ValueError(f"it holds other things than tensors by name: {', '.join(others[:3])}")
    return {name: _array(name, tensor, numbers(tensor.storage), order) for name, tensor in found.items()}


def _array(name: str, tensor: _Tensor, content: bytes, order: str) -> np.ndarray:
    storage, offset, shape, strides = tensor
    if len(content) != storage.size * storage.dtype.itemsize:
        raise ValueError(f"for {storage.size} elements of {name}'s storage there are {len(content)} bytes")
    if any(type(number) is not int or number < 0 for number in (offset, *shape, *strides)):
        raise ValueError(f"{name} has shape {reprlib.repr(shape)} and strides {reprlib.repr(strides)}")
    end = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + 1
    if math.prod(shape) > storage.size or (end > storage.size and 0 not in shape):
        raise ValueError(
            f"{name} with shape {reprlib.repr(shape)} reaches beyond the {storage.size} elements of its storage"
        )
    width = storage.dtype.itemsize
    words = np.frombuffer(content, f"{'<>'[order == 'big']}u{width}").astype(f"u{width}")
    start = words.view(storage.dtype)[offset:]
    return np.lib.stride_tricks.as_strided(start, shape, [stride * width for stride in strides]).copy()

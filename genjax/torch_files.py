"""PyTorch files of state dicts: reading without executing code from them, and writing."""

import importlib
import io
import pickle
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from etils import epath

from genjax import files


def read(path: epath.PathLike, nested: bool = False) -> dict[str, np.ndarray]:
    """Reads the tensors of a state dict by name, as float32.

    With `nested`, they may also lie in dictionaries, as a training saves them: names are joined with dots, and all
    else is left out. Raises FileNotFoundError if there is no file, and ValueError if it is damaged, holds anything but
    named tensors, contains code, or if PyTorch is not installed.
    """
    torch = _torch()
    content = io.BytesIO(files.read_bytes(path))  # torch.load knows no gs:// paths
    try:
        # weights_only refuses what would execute code.
        found = torch.load(content, map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or not found:
            raise ValueError(f"it holds {type(found).__name__}, not tensors by name")
        tensors = dict(_tensors(found, torch.Tensor)) if nested else found
        others = [str(name) for name, value in tensors.items() if not isinstance(value, torch.Tensor)]
        if others or not tensors:
            raise ValueError(f"it holds other things than tensors by name: {', '.join((others or list(found))[:3])}")
        return {str(name): value.detach().to(torch.float32).numpy() for name, value in tensors.items()}
    except Exception as error:  # PyTorch raises nearly anything on damaged bytes
        raise ValueError(
            f"{path} is no state dict that can be read ({_reason(error)}): give a whole file that "
            "torch.save(network.state_dict(), FILE) wrote; nothing in this one was executed"
        ) from error


def _tensors(found: Mapping[Any, Any], kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the tensors in dictionaries of dictionaries, those with names: an optimiser numbers its own."""
    for name, value in found.items():
        if isinstance(name, str) and isinstance(value, kind):
            yield prefix + name, value
        elif isinstance(name, str) and isinstance(value, Mapping):
            yield from _tensors(value, kind, f"{prefix}{name}.")


def write(path: epath.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict for `torch.load`; ValueError if PyTorch is not installed."""
    torch = _torch()
    content = io.BytesIO()
    torch.save({name: torch.tensor(np.ascontiguousarray(x)) for name, x in tensors.items()}, content)
    files.write_atomically(path, content.getvalue())


def _torch() -> ModuleType:
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise ValueError("files of PyTorch need PyTorch: pip install 'genjax-images[torch]'") from None


def _reason(error: Exception) -> str:
    """Returns the reason why PyTorch could not read a file, without its advice to execute the file's code."""
    if isinstance(error, pickle.UnpicklingError):
        asked = re.search(r"GLOBAL (\S+)", str(error))
        return f"it asks for {asked[1]}, which is refused" if asked else "it is in no format of torch.save"
    said = str(error).partition("\n")[0][:200]
    return said if " " in said else f"{type(error).__name__} {said}".strip()

"""PyTorch files of state dicts: reading without executing code from them, and writing."""

import importlib
import io
import pickle
import re
from collections.abc import Mapping
from types import ModuleType

import numpy as np
from etils import epath

from genjax import files


def read(path: epath.PathLike) -> dict[str, np.ndarray]:
    """Reads the tensors of a state dict by name, as float32.

    Raises FileNotFoundError if there is no file, and ValueError if it is damaged, holds anything but named tensors,
    contains code, or if PyTorch is not installed.
    """
    torch = _torch()
    content = io.BytesIO(files.resolve(path).read_bytes())  # torch.load knows no gs:// paths
    try:
        # weights_only refuses what would execute code.
        found = torch.load(content, map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or not found:
            raise ValueError(f"it holds {type(found).__name__}, not tensors by name")
        others = [str(name) for name, value in found.items() if not isinstance(value, torch.Tensor)]
        if others:
            raise ValueError(f"it holds other things than tensors by name: {', '.join(others[:3])}")
        return {str(name): value.detach().to(torch.float32).numpy() for name, value in found.items()}
    except Exception as error:  # PyTorch raises nearly anything on damaged bytes
        raise ValueError(
            f"{path} is no state dict that can be read ({_reason(error)}): give a whole file that "
            "torch.save(network.state_dict(), FILE) wrote; nothing in this one was executed"
        ) from error


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

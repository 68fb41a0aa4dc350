"""Optional modules, imported when they are used, with an error that names the remedy."""

import importlib
from types import ModuleType


def optional_module(module: str, purpose: str, install: str) -> ModuleType:
    """Imports `module`, which `purpose` needs; raises ValueError with `pip install {install}` if it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{purpose} needs {module} ({error}): pip install {install}") from error

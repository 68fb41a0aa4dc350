"""Modules that few users need: imported when they are used, with a remedy if they are missing."""

import importlib
from types import ModuleType


def optional_module(module: str, purpose: str, install: str) -> ModuleType:
    """Imports a module that only `purpose` needs; ValueError with `pip install {install}` if it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{purpose} needs {module} ({error}): pip install {install}") from error

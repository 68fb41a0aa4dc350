"""Modules that only one source needs: imported when it is used, with a remedy if they are missing."""

import importlib
from types import ModuleType


def optional_module(module: str, source: str, install: str) -> ModuleType:
    """Imports a module that only `source` needs; ValueError with `pip install {install}` if it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"source {source} needs {module} ({error}): pip install {install}") from error

"""Images from a function of your own, named as python:MODULE.FUNCTION; MODULE is imported as Python does.

The function takes a DataConfig and returns Splits. `python:__main__.FUNCTION` names one in a notebook or script.
"""

import importlib
from collections.abc import Callable
from types import ModuleType

import numpy as np

from genjax.config import DataConfig
from genjax.data.splits import Splits


def load(config: DataConfig) -> Splits:
    """Calls the function that the source names and checks what it returns.

    That is three splits, each a tuple of one array uint8 [n, h, w, 1 or 3] for each domain; images of other sizes are
    resized afterwards, as those of any source. Raises ValueError, with a remedy, for a name that cannot be imported and
    for anything else returned. Errors in the function itself pass through.
    """
    splits = _function(config.source)(config)
    if not _is_splits(splits):
        raise ValueError(
            f"{config.source} returned {_described(splits)}, and must return genjax.data.splits.Splits(train, "
            "validation, test), each a tuple of one array uint8 [n, h, w, 1 or 3] for each domain"
        )
    return Splits(*splits)


def _function(source: str) -> Callable[[DataConfig], Splits]:
    """Imports the function; ValueError if there is none."""
    name = source.removeprefix("python:")
    module_name, _, function_name = name.rpartition(".")
    if not module_name or not function_name:
        raise ValueError(f"source {source} names no function: give python:MODULE.FUNCTION")
    try:
        module: ModuleType = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"source {source}: cannot import {module_name} ({error}); add its folder to PYTHONPATH, or install it"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ValueError(f"source {source}: {module_name} has no function {function_name}")
    return function


def _is_splits(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 3 or not all(isinstance(domains, tuple) for domains in value):
        return False
    return len(set(map(len, value))) == 1 and all(_is_images(array) for domains in value for array in domains)


def _is_images(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 4 and value.shape[-1] in (1, 3)


def _described(value: object) -> str:
    """Describes a value in few words: types, and of arrays their shapes."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_described, value))})"
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__

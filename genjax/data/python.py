"""Images from a function of your own, named as python:MODULE.FUNCTION; MODULE is __main__ in a notebook or script."""

import importlib
from collections.abc import Callable

import numpy as np

from genjax.data.config import DataConfig
from genjax.data.splits import Splits


def load(config: DataConfig) -> Splits:
    """Calls the function that the source names, from DataConfig to Splits.

    Its images are uint8 or uint16 [n, h, w, c], of any size.

    Raises ValueError, with a remedy, if the name cannot be imported or the result is anything else.
    """
    splits = _function(config.source)(config)  # its own errors pass through, with their traceback
    if not _is_splits(splits):
        raise ValueError(
            f"{config.source} returned {_described(splits)}, and must return genjax.data.splits.Splits(train, "
            "validation, test), each a tuple of one array uint8 or uint16 [n, h, w, c] for each domain"
        )
    return Splits(*splits)


def _function(source: str) -> Callable[[DataConfig], Splits]:
    module, _, name = source.removeprefix("python:").rpartition(".")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ValueError(f"source {source} names no function: give python:MODULE.FUNCTION")
    try:
        function = getattr(importlib.import_module(module), name, None)
    except (ImportError, SyntaxError) as error:
        raise ValueError(
            f"source {source}: cannot import {module} ({error}); add its folder to PYTHONPATH, or install it"
        ) from error
    if not callable(function):
        raise ValueError(f"source {source}: {module} has no function {name}")
    return function


def _is_splits(value: object) -> bool:
    # Any tuple of three will do, as a file of one's own need not import genjax.
    if not isinstance(value, tuple) or len(value) != 3 or not all(isinstance(domains, tuple) for domains in value):
        return False
    # As many domains in each split.
    return len(set(map(len, value))) == 1 and all(_is_images(array) for domains in value for array in domains)


def _is_images(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype in (np.uint8, np.uint16) and value.ndim == 4


def _described(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_described, value))})"
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__

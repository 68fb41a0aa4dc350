"""Paths, and files that are written whole: no reader finds half a file, and errors name the path."""

import hashlib
import importlib.util
import io
import json
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

Json = dict[str, Any]
"""A JSON object."""


def resolve(path: epath.PathLike) -> epath.Path:
    """The absolute form of a path (which Orbax asks for), `~` expanded; a gs:// path as it is.

    Raises ValueError for no path at all, for other schemes, for gs:/ with one slash, for gs:// without the package it
    needs, and for `~` where nobody has a home.
    """
    name = os.fspath(path)
    if not name:
        raise ValueError("a path is empty (as that of an unset variable): name a file or a directory")
    if not re.match(r"gs:|[\w.+-]+:/", name):
        try:
            return epath.Path(name).expanduser().resolve()
        except RuntimeError as error:  # no HOME, and no user of that name
            raise ValueError(f"{name}: {error} Write the path without ~") from error
    if not re.match(r"gs://[^/]", name):
        raise ValueError(f"{name}: only local paths and gs://BUCKET/... are supported")
    if importlib.util.find_spec("gcsfs") is None:  # which brings google-cloud-storage, that Orbax needs
        raise ValueError(f"{name} needs gcsfs: pip install 'genjax-images[gcs]'")
    return epath.Path(name)  # whose own resolve() takes gs: for a local directory


def partial(path: epath.Path) -> epath.Path:
    """Path of a file while it is written: beside `path`, under a short name that no user would choose."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.partial")


def write_atomically(path: epath.PathLike, content: bytes | str) -> None:
    """Writes a file beside its place, then moves it there; makes its directory if there is none.

    On gs:// a file appears whole or not at all as it is, and a move would be one of many requests.
    """
    path = epath.Path(path)
    content = content.encode() if isinstance(content, str) else content
    if os.fspath(path).startswith("gs://"):
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = partial(path)
    unfinished.write_bytes(content)
    unfinished.replace(path)


def write_json(path: epath.PathLike, value: object) -> None:
    """Writes `value` as indented JSON."""
    write_atomically(path, json.dumps(value, indent=2) + "\n")


def encode_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of an .npz file of these arrays, the same for the same arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read_json(path: epath.PathLike) -> Any:
    """Reads a JSON file; ValueError with its name if it holds something else."""
    try:
        return json.loads(epath.Path(path).read_text())
    except ValueError as error:  # not JSON, or not even text
        raise ValueError(f"{path} is damaged, it holds no JSON: {error}") from error

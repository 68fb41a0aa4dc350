"""Paths, locks, and atomic writes.

No reader finds half a file, and errors name the path, as text for a terminal.
"""

import contextlib
import errno
import hashlib
import importlib.util
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import filelock
import numpy as np
from etils import epath

Json = dict[str, Any]  # a JSON object

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters, but for tabs and ends of lines, that change how a terminal shows what follows."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""Beginning of what Git leaves in place of a large file until Git LFS fetches it."""


def printable(text: object) -> str:
    """Escapes control characters, which names of files and values of damaged records may hold."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], str(text))


def resolve(path: epath.PathLike) -> epath.Path:
    """Returns the absolute path, with `~` expanded, as Orbax requires; gs:// paths stay as they are.

    Raises ValueError for an empty path, other schemes, gs:/ with one slash, gs:// without gcsfs, and `~` without a home
    directory.
    """
    name = os.fspath(path)
    if not name:
        raise ValueError("a path is empty (from an unset variable, perhaps): name a file or a directory")
    # No scheme, so a local path: one with a colon, such as a:b, is local too.
    if not re.match(r"gs:|[\w.+-]+:/", name):
        try:
            expanded = epath.Path(name).expanduser()
        except RuntimeError as error:  # no HOME
            raise ValueError(f"{name}: {error} Write the path without ~") from error
        if os.fspath(expanded).startswith("~"):
            raise ValueError(f"{name}: there is no user of that name. Write the path without ~")
        return expanded.resolve()
    if not re.match(r"gs://[^/]", name):
        raise ValueError(f"{name}: only local paths and gs://BUCKET/... are supported")
    if importlib.util.find_spec("gcsfs") is None:  # gcsfs installs google-cloud-storage, which Orbax needs
        raise ValueError(f"{name} needs gcsfs: pip install 'genjax-images[gcs]'")
    return epath.Path(name)  # not resolved: epath's resolve() would take gs: for a local directory


PARTIAL = re.compile(r"\.[0-9a-f]{16}\.\d+\.partial")
"""Names that `partial` gives; a kill leaves such a file behind."""


def partial(path: epath.Path) -> epath.Path:
    """Returns the temporary path of a file while this process writes it, in the same directory as `path`."""
    # A hash, because a name of the greatest length that a file system allows has no room for a suffix. The process,
    # because a training and an evaluation may write one report at the same time.
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.{os.getpid()}.partial")


NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of a file system that has no locks."""


@contextlib.contextmanager
def locked(path: epath.Path, timeout: float = -1) -> Iterator[bool]:
    """Holds the lock file `path` until the context or the process ends; yields False where there are no locks.

    Waits for another holder, for `timeout` seconds if that is not negative, and then raises filelock.Timeout. Raises
    OSError if the file cannot be made. Object stores such as gs:// have no locks.
    """
    held: contextlib.AbstractContextManager | None = None
    try:
        if "://" not in os.fspath(path):
            held = filelock.FileLock(path, fallback_to_soft=False).acquire(timeout)
    except NotImplementedError:
        pass
    except OSError as error:  # filelock.Timeout too, which has no errno
        if error.errno not in NO_LOCKS:
            raise
    with held or contextlib.nullcontext():
        yield held is not None


def write_atomically(path: epath.PathLike, content: bytes | str) -> None:
    """Writes a temporary file and renames it to `path`, on the disk at its return; makes the directory if needed.

    On gs:// a plain write is atomic already, and a rename would take several requests.
    """
    path = epath.Path(path)
    content = content.encode() if isinstance(content, str) else content
    if os.fspath(path).startswith("gs://"):
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = partial(path)
    try:
        with named_errors(path), open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # before the rename, or a power cut could leave the name without the content
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)  # on a full disk it would take the last room
        raise
    _sync_directory(path.parent)


def _sync_directory(path: epath.Path) -> None:
    """Writes the names in a directory to the disk, on systems that can."""
    with contextlib.suppress(OSError):  # Windows opens no directories, and some network file systems sync none
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextlib.contextmanager
def named_errors(path: epath.PathLike) -> Iterator[None]:
    """Adds `path` to an OSError that names no file, as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)
        raise


def write_json(path: epath.PathLike, value: object) -> None:
    """Writes `value` as indented JSON."""
    write_atomically(path, json.dumps(value, indent=2) + "\n")


def encode_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Encodes arrays as the bytes of an .npz file; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read_json(path: epath.PathLike) -> Any:
    """Reads a JSON file; raises ValueError with its path if it is not valid JSON."""
    try:
        return json.loads(epath.Path(path).read_text())
    except ValueError as error:  # not JSON, or not even text
        raise ValueError(f"{path} is damaged, it is not valid JSON: {error}") from error


def read_bytes(path: epath.PathLike) -> bytes:
    """Reads a file; FileNotFoundError if there is none, ValueError for a directory or a pointer of Git LFS."""
    resolved = resolve(path)
    if not resolved.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if resolved.is_dir():
        raise ValueError(f"{path} is a directory, and a file is needed")
    content: bytes = resolved.read_bytes()
    if content.startswith(LFS_POINTER):
        raise ValueError(
            f"{path} is a Git LFS pointer, a few lines that stand for the file: fetch the file itself with git lfs pull"
        )
    return content


def flatten(record: Json, prefix: str = "") -> Json:
    """Flattens nested dictionaries, with dots between the names."""
    flat: Json = {}
    for name, value in record.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def differences(old: Json, new: Json) -> list[str]:
    """Lists `field: old -> new` for each field of two records that differs."""
    old, new = flatten(old), flatten(new)
    return [
        f"{name}: {old.get(name)} -> {new.get(name)}" for name in sorted(old | new) if old.get(name) != new.get(name)
    ]

"""File of trained weights in the format safetensors, which stands in place of a run directory.

It holds the averaged parameters of a run, its configuration and where it came from. The format has room for numbers and
text alone, so nothing in a file is executed.
"""

import hashlib
import json
from typing import NamedTuple

import jax
import numpy as np
import safetensors
from etils import epath
from safetensors.numpy import save

from genjax import files
from genjax.checks import require
from genjax.files import Json
from genjax.optim import Params
from genjax.parallel import PyTree

SUFFIX = ".safetensors"

ENTRY = "genjax"
"""The one entry of the file's metadata: several would be written in no fixed order."""

REMEDY = "give a whole file that export.py --to safetensors wrote, or a run directory"


class Weights(NamedTuple):
    """A verified file of weights."""

    config: Json  # config.json of the run
    step: int  # training step of the parameters
    provenance: Json  # digest of the checkpoint, environment with versions and commit, images with their SHA-256
    leaves: dict[str, np.ndarray]  # averaged parameters by their path, such as a2b/encoder/Conv_0/kernel
    sha256: str  # of the file


def is_named(path: epath.PathLike) -> bool:
    """Returns True if `path` names a file, there or not, rather than a directory."""
    resolved = files.resolve(path)
    return resolved.suffix == SUFFIX or resolved.is_file()


def beside(workdir: epath.PathLike, name: str) -> epath.Path:
    """Returns the path of a result: in a run directory, or beside a file of weights, named after it."""
    path = files.resolve(workdir)
    return path.with_name(f"{path.stem}-{name}") if is_named(path) else path / name


def check_directory(path: epath.PathLike, purpose: str) -> None:
    """Raises ValueError for a file of weights, which has no rows and checkpoints for `purpose`."""
    if is_named(path):
        raise ValueError(f"{path} is a file, and {purpose} needs the rows of a run: give its directory")


def write(path: epath.PathLike, config: Json, step: int, provenance: Json, params: Params) -> None:
    """Writes the file of weights that `encode` makes to `path`."""
    files.write_atomically(path, encode(config, step, provenance, params))


def encode(config: Json, step: int, provenance: Json, params: Params) -> bytes:
    """Returns averaged parameters with the configuration and provenance of their run; equal ones give equal bytes.

    Raises ValueError for parameters of another type than float32.
    """
    leaves = by_path(jax.device_get(params))
    for name, leaf in leaves.items():
        require(leaf.dtype == np.float32, f"{name} is {leaf.dtype}, and files of weights hold float32")
    record: Json = {"config": config, "step": step, "provenance": provenance}
    record |= {"sha256": _digest(record, leaves)}
    return save(leaves, {ENTRY: json.dumps(record)})


def read(path: epath.PathLike) -> Weights:
    """Reads a file that `write` wrote.

    Raises FileNotFoundError if there is none, and ValueError if it is damaged or another file.
    """
    content = files.read_bytes(path)
    try:
        tensors = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no file of safetensors, or it is damaged ({error}): {REMEDY}") from error
    # The library returns no metadata of bytes: a header of JSON follows its length in 8 bytes.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    if ENTRY not in header.get("__metadata__", {}):
        first = tensors[0][0] if tensors else "no tensor"
        raise ValueError(f"{path} is not of genjax, as its metadata has no entry {ENTRY} (it holds {first}): {REMEDY}")
    try:
        record = json.loads(header["__metadata__"][ENTRY])
        leaves = {
            name: np.frombuffer(tensor["data"], {"F32": np.float32}[tensor["dtype"]]).reshape(tensor["shape"])
            for name, tensor in tensors
        }
        saved = record.pop("sha256")  # of the rest of the record, and of the leaves
        if saved != _digest(record, leaves):
            raise ValueError(f"its content is not that whose SHA-256 it names, {saved}")
        found = Weights(record["config"], record["step"], record["provenance"], leaves, "")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): {REMEDY}") from error
    return found._replace(sha256=hashlib.sha256(content).hexdigest())


def by_path(tree: PyTree) -> dict[str, np.ndarray]:
    """Returns the leaves of a tree by their path, with slashes between the names."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in found}


def differences(found: Params, expected: Params) -> list[str]:
    """Lists the leaves of which two trees have other shapes or types: `PATH is SHAPE, not SHAPE`."""
    shapes, wanted = ({name: _shape(leaf) for name, leaf in by_path(tree).items()} for tree in (found, expected))
    return [
        f"{name} is {shapes.get(name, 'absent')}, not {wanted.get(name, 'absent')}"
        for name in {**wanted, **shapes}
        if shapes.get(name) != wanted.get(name)
    ]


def params(weights: Weights, expected: Params, path: epath.PathLike) -> Params:
    """Returns the parameters as a tree like `expected`; ValueError with the first leaf if they differ from it."""
    if wrong := differences(weights.leaves, expected):
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(
            f"{path} does not hold the networks of its own configuration: {wrong[0]}{more}. Load it as it was trained, "
            "with the same make_model or make_networks, or with the version of genjax that wrote it"
        )
    # By path, in the order of `expected`: the file has one of its own.
    found: Params = jax.tree.unflatten(
        jax.tree.structure(expected), [weights.leaves[name] for name in by_path(expected)]
    )
    return found


def _shape(leaf: np.ndarray) -> str:
    return f"{'' if leaf.dtype == np.float32 else f'{leaf.dtype} '}{list(leaf.shape)}"


def _digest(record: Json, leaves: dict[str, np.ndarray]) -> str:
    """Returns the SHA-256 of a record and of all leaves with their names and shapes."""
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name in sorted(leaves):
        leaf = leaves[name]
        digest.update(f"{name} {leaf.dtype} {leaf.shape} ".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()

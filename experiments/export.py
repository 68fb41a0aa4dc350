"""Writes a trained model to one file that needs no run directory.

$ python experiments/export.py --workdir runs/mnist5k --to safetensors --out mnist5k.safetensors

safetensors: the averaged weights, with configuration, digest, versions and the SHA-256 of the images. Every command
that reads a run takes the file as its --workdir, and --init-from begins a training from it. Nothing in it is executed.
"""

import dataclasses
import hashlib
from typing import Any

import jax
import tyro

from genjax import cli, export, flag_help, parallel
from genjax.loading import Which, load


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Options: the run, the format, and the file."""

    workdir: str
    """Directory of the training run, or a file of its weights (.safetensors)."""
    to: str
    """Format of the file: safetensors."""
    out: str
    """The file to write; an existing one is not overwritten."""
    which: Which = "last"
    """The last checkpoint, the best on validation, or that of a step."""


def main() -> dict[str, Any]:
    """Writes the file."""
    options = tyro.cli(Export, description=flag_help.description(__doc__))
    export.check(options.to, options.out)  # before a large run is loaded
    model = load(options.workdir, options.which, parallel.make_mesh(jax.devices()[:1]))
    content = export.export(model, options.to, options.out).read_bytes()
    return {
        "out": options.out, "format": options.to, "step": model.step, "bytes": len(content),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(model.params)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip


if __name__ == "__main__":
    cli.run(main)

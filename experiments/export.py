"""Writes a trained model to one file, or to a folder of programs, that needs no run directory.

$ python experiments/export.py --workdir runs/mnist5k --to safetensors --out mnist5k.safetensors
$ python experiments/export.py --workdir runs/mnist5k --to html --out mnist5k.html

safetensors: the averaged weights, with configuration, digest, versions and the SHA-256 of the images. Every command
that reads a run takes the file as its --workdir, and --init-from begins a training from it. Nothing in it is executed.
stablehlo: a folder of programs that `jax.export` runs without genjax on a CPU, an NVIDIA GPU or a TPU. onnx: a folder
of programs for onnxruntime and others. Both take any number of images, and translations any height and width.
html: a page that works without a network: it translates photographs, or explores latents.

All but safetensors: pip install 'genjax-images[export]'. html: npm install onnxruntime-web, too.
"""

import dataclasses
import hashlib
from typing import Any

import jax
import tyro

from genjax import cli, export, flag_help, parallel
from genjax.export import web_runtime
from genjax.loading import Which, load


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Options: the run, the format, and the file."""

    workdir: str
    """Directory of the training run, or a file of its weights (.safetensors)."""
    to: str
    """Format: safetensors, stablehlo, onnx or html."""
    out: str
    """The file to write, or the folder of programs; an existing one is not overwritten."""
    which: Which = "last"
    """The last checkpoint, the best on validation, or that of a step."""
    onnxruntime_web: str = web_runtime.FOLDER
    """html: folder of the npm package onnxruntime-web."""


def main() -> dict[str, Any]:
    """Writes the file or folder."""
    options = tyro.cli(Export, description=flag_help.description(__doc__))
    export.check(options.to, options.out, options.onnxruntime_web)  # before a large run is loaded
    jax.config.update("jax_traceback_in_locations_limit", 0)  # programs would name the folders of this machine
    model = load(options.workdir, options.which, parallel.make_mesh(jax.devices()[:1]))
    path = export.export(model, options.to, options.out, options.onnxruntime_web)
    contents = [each.read_bytes() for each in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return {
        "out": options.out, "format": options.to, "step": model.step, "bytes": sum(map(len, contents)),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(model.params)),
        "sha256": hashlib.sha256(b"".join(contents)).hexdigest(),
    }  # fmt: skip


if __name__ == "__main__":
    cli.run(main)

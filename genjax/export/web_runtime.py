"""The npm package onnxruntime-web, whose WebAssembly a page holds. It is in no Python package, and too large for a
repository."""

from etils import epath

from genjax import files

FOLDER = "node_modules/onnxruntime-web"
"""Folder that `npm install onnxruntime-web` makes."""

PARTS = {"runtime": "dist/ort.wasm.bundle.min.mjs", "wasm": "dist/ort-wasm-simd-threaded.wasm"}
"""Its script, and the program in WebAssembly that the script starts."""


def check(folder: epath.PathLike) -> None:
    """Raises ValueError unless `folder` holds the package."""
    for part in ("package.json", *PARTS.values()):
        if not (files.resolve(folder) / part).is_file():
            raise ValueError(
                f"the format html needs onnxruntime-web, and there is no {folder}/{part}: npm install onnxruntime-web, "
                f"and give --onnxruntime-web FOLDER if it is not in {FOLDER}"
            )


def version(folder: epath.PathLike) -> str:
    """Returns the version of the package."""
    return str(files.read_json(files.resolve(folder) / "package.json")["version"])

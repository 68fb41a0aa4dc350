"""Export of a trained run to a file, a folder of programs or a page, in a format of `FORMATS`."""

import json
from collections.abc import Callable
from typing import NamedTuple

from etils import epath

from genjax import files
from genjax.data.imports import optional_module
from genjax.export import programs, web_runtime
from genjax.files import Json
from genjax.loading import Sampler, Translator
from genjax.train import config_file, weights_file

ABOUT = "about.json"
"""File in a folder of programs: their inputs and outputs, the configuration, and where the weights come from."""

INSTALL = "'genjax-images[export]'"


class Format(NamedTuple):
    """A format that trained models can be written in."""

    suffix: str  # of the file's name; a folder has none
    contents: Callable[[Sampler | Translator, epath.PathLike], bytes | dict[str, bytes]]
    """Returns the content of the file, or of each file of the folder, given the folder of a runtime."""
    needs: tuple[str, ...] = ()  # modules of the extra `export`


def export(
    model: Sampler | Translator, to: str, out: epath.PathLike, runtime: epath.PathLike = web_runtime.FOLDER
) -> epath.Path:
    """Writes `model` in the format `to` to the new file or folder `out`; returns its path.

    `runtime`, a folder of the npm package onnxruntime-web, is for html. Raises ValueError for an unknown format,
    another suffix than that of the format, something that exists, or a missing package.
    """
    path = check(to, out, runtime)
    contents = FORMATS[to].contents(model, runtime)
    written = {path: contents} if isinstance(contents, bytes) else {path / name: c for name, c in contents.items()}
    for each, content in written.items():
        files.write_atomically(each, content)
    return path


def check(to: str, out: epath.PathLike, runtime: epath.PathLike = web_runtime.FOLDER) -> epath.Path:
    """Returns the absolute path of `out`; raises ValueError as `export` does, before anything is loaded."""
    path = files.resolve(out)
    if to not in FORMATS:
        raise ValueError(f"--to {to} is no format: give {' or '.join(FORMATS)}")
    suffix, _, needs = FORMATS[to]
    if path.suffix != suffix:
        wanted = f"end in {suffix}" if suffix else "name a folder, without a suffix"
        raise ValueError(f"--out {out} must {wanted}, as that is what is written")
    if path.exists():
        raise ValueError(f"{out} exists already: give another --out")
    for module in needs:
        optional_module(module, f"the format {to}", INSTALL)
    if to == "html":
        web_runtime.check(runtime)
    return path


def about(model: Sampler | Translator) -> Json:
    """Returns the configuration of a model, its step, and where its weights come from."""
    return {"config": config_file.fields_of(model.config), "step": model.step, "provenance": _provenance(model)}


def _weights(model: Sampler | Translator, runtime: epath.PathLike) -> bytes:
    record = about(model)
    return weights_file.encode(record["config"], record["step"], record["provenance"], model.params)


def _stablehlo(model: Sampler | Translator, runtime: epath.PathLike) -> dict[str, bytes]:
    from genjax.export import stablehlo

    found = programs.of_model(model)
    written = {f"{name}.stablehlo": stablehlo.serialized(program) for name, program in found.items()}
    return {**written, ABOUT: _described(model, found)}


def _onnx(model: Sampler | Translator, runtime: epath.PathLike) -> dict[str, bytes]:
    from genjax.export import onnx_file  # which needs the extra

    found = _without_noise(model)
    written = {f"{name}.onnx": onnx_file.serialized(program, about(model)) for name, program in found.items()}
    return {**written, ABOUT: _described(model, found)}


def _html(model: Sampler | Translator, runtime: epath.PathLike) -> bytes:
    from genjax.export import page

    return page.content(model, _without_noise(model), about(model), runtime)


def _without_noise(model: Sampler | Translator) -> dict[str, programs.Program]:
    # ONNX has no such generator of random numbers: whoever decodes draws e ~ N(0, I).
    return {name: program for name, program in programs.of_model(model).items() if not program.is_random}


def _described(model: Sampler | Translator, found: dict[str, programs.Program]) -> bytes:
    record = {"programs": {name: program.described() for name, program in found.items()}, **about(model)}
    return json.dumps(record, indent=2).encode() + b"\n"


def _provenance(model: Sampler | Translator) -> Json:
    """Returns where the weights of a step come from: digest of the state, environment, images."""
    from genjax.train import checkpoint  # here, as in loading.py

    if weights_file.is_named(model.config.workdir):
        return weights_file.read(model.config.workdir).provenance
    workdir = files.resolve(model.config.workdir)
    saved = checkpoint.record(workdir / "checkpoints", model.step)
    images = workdir / "data.json"
    return {
        "digest": saved.digest,
        "environment": saved.environment,
        "images": files.read_json(images) if images.exists() else {},
    }


FORMATS: dict[str, Format] = {
    "safetensors": Format(weights_file.SUFFIX, _weights),
    "stablehlo": Format("", _stablehlo, ("flatbuffers",)),
    "onnx": Format("", _onnx, ("onnx",)),
    "html": Format(".html", _html, ("onnx",)),
}

"""Export of a trained run to one file, in a format of `FORMATS`."""

from collections.abc import Callable
from typing import NamedTuple

from etils import epath

from genjax import files
from genjax.files import Json
from genjax.loading import Sampler, Translator
from genjax.train import config_file, weights_file


class Format(NamedTuple):
    """A format that trained models can be written in."""

    suffix: str  # of the file's name
    write: Callable[[Sampler | Translator, epath.Path], None]


def export(model: Sampler | Translator, to: str, out: epath.PathLike) -> epath.Path:
    """Writes `model` to the new file `out` in the format `to`; returns its path.

    Raises ValueError for an unknown format, another suffix than that of the format, or a file that exists.
    """
    path = check(to, out)
    FORMATS[to].write(model, path)
    return path


def check(to: str, out: epath.PathLike) -> epath.Path:
    """Returns the absolute path of `out`; raises ValueError as `export` does, before anything is loaded."""
    path = files.resolve(out)
    if to not in FORMATS:
        raise ValueError(f"--to {to} is no format: give {' or '.join(FORMATS)}")
    if path.suffix != FORMATS[to].suffix:
        raise ValueError(f"--out {out} must end in {FORMATS[to].suffix}, as that is what is written")
    if path.exists():
        raise ValueError(f"{out} exists already: give another --out")
    return path


def _write_weights(model: Sampler | Translator, path: epath.Path) -> None:
    source = model.config.workdir
    if weights_file.is_named(source):
        provenance = weights_file.read(source).provenance
    else:
        provenance = _provenance(files.resolve(source), model.step)
    weights_file.write(path, config_file.fields_of(model.config), model.step, provenance, model.params)


def _provenance(workdir: epath.Path, step: int) -> Json:
    """Returns where the weights of a step come from: digest of the state, environment, images."""
    from genjax.train import checkpoint  # here, as in loading.py

    saved = checkpoint.record(workdir / "checkpoints", step)
    images = workdir / "data.json"
    return {
        "digest": saved.digest,
        "environment": saved.environment,
        "images": files.read_json(images) if images.exists() else {},
    }


FORMATS: dict[str, Format] = {"safetensors": Format(weights_file.SUFFIX, _write_weights)}

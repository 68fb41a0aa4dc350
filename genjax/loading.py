"""From a run directory to jitted functions, in one line."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from etils import epath
from jax import Array
from jax.sharding import Mesh

from genjax import files, keys, parallel
from genjax.compiled import compile_rows
from genjax.cyclegan import steps as cyclegan_steps
from genjax.cyclegan import translation
from genjax.cyclegan.config import CycleGanRun
from genjax.cyclegan.nets import DOMAINS, Direction
from genjax.data import image_arrays
from genjax.keys import Stream
from genjax.train import checkpoint, run_directory
from genjax.vae import sampling
from genjax.vae import steps as vae_steps
from genjax.vae.config import VaeRun

Which = Literal["last", "best"]
"""The last checkpoint, or the best one on validation."""


class Sampler(NamedTuple):
    """A trained VAE's jitted functions. Images in are uint8 [n, h, w, c], images out floats, in [0, 1]
    for a Bernoulli likelihood and near it for a Gaussian one.

    Each takes any number of rows, compiles once, and gives a row the same bits whatever other rows it comes with.
    """

    config: VaeRun
    step: int
    """Training steps behind the averaged parameters."""
    params: Any
    prior: Callable[..., np.ndarray]
    """(key, position [n], temperature=1.0) -> [n, h, w, c]: image i depends on the key and position[i] alone;
    the key is a root key, and the noise is that of no training with the same seed"""
    reconstruct: Callable[..., np.ndarray]
    """(key, position [n], images [n, h, w, c]) -> [n, h, w, c]"""
    interpolate: Callable[..., np.ndarray]
    """(start [h, w, c], end [h, w, c], num) -> [num, h, w, c], both ends included"""
    traverse: Callable[..., np.ndarray]
    """(image [h, w, c], dimension, values [n]) -> [n, h, w, c]: one latent dimension set to each value"""


class Translator(NamedTuple):
    """A trained CycleGAN's jitted functions. Images in are uint8, or floats in [0, 1], [n, h, w, c] of any height and
    width; images out floats in [0, 1] of the same height and width. Each compiles once for a height and width.

    FileNotFoundError is raised where the run has no such generator, as one converted from a single file of PyTorch.
    """

    config: CycleGanRun
    step: int
    """Training steps behind the averaged parameters."""
    params: Any
    a2b: Callable[[np.ndarray], np.ndarray]
    """images of domain A -> their translations into domain B"""
    b2a: Callable[[np.ndarray], np.ndarray]
    """images of domain B -> their translations into domain A"""


def load_sampler(workdir: epath.PathLike, which: Which = "last", mesh: Mesh | None = None) -> Sampler:
    """The averaged weights of the VAE trained in `workdir`, ready to sample from on `mesh` (default: all devices).

    `which` is the last checkpoint or the best one on validation. Raises ValueError or FileNotFoundError if there is no
    VAE run, or no checkpoint that is whole. Nothing in `workdir` is changed.
    """
    config = run_directory.load_config(workdir, "vae")
    mesh = mesh or parallel.make_mesh()
    restored = _restore(vae_steps.init, config, mesh, workdir, which)
    params, shape = restored.state.ema, config.data.image_shapes[0]

    def compiled(fn: Callable) -> Callable:
        return compile_rows(fn, config, mesh)

    def draw_rows(config: VaeRun, params: Any, key: Array, temperature: Array, position: Array) -> Array:
        key = keys.for_step(key, Stream.PRIOR, 0)
        return sampling.prior(config, params, key, position, temperature)

    def rebuild_rows(config: VaeRun, params: Any, key: Array, position: Array, images: Array) -> Array:
        key = keys.for_step(key, Stream.RECONSTRUCT, 0)
        return sampling.reconstruct(config, params, key, position, images)

    draw, rebuild = compiled(draw_rows), compiled(rebuild_rows)
    blend, sweep = compiled(sampling.interpolate), compiled(sampling.traverse)

    def prior(key: Array, position: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        return draw((params, key, np.float32(temperature)), (np.asarray(position, np.int32),))

    def reconstruct(key: Array, position: np.ndarray, images: np.ndarray) -> np.ndarray:
        return rebuild((params, key), (np.asarray(position, np.int32), image_arrays.check(images, shape)))

    def interpolate(start: np.ndarray, end: np.ndarray, num: int) -> np.ndarray:
        starts, ends = (np.repeat(image_arrays.check(image[None], shape), num, axis=0) for image in (start, end))
        return blend((params,), (starts, ends, np.linspace(0, 1, num, dtype=np.float32)))

    def traverse(image: np.ndarray, dimension: int, values: np.ndarray) -> np.ndarray:
        if not 0 <= dimension < config.vae.latent_dim:
            raise ValueError(f"dimension {dimension} is none of the latent ones, 0 to {config.vae.latent_dim - 1}")
        values = np.asarray(values, np.float32)
        rows = np.repeat(image_arrays.check(image[None], shape), len(values), axis=0)
        return sweep((params,), (rows, np.full(len(values), dimension, np.int32), values))

    return Sampler(config, restored.step, params, prior, reconstruct, interpolate, traverse)


def load_translator(workdir: epath.PathLike, which: Which = "last", mesh: Mesh | None = None) -> Translator:
    """The averaged generators of the CycleGAN trained in `workdir`, to translate with on `mesh` (default: all devices).

    `which` and errors are as for `load_sampler`. Nothing in `workdir` is changed.
    """
    config = run_directory.load_config(workdir, "cyclegan")
    mesh = mesh or parallel.make_mesh()
    restored = _restore(cyclegan_steps.init, config, mesh, workdir, which)
    params = restored.state.ema

    def compiled(direction: Direction) -> Callable[[np.ndarray], np.ndarray]:
        def translate_rows(config: CycleGanRun, params: Any, images: Array) -> Array:
            return translation.translate(config, params, direction, images)

        # One image at a time on each device: they may be photographs of many megapixels.
        run = compile_rows(translate_rows, config, mesh, chunk=1)
        channels = config.data.channels[DOMAINS[direction][0]]
        held = is_there(params[direction])

        def translate(images: np.ndarray) -> np.ndarray:
            if not held:  # no fault of the images, and so no ValueError, which translate.py passes over
                raise FileNotFoundError(
                    f"{workdir} has no generator {direction}: it was converted from the other direction's file alone. "
                    f"Convert again with --{direction} FILE too, to another --workdir"
                )
            if images.ndim != 4 or images.shape[-1] != channels:
                raise ValueError(f"expected images [n, h, w, {channels}], got {list(images.shape)}")
            return run((params,), (image_arrays.unit_floats(images),))

        return translate

    return Translator(config, restored.step, params, compiled("a2b"), compiled("b2a"))


def is_there(params: Any) -> bool:
    """Whether these are the parameters of a network; NaN stands for those that a converted run lacks."""
    return all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in jax.tree.leaves(params))


def _restore(
    init: Callable[[Any, Array], Any], config: Any, mesh: Mesh, workdir: epath.PathLike, which: Which
) -> checkpoint.Restored:
    directory = files.resolve(workdir) / "checkpoints"
    abstract = parallel.abstract(mesh, lambda: init(config, keys.root_key(0)))
    if which == "best":
        return checkpoint.restore(directory, checkpoint.best_step(directory), abstract)
    restored = checkpoint.restore_latest(directory, abstract)
    if restored is None:
        raise FileNotFoundError(f"{directory} holds no checkpoint yet")
    return restored

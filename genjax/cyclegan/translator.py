"""Trained CycleGAN for use from Python: `Translator`, which compiles once for each height and width."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from genjax.compiled import compile_rows
from genjax.cyclegan import translation
from genjax.cyclegan.config import CycleGanRun
from genjax.cyclegan.nets import DOMAINS, Direction, MakeNetworks, make_networks
from genjax.data import image_arrays
from genjax.optim import Params


@dataclasses.dataclass(frozen=True, eq=False)
class Translator:
    """Translates images between two domains with a trained CycleGAN.

    Images in are uint8, or floats in [0, 1], [n, h, w, c] of any height and width; images out are floats in [0, 1] of
    the same height and width. The translation of an image has the same bits whatever other images are passed.
    """

    config: CycleGanRun
    params: Params  # averaged parameters of both generators
    step: int  # training step of the parameters
    mesh: Mesh
    make_networks: MakeNetworks = make_networks

    def a2b(self, images: np.ndarray) -> np.ndarray:
        """Translates images of domain A into domain B."""
        return self.translate("a2b", images)

    def b2a(self, images: np.ndarray) -> np.ndarray:
        """Translates images of domain B into domain A."""
        return self.translate("b2a", images)

    def translate(self, direction: Direction, images: np.ndarray) -> np.ndarray:
        """Translates images in one direction.

        Raises ValueError for images of another shape or type, and FileNotFoundError if the run has no such generator.
        """
        run = self._compiled(direction)
        channels = self.config.data.channels[DOMAINS[direction][0]]
        if images.ndim != 4 or images.shape[-1] != channels:
            raise ValueError(f"expected images [n, h, w, {channels}], got {list(images.shape)}")
        return run((self.params,), (image_arrays.unit_floats(images),))

    @functools.cached_property
    def _compiled(self) -> Callable[[Direction], Callable]:
        """Compiles a direction at its first use."""

        @functools.cache
        def compiled(direction: Direction) -> Callable:
            if not is_there(self.params[direction]):  # not a ValueError, as the images are fine
                raise FileNotFoundError(
                    f"{self.config.workdir} has no generator {direction}: it was converted from the other direction's "
                    f"file alone. Convert again with --{direction} FILE too, to another --workdir"
                )

            def translate(config: CycleGanRun, params: Params, images: Array) -> Array:
                return translation.translate(config, params, direction, images, self.make_networks)

            # One image at a time on each device, as images may have many megapixels.
            return compile_rows(translate, self.config, self.mesh, chunk=1)

        return compiled


def is_there(params: Params) -> bool:
    """Returns True if a run has these parameters; a converted run holds NaN for a missing generator."""
    return all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in jax.tree.leaves(params))

"""Trained generators for use from Python: `Translator`."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh
from tqdm import tqdm

from genjax.compiled import compile_rows, with_precision
from genjax.data import image_arrays
from genjax.gan import canvas_sizes, translation
from genjax.gan.canvas_sizes import MOST_PROGRAMS, Group
from genjax.gan.config import GanRun
from genjax.gan.networks import DOMAINS, Direction, MakeNetworks
from genjax.optim import Params

CPU_STRIP = 32  # rows of a picture that a CPU computes at once, a power of 2
STREAMED_PIXELS = 3 << 20  # beyond, in strips: at once the paper's generator takes 0.7 GB for each megapixel
STRIP_ROWS, STRIP_PIXELS = 16, 1 << 16  # of such a strip, whichever is more


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Translator:
    """Translates images between two domains, in the directions for which its family has a generator.

    Images in are uint8, uint16 or floats in [0, 1], [n, h, w, c] of any height and width; images out are floats in [0,
    1] of the same height and width. The translation of an image has the same bits whatever other images are passed. A
    program is compiled for each height and width, and the last few are kept. Images of more than `streamed_beyond`
    pixels are translated in strips, up to rounding with the same result, in less memory.
    """

    config: GanRun
    params: Params  # averaged parameters of the generators by direction
    step: int  # training step of the parameters
    mesh: Mesh
    make_networks: MakeNetworks
    on_canvas: bool = True  # false for networks from outside genjax, which know nothing of canvas and strips
    streamed_beyond: int = STREAMED_PIXELS

    def __repr__(self) -> str:
        channels = " and ".join(map(str, self.config.data.channels))
        kind = f"{self.config.net.generator} {self.config.net.section} of {channels} channels"
        number = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        return f"Translator({self.config.workdir!r}, step {self.step}: {kind}, {number:,} parameters)"

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Directions for which the family has a generator, and the run its weights."""
        return tuple(way for way in DOMAINS if way in self.params and is_there(self.params[way]))

    def a2b(self, images: np.ndarray) -> np.ndarray:
        """Translates images of domain A into domain B."""
        return self.translate("a2b", images)

    def b2a(self, images: np.ndarray) -> np.ndarray:
        """Translates images of domain B into domain A."""
        return self.translate("b2a", images)

    def translate(self, direction: Direction, images: np.ndarray) -> np.ndarray:
        """Translates images in one direction.

        Raises ValueError for images of another shape or type, and as `check_direction` does; FileNotFoundError if
        the run holds no such generator.
        """
        self._check(direction, images, 4)
        if self._is_streamed(images.shape[1:3]):
            self._check_there(direction)
            # Whole numbers become floats strip by strip.
            checked = images if images.dtype.kind == "u" else image_arrays.unit_floats(images)
            outputs = [self._in_strips(direction, image) for image in checked]
            return outputs[0][None] if len(outputs) == 1 else np.stack(outputs)
        run = self._compiled(direction, images.shape[1:3])
        return run((self.params,), (image_arrays.unit_floats(images),))

    def groups(self, sizes: np.ndarray) -> list[Group]:
        """Groups images of `sizes` [n, 2], heights and widths, to be translated by few programs."""
        if self.on_canvas:
            large = np.array([self._is_streamed(size) for size in sizes], bool)
            accepted = translation.accepted_sizes(self.config.net, sizes)
            on_canvas = canvas_sizes.choose(accepted[~large])
            # A large picture is streamed by itself, and needs no canvas.
            alone = canvas_sizes.one_for_each_size(sizes[large])
            return canvas_sizes.among(on_canvas, ~large) + canvas_sizes.among(alone, large)
        logging.info("networks from outside genjax: one program for each of the sizes, the last few are kept")
        return canvas_sizes.one_for_each_size(sizes)

    def translate_group(self, direction: Direction, images: list[np.ndarray], group: Group) -> list[np.ndarray]:
        """Translates images [h, w, c] of a batch of a group, all or some of them.

        The results are those of `translate` up to rounding. Raises ValueError as `translate` does.
        """
        if not images:
            return []
        if not group.on_canvas:
            return list(self.translate(direction, np.stack(images)))
        for image in images:
            self._check(direction, image, 3)
        run = self._compiled(direction, (group.rows, group.columns), group.batch)
        floats = [image_arrays.unit_floats(image) for image in images]
        translated = run((self.params,), translation.put_on_canvas(self.config.net, floats, group.rows, group.columns))
        return [out[: image.shape[0], : image.shape[1]] for out, image in zip(translated, images, strict=True)]

    def check_direction(self, direction: Direction) -> None:
        """Raises ValueError unless there is a generator for this direction."""
        directions = self.make_networks(self.config).generators
        if direction not in directions:
            only = " alone" if len(directions) == 1 else ""
            raise ValueError(
                f"{self.config.workdir} translates {' and '.join(directions)}{only}, not {direction!r}"
                f"{f': a {self.config.net.section} run has one generator' if only else ''}"
            )

    def _check(self, direction: Direction, images: np.ndarray, ndim: int) -> None:
        self.check_direction(direction)
        image_arrays.check_array(images)
        channels = self.config.data.channels[DOMAINS[direction][0]]
        if images.ndim != ndim or images.shape[-1] != channels:
            expected = f"[{'n, ' * (ndim - 3)}h, w, {channels}]"
            single = ": a single one is image[None]" if images.ndim == ndim - 1 == 3 else ""
            raise ValueError(f"expected images {expected}, got {list(images.shape)}{single}")

    def _check_there(self, direction: Direction) -> None:
        if not is_there(self.params[direction]):  # not a ValueError, as the images are fine
            raise FileNotFoundError(
                f"{self.config.workdir} has no generator {direction}: it was converted from the other direction's "
                f"file alone. Convert again with --{direction} FILE too, to another --workdir"
            )

    def _is_streamed(self, size: Sequence[int]) -> bool:
        return self.on_canvas and int(size[0]) * int(size[1]) > self.streamed_beyond

    def _in_strips(self, direction: Direction, image: np.ndarray) -> np.ndarray:
        """Translates one image [h, w, c] on one device, with a progress bar."""
        device = self.mesh.local_devices[0]
        params = jax.device_put(jax.device_get(self.params[direction]), device)
        generator = self.make_networks(self.config).generators[direction]
        strip = max(STRIP_ROWS, STRIP_PIXELS // image.shape[1])
        translate = with_precision(translation.translate_in_strips, self.config.precision)
        with jax.default_device(device), tqdm(unit="strip", leave=False, disable=None) as progress:

            def after_strip(done: int, total: int) -> None:
                progress.total = total
                progress.update(done - progress.n)

            return translate(generator, params, self.config.net, image, strip, after_strip)

    @functools.cached_property
    def _compiled(self) -> Callable[..., Callable]:
        """Compiles a direction and size at its first use; the least recently used programs are dropped."""

        @functools.lru_cache(maxsize=MOST_PROGRAMS)
        def compiled(direction: Direction, size: tuple[int, int], canvas_batch: int | None = None) -> Callable:
            del size  # each has a function of its own, which takes its program along when it is dropped
            self._check_there(direction)
            if canvas_batch is not None:
                return compile_rows(self._canvas_program(direction), self.config, self.mesh, canvas_batch)

            def translate(config: GanRun, params: Params, images: Array) -> Array:
                return translation.translate(config, params, direction, images, self.make_networks)

            # One image at a time on each device, as images may have many megapixels.
            return compile_rows(translate, self.config, self.mesh, chunk=1)

        return compiled

    def _canvas_program(self, direction: Direction) -> Callable[..., Array]:
        unit, _ = self.config.net.generator_sizes
        generator = self.make_networks(self.config).generators[direction]
        on_cpu = self.mesh.devices.flat[0].platform == "cpu"

        def translate(config: GanRun, params: Params, images: Array, sizes: Array) -> Array:
            del config
            # On a CPU so many rows that they stay in its cache; elsewhere all of them, as many as the device can take.
            strip = max(unit, CPU_STRIP) if on_cpu else -(-images.shape[1] // unit) * unit
            return translation.translate_on_canvas(generator, params[direction], images, sizes, strip)

        return translate


class GroupTranslator(Protocol):
    """The interface between what translates images and the code that translates many files."""

    def groups(self, sizes: np.ndarray) -> list[Group]:
        """Groups images of `sizes` [n, 2], heights and widths."""
        ...

    def translate_group(self, direction: Direction, images: list[np.ndarray], group: Group) -> list[np.ndarray]:
        """Translates images [h, w, c] of a batch of a group, all or some of them."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class SideBySide:
    """Several checkpoints of a run, whose translations of an image stand side by side in one picture."""

    translators: tuple[GroupTranslator, ...]

    def groups(self, sizes: np.ndarray) -> list[Group]:
        """Groups images as each translator does."""
        return self.translators[0].groups(sizes)

    def translate_group(self, direction: Direction, images: list[np.ndarray], group: Group) -> list[np.ndarray]:
        """Translates images [h, w, c] of a group to pictures [h, w * number of translators, c']."""
        each = [translator.translate_group(direction, images, group) for translator in self.translators]
        return [np.concatenate(of_one, axis=1) for of_one in zip(*each, strict=True)]


def is_there(params: Params) -> bool:
    """Returns True if a run has these parameters; a converted run holds NaN for a missing generator."""
    return all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in jax.tree.leaves(params))

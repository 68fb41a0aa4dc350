"""Images from a part of them, or from smaller versions, by a trained VAE: inpainting and super-resolution.

What is known, y, is evidence about the latents. Draws of z from p(z|y), or its mode, are decoded, and what is known is
put back into E[x|z]: observed pixels bit for bit, and a smaller version by back-projection.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from PIL import Image

from genjax import keys, parallel
from genjax.compiled import compile_rows
from genjax.data import image_arrays
from genjax.keys import Stream
from genjax.vae import inference, losses, nets
from genjax.vae.config import VaeRun
from genjax.vae.inference import Effort, Evidence, Method

Kernel = Literal["box", "bicubic"]
Choice = Method | Literal["auto"]
FACTORS = (2, 4, 8)
DEFAULT_EFFORT = Effort()
PROJECTIONS, MOST_PROJECTIONS = 50, 2000
"""Rounds of back-projection, each followed by a clip to [0, 1]: for every enlarged image, and for one that is not yet
CONSISTENT. For box the first are mostly enough, for bicubic by 2 it takes hundreds."""
CONSISTENT = 0.25 / 255
"""How far a pixel of an enlarged image, scaled down again, may lie from the one that was given."""


class Restoration(NamedTuple):
    """Restored images and how they were found."""

    images: np.ndarray
    """[n, num, h, w, c] in [0, 1]: sample i of an image is the same for any larger num, up to rounding if num is
    below the chains at work at once (`effort.chains`), which a stiff model's chain can amplify."""
    method: Method
    health: np.ndarray
    """[n]: the share of proposals that were accepted, or the effective share of those that were weighed. Near 0, the
    samples are not to be trusted."""


def inpaint(
    config: VaeRun, params: Any, key: Array, images: np.ndarray, mask: np.ndarray, method: Choice = "auto",
    num_samples: int = 8, effort: Effort = DEFAULT_EFFORT, position: np.ndarray | None = None, mesh: Mesh | None = None,
) -> Restoration:  # fmt: skip
    """Completes images [n, h, w, c], uint8 or floats in [0, 1], where `mask` ([h, w] or [n, h, w], bool) is True.

    Pixels where it is False come back bit for bit. Image i depends on the key, position[i] (by default i) and its own
    pixels alone, on any number of devices. Method auto is hamiltonian, the best one in
    experiments/results/restoration.md.
    """
    shape = config.data.image_shapes[0]
    _check_num(num_samples)
    observed = _unit_floats(images, shape, "this VAE was trained on images of that size")
    missing = check_mask(mask, len(observed), shape)
    chosen: Method = "hamiltonian" if method == "auto" else method
    run, params = _ready(_inpaint_rows, config, (chosen, num_samples, effort), params, mesh)
    found, health = run((params, key), (_positions(position, observed), observed, missing))
    return Restoration(np.where(missing[:, None], found, observed[:, None]), chosen, health)


def super_resolve(
    config: VaeRun, params: Any, key: Array, images: np.ndarray, factor: int, kernel: Kernel = "box",
    method: Choice = "auto", num_samples: int = 8, effort: Effort = DEFAULT_EFFORT, position: np.ndarray | None = None,
    mesh: Mesh | None = None,
) -> Restoration:  # fmt: skip
    """Enlarges images [n, h / factor, w / factor, c], uint8 or floats in [0, 1], to the size that the VAE was trained
    on.

    Scaled down again by `kernel`, as Pillow does it, an enlarged image is the given one, as far as values within [0, 1]
    allow. Method auto is hamiltonian; the two Gibbs methods need a Gaussian likelihood.
    """
    height, width, channels = config.data.image_shapes[0]
    check_factor(config, factor)
    _check_num(num_samples)
    shape = (height // factor, width // factor, channels)
    small = _unit_floats(images, shape, f"this VAE makes images of {height}x{width}, and factor {factor} those of this")
    chosen: Method = "hamiltonian" if method == "auto" else method
    if chosen in ("pseudo_gibbs", "metropolis") and config.vae.likelihood == "bernoulli":
        raise ValueError(
            f"{chosen} cannot draw binary pixels that have given sums: choose importance, map or hamiltonian"
        )
    run, params = _ready(_super_resolve_rows, config, (factor, kernel, chosen, num_samples, effort), params, mesh)
    found, health = run((params, key), (_positions(position, small), small))
    return Restoration(found, chosen, health)


def check_mask(mask: np.ndarray, num: int, shape: Sequence[int]) -> np.ndarray:
    """A mask as bool [num, h, w, 1]; ValueError with the sizes, or for an image with nothing, or all of it, missing."""
    height, width, _ = shape
    if mask.dtype != bool or mask.shape not in ((height, width), (num, height, width)):
        raise ValueError(
            f"expected a mask of bools [{height}, {width}] or [{num}, {height}, {width}], True where a pixel is "
            f"missing, got {mask.dtype} {list(mask.shape)}"
        )
    missing = np.broadcast_to(mask, (num, height, width))
    share = missing.mean(axis=(1, 2))
    if share.min() == 0:
        raise ValueError(
            f"nothing of image {int(share.argmin())} is missing: the mask is True where pixels are missing"
        )
    if share.max() == 1:
        raise ValueError(f"nothing of image {int(share.argmax())} is observed: for new images, sample from the prior")
    return missing[..., None]


def check_factor(config: VaeRun, factor: int) -> None:
    """Raises ValueError, with the sizes that can be enlarged, unless `factor` divides the size of the VAE's images."""
    height, width, _ = config.data.image_shapes[0]
    possible = [f for f in FACTORS if height % f == 0 and width % f == 0]
    if factor not in possible:
        takes = ", ".join(f"{height // f}x{width // f} by factor {f}" for f in possible) or "none"
        raise ValueError(f"factor {factor} cannot lead to this VAE's {height}x{width} images; it enlarges: {takes}")


def downsampling(size: int, factor: int, kernel: Kernel) -> np.ndarray:
    """A [size / factor, size]: Pillow's box or bicubic (antialiased) scaling along one side, in float64."""
    resample = {"box": Image.Resampling.BOX, "bicubic": Image.Resampling.BICUBIC}[kernel]
    columns = Image.fromarray(np.eye(size, dtype=np.float32))
    rows = np.asarray(columns.resize((size, size // factor), resample), np.float64)
    return rows / rows.sum(axis=1, keepdims=True)


def downsample(images: np.ndarray, factor: int, kernel: Kernel) -> np.ndarray:
    """Floats [..., h, w, c] to [..., h / factor, w / factor, c]."""
    rows, columns = (downsampling(size, factor, kernel) for size in images.shape[-3:-1])
    return np.einsum("ih,...hwc,jw->...ijc", rows, images, columns, optimize=True)


def _inpaint_rows(
    config: VaeRun, method: Method, num: int, effort: Effort, params: Any, key: Array, position: Array, x: Array,
    missing: Array,
) -> tuple[Array, Array]:  # fmt: skip
    observed, missing = x[:, None], missing[:, None]

    def log_prob(pixels: nets.Pixels) -> Array:
        each = losses.pixel_log_prob(config.vae, pixels, observed)
        return jnp.sum(jnp.where(missing, 0.0, each), axis=(2, 3, 4))

    def complete(images: Array) -> Array:
        return jnp.where(missing, images, observed)

    return _restore(config, method, num, effort, params, key, position, Evidence(log_prob, complete), x.shape)


def _super_resolve_rows(
    config: VaeRun, factor: int, kernel: Kernel, method: Method, num: int, effort: Effort, params: Any, key: Array,
    position: Array, small: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """Of y = A x, with A = L B for a lower triangular L and rows of B that are orthonormal, along either side.

    So for Gaussian pixels L^-1 y is N(B mean, sigma^2) given z, and B^T L^-1 is the pseudo-inverse of A.
    """
    height, width, channels = config.data.image_shapes[0]
    a = [downsampling(size, factor, kernel) for size in (height, width)]
    lower = [np.linalg.cholesky(side @ side.T) for side in a]
    b = [np.linalg.solve(low, side) for low, side in zip(lower, a, strict=True)]
    whiten = [np.linalg.inv(low) for low in lower]

    def apply(sides: Sequence[np.ndarray], images: Array) -> Array:
        rows, columns = (jnp.asarray(side, images.dtype) for side in sides)
        return jnp.einsum("ih,bkhwc,jw->bkijc", rows, images, columns, precision="highest")

    given = small[:, None]
    whitened = apply(whiten, given)

    def log_prob(pixels: nets.Pixels) -> Array:
        if config.vae.likelihood != "bernoulli":
            scaled = pixels._replace(location=apply(b, pixels.location))
            return jnp.sum(losses.pixel_log_prob(config.vae, scaled, whitened), axis=(2, 3, 4))
        # A sum of binary pixels is scored as if all that it is of had its mean: factor^2 Bernoulli terms.
        mean = jnp.clip(apply(a, jax.nn.sigmoid(pixels.location)), 1e-6, 1 - 1e-6)
        each = given * jnp.log(mean) + (1 - given) * jnp.log1p(-mean)
        return factor**2 * jnp.sum(each, axis=(2, 3, 4))

    def complete(images: Array) -> Array:
        back = [side.T for side in b]
        return images + apply(back, whitened - apply(b, images))

    def project(images: Array) -> Array:
        return jnp.clip(complete(images), 0, 1)

    def agree(images: Array) -> Array:
        def apart(images: Array) -> Array:
            return jnp.max(jnp.abs(apply(a, images) - given), axis=(2, 3, 4), keepdims=True) > CONSISTENT

        def further(turn: tuple[Array, Array]) -> tuple[Array, Array]:  # each image for as long as it needs, alone
            return turn[0] + 1, jnp.where(apart(turn[1]), project(turn[1]), turn[1])

        images = jax.lax.fori_loop(0, PROJECTIONS, lambda _, images: project(images), images)
        unfinished = lambda turn: (turn[0] < MOST_PROJECTIONS) & jnp.any(apart(turn[1]))  # noqa: E731
        return jax.lax.while_loop(unfinished, further, (jnp.int32(PROJECTIONS), images))[1]

    shape = (len(small), height, width, channels)
    found, health = _restore(config, method, num, effort, params, key, position, Evidence(log_prob, complete), shape)
    return agree(found), health


def _restore(
    config: VaeRun, method: Method, num: int, effort: Effort, params: Any, key: Array, position: Array,
    evidence: Evidence, shape: tuple[int, ...],
) -> tuple[Array, Array]:  # fmt: skip
    """E[x|z] [b, num, h, w, c] in [0, 1] for each draw of z, and the health of the draws [b]."""
    guess_key, row_key = jax.random.split(keys.for_step(key, Stream.RESTORE, 0))
    noise = keys.normal(keys.per_example(guess_key, jnp.arange(64)), config.vae.latent_dim)
    mean = jnp.mean(losses.mean_image(config.vae, nets.decode(config, params, noise)), axis=0)
    guess = evidence.complete(jnp.broadcast_to(mean, (shape[0], 1, *shape[1:])))
    row_keys = keys.per_example(row_key, position)
    found = inference.infer(config, params, evidence, method, row_keys, guess, num, effort)
    pixels = nets.decode(config, params, found.z.reshape(-1, found.z.shape[-1]))
    images = losses.mean_image(config.vae, pixels).reshape(shape[0], num, *shape[1:])
    return jnp.clip(images, 0, 1), found.health


def _ready(rows: Callable, config: VaeRun, static: tuple, params: Any, mesh: Mesh | None) -> tuple[Callable, Any]:
    """`rows` compiled for the devices of `mesh`, by default all, and the parameters on each of them."""
    mesh = mesh or parallel.make_mesh()
    return _compiled(rows, config, static, mesh), jax.device_put(params, NamedSharding(mesh, parallel.REPLICATED))


@functools.lru_cache(maxsize=16)
def _compiled(rows: Callable, config: VaeRun, static: tuple, mesh: Mesh) -> Callable:
    """`rows(config, *static, *shared, *examples)` for any number of examples, a few at a time: each has many chains."""

    def bound(config: VaeRun, *arguments: Any) -> Any:
        return rows(config, *static, *arguments)

    return compile_rows(bound, config, mesh, chunk=8)


def _positions(position: np.ndarray | None, images: np.ndarray) -> np.ndarray:
    return np.arange(len(images), dtype=np.int32) if position is None else np.asarray(position, np.int32)


def _check_num(num_samples: int) -> None:
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")


def _unit_floats(images: np.ndarray, shape: Sequence[int], why: str) -> np.ndarray:
    if images.ndim != 4 or images.shape[1:] != tuple(shape):
        raise ValueError(f"expected images [n, {', '.join(map(str, shape))}] ({why}), got {list(images.shape)}")
    return image_arrays.unit_floats(images)

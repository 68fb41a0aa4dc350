"""Operators that restoration inverts: an image x is observed as y. Those with noise are in linear.py.

An operator is a pytree: its arrays have a row for each image, its settings are static. In `log_prob`, `impute`,
`sample` and `project`, images are [b, k, h, w, c], and y and the arrays of the operator are [b, 1, ...].
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NoReturn, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

from genjax.data import image_arrays
from genjax.vae.distributions import Bernoulli, Distribution, LogisticMixture

Kernel = Literal["box", "bicubic"]
FACTORS = (2, 4, 8)
# Least and largest number of rounds of back-projection and clipping; an image that is CONSISTENT needs no more. Box
# mostly needs no more than the least number, bicubic by factor 2 needs hundreds.
NUM_PROJECTIONS, MAX_PROJECTIONS = 50, 2000
CONSISTENT = 0.25 / 255  # largest allowed difference between an observed pixel and the enlarged image scaled down again


class Operator(Protocol):
    """The interface between an operator and `Sampler.restore`."""

    def check(self, observed: np.ndarray, image_shape: Sequence[int]) -> tuple["Operator", np.ndarray]:
        """Returns the operator and y (float32) for n images, with arrays [n, ...].

        `image_shape` is that of the model's images. Raises ValueError for shapes or types that do not match it.
        """

    def observe(self, images: np.ndarray, key: Array, position: np.ndarray) -> np.ndarray:
        """Returns y of images [n, h, w, c]; its noise, if any, is from `key` and position[i] for image i."""

    def log_prob(self, likelihood: Distribution, y: Array) -> Array:
        """Returns log p(y|z) in nats: [b, k]."""

    def impute(self, images: Array, y: Array) -> Array:
        """Returns the nearest images that agree with y."""

    def sample(self, likelihood: Distribution, y: Array, image_keys: Array) -> Array:
        """Draws images from p(x|z, y) with keys [b, k]; raises ValueError for pixels of which it cannot."""

    def project(self, likelihood: Distribution, y: Array) -> Array:
        """Returns images in [0, 1] near E[x|z] that agree with y, the results of a restoration."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mask:
    """Inpainting: y is the image, known where `missing` is False; those pixels come back bit for bit."""

    missing: np.ndarray  # bool [h, w] or [n, h, w]

    def check(self, observed: np.ndarray, image_shape: Sequence[int]) -> tuple["Mask", np.ndarray]:
        """Returns the mask [n, h, w, 1], and images [n, h, w, c], uint8 or in [0, 1], as float32."""
        y = _unit_floats(observed, image_shape, "this VAE was trained on images of that size")
        (height, width, _), num, missing = image_shape, len(y), self.missing
        if missing.dtype != bool or missing.shape not in ((height, width), (num, height, width)):
            raise ValueError(
                f"expected a mask of bools [{height}, {width}] or [{num}, {height}, {width}], True where a pixel is "
                f"missing, got {missing.dtype} {list(missing.shape)}"
            )
        missing = np.broadcast_to(missing, (num, height, width))
        share = missing.mean(axis=(1, 2))
        if num and share.min() == 0:
            raise ValueError(f"image {int(share.argmin())} has no missing pixel: the mask is True where one is missing")
        if num and share.max() == 1:
            raise ValueError(f"image {int(share.argmax())} has no observed pixel: for new images, sample the prior")
        return Mask(missing[..., None]), y

    def observe(self, images: np.ndarray, key: Array, position: np.ndarray) -> np.ndarray:
        """Returns the images themselves: missing pixels are not looked at."""
        return images

    def log_prob(self, likelihood: Distribution, y: Array) -> Array:
        """Returns log p(observed pixels|z): [b, k]."""
        return jnp.sum(jnp.where(self.missing, 0.0, likelihood.log_prob_per_pixel(y)), axis=(2, 3, 4))

    def impute(self, images: Array, y: Array) -> Array:
        """Returns the images with the observed pixels put back."""
        return jnp.where(self.missing, images, y)

    def sample(self, likelihood: Distribution, y: Array, image_keys: Array) -> Array:
        """Draws the missing pixels."""
        return self.impute(likelihood.sample(image_keys), y)

    def project(self, likelihood: Distribution, y: Array) -> Array:
        """Returns E[x|z], clipped to [0, 1], with the observed pixels put back."""
        return self.impute(jnp.clip(likelihood.mean(), 0, 1), y)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Downsample:
    """Super-resolution: y is the image scaled down by `factor` (2, 4 or 8) as in Pillow.

    Along each side A = L B, with L lower triangular and orthonormal rows in B. So for Gaussian pixels L^-1 y is
    N(B mean, sigma^2) given z, and B^T L^-1 is the pseudo-inverse of A.
    """

    factor: int = dataclasses.field(metadata={"static": True})
    kernel: Kernel = dataclasses.field(default="box", metadata={"static": True})

    def check(self, observed: np.ndarray, image_shape: Sequence[int]) -> tuple["Downsample", np.ndarray]:
        """Returns itself, and images [n, h / factor, w / factor, c], uint8 or in [0, 1], as float32."""
        height, width, channels = image_shape
        small = (*self.small_size((height, width)), channels)
        why = f"this VAE makes images of {height}x{width}, and factor {self.factor} those of this"
        return self, _unit_floats(observed, small, why)

    def small_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the size of small images; raises ValueError with possible factors if the factor does not divide."""
        height, width = size
        possible = [f for f in FACTORS if height % f == 0 and width % f == 0]
        if self.factor not in possible:
            takes = ", ".join(f"{height // f}x{width // f} by factor {f}" for f in possible) or "none"
            raise ValueError(
                f"factor {self.factor} cannot lead to this VAE's {height}x{width} images; it enlarges: {takes}"
            )
        return height // self.factor, width // self.factor

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Scales floats [..., h, w, c] down, in float64."""
        rows, columns = (downsampling_matrix(size, self.factor, self.kernel) for size in images.shape[-3:-1])
        return np.einsum("ih,...hwc,jw->...ijc", rows, images, columns, optimize=True)

    def observe(self, images: np.ndarray, key: Array, position: np.ndarray) -> np.ndarray:
        """Returns the images scaled down, without noise."""
        return self.apply(images).astype(np.float32)

    def log_prob(self, likelihood: Distribution, y: Array) -> Array:
        """Returns log p(y|z) up to a constant, exact for Gaussian pixels and approximate for binary ones.

        A sum of binary pixels is scored as factor^2 Bernoulli pixels that all have the mean of the sum. Raises
        ValueError for a logistic mixture.
        """
        if isinstance(likelihood, LogisticMixture):
            refuse_mixture("enlarging")
        if not isinstance(likelihood, Bernoulli):
            # Given z the numbers of L^-1 y are independent, which those of y need not be.
            projected = likelihood._replace(location=_two_sided(self._orthonormal(y), likelihood.location))
            return jnp.sum(projected.log_prob_per_pixel(self._whitened(y)), axis=(2, 3, 4))
        # Bicubic weights can be negative, so their mean may leave (0, 1): clip it to a probability.
        mean = jnp.clip(_two_sided(self._matrices(y), likelihood.mean()), 1e-6, 1 - 1e-6)
        return self.factor**2 * jnp.sum(y * jnp.log(mean) + (1 - y) * jnp.log1p(-mean), axis=(2, 3, 4))

    def impute(self, images: Array, y: Array) -> Array:
        """Returns x + A^+ (y - A x) (back-projection)."""
        # A^+ = B^T L^-1, so the change is B^T (L^-1 y - B x); no other change that agrees with y is smaller.
        b = self._orthonormal(y)
        return images + _two_sided([side.T for side in b], self._whitened(y) - _two_sided(b, images))

    def sample(self, likelihood: Distribution, y: Array, image_keys: Array) -> Array:
        """Draws Gaussian pixels; raises ValueError for binary ones."""
        if isinstance(likelihood, Bernoulli):
            refuse_gibbs("Downsample")
        return self.impute(likelihood.sample(image_keys), y)

    def project(self, likelihood: Distribution, y: Array) -> Array:
        """Imputes E[x|z] and clips in turn; the number of rounds of an image does not depend on other images."""
        # Alternating projections onto two convex sets: the images that agree with y, and those within [0, 1].

        def once(images: Array) -> Array:
            return jnp.clip(self.impute(images, y), 0, 1)

        def inconsistent(images: Array) -> Array:
            error = jnp.abs(_two_sided(self._matrices(y), images) - y)
            return jnp.max(error, axis=(2, 3, 4), keepdims=True) > CONSISTENT

        def unfinished(turn: tuple[Array, Array]) -> Array:
            return (turn[0] < MAX_PROJECTIONS) & jnp.any(inconsistent(turn[1]))

        def further(turn: tuple[Array, Array]) -> tuple[Array, Array]:
            return turn[0] + 1, jnp.where(inconsistent(turn[1]), once(turn[1]), turn[1])

        images = jnp.clip(likelihood.mean(), 0, 1)
        images = jax.lax.fori_loop(0, NUM_PROJECTIONS, lambda _, images: once(images), images)
        return jax.lax.while_loop(unfinished, further, (jnp.int32(NUM_PROJECTIONS), images))[1]

    # All of these are NumPy, in float64, while JAX traces: constants of the program.
    def _matrices(self, y: Array) -> list[np.ndarray]:
        """Returns the matrices A along height and width for small images y."""
        return [downsampling_matrix(size * self.factor, self.factor, self.kernel) for size in y.shape[2:4]]

    def _triangular(self, y: Array) -> list[np.ndarray]:
        return [np.linalg.cholesky(side @ side.T) for side in self._matrices(y)]

    def _orthonormal(self, y: Array) -> list[np.ndarray]:
        return [np.linalg.solve(low, side) for low, side in zip(self._triangular(y), self._matrices(y), strict=True)]

    def _whitened(self, y: Array) -> Array:
        return _two_sided([np.linalg.inv(low) for low in self._triangular(y)], y)


def refuse_gibbs(what: str) -> NoReturn:
    """Raises ValueError: Gibbs sampling cannot draw binary pixels given y."""
    raise ValueError(f"Gibbs sampling cannot impute binary pixels for {what}: choose method importance, map or hmc")


def refuse_mixture(what: str) -> NoReturn:
    """Raises ValueError: p(y|z) of sums of pixels has no closed form for a logistic mixture."""
    raise ValueError(
        f"{what} needs p(y|z) of sums or noisy values of pixels, which a logistic mixture does not have in closed "
        "form: train with --vae.likelihood gaussian_learned or gaussian; inpainting works with a mixture too"
    )


def downsampling_matrix(size: int, factor: int, kernel: Kernel) -> np.ndarray:
    """Returns A [size / factor, size]: Pillow's box or bicubic (antialiased) scaling along one side, in float64."""
    # Scaling is linear, so scaling the identity matrix gives the matrix of the map.
    resample = {"box": Image.Resampling.BOX, "bicubic": Image.Resampling.BICUBIC}[kernel]
    columns = Image.fromarray(np.eye(size, dtype=np.float32))
    rows = np.asarray(columns.resize((size, size // factor), resample), np.float64)
    return rows / rows.sum(axis=1, keepdims=True)  # Pillow's rows sum to 1 up to float32


def _two_sided(sides: Sequence[np.ndarray], images: Array) -> Array:
    """Computes R x C^T for each channel, with `sides` (R, C)."""
    rows, columns = (jnp.asarray(side, images.dtype) for side in sides)
    return jnp.einsum("ih,bkhwc,jw->bkijc", rows, images, columns, precision="highest")


def _unit_floats(images: np.ndarray, shape: Sequence[int], why: str) -> np.ndarray:
    if images.ndim != 4 or images.shape[1:] != tuple(shape):
        raise ValueError(f"expected images [n, {', '.join(map(str, shape))}] ({why}), got {list(images.shape)}")
    return image_arrays.unit_floats(images)

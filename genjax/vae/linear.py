"""Linear operators with Gaussian noise, y = A x + sigma n: noise alone, blur, grey of colour, random measurements.

A = U S V^T is kept as singular value decompositions: one of each side of the image, if A acts on the sides apart, as a
blur does; no matrix for a side that it leaves alone. In the coordinates V^T x and U^T y each number is observed by
itself (Kawar, Elad, Ermon and Song 2022), so nothing has to be inverted. With Gaussian pixels everything here is exact.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from jax import Array

from genjax import keys
from genjax.checks import require
from genjax.data import image_arrays
from genjax.vae.distributions import Bernoulli, Distribution, LogisticMixture
from genjax.vae.operators import refuse_gibbs, refuse_mixture

PIXEL_VARIANCE = 0.25
"""Largest variance of a number in [0, 1] (Popoviciu's inequality), that of unknown pixels in a first guess."""


class Factor(NamedTuple):
    """Thin singular value decomposition of a matrix [m, n], with r = min(m, n)."""

    left: np.ndarray  # [..., m, r]
    scale: np.ndarray  # [..., r]
    right: np.ndarray  # [..., n, r]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Linear:
    """y = A x + sigma n with n ~ N(0, I), made by the functions below.

    Three factors act on height, width and channels; a single one acts on all pixels in a row, and y is [n, m] then.
    """

    factors: tuple[Factor | None, ...]
    sigma: np.ndarray
    """[], or for n images [n, 1, ...]; standard deviation of the noise, above 0, in the units of y."""

    def check(self, observed: np.ndarray, image_shape: Sequence[int]) -> tuple["Linear", np.ndarray]:
        """Returns the operator and y of n images: uint8, uint16, or floats, which noise may lead out of [0, 1]."""
        own = tuple(image_shape) if len(self.factors) > 1 else (math.prod(image_shape),)
        for factor, size in zip(self.factors, own, strict=True):
            if factor is not None and len(factor.right) != size:
                raise ValueError(f"this operator is for {len(factor.right)} where the VAE's images have {size}: {own}")
        shape = tuple(s if f is None else len(f.left) for f, s in zip(self.factors, own, strict=True))
        if observed.shape[1:] != shape or observed.ndim != 1 + len(shape):
            raise ValueError(f"expected observations [n, {', '.join(map(str, shape))}], got {list(observed.shape)}")
        if not np.issubdtype(observed.dtype, np.floating):
            observed = image_arrays.unit_floats(observed)
        if not np.isfinite(observed).all():
            raise ValueError("expected finite observations, got NaN or infinite ones")
        sigma = np.reshape(self.sigma, (1,) * len(shape))

        def rows(leaf: np.ndarray) -> np.ndarray:
            return np.broadcast_to(np.float32(leaf), (len(observed), *leaf.shape))

        return jax.tree.map(rows, Linear(self.factors, sigma)), observed.astype(np.float32)

    def observe(self, images: np.ndarray, key: Array, position: np.ndarray) -> np.ndarray:
        """Returns A x + sigma n of images [n, h, w, c]. The noise of image i follows from `key` and position[i]."""
        y = self.apply(images)
        noise = keys.normal(keys.per_example(key, jnp.asarray(position)), math.prod(y.shape[1:]))
        return (y + self.sigma * np.asarray(noise).reshape(y.shape)).astype(np.float32)

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Returns A x of images [n, h, w, c], in float64."""
        x = np.asarray(images, np.float64)
        x = x if len(self.factors) > 1 else x.reshape(len(x), -1)
        for axis, factor in enumerate(self.factors, 1):
            if factor is not None:
                matrix = factor.left * factor.scale @ factor.right.T
                x = np.moveaxis(np.tensordot(x, matrix, (axis, 1)), -1, axis)  # the new axis comes last
        return x

    def log_prob(self, likelihood: Distribution, y: Array) -> Array:
        """Returns log p(y|z) up to a constant: exact for Gaussian pixels, and for noise on binary ones.

        Otherwise each number of V^T x counts as a Gaussian with its mean and variance under p(x|z). Raises ValueError
        for a logistic mixture, whose channels depend on each other.
        """
        if isinstance(likelihood, Bernoulli) and self._is_noise:
            # The sum over both values of a pixel: p N(y; 1, sigma^2) + (1 - p) N(y; 0, sigma^2).
            seen = jax.nn.softplus(self._given(likelihood, y).logits) - jax.nn.softplus(likelihood.logits)
            return _sum(seen - 0.5 * (y / self.sigma) ** 2)
        scale = self._scale()
        # In the coordinates U^T y and V^T x: y_i = s_i x_i + sigma n_i, each number by itself.
        variance = scale**2 * self._variance(likelihood) + self.sigma**2
        error = self._to_y_coordinates(y) - scale * self._to_x_coordinates(likelihood.mean())
        return _sum(-0.5 * (error**2 / variance + jnp.log(variance)))

    def impute(self, images: Array, y: Array) -> Array:
        """Returns images between those given and y, as close to y as its noise lets one be (a Wiener filter)."""
        return self._corrected(images, jnp.asarray(PIXEL_VARIANCE, images.dtype), y)

    def sample(self, likelihood: Distribution, y: Array, image_keys: Array) -> Array:
        """Draws x from p(x|z, y); raises ValueError for binary pixels of which y holds sums."""
        if isinstance(likelihood, Bernoulli):
            if not self._is_noise:
                refuse_gibbs("y = A x + noise, but for noise alone")
            return self._given(likelihood, y).sample(image_keys)
        split = jax.vmap(jax.vmap(jax.random.split))(image_keys)
        # Matheron's rule: draw x and y from p(x, y|z), and correct x by the error of that y.
        x = likelihood.sample(split[..., 0])
        expected = self._to_x_coordinates(x)
        noise = keys.normal(split[..., 1].reshape(-1), math.prod(expected.shape[2:])).reshape(expected.shape)
        return self._corrected(x, self._variance(likelihood), y, self.sigma * noise)

    def project(self, likelihood: Distribution, y: Array) -> Array:
        """Returns the best linear estimate of x from z and y, in [0, 1]. For Gaussian pixels it is E[x|z, y]."""
        return jnp.clip(self._corrected(likelihood.mean(), self._variance(likelihood), y), 0, 1)

    @property
    def _is_noise(self) -> bool:
        return not any(self.factors)

    def _given(self, likelihood: Bernoulli, y: Array) -> Bernoulli:
        """Returns p(x|z, y) of binary pixels that are observed with noise alone."""
        # Bayes: the log odds gain log N(y; 1, sigma^2) - log N(y; 0, sigma^2).
        return Bernoulli(likelihood.logits + (y - 0.5) / self.sigma**2)

    def _corrected(self, x: Array, variance: Array, y: Array, noise: Array | np.ndarray | float = 0.0) -> Array:
        """Adds to x the change E[x' - x | y - noise]. V^T x' has mean V^T x and `variance`."""
        scale = self._scale()
        gain = scale * variance / (scale**2 * variance + self.sigma**2)  # Kalman's, for each number
        error = self._to_y_coordinates(y) - noise - scale * self._to_x_coordinates(x)
        back = [None if factor is None else factor.right.swapaxes(-1, -2) for factor in self.factors]
        return x + _multiply(gain * error, back).reshape(x.shape)

    def _variance(self, likelihood: Distribution) -> Array:
        """Returns the variances of V^T x under p(x|z); raises ValueError for a logistic mixture."""
        if isinstance(likelihood, LogisticMixture):
            refuse_mixture("y = A x + noise")
        variance = likelihood.variance()
        if not variance.ndim:  # one for all pixels, and the columns of V are orthonormal
            return variance
        # Pixels are independent given z: Var(sum v_i x_i) = sum v_i^2 Var(x_i).
        squared = [None if factor is None else factor.right**2 for factor in self.factors]
        return _multiply(self._flat(variance), squared)

    def _to_x_coordinates(self, images: Array) -> Array:
        return _multiply(self._flat(images), [None if factor is None else factor.right for factor in self.factors])

    def _to_y_coordinates(self, y: Array) -> Array:
        return _multiply(y, [None if factor is None else factor.left for factor in self.factors])

    def _flat(self, images: Array) -> Array:
        return images if len(self.factors) > 1 else images.reshape(*images.shape[:2], -1)

    def _scale(self) -> Array:
        """Returns the singular values of A: [b, 1, r, ...], with 1 for sides that it leaves alone."""
        scale: Array = jnp.ones_like(self.sigma)
        for axis, factor in enumerate(self.factors, 2):
            if factor is not None:
                others = [i for i in range(2, 2 + len(self.factors)) if i != axis]
                scale = scale * jnp.expand_dims(factor.scale, others)  # of a Kronecker product, all products
        return scale


def noise(sigma: float) -> Linear:
    """Makes the operator that only adds noise: denoising."""
    return Linear((None, None, None), _checked(sigma))


def blur(image_shape: Sequence[int], width: float, sigma: float) -> Linear:
    """Makes a Gaussian blur of standard deviation `width` in pixels, by SciPy's filter, which mirrors at the edges."""
    require(math.isfinite(width) and width > 0, f"the width of a blur must be positive, got {width}")
    # A filter is linear, so what it makes of the identity is its matrix.
    sides = (scipy.ndimage.gaussian_filter1d(np.eye(size), width, axis=0) for size in image_shape[:2])
    return Linear((*map(_factor, sides), None), _checked(sigma))


def gray(image_shape: Sequence[int], sigma: float) -> Linear:
    """Makes the map from red, green and blue to grey as in Pillow: colourisation."""
    channels = image_shape[2]
    require(
        channels == 3, f"colour has 3 channels, and this VAE was trained on images with {channels}: take another VAE"
    )
    return Linear((None, None, _factor(np.array([image_arrays.LUMA]))), _checked(sigma))


def measurements(matrix: np.ndarray, sigma: float) -> Linear:
    """Makes measurements by a matrix [m, h * w * c], a row for each number (Bora et al. 2017)."""
    require(matrix.ndim == 2, f"the matrix must be [m, h * w * c], got {list(matrix.shape)}")
    require(bool(np.isfinite(matrix).all()), "the matrix must be finite, got NaN or infinite numbers")
    return Linear((_factor(np.asarray(matrix, np.float64)),), _checked(sigma))


def random_matrix(key: Array, num: int, image_shape: Sequence[int]) -> np.ndarray:
    """Draws a matrix A [num, h * w * c] of N(0, 1 / num). A x is about as long as x."""
    require(num >= 1, f"the number of measurements must be at least 1, got {num}")
    drawn = keys.normal(keys.per_example(key, jnp.arange(num)), math.prod(image_shape))
    return np.asarray(drawn, np.float64) / math.sqrt(num)


def _checked(sigma: float) -> np.ndarray:
    require(math.isfinite(sigma) and sigma > 0, f"the sigma of the noise must be positive, got {sigma}")
    return np.array(sigma, np.float64)


def _factor(matrix: np.ndarray) -> Factor:
    left, scale, right = np.linalg.svd(matrix, full_matrices=False)
    return Factor(left, scale, right.T)


def _multiply(x: Array, matrices: Sequence[np.ndarray | None]) -> Array:
    """Multiplies axis 2 + i of x by matrices[i]; None leaves it alone. x is [b, k, ...]; [b, 1, n, r] makes n to r."""
    for axis, matrix in enumerate(matrices, 2):
        if matrix is not None:
            last = jnp.moveaxis(x, axis, -1)
            x = jnp.moveaxis(jnp.einsum("bk...n,bnr->bk...r", last, matrix[:, 0], precision="highest"), -1, axis)
    return x


def _sum(x: Array) -> Array:
    return jnp.sum(x, axis=tuple(range(2, x.ndim)))

"""Networks of a ladder VAE whose latents are wavelet coefficients: pixels are linear in them, and networks the prior.

An image is a mean and, from the coarsest scale to the finest, the details that halve the size of a pixel (Haar 1910).
Convolutions give each group of details a normal prior, a function of all that is coarser (Yu, Derpanis and Brubaker
2020). With Gaussian pixels an image tells of each coefficient by itself, as the basis is orthogonal. So the posterior
of a group is the exact one by its prior and its pixels; only what it tells of the groups after it is left out.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from genjax.vae import posterior
from genjax.vae.ladder import SMALL, split
from genjax.vae.nets import Activation
from genjax.vae.posterior import Posterior, bounded
from genjax.vae.spatial import Cell, Shapes

UNIT = 0.02
"""Pixel difference that is 1 in the latents: about 5 of 256 levels; priors begin near the right width."""
HAAR = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 4
"""Mean of a 2x2 block, and its horizontal, vertical and diagonal details; the inverse is 4 times the transpose."""


def map_shapes(image_shape: tuple[int, int, int], num_levels: int, groups: tuple[int, ...]) -> Shapes:
    """Returns height, width and channels of each colour of the mean, then of the groups of details, coarsest first."""
    height, width, channels = image_shape
    strides = [2**level for level in range(num_levels, 0, -1)]
    mean = (height // strides[0], width // strides[0], 1)
    return (*[mean] * channels, *((height // s, width // s, size) for s in strides for size in groups))


def colours(num: int) -> np.ndarray:
    """Returns an orthonormal basis of `num` channels, brightness first: the cosine transform (DCT-II)."""
    k, n = np.mgrid[:num, :num]
    return np.where(k == 0, np.sqrt(1 / num), np.sqrt(2 / num)) * np.cos(np.pi * (n + 0.5) * k / num)


def analyse(images: Array, num_levels: int) -> list[Array]:
    """Returns the mean and the details [b, h, w, 3c] of images in [0, 1], three per colour, coarsest first."""
    x = (images - 0.5) / UNIT @ jnp.asarray(colours(images.shape[-1]).T, images.dtype)
    details = []
    for _ in range(num_levels):
        b, h, w, c = x.shape
        # [b, h / 2, w / 2, c, 4]: the pixels of each 2x2 block, row by row.
        blocks = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(b, h // 2, w // 2, c, 4)
        parts = jnp.einsum("bhwcp,qp->bhwcq", blocks, jnp.asarray(HAAR, x.dtype))
        x = parts[..., 0]  # the means are the image of the next coarser scale
        details.append(parts[..., 1:].reshape(b, h // 2, w // 2, 3 * c))
    return [x, *reversed(details)]


def refine(mean: Array, details: Array) -> Array:
    """Doubles height and width: adds details [b, h, w, 3c] to the mean [b, h, w, c]."""
    b, h, w, c = mean.shape
    parts = jnp.concatenate([mean[..., None], details.reshape(b, h, w, c, 3)], axis=-1)
    blocks = jnp.einsum("bhwcq,qp->bhwcp", parts, jnp.asarray(4 * HAAR, mean.dtype)).reshape(b, h, w, c, 2, 2)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(b, 2 * h, 2 * w, c)


def differences(x: Array) -> Array:
    """Returns the 8 neighbours of each pixel less the pixel, 0 over the edge. [b, h, w, c] gives [b, h, w, 8c]."""
    _, h, w, _ = x.shape
    wide = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    places = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    return jnp.concatenate([wide[:, i : i + h, j : j + w] - x for i, j in places], axis=-1)


class Encoder(nn.Module):
    """Maps images to the coefficients of each group. It has no parameters."""

    num_levels: int
    groups: tuple[int, ...]

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, ...]:
        """Maps [b, h, w, c] to the coefficients [b, h, w, channels] of each group."""
        mean, *details = analyse(images, self.num_levels)
        ends = np.cumsum(self.groups)[:-1]
        colours = jnp.split(mean, mean.shape[-1], axis=-1)
        return (*colours, *(part for each in details for part in jnp.split(each, ends, axis=-1)))


class Decoder(nn.Module):
    """Maps all latents to pixels. It has no parameters."""

    shapes: Shapes
    channels: int
    num_levels: int

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Maps [b, d] to means [b, h, w, c]."""
        parts = split(z, tuple(map(math.prod, self.shapes)))
        groups = [part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]
        mean, details = jnp.concatenate(groups[: self.channels], axis=-1), groups[self.channels :]
        num = len(details) // self.num_levels
        for level in range(self.num_levels):
            mean = refine(mean, jnp.concatenate(details[level * num : (level + 1) * num], axis=-1))
        return mean @ jnp.asarray(colours(self.channels), z.dtype) * UNIT + 0.5


class Latents(nn.Module):
    """Draws the groups from the coarsest to the finest, by the posterior or by the prior."""

    hidden_sizes: tuple[int, ...]
    shapes: Shapes
    channels: int
    sigma: float
    activation: Activation = nn.silu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, observed: tuple[Array, ...] | None, noise: Array, given: bool = False) -> posterior.Latents:
        """Draws from standard normal noise [b, d]; from the prior, for which noise is e, without coefficients.

        If `given`, the last argument is e, and nothing is drawn.
        """
        num_levels = len(self.hidden_sizes)
        num = (len(self.shapes) - self.channels) // num_levels
        parts = [
            part.reshape(-1, *shape)
            for part, shape in zip(split(noise, tuple(map(math.prod, self.shapes))), self.shapes, strict=True)
        ]
        zs: list[Array] = []
        normals: list[Posterior] = []

        def draw(prior: Posterior, stride: int) -> Array:
            seen = None if observed is None else observed[len(zs)]
            # A coefficient is a signed mean of stride^2 pixels: their noise divided by stride.
            normal = _posterior(prior, seen, self.sigma / (stride * UNIT))
            e = parts[len(zs)] if given else normal.sample(parts[len(zs)])
            zs.append(prior.sample(e))
            normals.append(Posterior(*(leaf.reshape(noise.shape[0], -1) for leaf in normal)))
            return zs[-1]

        # Colours of the mean one after the other: few are likely beside a given brightness.
        one = jnp.ones((noise.shape[0], *self.shapes[0][:2], 1), noise.dtype)
        for i in range(self.channels):
            seen = jnp.concatenate([one, *(0.1 * z for z in zs)], axis=-1)
            state = nn.Conv(self.hidden_sizes[-1], (3, 3), dtype=self.dtype, name=f"seen_mean_{i}")(seen)
            state = Cell(self.activation, self.dtype, name=f"cell_mean_{i}")(state)
            draw(self._normal(state, 1, f"mean_{i}", noise.dtype), 2**num_levels)
        # Nothing came before the coarsest scale: its state has 0 channels.
        mean, state = jnp.concatenate(zs, axis=-1), jnp.zeros((*one.shape[:3], 0), noise.dtype)
        for level in reversed(range(num_levels)):
            near = differences(mean)
            # arcsinh is linear for small differences, and logarithmic for those at edges.
            seen = jnp.concatenate([0.1 * mean, jnp.arcsinh(near), state], axis=-1)
            state = nn.Conv(self.hidden_sizes[level], (3, 3), dtype=self.dtype, name=f"seen_{level}")(seen)
            state = Cell(self.activation, self.dtype, name=f"cell_{level}")(state)
            details: list[Array] = []
            for i in range(num):
                channels = self.shapes[len(zs)][-1]
                linear = jnp.concatenate([near, *details], axis=-1)
                prior = self._prior(state, linear, channels, f"{level}_{i}", noise.dtype)
                details.append(draw(prior, 2 ** (level + 1)))
                if level == 0 and i == num - 1:
                    break  # nothing comes after it
                added = jnp.arcsinh(details[-1])
                state = state + nn.Conv(state.shape[-1], (1, 1), dtype=self.dtype, name=f"added_{level}_{i}")(added)
                state = Cell(self.activation, self.dtype, name=f"cell_{level}_{i}")(state)
            mean = refine(mean, jnp.concatenate(details, axis=-1))
            state = jnp.repeat(jnp.repeat(state, 2, axis=1), 2, axis=2)
        joined = Posterior(*(jnp.concatenate(leaves, axis=-1) for leaves in zip(*normals, strict=True)))
        groups = tuple(z.reshape(noise.shape[0], -1) for z in zs)
        return posterior.Latents(groups, joined, joined.kl_per_dimension())

    def _prior(self, state: Array, linear: Array, channels: int, name: str, dtype: jnp.dtype) -> Posterior:
        # Details are nearly linear in the differences of coarser pixels, so the mean has a linear part besides.
        normal = self._normal(state, channels, name, dtype)
        shift = nn.Conv(channels, (3, 3), use_bias=False, kernel_init=nn.initializers.zeros, name=f"linear_{name}")
        return normal._replace(mean=normal.mean + shift(linear))

    def _normal(self, state: Array, channels: int, name: str, dtype: jnp.dtype) -> Posterior:
        x = nn.LayerNorm(dtype=self.dtype, name=f"norm_{name}")(state)
        x = nn.Conv(2 * channels, (1, 1), kernel_init=SMALL, dtype=self.dtype, name=f"prior_{name}")(x)
        mean, log_sigma = jnp.split(x.astype(dtype), 2, axis=-1)
        return Posterior(mean, bounded(log_sigma))


def _posterior(prior: Posterior, seen: Array | None, tau: float) -> Posterior:
    """Returns the normal of e given `seen` = z + tau * noise, with z = prior.sample(e).

    If nothing is seen, it is N(0, I).
    """
    if seen is None:
        return Posterior(jnp.zeros_like(prior.mean), jnp.zeros_like(prior.mean))
    sigma = jnp.exp(prior.log_sigma)
    variance = sigma**2 + tau**2
    # Of two normals: the prior N(0, I) of e, and what is seen, with noise tau / sigma.
    return Posterior((seen - prior.mean) * sigma / variance, jnp.log(tau) - 0.5 * jnp.log(variance))

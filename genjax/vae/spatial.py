"""Networks of a ladder VAE whose groups of latents are feature maps (Child 2021), with the ideas of ladder.py.

`hidden_sizes` are the channels on levels of 1/2, 1/4, ... of the image's height and width. A group lives on the level
of its stride: groups go from the coarsest level to the finest, and those of one stride share a level.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from genjax.nn.layers import UpConv
from genjax.vae import posterior
from genjax.vae.ladder import SMALL, split
from genjax.vae.nets import Activation
from genjax.vae.posterior import Posterior, bounded

Shapes = tuple[tuple[int, int, int], ...]


def map_shapes(image_shape: tuple[int, int, int], groups: tuple[int, ...], strides: tuple[int, ...]) -> Shapes:
    """Returns height, width and channels of each group of latents."""
    height, width, _ = image_shape
    return tuple((-(-height // s), -(-width // s), channels) for channels, s in zip(groups, strides, strict=True))


class Cell(nn.Module):
    """A residual cell that normalises the channels of each pixel first: x + W act(V norm(x)), V a 3x3 convolution."""

    activation: Activation = nn.silu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [b, h, w, c] to [b, h, w, c]."""
        h = nn.Conv(x.shape[-1], (3, 3), dtype=self.dtype)(nn.LayerNorm(dtype=self.dtype)(x))
        return x + nn.Conv(x.shape[-1], (1, 1), kernel_init=SMALL, dtype=self.dtype)(self.activation(h))


class Encoder(nn.Module):
    """Maps images to the features of each level, from the finest to the coarsest."""

    hidden_sizes: tuple[int, ...]
    activation: Activation = nn.silu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, ...]:
        """Maps [b, h, w, c] to features [b, h / 2, w / 2, hidden_sizes[0]] and so on. Sizes are rounded up."""
        x, features = 2 * images - 1, []
        for channels in self.hidden_sizes:
            x = nn.Conv(channels, (3, 3), strides=2, dtype=self.dtype)(x)
            x = Cell(self.activation, self.dtype)(x)
            features.append(x)
        return tuple(features)


class Downward(nn.Module):
    """Takes the state to the next group: adds latents, a residual cell, and the next level if need be."""

    channels: int
    shape: tuple[int, int]
    activation: Activation = nn.silu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, state: Array, z: Array) -> Array:
        """Maps a state and latents to a state of the given channels and shape: [b, h, w, c] each."""
        state = state + nn.Conv(state.shape[-1], (1, 1), dtype=self.dtype)(z)
        state = Cell(self.activation, self.dtype)(state)
        if self.shape == state.shape[1:3]:
            return state
        height, width = self.shape
        return UpConv(self.channels, self.dtype)(state)[:, :height, :width]  # sizes were rounded up on the way down


class Latents(nn.Module):
    """Draws the groups from the coarsest to the finest, by the posterior or by the prior."""

    hidden_sizes: tuple[int, ...]
    shapes: Shapes
    strides: tuple[int, ...]
    activation: Activation = nn.silu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, features: tuple[Array, ...] | None, noise: Array, given: bool = False) -> posterior.Latents:
        """Draws from standard normal noise [b, d]; from the prior, for which noise is e, without features.

        If `given`, the last argument is e, and nothing is drawn.
        """
        parts = split(noise, tuple(math.prod(shape) for shape in self.shapes))
        levels = [stride.bit_length() - 2 for stride in self.strides]  # strides 2, 4, ... are levels 0, 1, ...
        state = jnp.zeros((noise.shape[0], *self.shapes[0][:2], self.hidden_sizes[levels[0]]), noise.dtype)
        zs: list[Array] = []
        normals: list[Posterior] = []
        for i, (level, shape, part) in enumerate(zip(levels, self.shapes, parts, strict=True)):
            if i:
                down = Downward(self.hidden_sizes[level], shape[:2], self.activation, self.dtype, name=f"state_{i}")
                state = down(state, zs[-1].reshape(-1, *self.shapes[i - 1]))
            if features is None:
                normal = Posterior(jnp.zeros_like(part), jnp.zeros_like(part))
            else:
                seen = Cell(self.activation, self.dtype, name=f"seen_{i}")(state + features[level])
                normal = self._normal(seen, shape[2], f"posterior_{i}", noise.dtype)
            e = part if given else normal.sample(part)
            zs.append(self._normal(state, shape[2], f"prior_{i}", noise.dtype).sample(e) if i else e)
            normals.append(normal)
        joined = Posterior(*(jnp.concatenate(leaves, axis=-1) for leaves in zip(*normals, strict=True)))
        return posterior.Latents(tuple(zs), joined, joined.kl_per_dimension())

    def _normal(self, x: Array, channels: int, name: str, dtype: jnp.dtype) -> Posterior:
        x = nn.LayerNorm(dtype=self.dtype, name=f"{name}_norm")(x)
        x = nn.Conv(2 * channels, (1, 1), kernel_init=SMALL, dtype=self.dtype, name=name)(x)
        mean, log_sigma = (part.reshape(x.shape[0], -1) for part in jnp.split(x.astype(dtype), 2, axis=-1))
        return Posterior(mean, bounded(log_sigma))


class Decoder(nn.Module):
    """Maps all latents to pixels."""

    hidden_sizes: tuple[int, ...]
    shapes: Shapes
    strides: tuple[int, ...]
    image_shape: tuple[int, int, int]
    activation: Activation = nn.silu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Maps [b, d] to logits or means [b, h, w, c]."""
        height, width, channels = self.image_shape
        levels = [stride.bit_length() - 2 for stride in self.strides]
        maps = [
            part.reshape(-1, *shape)
            for part, shape in zip(split(z, tuple(map(math.prod, self.shapes))), self.shapes, strict=True)
        ]
        state = jnp.zeros((z.shape[0], *self.shapes[0][:2], self.hidden_sizes[levels[0]]), z.dtype)
        # Each step adds its group; the last one's stays on its level.
        for i, latents in enumerate(maps):
            after = min(i + 1, len(maps) - 1)
            down = Downward(self.hidden_sizes[levels[after]], self.shapes[after][:2], self.activation, self.dtype)
            state = down(state, latents)
        # What is left to the image's size, if the finest group is not on the finest level.
        for level in reversed(range(levels[-1])):
            top, left = (-(-size // 2 ** (level + 1)) for size in (height, width))
            state = UpConv(self.hidden_sizes[level], self.dtype)(state)[:, :top, :left]
            state = Cell(self.activation, self.dtype)(state)
        state = nn.LayerNorm(dtype=self.dtype)(state)
        return UpConv(channels, self.dtype)(state)[:, :height, :width]

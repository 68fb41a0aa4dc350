"""Networks of a ladder VAE: residual cells, and a posterior that shares its top-down pass with the prior.

The encoder goes from pixels up and keeps features for each group. The latents come from the top down: prior and
posterior of a group both start from the same state, a function of the groups above, and the posterior adds the
features (Sonderby et al. 2016; Child 2021). The posterior is of the noise e_l, so it says where in the prior the image
lies, as in Vahdat and Kautz 2020, and the KL is that to N(0, I). `hidden_sizes` are those of the cells of one step, all
alike; encoder and decoder have a step for each group.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from genjax.vae import posterior
from genjax.vae.nets import Activation
from genjax.vae.posterior import Posterior, bounded

SMALL = nn.initializers.variance_scaling(0.1, "fan_in", "truncated_normal")
"""Initial weights with which cells begin close to the identity, and normals close to N(0, I)."""


class Cell(nn.Module):
    """A residual cell that normalises first: x + W act(V norm(x))."""

    size: int
    activation: Activation = nn.silu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [b, d] to [b, d]."""
        h = nn.Dense(self.size, dtype=self.dtype)(nn.LayerNorm(dtype=self.dtype)(x))
        return x + nn.Dense(x.shape[-1], kernel_init=SMALL, dtype=self.dtype)(self.activation(h))


class Step(nn.Module):
    """Residual cells, one for each of `hidden_sizes`."""

    hidden_sizes: tuple[int, ...]
    activation: Activation = nn.silu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [b, d] to [b, d]."""
        for size in self.hidden_sizes:
            x = Cell(size, self.activation, self.dtype)(x)
        return x


class Encoder(nn.Module):
    """Maps images to the features of each group, the first group's from the last step."""

    hidden_sizes: tuple[int, ...]
    num_groups: int
    activation: Activation = nn.silu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, ...]:
        """Maps [b, h, w, c] to features [b, width] of each group."""
        x = nn.Dense(self.hidden_sizes[0], dtype=self.dtype)((2 * images - 1).reshape(images.shape[0], -1))
        features = []
        for _ in range(self.num_groups):
            x = Step(self.hidden_sizes, self.activation, self.dtype)(x)
            features.append(x)
        return tuple(reversed(features))


class Latents(nn.Module):
    """Draws the groups from the top down, by the posterior or by the prior."""

    hidden_sizes: tuple[int, ...]
    groups: tuple[int, ...]
    activation: Activation = nn.silu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, features: tuple[Array, ...] | None, noise: Array, given: bool = False) -> posterior.Latents:
        """Draws from standard normal noise [b, d]; from the prior, for which noise is e, without features.

        If `given`, the last argument is e, and nothing is drawn.
        """
        width, parts = self.hidden_sizes[0], split(noise, self.groups)
        state = jnp.zeros((noise.shape[0], width), noise.dtype)
        zs: list[Array] = []
        normals: list[Posterior] = []
        for level, (size, part) in enumerate(zip(self.groups, parts, strict=True)):
            # What lies above reaches a group by the state alone.
            if level:
                state = state + nn.Dense(width, dtype=self.dtype, name=f"below_{level}")(zs[-1])
                state = Step(self.hidden_sizes, self.activation, self.dtype, name=f"state_{level}")(state)
            if features is None:
                normal = Posterior(jnp.zeros_like(part), jnp.zeros_like(part))
            else:
                # The first group has nothing above it: the features alone say where the image lies.
                seen = features[level]
                if level:
                    step = Step(self.hidden_sizes, self.activation, self.dtype, name=f"seen_{level}")
                    seen = step(state + seen)
                normal = self._normal(seen, size, f"posterior_{level}", noise.dtype)
            e = part if given else normal.sample(part)
            # The first group's prior is N(0, I) itself: there is nothing above it.
            zs.append(self._normal(state, size, f"prior_{level}", noise.dtype).sample(e) if level else e)
            normals.append(normal)
        joined = Posterior(*(jnp.concatenate(leaves, axis=-1) for leaves in zip(*normals, strict=True)))
        return posterior.Latents(tuple(zs), joined, joined.kl_per_dimension())

    def _normal(self, x: Array, size: int, name: str, dtype: jnp.dtype) -> Posterior:
        x = nn.LayerNorm(dtype=self.dtype, name=f"{name}_norm")(x)
        mean, log_sigma = jnp.split(
            nn.Dense(2 * size, kernel_init=SMALL, dtype=self.dtype, name=name)(x).astype(dtype), 2, axis=-1
        )
        return Posterior(mean, bounded(log_sigma))


class Decoder(nn.Module):
    """Maps all latents to pixels."""

    hidden_sizes: tuple[int, ...]
    num_groups: int
    image_shape: tuple[int, int, int]
    activation: Activation = nn.silu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Maps [b, d] to logits or means [b, h, w, c]."""
        x = nn.Dense(self.hidden_sizes[0], dtype=self.dtype)(z)
        for _ in range(self.num_groups):
            x = Step(self.hidden_sizes, self.activation, self.dtype)(x)
        x = nn.LayerNorm(dtype=self.dtype)(x)
        return nn.Dense(math.prod(self.image_shape), dtype=self.dtype)(x).reshape(-1, *self.image_shape)


def split(x: Array, sizes: tuple[int, ...]) -> list[Array]:
    """Splits the last axis into parts of these sizes."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    return jnp.split(x, ends, axis=-1)

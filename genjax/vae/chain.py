"""Networks of a chain of latents, each group of which knows the next alone (Burda, Grosse and Salakhutdinov 2016).

The prior goes down, p(z_1) p(z_2|z_1) ... p(x|z_L), and the posterior up, q(z_L|x) q(z_L-1|z_L) ... q(z_1|z_2). All
conditionals are normals, fully connected networks of the group that they are given.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from genjax.vae import posterior
from genjax.vae.ladder import split
from genjax.vae.nets import Activation
from genjax.vae.posterior import Posterior, bounded


class Conditional(nn.Module):
    """A normal given another group, with one hidden layer for each of `hidden_sizes`."""

    hidden_sizes: tuple[int, ...]
    size: int
    activation: Activation = jnp.tanh
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, z: Array) -> Posterior:
        """Maps [b, d] to means and log standard deviations [b, size]."""
        x = z
        for size in self.hidden_sizes:
            x = self.activation(nn.Dense(size, dtype=self.dtype)(x))
        mean, log_sigma = jnp.split(nn.Dense(2 * self.size, dtype=self.dtype)(x).astype(z.dtype), 2, axis=-1)
        return Posterior(mean, bounded(log_sigma))


class Latents(nn.Module):
    """Draws the groups from the pixels up, by the posterior, or from the top down, by the prior."""

    upper_sizes: tuple[int, ...]
    groups: tuple[int, ...]
    activation: Activation = jnp.tanh
    dtype: jnp.dtype | None = None

    def setup(self) -> None:
        """Makes the conditionals of neighbours: `down` of groups 2 to L, `up` of groups 1 to L - 1."""
        rest = (self.activation, self.dtype)
        self.down = [Conditional(self.upper_sizes[::-1], size, *rest) for size in self.groups[1:]]
        self.up = [Conditional(self.upper_sizes, size, *rest) for size in self.groups[:-1]]

    def __call__(self, lowest: tuple[Array, Array] | None, noise: Array, given: bool = False) -> posterior.Latents:
        """Draws from standard normal noise [b, d]; from the prior, for which noise is e, without a posterior.

        `lowest` are mean and log sigma (before it is bounded) of the last group's posterior. If `given`, the second
        argument is e, and nothing is drawn.
        """
        parts, zs = split(noise, self.groups), []
        # Down, by the prior's conditionals: each group from the one above it.
        if lowest is None or given:
            zs.append(parts[0])
            for prior, e in zip(self.down, parts[1:], strict=True):
                zs.append(prior(zs[-1]).sample(e))
        if lowest is None:
            standard = Posterior(jnp.zeros_like(noise), jnp.zeros_like(noise))
            return posterior.Latents(tuple(zs), standard, jnp.zeros_like(noise))
        mean, log_sigma = (leaf.astype(noise.dtype) for leaf in lowest)
        normals = [Posterior(mean, bounded(log_sigma))]
        if given:
            for up, z in zip(reversed(self.up), reversed(zs[1:]), strict=True):
                normals.insert(0, up(z))
        else:
            # Up, by the posterior's: the last group from the pixels, each other one from that below it.
            zs.append(normals[0].sample(parts[-1]))
            for up, part in zip(reversed(self.up), reversed(parts[:-1]), strict=True):
                normals.insert(0, up(zs[0]))
                zs.insert(0, normals[0].sample(part))
        # The normals of e = (z - mu) / sigma, with the prior's mu and sigma at the draw of the group above.
        each = [normals[0]]
        for prior, z, normal in zip(self.down, zs[:-1], normals[1:], strict=True):
            mu, log_scale = prior(z)
            each.append(Posterior((normal.mean - mu) * jnp.exp(-log_scale), normal.log_sigma - log_scale))
        # Of the first group the KL has a closed form. The others' priors depend on a group that is drawn after them, so
        # a draw of the log ratio stands for theirs.
        if given:
            parts = [normal.noise(e) for normal, e in zip(each, parts, strict=True)]  # of which e would be drawn
        ratios = [normal.log_ratio_per_dimension(part) for normal, part in zip(each, parts, strict=True)]
        kl = [each[0].kl_per_dimension(), *ratios[1:]]
        joined = Posterior(*(jnp.concatenate(leaves, axis=-1) for leaves in zip(*each, strict=True)))
        return posterior.Latents(tuple(zs), joined, jnp.concatenate(kl, axis=-1))


class Decoder(nn.Module):
    """Maps the last group, the last `size` of all latents, to pixels."""

    size: int
    network: nn.Module

    def __call__(self, z: Array) -> Array:
        """Maps [b, d] to logits or means [b, h, w, c]."""
        pixels: Array = self.network(z[:, -self.size :])
        return pixels

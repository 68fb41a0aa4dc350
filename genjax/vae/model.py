"""VAE as functions of its parameters and of noise e ~ N(0, I): infer, generate, decode.

Latents come in groups z_1, ..., z_L with z_l = mu_l(z_<l) + sigma_l e_l. So e has the prior N(0, I) for any number of
groups, and sampling, restoration and evaluation work with e only. A flat VAE has one group, z = e.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.nn import layers
from genjax.optim import Params
from genjax.parallel import PyTree
from genjax.vae import nets
from genjax.vae.config import VaeRun
from genjax.vae.distributions import Bernoulli, Distribution, Gaussian

# Standard deviations, of the posterior and of a learned likelihood, stay within exp(-6) and exp(6).
LOG_SIGMA_BOUND = 6.0

Groups = tuple[Array, ...]  # z_1, ..., z_L, each [b, ...]


class Latents(NamedTuple):
    """One draw from q(z|x)."""

    groups: Groups
    kl: Array  # KL(q(z|x) || p(z)) [b] in nats, summed over the groups


class Posterior(NamedTuple):
    """Approximate posterior q(e|x) = N(mean, diag(exp(2 log_sigma))) of the noise."""

    mean: Array  # [..., d]
    log_sigma: Array  # [..., d]

    def sample(self, noise: Array) -> Array:
        """Returns e = mean + sigma * noise, all [..., d] (the reparametrisation of Kingma and Welling 2014)."""
        return self.mean + jnp.exp(self.log_sigma) * noise

    def log_prob(self, e: Array) -> Array:
        """Returns log q(e|x) + (d / 2) log 2 pi: [...]."""
        # Change of variables: the Jacobian of e -> (e - mean) / sigma is the product of 1 / sigma.
        return log_normal((e - self.mean) * jnp.exp(-self.log_sigma)) - jnp.sum(self.log_sigma, axis=-1)

    def kl(self) -> Array:
        """Returns KL(q(e|x) || N(0, I)) in nats: [...] (Kingma and Welling 2014, appendix B)."""
        return jnp.sum(self.kl_per_dimension(), axis=-1)

    def kl_per_dimension(self) -> Array:
        """Returns the summands of `kl`: [..., d]."""
        return 0.5 * (jnp.exp(2 * self.log_sigma) + self.mean**2 - 1 - 2 * self.log_sigma)


class Model(Protocol):
    """The interface between a VAE and everything that trains, samples or restores with it."""

    @property
    def latent_dim(self) -> int:
        """Dimensions of the noise e of an image, over all groups."""

    def init(self, key: Array) -> Params:
        """Returns fresh parameters."""

    def encode(self, params: Params, images: Array) -> Posterior:
        """Returns q(e|x) of images [b, h, w, c] in [0, 1]."""

    def infer(self, params: Params, images: Array, noise: Array) -> Latents:
        """Draws the latents of images [b, h, w, c] from standard normal noise [b, d]."""

    def generate(self, params: Params, e: Array) -> Groups:
        """Returns the latents of noise e [b, d], which come from the prior if e ~ N(0, I)."""

    def decode(self, params: Params, groups: Groups) -> Distribution:
        """Returns p(x|z)."""


@dataclasses.dataclass(frozen=True)
class FlatVae:
    """A VAE with one group of latents: any encoder and decoder with the interface that nets.py describes."""

    encoder: nn.Module
    decoder: nn.Module
    image_shape: tuple[int, int, int]
    latent_dim: int
    likelihood: Literal["bernoulli", "gaussian", "gaussian_learned"] = "bernoulli"
    sigma: float = 0.5**0.5  # standard deviation of a pixel; about the initial value with gaussian_learned

    def init(self, key: Array) -> Params:
        """Returns fresh parameters of both networks."""
        encoder_key, decoder_key = jax.random.split(key)
        # Shapes alone matter here; an image of zeros has them.
        encoder = self.encoder.init(encoder_key, jnp.zeros((1, *self.image_shape)))["params"]
        decoder = self.decoder.init(decoder_key, jnp.zeros((1, self.latent_dim)))["params"]
        if self.likelihood == "gaussian_learned":
            # Stored beside the decoder's own parameters, so that any network from latents to images can be a decoder.
            decoder = {**decoder, "log_sigma": jnp.full((), math.log(self.sigma))}
        return {"encoder": encoder, "decoder": decoder}

    def encode(self, params: Params, images: Array) -> Posterior:
        """Returns q(e|x) of images [b, h, w, c] in [0, 1]."""
        outputs: PyTree = self.encoder.apply({"params": params["encoder"]}, images)
        mean, log_sigma = outputs
        # Networks may compute in bfloat16; the posterior and the losses never do.
        return Posterior(mean.astype(images.dtype), _bounded(log_sigma.astype(images.dtype)))

    def infer(self, params: Params, images: Array, noise: Array) -> Latents:
        """Draws the latents of images [b, h, w, c] from standard normal noise [b, d]."""
        posterior = self.encode(params, images)
        return Latents((posterior.sample(noise),), posterior.kl())

    def generate(self, params: Params, e: Array) -> Groups:
        """Returns the latents of noise e [b, d]: e itself."""
        return (e,)

    def decode(self, params: Params, groups: Groups) -> Distribution:
        """Returns p(x|z) of the one group z [b, d]."""
        (z,) = groups
        outputs: PyTree = self.decoder.apply({"params": params["decoder"]}, z)
        location = outputs.astype(z.dtype)
        if self.likelihood == "bernoulli":
            return Bernoulli(location)
        learned = self.likelihood == "gaussian_learned"
        return Gaussian(location, _bounded(params["decoder"]["log_sigma"]) if learned else jnp.log(self.sigma))


MakeModel = Callable[[VaeRun], Model]  # makes the model that a configuration describes


def from_config(config: VaeRun) -> FlatVae:
    """Makes the VAE with the networks, sizes, precision and likelihood of `config`."""
    vae, (shape,) = config.vae, config.data.image_shapes
    encoder, decoder = {
        "mlp": (nets.MlpEncoder, nets.MlpDecoder),
        "conv": (nets.ConvEncoder, nets.ConvDecoder),
    }[vae.architecture]
    activation, dtype = layers.ACTIVATIONS[vae.activation], layers.compute_dtype(config.precision)
    return FlatVae(
        encoder(vae.hidden_sizes, vae.latent_dim, activation, dtype),
        decoder(vae.hidden_sizes, shape, activation, dtype),
        shape,
        vae.latent_dim,
        vae.likelihood,
        vae.sigma,
    )


def draw_noise(model: Model, key: Array, position: Array) -> Array:
    """Draws standard normal noise [b, d]; row i depends only on `key` and position[i] (int32)."""
    return keys.normal(keys.per_example(key, position), model.latent_dim)


def log_normal(e: Array) -> Array:
    """Returns the log density of N(0, I) plus (d / 2) log 2 pi: [..., d] to [...]."""
    return -0.5 * jnp.sum(e**2, axis=-1)


def _bounded(log_sigma: Array) -> Array:
    """Bounds log sigma smoothly; unlike those of a clip, gradients never vanish exactly."""
    return LOG_SIGMA_BOUND * jnp.tanh(log_sigma / LOG_SIGMA_BOUND)

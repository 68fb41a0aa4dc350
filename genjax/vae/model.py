"""VAE as functions of its parameters and of noise e ~ N(0, I): infer, generate, decode.

Latents come in groups z_1, ..., z_L with z_l = mu_l(z_<l) + sigma_l e_l. So e has the prior N(0, I) for any number of
groups, and sampling, restoration and evaluation work with e only. A flat VAE has one group, z = e.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.nn import layers
from genjax.optim import Params
from genjax.parallel import PyTree
from genjax.vae import chain, ladder, nets, spatial, wavelet
from genjax.vae.config import Likelihood, VaeRun
from genjax.vae.distributions import Bernoulli, Distribution, Gaussian, LogisticMixture
from genjax.vae.posterior import Groups, Latents, bounded
from genjax.vae.posterior import Posterior as Posterior
from genjax.vae.posterior import log_normal as log_normal


class Model(Protocol):
    """The interface between a VAE and everything that trains, samples or restores with it."""

    @property
    def latent_dim(self) -> int:
        """Dimensions of the noise e of an image, over all groups."""

    def init(self, key: Array) -> Params:
        """Returns fresh parameters."""

    def encode(self, params: Params, images: Array) -> Posterior:
        """Returns normals of e of images [b, h, w, c] in [0, 1].

        They are q(e|x) if there is one group; if there are several, each group's given the means of those before it.
        """

    def observe(self, params: Params, images: Array) -> PyTree:
        """Returns what `draw` has to know of images [b, h, w, c] in [0, 1]: a pytree of [b, ...]."""

    def draw(self, params: Params, observed: PyTree, noise: Array) -> Latents:
        """Draws the latents of observed images from standard normal noise [b, d]."""

    def infer(self, params: Params, images: Array, noise: Array) -> Latents:
        """Draws the latents of images [b, h, w, c] from standard normal noise [b, d]."""

    def posterior_at(self, params: Params, observed: PyTree, e: Array) -> Posterior:
        """Returns the normals of e [b, d], each group's given the groups before it in e: q(e|x) is their density."""

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
    likelihood: Likelihood
    sigma: float  # standard deviation of a pixel; (about) the initial value if it is not fixed

    def init(self, key: Array) -> Params:
        """Returns fresh parameters of both networks."""
        encoder_key, decoder_key = jax.random.split(key)
        # Shapes alone matter here; an image of zeros has them.
        encoder = self.encoder.init(encoder_key, jnp.zeros((1, *self.image_shape))).get("params", {})
        decoder = self.decoder.init(decoder_key, jnp.zeros((1, self.latent_dim))).get("params", {})
        if self.likelihood == "gaussian_learned":
            # Stored beside the decoder's own parameters, so that any network from latents to images can be a decoder.
            decoder = {**decoder, "log_sigma": jnp.full((), math.log(self.sigma))}
        elif self.likelihood == "gaussian_optimal":
            # A variance rather than its logarithm: the average of the weights then averages squared errors.
            decoder = {**decoder, "variance": jnp.full((), self.sigma**2)}
        return {"encoder": encoder, "decoder": decoder}

    def encode(self, params: Params, images: Array) -> Posterior:
        """Returns q(e|x) of images [b, h, w, c] in [0, 1]."""
        outputs: PyTree = self.encoder.apply({"params": params["encoder"]}, images)
        mean, log_sigma = outputs
        # Networks may compute in bfloat16; the posterior and the losses never do.
        return Posterior(mean.astype(images.dtype), bounded(log_sigma.astype(images.dtype)))

    def observe(self, params: Params, images: Array) -> Posterior:
        """Returns what `draw` has to know of images: q(e|x)."""
        return self.encode(params, images)

    def draw(self, params: Params, observed: Posterior, noise: Array) -> Latents:
        """Draws the latents of observed images from standard normal noise [b, d]."""
        return Latents((observed.sample(noise),), observed, observed.kl_per_dimension())

    def infer(self, params: Params, images: Array, noise: Array) -> Latents:
        """Draws the latents of images [b, h, w, c] from standard normal noise [b, d]."""
        return self.draw(params, self.encode(params, images), noise)

    def posterior_at(self, params: Params, observed: Posterior, e: Array) -> Posterior:
        """Returns the normals of e [b, d], which are those that were observed."""
        return observed

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
        if self.likelihood == "logistic_mixture":
            return LogisticMixture.from_outputs(location, self.image_shape[-1])
        if self.likelihood == "gaussian_learned":
            return Gaussian(location, bounded(params["decoder"]["log_sigma"]))
        if self.likelihood == "gaussian_optimal":
            return Gaussian(location, 0.5 * jnp.log(params["decoder"]["variance"]))
        return Gaussian(location, jnp.log(self.sigma))


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """A VAE with several groups of latents, whose networks ladder.py, spatial.py and chain.py describe."""

    pixels: FlatVae
    """The networks from images to what `latents` observes, and from all latents [b, d] to pixels."""
    latents: nn.Module
    """The networks between the groups, a function (observed, noise, given) -> Latents; of the prior if `observed` is
    None. If `given`, the noise is e itself."""

    @property
    def latent_dim(self) -> int:
        """Dimensions of the noise e of an image, over all groups."""
        return self.pixels.latent_dim

    def init(self, key: Array) -> Params:
        """Returns fresh parameters of all networks."""
        pixels_key, latents_key = jax.random.split(key)
        params = self.pixels.init(pixels_key)
        observed = self.observe(params, jnp.zeros((1, *self.pixels.image_shape)))
        return params | {"latents": self.latents.init(latents_key, observed, self._zeros(1))["params"]}

    def encode(self, params: Params, images: Array) -> Posterior:
        """Returns normals of e of images [b, h, w, c] in [0, 1]. A group's depends on the means of those before it."""
        return self.infer(params, images, self._zeros(images.shape[0])).posterior

    def observe(self, params: Params, images: Array) -> PyTree:
        """Returns what `draw` has to know of images [b, h, w, c] in [0, 1]: a pytree of [b, ...]."""
        return self.pixels.encoder.apply({"params": params["encoder"]}, images)

    def draw(self, params: Params, observed: PyTree, noise: Array) -> Latents:
        """Draws the latents of observed images from standard normal noise [b, d]."""
        latents: Latents = self.latents.apply({"params": params["latents"]}, observed, noise)  # type: ignore[assignment]
        return latents

    def infer(self, params: Params, images: Array, noise: Array) -> Latents:
        """Draws the latents of images [b, h, w, c] from standard normal noise [b, d]."""
        return self.draw(params, self.observe(params, images), noise)

    def posterior_at(self, params: Params, observed: PyTree, e: Array) -> Posterior:
        """Returns the normals of e [b, d], each group's given the groups before it in e."""
        latents: PyTree = self.latents.apply({"params": params["latents"]}, observed, e, given=True)
        return latents.posterior  # type: ignore[no-any-return]

    def generate(self, params: Params, e: Array) -> Groups:
        """Returns the latents of noise e [b, d]."""
        return self.draw(params, None, e).groups

    def decode(self, params: Params, groups: Groups) -> Distribution:
        """Returns p(x|z)."""
        return self.pixels.decode(params, (jnp.concatenate(groups, axis=-1),))

    def _zeros(self, num: int) -> Array:
        return jnp.zeros((num, self.latent_dim))


def with_variance(params: Params, variance: Array) -> Params:
    """Returns parameters whose likelihood gaussian_optimal has the variance [] of a pixel."""
    return params | {"decoder": {**params["decoder"], "variance": variance}}


MakeModel = Callable[[VaeRun], Model]  # makes the model that a configuration describes


def from_config(config: VaeRun) -> Model:
    """Makes the VAE with the networks, sizes, precision and likelihood of `config`."""
    vae, (shape,) = config.vae, config.data.image_shapes
    activation, dtype = layers.ACTIVATIONS[vae.activation], layers.compute_dtype(config.precision)
    sizes, groups = vae.hidden_sizes, vae.groups
    pixels = shape
    # The decoder gives the parameters of a mixture in place of channels.
    if vae.likelihood == "logistic_mixture":
        pixels = (*shape[:2], LogisticMixture.num_outputs(shape[2], vae.mixtures))
    latents: nn.Module | None = None  # the networks between groups, which a flat VAE lacks
    latent_dim = vae.latent_dim if vae.architecture in ("mlp", "conv") else sum(groups)
    if vae.architecture == "ladder":
        encoder: nn.Module = ladder.Encoder(sizes, len(groups), activation, dtype)
        decoder: nn.Module = ladder.Decoder(sizes, len(groups), pixels, activation, dtype)
        latents = ladder.Latents(sizes, groups, activation, dtype)
    elif vae.architecture == "chain":
        encoder = nets.MlpEncoder(sizes, groups[-1], activation, dtype, vae.centred)  # to the group next to the pixels
        decoder = chain.Decoder(groups[-1], nets.MlpDecoder(sizes, pixels, activation, dtype))
        latents = chain.Latents(vae.upper_sizes, groups, activation, dtype)
    elif vae.architecture == "spatial":
        maps = spatial.map_shapes(shape, groups, vae.strides)
        encoder = spatial.Encoder(sizes, activation, dtype)
        decoder = spatial.Decoder(sizes, maps, vae.strides, pixels, activation, dtype)
        latents = spatial.Latents(sizes, maps, vae.strides, activation, dtype)
        latent_dim = sum(math.prod(each) for each in maps)
    elif vae.architecture == "wavelet":
        maps = wavelet.map_shapes(shape, len(sizes), groups)
        encoder = wavelet.Encoder(len(sizes), groups)
        decoder = wavelet.Decoder(maps, shape[2], len(sizes))
        latents = wavelet.Latents(sizes, maps, shape[2], vae.sigma, activation, dtype)
        latent_dim = math.prod(shape)  # as many as pixels: a change of basis
    elif vae.architecture == "conv":
        encoder = nets.ConvEncoder(sizes, vae.latent_dim, activation, dtype)
        decoder = nets.ConvDecoder(sizes, pixels, activation, dtype)
    else:
        encoder = nets.MlpEncoder(sizes, vae.latent_dim, activation, dtype, vae.centred)
        decoder = nets.MlpDecoder(sizes, pixels, activation, dtype)
    flat = FlatVae(encoder, decoder, shape, latent_dim, vae.likelihood, vae.sigma)
    # A hierarchy takes from the flat VAE the networks next to the pixels, and the likelihood.
    return flat if latents is None else Hierarchy(flat, latents)


def draw_noise(model: Model, key: Array, position: Array) -> Array:
    """Draws standard normal noise [b, d]; row i depends only on `key` and position[i] (int32)."""
    return draw_noises(model, key, position, 1)[:, 0]


def draw_noises(model: Model, key: Array, position: Array, num: int) -> Array:
    """Draws standard normal noise [b, num, d]; row i depends only on `key` and position[i] (int32)."""
    noise = keys.normal(keys.per_example(key, position), num * model.latent_dim)
    return noise.reshape(-1, num, model.latent_dim)

"""Priors fitted after training to the aggregated posterior q(e), the mean of q(e|x) over the training images.

Where q(e) is not N(0, I), draws of N(0, I) are noise that the decoder never met. A density that is fitted to q(e) with
the networks fixed mends this (Ghosh et al. 2020, section 4) and leaves likelihoods, restoration and training as they
are. `rate` tells in nats how well it fits. The nearer a prior comes to the encodings, the nearer samples come to
training images: beside any metric of quality look at those of copies (evaluation/memorisation.py).
"""

import dataclasses
import functools
import logging
import warnings
from collections.abc import Collection
from types import ModuleType
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from genjax import keys
from genjax.checks import check_finite, check_seed, flag, require
from genjax.compiled import with_precision
from genjax.data import augment, image_arrays
from genjax.data.imports import optional_module
from genjax.keys import Stream
from genjax.vae import likelihood, vampprior
from genjax.vae.mixture import Mixture
from genjax.vae.model import log_normal
from genjax.vae.sampler import Sampler

logger = logging.getLogger(__name__)

Kind = Literal["gaussian-mixture", "vampprior", "vampprior-data"]
KINDS: tuple[Kind, ...] = get_args(Kind)

IN_USE = 0.01
"""Mean KL of a dimension of e from N(0, 1), in nats, above which a Gaussian mixture describes it."""

INSTALL = "'genjax-images[priors]'"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of priors fitted to encodings of the training images."""

    images: int = 10_000
    """Largest number of training images that are encoded, evenly spaced."""
    draws: int = 4
    """Draws of e from q(e|x) for each of them."""
    components: int = 10
    """gaussian-mixture: number of normals."""
    covariance: Literal["full", "diagonal"] = "full"
    """gaussian-mixture: of each normal."""
    pseudo_inputs: int = 100
    """vampprior and vampprior-data: number of pseudo-inputs u; the prior is the mean of q(e|u)."""
    num_steps: int = 500
    """vampprior: steps of Adam."""
    learning_rate: float = 0.02
    """vampprior: Adam's first learning rate for pixels in [0, 1], which falls to 0 as a cosine."""
    batch_size: int = 256
    """vampprior: encodings in a step."""
    seed: int = 0
    """Seed of the encodings and of the fit."""

    def __post_init__(self) -> None:
        check_finite(self, "fit")
        check_seed(flag("fit", "seed"), self.seed)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("seed", "covariance"):
                require(value > 0, f"{flag('fit', field.name)} must be positive, got {value}")


DEFAULT_FIT = FitConfig()

USERS: dict[str, tuple[Kind, ...]] = {
    "components": ("gaussian-mixture",),
    "covariance": ("gaussian-mixture",),
    "pseudo_inputs": ("vampprior", "vampprior-data"),
    "num_steps": ("vampprior",),
    "learning_rate": ("vampprior",),
    "batch_size": ("vampprior",),
}
"""Priors that a setting has an effect on, if it is not all of them."""


def check_settings(kinds: Collection[Kind], config: FitConfig) -> None:
    """Raises ValueError if a setting that is not at its default has no effect on any of `kinds`."""
    for field in dataclasses.fields(config):
        users, value = USERS.get(field.name, KINDS), getattr(config, field.name)
        require(
            value == field.default or not set(kinds).isdisjoint(users),
            f"{flag('fit', field.name)} {value} has no effect here: it is a setting of the prior {' or '.join(users)}",
        )


def fit(sampler: Sampler, images: np.ndarray, kind: Kind, config: FitConfig = DEFAULT_FIT) -> Mixture:
    """Fits a prior to encodings of training images, uint8 or uint16 [n, h, w, c].

    gaussian-mixture: normals, fitted by expectation maximisation to draws of q(e|x) over the dimensions in use; the
    others stay N(0, 1).
    vampprior: (1 / k) sum_i q(e|u_i), whose pseudo-inputs u maximise the mean of log p(e) over these draws, the part of
    the ELBO that they affect (Tomczak and Welling 2018, equation 9). In the paper the networks learn at the same time.
    vampprior-data: the same with k training images as pseudo-inputs, the paper's baseline.

    The result depends on the images, `kind` and `config` alone, with the same machine and software. Raises ValueError
    for too few images, for a VampPrior over several groups of latents, and if scikit-learn is missing.
    """
    of_mixture = kind == "gaussian-mixture"
    if of_mixture:
        _scikit_learn()  # before the work
    chosen = image_arrays.evenly_spaced(images, config.images)
    name = "components" if of_mixture else "pseudo_inputs"
    needed = getattr(config, name)
    require(
        len(chosen) >= needed,
        f"{flag('fit', name)} {needed} needs as many training images, and {len(chosen)} are encoded: give fewer"
        + (", or more --fit.images" if len(images) > len(chosen) else ""),
    )
    groups = likelihood.group_sizes(sampler.model, sampler.params)
    require(
        of_mixture or len(groups) == 1,
        f"a VampPrior needs q(e|x) to be normal, which it is not with {len(groups)} groups of latents: "
        "give the prior gaussian-mixture",
    )
    if kind == "vampprior-data":
        return _fit_vampprior(sampler, chosen, None, config)
    e, rates = draws(sampler, chosen, config)
    require(bool(np.isfinite(e).all()), "encodings of training images are not finite: check the model's parameters")
    if of_mixture:
        return fit_gaussian_mixture(e, rates > IN_USE, config)
    return _fit_vampprior(sampler, chosen, e, config)


def draws(sampler: Sampler, images: np.ndarray, config: FitConfig) -> tuple[np.ndarray, np.ndarray]:
    """Draws e [n * config.draws, d] of images [n, h, w, c]. Returns it and the mean KL of each dimension [d]."""
    position = np.arange(len(images))
    # Each draw of an image has a position of its own, and so its own noise.
    found = [
        sampler.draw_encodings(images, config.seed, draw * len(images) + position, augmented=True)
        for draw in range(config.draws)
    ]
    rates = np.mean([each.kl_per_dimension.mean(axis=0) for each in found], axis=0)
    return np.concatenate([each.e for each in found]), rates


def fit_gaussian_mixture(e: np.ndarray, in_use: np.ndarray, config: FitConfig) -> Mixture:
    """Fits normals by scikit-learn to the dimensions `in_use` [d], booleans, of encodings e [n, d].

    Raises ValueError if no dimension is in use, or if covariances have too many numbers for so few encodings.
    """
    mixture, threads = _scikit_learn()
    num, size = config.components, int(in_use.sum())
    require(size > 0, f"no latent has a rate above {IN_USE} nats, so the aggregated posterior is N(0, I): use that")
    images = len(e) // config.draws
    require(
        config.covariance == "diagonal" or num * size <= images,
        f"{num} full covariances of {size} latents in use need {num * size} training images, and {images} are encoded: "
        "give --fit.covariance diagonal, fewer --fit.components, or more --fit.images",
    )
    normals = mixture.GaussianMixture(
        num, covariance_type={"full": "full", "diagonal": "diag"}[config.covariance], max_iter=1000,
        random_state=config.seed,
    )  # fmt: skip
    # With several threads, k-means adds in whatever order they end.
    with threads.threadpool_limits(limits=1), warnings.catch_warnings(action="ignore"):
        normals.fit(e[:, in_use].astype(np.float64))
    if not normals.converged_:
        logger.warning(
            "the Gaussian mixture has not converged after %d iterations: give fewer --fit.components", normals.n_iter_
        )
    mean = np.zeros((num, len(in_use)))
    mean[:, in_use] = normals.means_
    if config.covariance == "diagonal":
        scale = np.ones_like(mean)
        scale[:, in_use] = np.sqrt(normals.covariances_)
    else:
        # The identity, but for the dimensions in use, which have a Cholesky factor.
        scale = np.tile(np.eye(len(in_use)), (num, 1, 1))
        scale[np.ix_(np.arange(num), in_use, in_use)] = np.linalg.cholesky(normals.covariances_)
    # A component of weight 0 keeps a finite logarithm.
    log_weight = np.log(np.maximum(normals.weights_, np.finfo(np.float64).tiny))
    return Mixture(*(leaf.astype(e.dtype) for leaf in (log_weight, mean, scale)))


def _scikit_learn() -> tuple[ModuleType, ModuleType]:
    """Imports scikit-learn's mixtures and the control of its threads; ValueError with the remedy if it is missing."""
    purpose = "the prior gaussian-mixture"
    return optional_module("sklearn.mixture", purpose, INSTALL), optional_module("threadpoolctl", purpose, INSTALL)


def _fit_vampprior(sampler: Sampler, images: np.ndarray, e: np.ndarray | None, config: FitConfig) -> Mixture:
    """Makes a VampPrior of training images, or fits one to encodings e [n, d] if they are given."""
    choice_key, image_key = jax.random.split(keys.for_step(keys.root_key(config.seed), Stream.FIT, 0))
    rows = np.asarray(jax.random.choice(choice_key, len(images), (config.pseudo_inputs,), replace=False))
    image_keys = keys.per_example(image_key, jnp.arange(len(rows)))
    # As the encoder met them in training: augmented, and binarised or dequantised.
    u = augment.training_images(sampler.config.data, image_keys, jnp.asarray(images[rows]))
    encode = with_precision(sampler.model.encode, sampler.config.precision)
    params = jax.device_get(sampler.params)  # every process computes the same, on a device of its own
    if e is not None:
        u = vampprior.fit(
            encode, params, u, jnp.asarray(e), config.num_steps, config.learning_rate,
            config.batch_size, config.seed,
        )  # fmt: skip
    return jax.device_get(vampprior.mean_posterior(jax.jit(encode)(params, u)))


def rate(
    sampler: Sampler, images: np.ndarray, mixture: Mixture | None = None, num_draws: int = 4,
    seed: int = keys.SCORING_SEED,
) -> np.ndarray:  # fmt: skip
    """Estimates E_q[log q(e|x) - log p(e)] of each image in nats [n].

    p(e) is `mixture` or, if None, N(0, I). Distortion plus this rate bounds -log p(x) of the VAE with that prior: the
    one with the lower rate fits better.
    """
    position = np.arange(len(images))
    log_prior = log_normal if mixture is None else functools.partial(_log_prob, mixture)
    each = []
    for draw in range(num_draws):
        found = sampler.draw_encodings(images, seed, draw * len(images) + position)
        each.append(found.log_prob - np.asarray(log_prior(found.e)))  # (d / 2) log 2 pi cancels
    return np.mean(each, axis=0)


@jax.jit
def _log_prob(mixture: Mixture, e: Array) -> Array:
    # In parts, as there are numbers [rows, components, d] on the way.
    return lax.map(lambda row: mixture.log_prob(row[None])[0], e, batch_size=64)

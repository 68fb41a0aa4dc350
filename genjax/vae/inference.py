"""Inference of latents from a partly observed image: the target p(e|y), importance resampling, MAP estimates.

Noise e is [b, k, d]: b images, and k independent chains, proposals or restarts of each. Each image and chain has its
own key, so results do not depend on the other images in the batch.
"""

import dataclasses
import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from genjax import keys
from genjax.checks import check_finite, flag
from genjax.optim import Params
from genjax.vae.diagnostics import Diagnostics, without_chains
from genjax.vae.distributions import Distribution
from genjax.vae.model import Model, Posterior, log_normal
from genjax.vae.operators import Operator

SAME_HEIGHT = 1.0
"""Largest difference in log p(y, e), in nats, between restarts that agree."""

Method = Literal["hmc", "metropolis", "pseudo_gibbs", "importance", "map", "ancestral"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """Settings of the methods that draw latents."""

    num_chains: int = 16
    """metropolis and pseudo_gibbs: largest number of chains of an image. Draws of one chain depend on each other."""
    num_particles: int = 64
    """hmc: chains of an image. They share out the modes, the more exactly the more there are."""
    num_warmup: int = 20
    """Steps of a chain before its first draw. metropolis: it accepts all proposals in them. hmc: at least one step; it
    moves from where its chains start to p(e|y), and adapts its step sizes."""
    thinning: int = 5
    """Steps of a chain from one draw to the next."""
    num_integration_steps: int = 4
    """hmc: leapfrog steps (one gradient each) in a step of a chain."""
    num_proposals: int = 1000
    """importance: weighted latents for an image, half of them from the encoder and half from the prior."""
    num_restarts: int = 8
    """map and hmc: starting points of the search for the mode."""
    num_ascent_steps: int = 150
    """map and hmc: steps of Adam towards the mode."""
    learning_rate: float = 0.1
    """map and hmc: Adam's first learning rate, which falls to 0."""
    search: Literal["latents", "images"] = "latents"
    """map and hmc: space of the search. latents: for the mode of p(e|y). images: for the completed image of the highest
    evidence lower bound; the encoder's mean of it is taken. Choose it for encoders that keep nearly all of an image, as
    those of wavelets: their latents at the mode of p(e|y) are far from their mean."""

    temperature: float = 1.0
    """ancestral: scale of the noise of what is finer than the image. 0 gives the mode of p(e|y)."""

    def __post_init__(self) -> None:
        check_finite(self, "inference")
        for field in dataclasses.fields(self):
            value, may_be_0 = getattr(self, field.name), field.name in ("num_warmup", "temperature")
            if field.name != "search" and (value < 0 or value == 0 and not may_be_0):
                raise ValueError(f"{flag('inference', field.name)} must be positive, got {value}")
        if self.num_proposals % 2:
            raise ValueError(
                "--inference.num-proposals must be even, as half of them come from the encoder, got "
                f"{self.num_proposals}"
            )


class Draws(NamedTuple):
    """Draws from p(e|y) of each image."""

    e: Array
    """[b, num, d]: draw i is the same for any larger num, up to rounding below `num_chains`."""
    health: Array
    """[b], 0 to 1: see `Restoration.health`. NaN where no restart or proposal has a finite log p(y, e)."""
    diagnostics: Diagnostics


class Target(NamedTuple):
    """The distribution p(e|y) that all methods draw from."""

    model: Model
    params: Params
    operator: Operator
    y: Array
    """Observed part of the images, [b, 1, ...]."""

    def encode(self, images: Array) -> Posterior:
        """Returns q(e|x) of images [b, k, h, w, c]."""
        posterior = self.model.encode(self.params, images.reshape(-1, *images.shape[2:]))
        return jax.tree.map(lambda leaf: leaf.reshape(*images.shape[:2], -1), posterior)

    def decode(self, e: Array) -> Distribution:
        """Returns p(x|z) of e [b, k, d], with images [b, k, h, w, c]."""
        groups = self.model.generate(self.params, e.reshape(-1, e.shape[-1]))
        likelihood = self.model.decode(self.params, groups)
        return jax.tree.map(lambda leaf: leaf.reshape(*e.shape[:2], *leaf.shape[1:]) if leaf.ndim else leaf, likelihood)

    def log_joint(self, e: Array) -> Array:
        """Returns log p(y, e) up to a constant: [b, k]. It is -inf where the networks overflow, never NaN."""
        log_prob = self.operator.log_prob(self.decode(e), self.y) + log_normal(e)
        return jnp.where(jnp.isnan(log_prob), -jnp.inf, log_prob)


def importance(target: Target, image_keys: Array, init: Array, num: int, config: InferenceConfig) -> Draws:
    """Draws by sampling importance resampling, as in MIWAE (Mattei and Frellsen 2019).

    Half of the proposals are from q(e|init) and half from the prior. Each is weighted against the mixture of the two
    (the balance heuristic of Veach and Guibas 1995), which bounds the weights where the encoder is too confident.
    """
    half = config.num_proposals // 2
    proposal_keys, pick_keys = split_keys(image_keys)
    posterior, noise = target.encode(init), normal(chain_keys(proposal_keys, config.num_proposals), target)
    # Noise as it is, the second half, is a draw from the prior.
    e = jnp.concatenate([posterior.sample(noise[:, :half]), noise[:, half:]], axis=1)
    # log((q + p) / 2), whichever of the two a proposal came from.
    log_mixture = jnp.logaddexp(posterior.log_prob(e), log_normal(e)) - jnp.log(2.0)
    log_weight = target.log_joint(e) - log_mixture
    weight = jax.nn.softmax(log_weight, axis=1)
    picked = resample(weight, uniform(chain_keys(pick_keys, num)))
    drawn = jnp.take_along_axis(e, picked[..., None], axis=1)
    return Draws(drawn, effective_share(weight), without_chains(len(e)))


def ancestral(target: Target, image_keys: Array, init: Array, num: int, config: InferenceConfig) -> Draws:
    """Draws what is finer than y from the prior, given y: for means of blocks, and wavelets as latents.

    The means are the coarse coefficients, which come first in e, and `init` [b, 1, h, w, c], which agrees with y, has
    them. So the draws are exact, but for the noise of pixels, at temperature 1.
    """
    known = target.y.shape[2] * target.y.shape[3] * target.y.shape[4]  # as many numbers in y as coarse coefficients
    e = config.temperature * normal(chain_keys(image_keys, num), target)
    e = e.at[..., :known].set(target.encode(init).sample(e)[..., :known])
    return Draws(e, jnp.ones(len(e), e.dtype), without_chains(len(e)))


def map_estimates(target: Target, image_keys: Array, init: Array, config: InferenceConfig) -> tuple[Array, Array]:
    """Finds local maxima of log p(y, e), or of what `search` says, best first.

    Returns them, [b, restarts, d], and their values up to a constant, [b, restarts].
    Adam starts from the encoder's mean of `init` and from draws of the prior (Bora, Jalal, Price and Dimakis 2017). A
    restart that diverged has the value -inf.
    """
    start = normal(chain_keys(image_keys, config.num_restarts), target).at[:, :1].set(target.encode(init).mean)

    def objective(e: Array) -> tuple[Array, Array]:
        """Returns what Adam raises [b, k], and the latents that e stands for."""
        if config.search == "latents":
            return target.log_joint(e), e
        images = target.operator.impute(target.decode(e).mean(), target.y)
        posterior = target.encode(images)
        bound = target.decode(posterior.mean).log_prob(images) - posterior.kl()
        return jnp.where(jnp.isnan(bound), -jnp.inf, bound), posterior.mean

    # Restarts are independent rows, so the gradient of the sum is the gradient of each row.
    adam = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.num_ascent_steps))
    grad = jax.grad(lambda e: -jnp.sum(objective(e)[0]))

    def step(_: Array, carry: tuple[Array, optax.OptState]) -> tuple[Array, optax.OptState]:
        e, state = carry
        updates, state = adam.update(grad(e), state)
        return optax.apply_updates(e, updates), state  # type: ignore[return-value]

    e, _ = lax.fori_loop(0, config.num_ascent_steps, step, (start, adam.init(start)))
    # Where images were searched, e becomes the latents that stand for them.
    height, e = objective(e)
    order = jnp.argsort(-height, axis=1)
    return jnp.take_along_axis(e, order[..., None], axis=1), jnp.take_along_axis(height, order, axis=1)


def resample(weight: Array, uniform: Array) -> Array:
    """Picks rows by their weights [b, k], the inverse of the cumulative weights at uniform numbers [b, num]."""
    below = jnp.cumsum(weight, axis=1)
    place = uniform * below[:, -1:]  # the sum of weights may round to below 1
    picked = jax.vmap(functools.partial(jnp.searchsorted, side="right"))(below, place)
    return jnp.minimum(picked, weight.shape[1] - 1)


def effective_share(weight: Array) -> Array:
    """Returns the effective sample size of weights [b, k], as a share [b] of k (Kong 1992). Weights sum to 1."""
    return 1 / (jnp.sum(weight**2, axis=1) * weight.shape[1])


def agreement_of_restarts(height: Array) -> Array:
    """Returns the share of the other restarts that come within SAME_HEIGHT of the best: [b], 0 for a lone one.

    `height` is [b, restarts], best first; where the best is not finite, the share is NaN.
    """
    others = height[:, 1:] > height[:, :1] - SAME_HEIGHT
    share = jnp.sum(others, axis=1) / max(others.shape[1], 1)
    return jnp.where(jnp.isfinite(height[:, 0]), share, jnp.nan)


def agreement_of_chains(trace: Array) -> Array:
    """Returns 1 / R-hat^2 [b] of steps [n, b, k, d], for the latent that mixes worst.

    It is 0 for chains that stand still. Each chain is split into halves (Gelman et al. 2013, section 11.4). 1 / R-hat^2
    is the share of the variance that a half-chain sees, capped at 1.
    """
    size = (len(trace) + 1) // 2  # an odd step in the middle is in both halves
    halves = jnp.concatenate([trace[:size], trace[-size:]], axis=2)
    within = jnp.mean(jnp.var(halves, axis=0, ddof=1), axis=1)
    between = jnp.var(jnp.mean(halves, axis=0), axis=1, ddof=1)
    total = (1 - 1 / size) * within + between
    # A comparison with NaN, the variance of a single step, is False.
    return jnp.min(jnp.where(total > 0, jnp.minimum(within / total, 1.0), 0.0), axis=-1)


def split_keys(image_keys: Array) -> tuple[Array, Array]:
    """Splits each of the keys [b] in two."""
    split = jax.vmap(jax.random.split)(image_keys)
    return split[:, 0], split[:, 1]


def chain_keys(image_keys: Array, num: int) -> Array:
    """Makes keys [b, num] of the chains of images with keys [b]."""
    return jax.vmap(lambda key: keys.per_example(key, jnp.arange(num)))(image_keys)


def normal(chain_keys: Array, target: Target) -> Array:
    """Draws standard normal noise [b, k, d]."""
    size = target.model.latent_dim
    return keys.normal(chain_keys.reshape(-1), size).reshape(*chain_keys.shape, size)


def uniform(chain_keys: Array) -> Array:
    """Draws uniform numbers in [0, 1): [b, k]."""
    return keys.uniform(chain_keys.reshape(-1), ()).reshape(chain_keys.shape)

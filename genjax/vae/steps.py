"""The VAE's state and its pure, per-device functions: one update, scores of a batch, pictures of a batch."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, optim, parallel
from genjax.data import augment, image_arrays
from genjax.data.batches import Batch
from genjax.vae import losses, nets, sampling
from genjax.vae.config import VaeRun


class VaeState(NamedTuple):
    """All that training carries from step to step: arrays only, nothing random."""

    step: Array
    """int32 []: steps taken, skipped ones included."""
    skipped: Array
    """int32 []: steps whose loss or gradient was not finite."""
    net: optim.Net
    ema: Any
    """Averaged parameters, for evaluation and sampling."""


def init(config: VaeRun, key: Array) -> VaeState:
    """The state before the first step."""
    params = nets.init_params(config, key)
    average = jax.tree.map(jnp.copy, params)  # a buffer of its own: the state is donated, and none may be donated twice
    return VaeState(jnp.int32(0), jnp.int32(0), optim.init_net(config.optim, params), average)


def train_step(config: VaeRun, state: VaeState, batch: Batch, key: Array) -> tuple[VaeState, dict[str, Array]]:
    """One update on this device's part of the batch; means over the devices make the replicas agree.

    Metrics are scalars, in nats per image where they are likelihoods.
    """
    augment_key, latent_key = jax.random.split(key)
    x = augment.training_images(config.data, keys.per_example(augment_key, batch.position), batch.images[0])
    noise = keys.normal(keys.per_example(latent_key, batch.position), config.vae.latent_dim)
    beta = losses.beta(config.vae, state.step)

    def objective(params: Any) -> tuple[Array, losses.Terms]:
        terms = jax.tree.map(jnp.mean, losses.elbo_terms(config, params, x, noise, beta))
        return terms.objective, terms

    (_, terms), grads = jax.value_and_grad(objective, has_aux=True)(state.net.params)
    terms, grads = parallel.mean_over_devices((terms, grads))

    rate = optim.learning_rate(config.optim, config.train.num_steps, state.step)

    def update(trained: tuple[optim.Net, Any]) -> tuple[optim.Net, Any]:
        net = optim.update_net(config.optim, trained[0], grads, rate)
        return net, optim.ema(config.optim, state.step, trained[1], net.params)

    finite = optim.all_finite(terms, grads)
    net, average = optim.update_if(finite, update, (state.net, state.ema))
    skipped = state.skipped + jnp.where(finite, 0, 1)

    metrics = _metrics(config, terms) | {"beta": beta, "learning_rate": rate, "skipped": skipped}
    return VaeState(state.step + 1, skipped, net, average), metrics


def eval_step(config: VaeRun, state: VaeState, batch: Batch, key: Array) -> tuple[dict[str, Array]]:
    """Scores each image [b] with the averaged parameters: one draw of z, in nats."""
    image_key, latent_key = jax.random.split(key)
    x = augment.evaluation_images(config.data, keys.per_example(image_key, batch.position), batch.images[0])
    noise = keys.normal(keys.per_example(latent_key, batch.position), config.vae.latent_dim)
    beta = losses.beta(config.vae, state.step)
    terms = losses.elbo_terms(config, state.ema, x, noise, beta)
    return (_metrics(config, terms) | {"negative_elbo": -terms.elbo},)


def visualize(config: VaeRun, state: VaeState, batch: Batch, key: Array) -> dict[str, Array]:
    """Pictures [b, h, w, c], about [0, 1]: samples from the prior, and images beside their reconstructions."""
    prior_key, posterior_key = jax.random.split(key)
    reconstructions = sampling.reconstruct(config, state.ema, posterior_key, batch.position, batch.images[0])
    return {
        "samples": sampling.prior(config, state.ema, prior_key, batch.position, 1.0),
        "reconstructions": jnp.concatenate([image_arrays.to_unit(batch.images[0]), reconstructions], axis=2),
    }


def score(metrics: dict[str, float]) -> float:
    """Validation loss that selects the best checkpoint: the negative ELBO."""
    return metrics["negative_elbo"]


def _metrics(config: VaeRun, terms: losses.Terms) -> dict[str, Array]:
    metrics = terms._asdict()
    bits = losses.bits_per_dim(config.data, terms.elbo)
    return metrics if bits is None else metrics | {"bits_per_dim": bits}

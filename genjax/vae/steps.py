"""State and per-device functions of a VAE: training step, evaluation of a batch, pictures of a batch.

`make_model` makes the networks from the configuration; to train your own, pass another to `genjax.vae.make_task`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, optim, parallel
from genjax.data import augment, image_arrays
from genjax.data.batches import Batch
from genjax.evaluation.per_image import Values, draw_standard_error, errors, means
from genjax.optim import Params
from genjax.task import Parts, Split, Starts
from genjax.vae import losses, objectives, sampling
from genjax.vae.config import VaeRun
from genjax.vae.model import MakeModel, Model, draw_noise, draw_noises, from_config, with_variance


class VaeState(NamedTuple):
    """Arrays that training carries from step to step; no keys."""

    step: Array  # int32 []: steps taken, skipped ones included
    skipped: Array  # int32 []: steps whose loss or gradient was not finite
    net: optim.Net
    ema: Params  # averaged parameters, for evaluation and sampling


def init(config: VaeRun, key: Array, make_model: MakeModel = from_config) -> VaeState:
    """Returns the state before the first step."""
    params = make_model(config).init(key)
    average = jax.tree.map(jnp.copy, params)  # the state is donated, and no buffer may be donated twice
    return VaeState(jnp.int32(0), jnp.int32(0), optim.init_net(config.optim, params), average)


def begin(state: VaeState, parts: Parts) -> VaeState:
    """Returns a state before its first step with other parameters, which the average begins with too."""
    params = parts["vae"]
    return state._replace(net=state.net._replace(params=params), ema=jax.tree.map(jnp.copy, params))


STARTS: Starts[VaeRun, VaeState] = Starts(
    parts=lambda state: {"vae": state.ema},
    begin=begin,
    choose=lambda config, names: names,
    settings=(
        "vae.architecture", "vae.hidden_sizes", "vae.latent_dim", "vae.groups", "vae.strides", "vae.upper_sizes",
        "vae.activation", "vae.likelihood", "vae.mixtures", "data.image_size", "data.channels",
    ),
    alike={"vae": ("vae.architecture", "vae.strides", "vae.activation", "vae.likelihood")},
)  # fmt: skip


def train_step(
    config: VaeRun,
    state: VaeState,
    batch: Batch,
    key: Array,
    make_model: MakeModel = from_config,
    constants: Mapping[str, Params] | None = None,
) -> tuple[VaeState, dict[str, Array]]:
    """Updates the state from this device's part of the batch; returns it with scalar metrics, in nats per image.

    `constants` holds the features of a perceptual loss, lpips.
    """
    model = make_model(config)
    # One key per example, by its position in the global batch: noise does not depend on the number of devices.
    augment_key, latent_key = jax.random.split(key)

    def of_part(part: Batch) -> tuple[tuple[losses.Terms, Params], tuple[()]]:
        x = augment.training_images(config.data, keys.per_example(augment_key, part.position), part.images[0])
        noise = draw_noises(model, latent_key, part.position, config.vae.train_draws)

        # The reparametrised loss: `noise` is drawn outside, so gradients flow through z (Kingma and Welling 2014).
        def loss(params: Params) -> tuple[Array, losses.Terms]:
            lpips = (constants or {}).get("lpips")
            each = objectives.training_terms(config, model, params, x, noise, state.step, lpips)
            terms = jax.tree.map(jnp.mean, each)
            return terms.loss, terms

        (_, terms), grads = jax.value_and_grad(loss, has_aux=True)(state.net.params)
        return (terms, grads), ()

    (terms, grads), _ = optim.in_parts(config.train.accumulate, of_part, batch)
    # The only communication between devices: from here on, all of them compute the same.
    terms, grads = parallel.mean_over_devices((terms, grads))

    learning_rate = optim.learning_rate(config.optim, config.train.num_steps, state.step)

    def update(trained: tuple[optim.Net, Params]) -> tuple[optim.Net, Params]:
        net = optim.update_net(config.optim, trained[0], grads, learning_rate)
        if terms.variance is not None:
            net = net._replace(params=with_variance(net.params, terms.variance))
        return net, optim.ema(config.optim, state.step, trained[1], net.params)

    # Skip the update if anything is not finite. The means spread a NaN to all devices, so all decide the same.
    finite = optim.all_finite(terms, grads)
    net, average = optim.update_if(finite, update, (state.net, state.ema))
    skipped = state.skipped + jnp.where(finite, 0, 1)

    metrics = _metrics(config, terms) | {"learning_rate": learning_rate, "skipped": skipped}
    metrics |= objectives.schedules(config, state.step)
    return VaeState(state.step + 1, skipped, net, average), metrics


def eval_step(
    config: VaeRun, state: VaeState, batch: Batch, key: Array, make_model: MakeModel = from_config
) -> tuple[dict[str, Array]]:
    """Computes the metrics [b] of each image in nats, by the averaged parameters and one draw of the noise."""
    model = make_model(config)
    image_key, latent_key = jax.random.split(key)
    x = augment.evaluation_images(config.data, keys.per_example(image_key, batch.position), batch.images[0])
    noise = draw_noise(model, latent_key, batch.position)
    terms = losses.elbo_terms(model, state.ema, x, noise, objectives.beta(config, state.step))
    metrics = _metrics(config, terms)
    if config.vae.objective != "elbo" or config.loss.perceptual:  # whose losses are none of these terms alone
        del metrics["loss"]
    # A dictionary for each domain: a VAE has one.
    return (metrics | {"negative_elbo": -terms.elbo} | _kl_of_groups(model, state.ema, x, noise),)


def num_draws(config: VaeRun, split: Split) -> int:
    """Returns the number of draws of noise for each image of `split`."""
    return config.vae.test_draws if split == "test" else config.vae.validation_draws


def summarize(values: Values) -> dict[str, float]:
    """Averages the metrics of all draws and images, and adds two standard errors of the mean elbo, in nats.

    elbo_draw_se is about other noise on the same images, elbo_image_se about other images.
    """
    elbo = values["elbo"]
    of_draws = {"elbo_draw_se": draw_standard_error(elbo)}
    return means(values) | of_draws | errors(values, ("elbo", "rate", "distortion"))


def visualize(
    config: VaeRun, state: VaeState, batch: Batch, key: Array, make_model: MakeModel = from_config
) -> dict[str, Array]:
    """Returns samples of the prior, and images beside their reconstructions: [b, h, w, c], about [0, 1]."""
    model = make_model(config)
    prior_key, posterior_key = jax.random.split(key)
    images = batch.images[0]
    rebuilt = sampling.reconstruct(model, config.data, state.ema, posterior_key, batch.position, images)
    return {
        "samples": sampling.prior(model, state.ema, prior_key, 1.0, batch.position),
        "reconstructions": jnp.concatenate([image_arrays.to_unit(images), rebuilt], axis=2),
    }


def _kl_of_groups(model: Model, params: Params, images: Array, noise: Array) -> dict[str, Array]:
    """Returns the KL of each group [b] by name; nothing for a single group, whose KL is the rate."""
    # The same latents as in `elbo_terms`: XLA computes equal expressions once.
    kl = model.infer(params, images, noise).kl_per_group
    return {f"kl_group_{i}": nats for i, nats in enumerate(kl.T, 1)} if kl.shape[1] > 1 else {}


def _metrics(config: VaeRun, terms: losses.Terms) -> dict[str, Array]:
    metrics = {name: value for name, value in terms._asdict().items() if value is not None}
    bits = losses.bits_per_dim(config, terms.elbo)
    return metrics if bits is None else metrics | {"bits_per_dim": bits}

"""State and training step of CycleGAN: loss, gradients, mean over devices, update of all four networks."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, optim, parallel
from genjax.cyclegan import losses
from genjax.cyclegan.config import CycleGanRun
from genjax.cyclegan.nets import MakeNetworks, make_networks
from genjax.data.batches import Batch
from genjax.gan import diff_augment, discriminators, generators, image_pool, judging, seen, step_metrics
from genjax.gan.discriminators import SingularVectors
from genjax.gan.image_pool import Pool
from genjax.gan.judging import Seen
from genjax.gan.networks import DISCRIMINATORS, GENERATORS, TwoWay
from genjax.gan.params import bind
from genjax.gan.terms import Terms, lpips_by, once, total_loss
from genjax.keys import Draw
from genjax.optim import Net, Params


class CycleGanState(NamedTuple):
    """Arrays that training carries from step to step; no keys."""

    step: Array  # int32 []: steps taken, skipped ones included
    skipped: Array  # int32 []: steps with a loss or gradient that was not finite
    g_a2b: Net
    g_b2a: Net
    d_a: Net  # tells images of A from translations into A
    d_b: Net
    ema: Params  # averaged parameters of the generators, a2b and b2a, for evaluation and translation
    pool_a: Pool  # earlier translations into A
    pool_b: Pool
    spectral: dict[str, SingularVectors]  # singular vectors of d_a's and d_b's layers; empty without the normalisation


def init(config: CycleGanRun, key: Array, *, make_networks: MakeNetworks = make_networks) -> CycleGanState:
    """Makes the state before the first step, each network from a key of its own."""
    networks = make_networks(config)
    (shape_a, shape_b), (seen_a, seen_b) = config.data.image_shapes, config.judged_shapes
    # ORDER MATTERS: results depend on which network gets which key. Split six even if the last two are unused.
    g_a2b, g_b2a, d_a, d_b, s_a, s_b = jax.random.split(key, 6)
    params = {
        "g_a2b": generators.init(networks.g_a2b, g_a2b, shape_a),
        "g_b2a": generators.init(networks.g_b2a, g_b2a, shape_b),
        "d_a": discriminators.init(networks.d_a, d_a, seen_a),
        "d_b": discriminators.init(networks.d_b, d_b, seen_b),
    }
    spectral = {}
    if config.cyclegan.spectral_norm:
        spectral = {name: discriminators.init_spectral(params[name], k) for name, k in (("d_a", s_a), ("d_b", s_b))}
    pool_a, pool_b = (image_pool.empty(config.cyclegan.pool_size, shape) for shape in (seen_a, seen_b))
    # A copy, because the state is donated and no buffer may be donated twice.
    average = jax.tree.map(jnp.copy, {"a2b": params["g_a2b"], "b2a": params["g_b2a"]})
    trained: dict[str, Any] = {name: optim.init_net(config.optim, value) for name, value in params.items()}
    zeros = jnp.int32(0), jnp.int32(0)  # step and skipped
    return CycleGanState(*zeros, **trained, ema=average, pool_a=pool_a, pool_b=pool_b, spectral=spectral)


class Examples(NamedTuple):
    """Images of a step [b, h, w, c] in [-1, 1], and numbers that were drawn for each of them."""

    position: Array  # int32 [b], in the global batch
    a: Array
    b: Array
    known: tuple[Array, ...]  # known pairs, images of A and of B; empty if there are none
    kept: tuple[Array, ...]  # share of the change of each pixel that costs, [b, h, w, 1] by domain; empty: 1
    element: Array  # symmetry of the square, int32 [b]


def train_step(
    config: CycleGanRun,
    state: CycleGanState,
    batch: Batch,
    key: Array,
    constants: Mapping[str, Params] | None = None,
    *,
    make_networks: MakeNetworks = make_networks,
    terms: Terms = losses.TERMS,
) -> tuple[CycleGanState, dict[str, Array]]:
    """Updates all four networks on this device's part of the batch; returns the state and the step's metrics.

    `constants` holds the classifiers of the semantic losses, a and b, the keep_mask uint8 [h, w, 1], and the features
    of the perceptual losses, lpips.
    """
    # 0. Inputs: images in [-1, 1], and everything random, each from a key of its own.
    networks, constants, num_parts = make_networks(config), constants or {}, config.train.accumulate
    examples = _examples(config, batch, key, constants)
    a, b, judge = examples.a, examples.b, _judge(config)
    augment = functools.partial(seen.augment, config, state.step, batch.position, key)
    params = {name: getattr(state, name).params for name in (*GENERATORS, *DISCRIMINATORS)}
    # The discriminators that the generators face.
    frozen, _ = discriminators.normalise_all(_only(DISCRIMINATORS, params), state.spectral)

    # 1. Gradients of both generators in one pass: both adversarial losses and both cycles share the translations
    # G(a) and F(b), which the discriminators' step uses too.
    def of_generators(part: Examples) -> tuple[tuple[dict[str, Array], Params], tuple[Array, Array]]:
        def loss(generators: Params) -> tuple[Array, tuple[dict[str, Array], tuple[Array, Array]]]:
            n = _inputs(config, networks, generators | frozen, constants, state.step, part, key)
            g_loss, metrics = total_loss(n, terms)
            return g_loss, (metrics, (n.fake_a, n.fake_b))

        grads, (metrics, fakes) = jax.grad(loss, has_aux=True)(_only(GENERATORS, params))
        return (metrics, grads), fakes

    (g_metrics, g_grads), (fake_a, fake_b) = optim.in_parts(num_parts, of_generators, examples)

    # 2. Gradients of both discriminators, on translations by the generators before the step, through the pools.
    pool_a, pooled_a = image_pool.query(state.pool_a, judge(b, fake_a), batch.position, keys.for_draw(key, Draw.POOL_A))
    pool_b, pooled_b = image_pool.query(state.pool_b, judge(a, fake_b), batch.position, keys.for_draw(key, Draw.POOL_B))
    fraction_a, fraction_b = (seen.fractions(batch, key, draw) for draw in (Draw.FRACTION_A, Draw.FRACTION_B))
    looked_at = {
        "d_a": Seen(augment(Draw.REAL_A, judge(b, a)), augment(Draw.FAKE_A, pooled_a), fraction_a),
        "d_b": Seen(augment(Draw.REAL_B, judge(a, b)), augment(Draw.FAKE_B, pooled_b), fraction_b),
    }
    d_params = _only(DISCRIMINATORS, params)
    d_grads, judged = judging.gradients(config.loss, networks, d_params, state.spectral, looked_at, num_parts)

    # 3. One mean over devices and one decision to skip for all four networks, so that they stay in step.
    metrics, grads = parallel.mean_over_devices((g_metrics | judged.metrics, g_grads | d_grads))
    rate = optim.learning_rate(config.optim, config.train.num_steps, state.step)
    finite = optim.all_finite(metrics, grads)

    # 4. All networks, pools and vectors move together, or none does.
    def update(state: CycleGanState) -> CycleGanState:
        updated = _update_networks(config, state, grads, rate)
        return updated._replace(pool_a=pool_a, pool_b=pool_b, spectral=judged.spectral)

    after = optim.advance(state, finite, update)
    metrics |= step_metrics.measure(config.loss, {"a2b": (a, fake_b), "b2a": (b, fake_a)}, judged.logits)
    return after, metrics | {"learning_rate": rate, "skipped": after.skipped}


def _examples(config: CycleGanRun, batch: Batch, key: Array, constants: Mapping[str, Any]) -> Examples:
    draws = seen.image_draws(config)
    kept: tuple[Array, ...] = ()
    a, b = seen.augmented(config, batch, key, draws, batch.images)
    known = seen.augmented(config, batch, key, (Draw.PAIRS, Draw.PAIRS), batch.pairs)
    if "keep_mask" in constants:
        # As an image, the mask is mirrored and turned with the images.
        mask = jnp.broadcast_to(constants["keep_mask"], (len(batch.position), *constants["keep_mask"].shape))
        kept = tuple((1 - free) / 2 for free in seen.augmented(config, batch, key, draws, (mask, mask)))
    element = _elements(config, keys.per_example(keys.for_draw(key, Draw.ELEMENT), batch.position))
    return Examples(batch.position, a, b, tuple(known), kept, element)


def _inputs(
    config: CycleGanRun, networks: TwoWay, params: Params, constants: Mapping[str, Any], step: Array,
    examples: Examples, key: Array,
) -> losses.Inputs:  # fmt: skip
    """Translates examples, and gathers what the losses of the generators need."""
    position, a, b, known, kept, element = examples
    to_b, to_a = (once(bind(getattr(networks, name), params[name], config.train.remat)) for name in GENERATORS)
    d_a, d_b = (bind(getattr(networks, name), params[name]) for name in DISCRIMINATORS)
    augment = functools.partial(seen.augment, config, step, position, key)
    add_noise = functools.partial(_add_noise, config, position, key)
    fake_a, fake_b = to_a(b), to_b(a)
    # Where all training images are pairs, the batch is of pairs, and is translated once.
    pairs = losses.Pairs(a, b, fake_a, fake_b) if config.data.train_pairs else None
    if known:
        pairs = losses.Pairs(known[0], known[1], to_a(known[1]), to_b(known[0]))
    return losses.Inputs(
        config.loss, a, b, fake_a, fake_b, to_a, to_b, d_a, d_b, element, augment, add_noise, constants,
        _judge(config), pairs, lpips_by(constants), *kept,
    )  # fmt: skip


def _judge(config: CycleGanRun) -> losses.Judge:
    """Returns what a discriminator sees of images and their translations, as a function of both."""
    return losses.beside if config.cyclegan.conditional else losses.alone


def _only(names: tuple[str, ...], params: Params) -> Params:
    return {name: params[name] for name in names}


def _elements(config: CycleGanRun, example_keys: Array) -> Array:
    """Draws a symmetry of the square, other than the identity, that keeps the image's shape: [b] in 1..7."""
    square = config.data.image_size[0] == config.data.image_size[1]
    # The identity (0) would make the loss 0, and odd numbers transpose the image.
    choices = jnp.arange(1, 8) if square else jnp.array([2, 4, 6])
    return jax.vmap(lambda key: jax.random.choice(key, choices))(example_keys)


def _add_noise(config: CycleGanRun, position: Array, key: Array, draw: Draw, images: Array) -> Array:
    """Adds noise to translations [b, h, w, c] for a classifier, if semantic_noise is above 0."""
    if config.loss.semantic_noise == 0:
        return images
    noise_keys = keys.per_example(keys.for_draw(key, draw), position)
    return diff_augment.add_noise(noise_keys, images, jnp.float32(config.loss.semantic_noise))


def _update_networks(config: CycleGanRun, state: CycleGanState, grads: Params, rate: Array) -> CycleGanState:
    """Takes one step of Adam for each network, and updates the generators' averages."""
    # Two time scales: Heusel et al. 2017.
    rates = dict.fromkeys(GENERATORS, rate)
    rates |= dict.fromkeys(DISCRIMINATORS, rate * config.cyclegan.discriminator_lr_scale)
    updated: dict[str, Any] = {
        name: optim.update_net(config.optim, getattr(state, name), grads[name], rates[name]) for name in rates
    }
    current = {"a2b": updated["g_a2b"].params, "b2a": updated["g_b2a"].params}
    return state._replace(**updated, ema=optim.ema(config.optim, state.step, state.ema, current))

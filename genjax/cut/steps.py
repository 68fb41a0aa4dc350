"""State and training step of CUT: the discriminator learns first, then the generator and the heads face it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, optim, parallel
from genjax.cut import losses, nets
from genjax.cut.config import CutRun, LossConfig
from genjax.cut.nets import MakeNetworks, Networks, make_networks
from genjax.data.batches import Batch
from genjax.gan import discriminators, generators, judging, seen, step_metrics
from genjax.gan.discriminators import SingularVectors
from genjax.gan.judging import Seen
from genjax.gan.params import apply, bind, computed_again
from genjax.gan.terms import Terms, check_names, total_loss
from genjax.keys import Draw
from genjax.optim import Net, Params


class CutState(NamedTuple):
    """Arrays that training carries from step to step; no keys."""

    step: Array  # int32 []: steps taken, skipped ones included
    skipped: Array  # int32 []: steps with a loss or gradient that was not finite
    g_a2b: Net
    heads: Net
    d_b: Net  # tells images of B from translations into B
    ema: Params  # averaged parameters of the generator, a2b, for evaluation and translation
    spectral: dict[str, SingularVectors]  # singular vectors of d_b's layers; empty without the normalisation


def init(config: CutRun, key: Array, *, make_networks: MakeNetworks = make_networks) -> CutState:
    """Makes the state before the first step, each network from a key of its own."""
    networks, (shape_a, shape_b) = make_networks(config), config.data.image_shapes
    # ORDER MATTERS: results depend on which network gets which key. Split four even if the last is unused.
    g_key, heads_key, d_key, spectral_key = jax.random.split(key, 4)
    g_a2b = generators.init(networks.g_a2b, g_key, shape_a)
    heads = nets.init_heads(networks, g_a2b, heads_key, shape_a)
    d_b = discriminators.init(networks.d_b, d_key, shape_b)
    spectral = {"d_b": discriminators.init_spectral(d_b, spectral_key)} if config.cut.spectral_norm else {}
    average = {"a2b": jax.tree.map(jnp.copy, g_a2b)}  # a copy, because no buffer may be donated twice
    trained = {"g_a2b": g_a2b, "heads": heads, "d_b": d_b}
    begun: dict[str, Any] = {name: optim.init_net(config.optim, params) for name, params in trained.items()}
    return CutState(jnp.int32(0), jnp.int32(0), **begun, ema=average, spectral=spectral)


class Examples(NamedTuple):
    """Images of a step [b, h, w, c] in [-1, 1], and numbers that were drawn for each of them."""

    position: Array  # int32 [b], in the global batch
    a: Array
    b: Array
    mirrored: Array | tuple[()]  # bool [b]; empty if none are


def train_step(
    config: CutRun,
    state: CutState,
    batch: Batch,
    key: Array,
    *,
    make_networks: MakeNetworks = make_networks,
    terms: Terms = losses.TERMS,
) -> tuple[CutState, dict[str, Array]]:
    """Updates all networks on this device's part of the batch; returns the state and the step's metrics."""
    # 0. Inputs: images in [-1, 1], and everything random, each from a key of its own.
    check_names(config.loss, terms, LossConfig)
    networks, num_parts = make_networks(config), config.train.accumulate
    a, b = seen.augmented(config, batch, key, seen.image_draws(config), batch.images)
    augment = functools.partial(seen.augment, config, state.step, batch.position, key)
    examples = Examples(batch.position, a, b, _draw_mirrored(config, batch, key))
    rate = optim.learning_rate(config.optim, config.train.num_steps, state.step)
    encode = functools.partial(nets.features, networks.g_a2b, config.cut.features)
    maps = jax.eval_shape(encode, state.g_a2b.params, a)  # for their sizes
    places = nets.draw_places(keys.for_draw(key, Draw.PATCHES), maps, config.cut.num_patches)

    # 1. The discriminator. No gradient reaches the generator: its translations come in as numbers.
    def translate(part: Examples) -> tuple[tuple[()], tuple[Array, Array]]:
        shown = _mirror(part.mirrored, part.a)
        return (), (shown, apply(networks.g_a2b, state.g_a2b.params, shown))

    _, (shown, fake_b) = optim.in_parts(num_parts, translate, examples)
    looked_at = Seen(augment(Draw.REAL_B, b), augment(Draw.FAKE_B, fake_b), seen.fractions(batch, key, Draw.FRACTION_B))
    # The generator faces the discriminator after its update, as in the public code.
    learned = judging.learn_first(config, networks, {"d_b": state.d_b}, state.spectral, {"d_b": looked_at}, rate)

    # 2. Gradients of generator and heads.
    def of_generator(part: Examples) -> tuple[tuple[Params, dict[str, Array]], tuple[()]]:
        mirror = functools.partial(_mirror, part.mirrored)

        def loss(params: Params) -> tuple[Array, dict[str, Array]]:
            to_b = bind(networks.g_a2b, params["g_a2b"], config.train.remat)
            judge = bind(networks.d_b, learned.frozen["d_b"])
            nce = functools.partial(_nce, config, networks, params, mirror, places)
            augment = functools.partial(seen.augment, config, state.step, part.position, key)
            n = losses.Inputs(
                config.loss, part.a, part.b, to_b(mirror(part.a)), lambda x: to_b(mirror(x)), judge, nce, augment
            )
            return total_loss(n, terms)

        return jax.grad(loss, has_aux=True)({"g_a2b": state.g_a2b.params, "heads": state.heads.params}), ()

    g_grads, g_metrics = parallel.mean_over_devices(optim.in_parts(num_parts, of_generator, examples)[0])

    # 3. All networks and vectors move together, or none does.
    finite = optim.all_finite(learned.judged.metrics, g_metrics, learned.grads, g_grads)

    def update(state: CutState) -> CutState:
        g_a2b = optim.update_net(config.optim, state.g_a2b, g_grads["g_a2b"], rate)
        heads = optim.update_net(config.optim, state.heads, g_grads["heads"], rate)
        average = optim.ema(config.optim, state.step, state.ema, {"a2b": g_a2b.params})
        return state._replace(g_a2b=g_a2b, heads=heads, **learned.nets, ema=average, spectral=learned.judged.spectral)

    after = optim.advance(state, finite, update)
    measured = step_metrics.measure(config.loss, {"a2b": (shown, fake_b)}, learned.judged.logits)
    return after, g_metrics | learned.judged.metrics | measured | {"learning_rate": rate, "skipped": after.skipped}


def _draw_mirrored(config: CutRun, batch: Batch, key: Array) -> Array | tuple[()]:
    if not config.cut.mirror:
        return ()
    example_keys = keys.per_example(keys.for_draw(key, Draw.MIRRORED), batch.position)
    return jax.vmap(jax.random.bernoulli)(example_keys)


def _mirror(mirrored: Array | tuple[()], maps: Array) -> Array:
    """Mirrors maps [b, h, w, c] left to right, and so back, where `mirrored` [b] holds."""
    if isinstance(mirrored, tuple):
        return maps
    return jnp.where(mirrored.reshape(-1, 1, 1, 1), maps[:, :, ::-1], maps)


def _nce(
    config: CutRun, networks: Networks, params: Params, mirror: Callable[[Array], Array], places: Mapping[str, Array],
    images: Array, translated: Array,
) -> Array:  # fmt: skip
    """Computes PatchNCE [b], the mean over features, between images and the translations of their mirror images."""
    encode = functools.partial(nets.features, networks.g_a2b, config.cut.features)
    encode = functools.partial(computed_again(encode) if config.train.remat else encode, params["g_a2b"])
    project = functools.partial(nets.project, networks.heads, params["heads"])
    maps, of_translated = encode(images), jax.tree.map(mirror, encode(translated))
    # Queries learn to find their own among the goals; the goals learn nothing.
    goals = jax.lax.stop_gradient(project(nets.patches(maps, places)))
    queries = project(nets.patches(of_translated, places))
    found = [losses.patch_nce(queries[name], goals[name], config.loss.temperature) for name in config.cut.features]
    return jnp.mean(jnp.stack(found), axis=0)

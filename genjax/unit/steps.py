"""State and training step of UNIT: the discriminators learn first, then encoders and decoders face them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, optim, parallel
from genjax.data.batches import Batch
from genjax.gan import discriminators, generators, judging, seen, step_metrics
from genjax.gan.discriminators import SingularVectors
from genjax.gan.judging import Seen
from genjax.gan.networks import DISCRIMINATORS, TwoWay
from genjax.gan.params import bind, computed_again
from genjax.gan.terms import Terms, check_names, lpips_by, total_loss
from genjax.keys import Draw
from genjax.optim import Net, Params
from genjax.task import Parts
from genjax.unit import losses, nets
from genjax.unit.config import LossConfig, UnitRun
from genjax.unit.nets import MakeNetworks, make_networks


class UnitState(NamedTuple):
    """Arrays that training carries from step to step; no keys."""

    step: Array  # int32 []: steps taken, skipped ones included
    skipped: Array  # int32 []: steps with a loss or gradient that was not finite
    coders: Net  # encoders and decoders of both domains, with what they share once
    d_a: Net  # tells images of A from translations into A
    d_b: Net
    ema: Params  # averaged parameters of the generators, a2b and b2a, for evaluation and translation
    spectral: dict[str, SingularVectors]  # singular vectors of d_a's and d_b's layers; empty without the normalisation


def init(config: UnitRun, key: Array, *, make_networks: MakeNetworks = make_networks) -> UnitState:
    """Makes the state before the first step, each network from a key of its own."""
    networks, (shape_a, shape_b) = make_networks(config), config.data.image_shapes
    # ORDER MATTERS: results depend on which network gets which key. Split six even if the last two are unused.
    a2b, b2a, d_a, d_b, s_a, s_b = jax.random.split(key, 6)
    coders = nets.joined({
        "a2b": generators.init(networks.g_a2b, a2b, shape_a), "b2a": generators.init(networks.g_b2a, b2a, shape_b),
    })  # fmt: skip
    judges = {
        "d_a": discriminators.init(networks.d_a, d_a, shape_a), "d_b": discriminators.init(networks.d_b, d_b, shape_b)
    }  # fmt: skip
    spectral = {}
    if config.unit.spectral_norm:
        spectral = {name: discriminators.init_spectral(judges[name], k) for name, k in (("d_a", s_a), ("d_b", s_b))}
    trained: dict[str, Any] = {
        name: optim.init_net(config.optim, of) for name, of in {"coders": coders, **judges}.items()
    }
    return UnitState(jnp.int32(0), jnp.int32(0), **trained, ema=_average(coders), spectral=spectral)


def begin(state: UnitState, parts: Parts) -> UnitState:
    """Begins with other parameters: those of both generators, and of the discriminators that are given."""
    coders = nets.joined(parts)
    state = state._replace(coders=state.coders._replace(params=coders), ema=_average(coders))
    given = {name: getattr(state, name)._replace(params=parts[name]) for name in DISCRIMINATORS if name in parts}
    return state._replace(**given, spectral=parts.get("spectral", state.spectral))


def _average(coders: Params) -> Params:
    # Copies, because no buffer may be donated twice.
    return {way: jax.tree.map(jnp.copy, params) for way, params in nets.by_direction(coders).items()}


class Examples(NamedTuple):
    """Images of a step [b, h, w, c] in [-1, 1], and the noise of their four encodings."""

    position: Array  # int32 [b], in the global batch
    a: Array
    b: Array
    noise: Array  # [b, 4, h', w', c']


def train_step(
    config: UnitRun,
    state: UnitState,
    batch: Batch,
    key: Array,
    constants: Mapping[str, Params] | None = None,
    *,
    make_networks: MakeNetworks = make_networks,
    terms: Terms = losses.TERMS,
) -> tuple[UnitState, dict[str, Array]]:
    """Updates all networks on this device's part of the batch; returns the state and the step's metrics.

    `constants` holds the features of the perceptual losses, lpips.
    """
    # 0. Inputs: images in [-1, 1], and everything random, each from a key of its own.
    check_names(config.loss, terms, LossConfig)
    networks, num_parts = make_networks(config), config.train.accumulate
    a, b = seen.augmented(config, batch, key, seen.image_draws(config), batch.images)
    augment = functools.partial(seen.augment, config, state.step, batch.position, key)
    noise = _noise(networks, state.coders.params, a, keys.per_example(keys.for_draw(key, Draw.LATENTS), batch.position))
    examples = Examples(batch.position, a, b, noise)
    rate = optim.learning_rate(config.optim, config.train.num_steps, state.step)

    # 1. The discriminators. No gradient reaches a decoder: its translations come in as numbers.
    def translate(part: Examples) -> tuple[tuple[()], tuple[Array, Array]]:
        made = make(networks, state.coders.params, *part[1:])
        return (), (made.fake_a, made.fake_b)

    _, (fake_a, fake_b) = optim.in_parts(num_parts, translate, examples)
    fraction_a, fraction_b = (seen.fractions(batch, key, draw) for draw in (Draw.FRACTION_A, Draw.FRACTION_B))
    looked_at = {
        "d_a": Seen(augment(Draw.REAL_A, a), augment(Draw.FAKE_A, fake_a), fraction_a),
        "d_b": Seen(augment(Draw.REAL_B, b), augment(Draw.FAKE_B, fake_b), fraction_b),
    }
    # Encoders and decoders face the discriminators after their update, as in the paper's alternating steps.
    judges = {name: getattr(state, name) for name in DISCRIMINATORS}
    learned = judging.learn_first(config, networks, judges, state.spectral, looked_at, rate)

    # 2. Gradients of encoders and decoders.
    def of_coders(part: Examples) -> tuple[tuple[Params, dict[str, Array]], tuple[()]]:
        def loss(params: Params) -> tuple[Array, dict[str, Array]]:
            d_a, d_b = (bind(getattr(networks, name), learned.frozen[name]) for name in DISCRIMINATORS)
            made = make(networks, params, *part[1:], config.train.remat)
            augment = functools.partial(seen.augment, config, state.step, part.position, key)
            n = losses.Inputs(config.loss, part.a, part.b, made, d_a, d_b, augment, lpips_by(constants or {}))
            return total_loss(n, terms)

        return jax.grad(loss, has_aux=True)(state.coders.params), ()

    g_grads, g_metrics = parallel.mean_over_devices(optim.in_parts(num_parts, of_coders, examples)[0])

    # 3. All networks and vectors move together, or none does.
    finite = optim.all_finite(learned.judged.metrics, g_metrics, learned.grads, g_grads)

    def update(state: UnitState) -> UnitState:
        coders = optim.update_net(config.optim, state.coders, g_grads, rate)
        average = optim.ema(config.optim, state.step, state.ema, nets.by_direction(coders.params))
        return state._replace(coders=coders, **learned.nets, ema=average, spectral=learned.judged.spectral)

    after = optim.advance(state, finite, update)
    measured = step_metrics.measure(config.loss, {"a2b": (a, fake_b), "b2a": (b, fake_a)}, learned.judged.logits)
    return after, g_metrics | learned.judged.metrics | measured | {"learning_rate": rate, "skipped": after.skipped}


def make(networks: TwoWay, params: Params, a: Array, b: Array, noise: Array, remat: bool = False) -> losses.Made:
    """Encodes and decodes images [b, h, w, c] of both domains.

    The four encodings get noise [b, 4, h', w', c']. With `remat` they are `computed_again`.
    """
    ways = nets.by_direction(params)

    def coder(of: Callable[[TwoWay, Params, nets.Domain, Array], Array], domain: nets.Domain, x: Array) -> Array:
        code = functools.partial(of, networks)
        return computed_again(lambda ways, x: code(ways, domain, x))(ways, x) if remat else code(ways, domain, x)

    encode, decode = (functools.partial(coder, of) for of in (nets.encode, nets.decode))
    mean_a, mean_b = encode("a", a), encode("b", b)
    z_a, z_b = mean_a + noise[:, 0], mean_b + noise[:, 1]
    fake_a, fake_b = decode("a", z_b), decode("b", z_a)
    again_a, again_b = encode("b", fake_b), encode("a", fake_a)
    return losses.Made(
        mean_a, mean_b, decode("a", z_a), decode("b", z_b), fake_a, fake_b, again_a, again_b,
        decode("a", again_a + noise[:, 2]), decode("b", again_b + noise[:, 3]),
    )  # fmt: skip


def _noise(networks: TwoWay, params: Params, images: Array, example_keys: Array) -> Array:
    """Draws e ~ N(0, I) of four encodings of each example: [b, 4, h', w', c']."""
    shape = jax.eval_shape(functools.partial(nets.encode, networks, nets.by_direction(params), "a"), images).shape
    return keys.normal(example_keys, 4 * shape[1] * shape[2] * shape[3]).reshape(-1, 4, *shape[1:])

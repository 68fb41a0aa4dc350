"""Steps of CycleGAN with simple networks and losses, which show what each network is given."""

import functools
import inspect
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import cyclegan, keys, parallel
from genjax.compiled import seeded_step
from genjax.data import batches, crops
from genjax.gan import adversarial, discriminators, generators, seen
from genjax.gan.adversarial import Logits
from genjax.gan.discriminators import PixelDiscriminator
from genjax.gan.networks import TwoWay
from genjax.keys import Draw
from genjax.train import fingerprint
from studies.reproducibility.stepping import mesh_of, replicas_agree, walk
from two_domains import NETWORKS, SMALL, noise

pytestmark = pytest.mark.slow


class Copy(generators.Generator):
    """A generator from outside that returns its images, so that a step compiles in a moment."""

    def __call__(self, x):
        self.decoder(self.encoder(x))
        return x


def copying_networks(config):
    copies = (Copy(nn.Conv(2, (3, 3)), nn.Conv(1, (3, 3))) for _ in range(2))
    return TwoWay(*copies, PixelDiscriminator(2), PixelDiscriminator(2))


def weigh(network, images):
    """The mean of images [b, h, w, c] times the norm of a network's parameters, to which it is bound: [b].

    With parameters of 0 it is 0, and its gradient is NaN.
    """
    _, params = inspect.unwrap(network).args
    norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)))
    return jnp.mean(images, axis=(1, 2, 3)) * norm


def simple_term(n):
    return weigh(n.to_b, n.a) + weigh(n.to_a, n.b)


@pytest.fixture
def simple(monkeypatch):
    """A task in which each network's loss is that of `weigh`, and so depends on no other network."""

    def discriminator_loss(config, discriminator, real, fake, fraction):
        return weigh(discriminator, real - fake / 2), Logits(real, fake)

    monkeypatch.setattr(adversarial, "discriminator_loss", discriminator_loss)
    return cyclegan.make_task(copying_networks, {"cycle_a": simple_term})


@pytest.mark.parametrize("name", NETWORKS)
def test_replicas_part_without_a_networks_mean(make_cyclegan, simple, monkeypatch, name):
    original = parallel.mean_over_devices

    def forgetful(trees):
        metrics, grads = trees
        mean, means = original(trees)
        return mean, means | {name: grads[name]}

    monkeypatch.setattr(parallel, "mean_over_devices", forgetful)
    *_, (state, _) = walk(simple, make_cyclegan(cyclegan=SMALL | {"pool_size": 0}), noise(), mesh_of(2), 1)
    assert {net: replicas_agree(getattr(state, net)) for net in NETWORKS} == {net: net != name for net in NETWORKS}


def test_train_step_augments_and_scales_learning_rates(make_cyclegan, simple, monkeypatch):
    """Discriminators see one level for real and one for translated images, in place of both."""
    levels = {Draw.REAL_A: 1.0, Draw.FAKE_A: 0.5, Draw.REAL_B: 3.0, Draw.FAKE_B: 1.0}
    monkeypatch.setattr(seen, "augment", lambda *args: jnp.full_like(args[-1], levels[args[-2]]))
    config = make_cyclegan(cyclegan=SMALL | {"pool_size": 0, "discriminator_lr_scale": 4.0})
    before = jax.device_get(jax.jit(lambda: simple.init(config, keys.root_key(0)))())
    ((after, metrics),) = walk(simple, config, noise(), mesh_of(1), 1)
    for name, expected in (("d_a", 1 - 0.5 / 2), ("d_b", 3 - 1 / 2)):
        norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(getattr(before, name).params)))
        np.testing.assert_allclose(metrics[f"{name}_loss"], expected * norm, rtol=1e-5)
    # Diagnostics are of what was shown, and of translations, here copies.
    measured = {"gap_d_a": 0.5, "gap_d_b": 2, "correlation_a2b": 1, "correlation_b2a": 1}
    assert {name: float(metrics[name]) for name in measured} == pytest.approx(measured, rel=1e-4)
    for net in NETWORKS:  # Adam's first step is the rate itself, up or down
        leaves = (jax.tree.leaves(getattr(state, net).params) for state in (after, before))
        moved = max(np.abs(new - old).max() for new, old in zip(*leaves, strict=True))
        np.testing.assert_allclose(moved, config.optim.learning_rate * (4 if net in ("d_a", "d_b") else 1), rtol=1e-3)


def test_losses_have_equal_inputs_on_any_devices(make_cyclegan, simple, monkeypatch):
    """Cropped and mirrored images, dihedral elements, images of full pools, noise, places of the gradient penalty.

    Seen inside the compiled step; the simple networks copy images exactly.
    """
    config = make_cyclegan(
        data={"flip": True}, cyclegan=SMALL | {"pool_size": 8, "instance_noise": 0.5},
    )  # fmt: skip

    def inputs(num):
        seen = {"generators": set(), "discriminators": set()}

        def see(network, *arrays):
            def note(*rows):
                seen[network].update(tuple(bytes(part) for part in row) for row in zip(*rows, strict=True))

            jax.debug.callback(note, *arrays)

        def term(n):
            see("generators", n.a, n.b, n.element)
            return simple_term(n)

        def discriminator_loss(config, discriminator, real, fake, fraction, original=adversarial.discriminator_loss):
            see("discriminators", real, fake, fraction)
            return original(config, discriminator, real, fake, fraction)

        with monkeypatch.context() as patch:
            patch.setattr(adversarial, "discriminator_loss", discriminator_loss)
            task = cyclegan.make_task(copying_networks, {"cycle_a": term})
            source = tuple(crops.of_list(list(images), (16, 16)) for images in noise((19, 19, 1)))
            list(walk(task, config, source, mesh_of(num), 3))
        jax.effects_barrier()
        return seen

    one, eight = map(inputs, (1, 8))
    assert len(one["generators"]) == 3 * 8 and len({element for *_, element in one["generators"]}) > 2
    assert len(one["discriminators"]) == 3 * 2 * 8
    assert eight == one


def test_train_step_skips_what_is_not_finite(make_cyclegan, simple):
    """With the simple task, a network's NaN enters its own loss and gradients alone, and its 0 its gradients alone."""
    config = make_cyclegan(cyclegan=SMALL)
    mesh = mesh_of(2)
    state = jax.device_get(jax.jit(lambda: simple.init(config, keys.root_key(0)))())
    state = state._replace(step=np.int32(1))
    specs = (parallel.REPLICATED, parallel.SPLIT, parallel.REPLICATED)
    step_fn = parallel.pmap(seeded_step(simple, config), mesh, specs, parallel.REPLICATED)
    batch, seed = parallel.shard_batch(mesh, batches.load(noise(), 0, 1, 8, slice(None))), np.int32(1)
    for name, poison in itertools.product(NETWORKS, (np.nan, 0)):
        net = getattr(state, name)
        params = jax.tree.map(functools.partial(np.full_like, fill_value=poison), net.params)
        poisoned = state._replace(**{name: net._replace(params=params)})
        after, metrics = jax.block_until_ready(step_fn(poisoned, batch, seed))
        finite = all(np.isfinite(metrics[loss]) for loss in ("g_loss", "d_a_loss", "d_b_loss"))
        assert finite == (poison == 0)
        assert (int(after.step), int(after.skipped), int(metrics["skipped"])) == (2, 1, 1)
        assert fingerprint.tree_digest(after._replace(step=0, skipped=0)) == fingerprint.tree_digest(
            poisoned._replace(step=0, skipped=0)
        )
    after, _ = step_fn(state, batch, seed)
    assert (int(after.step), int(after.skipped)) == (2, 0)
    assert fingerprint.tree_digest(after.pool_b) != fingerprint.tree_digest(state.pool_b)


def trace(task, config):
    """Runs the Python code of a training step, without compiling it."""
    state = jax.eval_shape(lambda: task.init(config, keys.root_key(0)))
    specs = (parallel.REPLICATED, parallel.SPLIT, parallel.REPLICATED)
    step_fn = parallel.pmap(seeded_step(task, config), mesh_of(1), specs, parallel.REPLICATED)
    jax.eval_shape(step_fn, state, batches.load(noise(), 0, 0, 8, slice(None)), np.int32(0))


def test_generators_and_losses_face_normalised_discriminators(make_cyclegan, monkeypatch):
    """Normalised parameters bear a mark here; the generators see each discriminator once, and so does its loss."""
    seen = []

    def term(n):
        seen.extend((n.d_a.args[1], n.d_b.args[1]))
        return simple_term(n)

    def discriminator_loss(config, discriminator, real, fake, fraction):
        seen.append(discriminator.args[1])
        return weigh(discriminator, real - fake), Logits(real, fake)

    monkeypatch.setattr(discriminators, "spectral_normalise", lambda params, vectors: ({"mark": params}, vectors))
    monkeypatch.setattr(adversarial, "discriminator_loss", discriminator_loss)
    config = make_cyclegan(cyclegan=SMALL | {"spectral_norm": True})
    trace(cyclegan.make_task(copying_networks, {"cycle_a": term}), config)
    assert [list(params) for params in seen] == 4 * [["mark"]]


def test_train_step_uses_each_draw_once(make_cyclegan, monkeypatch):
    """No two kinds of random numbers come from one key; draws of other losses and families are left out here."""
    drawn, for_draw = [], keys.for_draw
    monkeypatch.setattr(keys, "for_draw", lambda key, draw: drawn.append(draw) or for_draw(key, draw))
    trace(cyclegan.make_task(copying_networks), make_cyclegan(cyclegan=SMALL | {"diff_augment": 1.0}))
    others = {Draw.CLASSIFIED_A, Draw.CLASSIFIED_B, Draw.PAIRS, Draw.PATCHES, Draw.MIRRORED, Draw.LATENTS}
    assert sorted(drawn) == sorted(set(Draw) - others)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_train_step_augments_translations_for_generators(make_cyclegan, strength):
    altered = []

    def term(n):
        altered.append(n.augment(Draw.FOOLED_A, n.a) is not n.a)
        return simple_term(n)

    config = make_cyclegan(cyclegan=SMALL | {"diff_augment": strength})
    next(walk(cyclegan.make_task(copying_networks, {"cycle_a": term}), config, noise(), mesh_of(1), 1))
    assert altered and set(altered) == {strength > 0}

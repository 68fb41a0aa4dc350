import dataclasses
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
from genjax.cyclegan import losses, nets, steps
from genjax.cyclegan.config import LossConfig
from genjax.data import batches, crops
from genjax.gan import adversarial, discriminators, generators, seen, terms
from genjax.gan.adversarial import Logits
from genjax.gan.discriminators import PixelDiscriminator
from genjax.gan.networks import DISCRIMINATORS, GENERATORS, TwoWay
from genjax.gan.params import apply
from genjax.keys import Draw
from genjax.train import fingerprint, loop, multi_seed
from genjax.train.rows import read_rows
from studies.reproducibility.stepping import mesh_of, replicas_agree, walk
from tiny import tiny_cyclegan, write_noise

pytestmark = pytest.mark.slow

NETWORKS = ("g_a2b", "g_b2a", "d_a", "d_b")
SMALL = {"base_channels": 2, "num_blocks": 0, "discriminator_channels": 2, "pool_size": 12}


def noise(shape=(16, 16, 1), num=(20, 28)):
    """Two domains of unequal size, one dark and one light."""
    rng = np.random.default_rng(0)
    dark, light = (rng.integers(low, low + 128, (n, *shape), np.uint8) for low, n in zip((0, 128), num, strict=True))
    return dark, light


class Copy(generators.Generator):
    """A generator from outside that returns its images, so that a step compiles in a moment."""

    def __call__(self, x):
        self.decoder(self.encoder(x))
        return x


def copying_networks(config):
    copies = (Copy(nn.Conv(2, (3, 3)), nn.Conv(1, (3, 3))) for _ in range(2))
    return TwoWay(*copies, PixelDiscriminator(2), PixelDiscriminator(2))


def small_networks(config):
    """Networks of few layers, for what does not depend on them."""
    small = (generators.Generator(nn.Conv(2, (3, 3)), nn.Conv(1, (3, 3))) for _ in range(2))
    return TwoWay(*small, PixelDiscriminator(2), PixelDiscriminator(2))


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


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """Three steps of the tiny CycleGAN on eight devices, and how many programs were compiled in each."""
    config, compiled, walked = tiny_cyclegan("unused", cyclegan={"num_blocks": 0}), [], []
    count = lambda name, *_, **__: compiled.append(name) if name.endswith("backend_compile_duration") else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(count)
    for state, metrics in walk(cyclegan.TASK, config, noise(), parallel.make_mesh(), 3):
        # Copied, for the next step is given the state's own buffers.
        copied = jax.tree.map(np.asarray, state)
        walked.append((copied, jax.device_get(metrics), replicas_agree(state), len(compiled)))
    jax.monitoring.unregister_event_duration_listener(count)
    return config, walked


def test_train_step_keeps_replicas_bitwise_equal(eight):
    assert all(agree for _, _, agree, _ in eight[1])


def test_train_step_compiles_once(eight):
    first, second, third = (compiled for _, _, _, compiled in eight[1])
    assert 0 < first == second == third


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


def test_init_draws_networks_apart_and_copies_averages(make_cyclegan):
    state = jax.jit(lambda: steps.init(make_cyclegan(), keys.root_key(0)))()
    assert len({fingerprint.tree_digest(getattr(state, name).params) for name in NETWORKS}) == 4
    assert fingerprint.tree_digest(state.ema) == fingerprint.tree_digest(
        {"a2b": state.g_a2b.params, "b2a": state.g_b2a.params}
    )
    # Networks from one key would have kernels in common.
    for one, other in (GENERATORS, DISCRIMINATORS):
        ours, theirs = (jax.tree.leaves(getattr(state, name).params) for name in (one, other))
        for kernel, its in zip(ours, theirs, strict=True):
            assert kernel.ndim == 1 or np.isin(kernel, its).mean() < 0.01


def test_init_is_in_float32_under_x64(make_cyclegan):
    def init():
        return jax.jit(lambda: steps.init(make_cyclegan(cyclegan={"spectral_norm": True}), keys.root_key(0)))()

    with jax.enable_x64(True):
        wide = jax.device_get(init())
    assert {leaf.dtype for leaf in jax.tree.leaves(wide)} == {np.dtype("float32"), np.dtype("int32")}
    assert fingerprint.tree_digest(wide) == fingerprint.tree_digest(jax.device_get(init()))


def test_train_step_averages_generators(eight):
    config, ((first, *_), (second, *_), _) = eight
    decay = min(config.optim.ema_decay, 2 / 11)  # (1 + t) / (10 + t) with t = 1 step before
    for direction, net in (("a2b", second.g_a2b), ("b2a", second.g_b2a)):
        for old, new, mean in zip(
            *map(jax.tree.leaves, (first.ema[direction], net.params, second.ema[direction])), strict=True
        ):
            np.testing.assert_allclose(mean, decay * old + (1 - decay) * new, rtol=1e-6, atol=1e-9)


def test_train_step_moves_every_network(eight):
    _, ((first, *_), _, (third, *_)) = eight
    for name in NETWORKS:
        before, after = getattr(first, name), getattr(third, name)
        assert int(after.opt_state.count) == 3
        kernels = [
            np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (before.params, after.params)), strict=True)
        ]
        assert min(kernels) > 0


def test_train_step_fills_pools(eight):
    config, walked = eight
    assert [int(state.pool_a.num) for state, *_ in walked] == [8, 12, 12]
    state = walked[0][0]
    assert np.abs(state.pool_a.images[:8]).max() <= 1 and len(np.unique(state.pool_a.images[:8])) > 1000
    assert not state.pool_a.images[8:].any()
    assert fingerprint.tree_digest(state.pool_a) != fingerprint.tree_digest(state.pool_b)


@pytest.mark.parametrize("pairs", [False, True])
def test_training_images_mirror_pairs_alike(make_cyclegan, pairs):
    config = make_cyclegan(data={"flip": True, "paired": True, "train_pairs": pairs})
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 1), np.uint8)
    batch, key, draws = batches.Batch((images, images), np.arange(8)), jax.random.key(0), seen.image_draws(config)
    a, b = map(np.asarray, seen.augmented(config, batch, key, draws, batch.images))
    assert (a == b).all() == pairs
    # The mask of what is kept is mirrored with the images.
    for kept, of in zip(steps._kept(config, batch, key, draws, images[0]), (a, b), strict=True):
        mirrored = [np.abs(image - (images[i] / 127.5 - 1)).max() > 0.1 for i, image in enumerate(of)]
        expected = [1 - (images[0][:, ::-1] if turned else images[0]) / 255 for turned in mirrored]
        np.testing.assert_allclose(kept, expected, atol=1e-6)
        assert 0 < sum(mirrored) < 8


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


def moments(state):
    """The first moments of all four optimisers: after one step, the gradients times a constant."""
    return jax.tree.leaves([getattr(state, name).opt_state.mu for name in NETWORKS])


def test_train_step_agrees_on_devices_in_float64(make_cyclegan, x64):
    """With what needs second derivatives, and all that changes what discriminators see.

    Generators are small: whole ones are compared in float32 below, and test_networks.py shows that they keep images
    apart in float64.
    """

    def make_networks(config):
        small = small_networks(config)
        return nets.make_networks(config)._replace(g_a2b=small.g_a2b, g_b2a=small.g_b2a)

    loss = dataclasses.replace(losses.MISSION, r1=1.0, label_smoothing=0.1)
    options = {"diff_augment": 1.0, "instance_noise": 0.2, "discriminator_lr_scale": 4.0}
    config = make_cyclegan(loss=loss, cyclegan=SMALL | {"output": "residual", "discriminator": "pixel"} | options)
    (one, on_one), (eight, on_eight) = (
        next(walk(cyclegan.make_task(make_networks), config, noise(), mesh_of(num), 1, jnp.float64)) for num in (1, 8)
    )
    for name in on_one:
        np.testing.assert_allclose(on_one[name], on_eight[name], rtol=1e-8, atol=1e-12)
    for a, b in zip(moments(one), moments(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


def test_train_step_agrees_on_devices_in_float32(eight):
    config, ((on_eight, metrics, *_), *_) = eight
    on_one, metrics_on_one = next(walk(cyclegan.TASK, config, noise(), mesh_of(1), 1))
    for name in ("g_loss", "d_a_loss", "d_b_loss", "accuracy_d_a", "gap_d_b", "correlation_b2a"):
        np.testing.assert_allclose(metrics_on_one[name], metrics[name], rtol=1e-5, atol=1e-6)
    total = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in moments(on_one)))
    for a, b in zip(moments(on_one), moments(on_eight), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a) + 1e-7 * total


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


def test_train_step_in_bfloat16_keeps_float32_state(eight, make_cyclegan):
    _, ((_, in_float32, *_), *_) = eight
    config = make_cyclegan(precision="bfloat16", cyclegan={"num_blocks": 0})
    state, metrics = next(walk(cyclegan.TASK, config, noise(), mesh_of(1), 1))
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32"), jnp.dtype("int32")}
    for name in ("g_loss", "cycle_a", "identity_b", "d_a_loss"):
        assert metrics[name].dtype == jnp.float32
        np.testing.assert_allclose(metrics[name], in_float32[name], rtol=0.03)


def test_fit_normalises_discriminators_resumes_without_pool(make_cyclegan, tmp_path):
    changes = {"pool_size": 0, "spectral_norm": True}
    for name, values in zip(("trainA", "trainB", "testA", "testB"), (6, 7, 2, 3), strict=True):
        write_noise(tmp_path / "images" / name, values)
    data = {"source": f"folder:{tmp_path / 'images'}", "cache_dir": str(tmp_path / "cache")}

    def run(num_steps):
        return make_cyclegan(
            data=data, cyclegan=SMALL | changes, loss={"adversarial": "hinge"}, optim={"learning_rate": 1e-5},
            train={"num_steps": num_steps, "eval_every": 2, "checkpoint_every": 2},
        )  # fmt: skip

    make_programs = multi_seed.compile_once()
    task = cyclegan.make_task(small_networks)
    first, state = (loop.fit(task, run(num_steps), make_programs) for num_steps in (2, 12))
    assert (first.resumed_from, state.resumed_from) == (0, 2)
    rows = list(read_rows(tmp_path / "run" / "metrics.jsonl"))
    assert len(rows) == 6 + 6 and all(row["warnings"] == {} for row in rows)

    first, state = jax.device_get((first.state, state.state))
    assert fingerprint.tree_digest(first.spectral) != fingerprint.tree_digest(state.spectral)
    for name in ("d_a", "d_b"):
        normalised, _ = discriminators.spectral_normalise(getattr(state, name).params, state.spectral[name])
        for layer in normalised.values():
            largest = np.linalg.svd(np.reshape(layer["kernel"], (-1, layer["kernel"].shape[-1])), compute_uv=False)[0]
            assert largest == pytest.approx(1, abs=0.05)


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


@pytest.mark.parametrize(("size", "elements"), [((16, 16), {1, 2, 3, 4, 5, 6, 7}), ((16, 32), {2, 4, 6})])
def test_elements_are_all_symmetries_but_the_identity(make_cyclegan, size, elements):
    config = make_cyclegan(data={"image_size": size})
    drawn = steps._elements(config, keys.per_example(keys.root_key(0), jnp.arange(500)))
    assert set(np.asarray(drawn).tolist()) == elements


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_train_step_augments_translations_for_generators(make_cyclegan, strength):
    altered = []

    def term(n):
        altered.append(n.augment(Draw.FOOLED_A, n.a) is not n.a)
        return simple_term(n)

    config = make_cyclegan(cyclegan=SMALL | {"diff_augment": strength})
    next(walk(cyclegan.make_task(copying_networks, {"cycle_a": term}), config, noise(), mesh_of(1), 1))
    assert altered and set(altered) == {strength > 0}


def images(num=6, shape=(16, 16, 1), seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, *shape)).astype(np.float32)


def test_augment_is_the_identity_without_options(make_cyclegan):
    given = images()
    position = np.arange(6, dtype=np.int32)
    assert seen.augment(make_cyclegan(), jnp.int32(0), position, keys.root_key(0), Draw.REAL_A, given) is given


def test_augment_differs_for_every_draw_and_seed(make_cyclegan):
    config, given = make_cyclegan(cyclegan={"diff_augment": 1.0}), images(2)
    step = jax.jit(lambda key: [seen.augment(config, 0, np.arange(2), key, draw, given) for draw in Draw])
    assert list(Draw) == list(range(19))  # the numbers are part of every result
    found = {np.asarray(one).tobytes() for seed in (0, 1) for one in step(keys.root_key(seed))}
    assert len(found) == 2 * len(Draw)


@pytest.mark.parametrize(("step", "sigma"), [(0, 0.3), (6, 0.15), (12, 0.0)])
def test_augment_reduces_instance_noise_linearly(make_cyclegan, step, sigma):
    config = make_cyclegan(cyclegan={"instance_noise": 0.3})  # 12 steps
    given, augment = images(64), jax.jit(seen.augment, static_argnums=(0, 4))
    noise = augment(config, jnp.int32(step), np.arange(64), keys.root_key(0), Draw.FAKE_B, given) - given
    np.testing.assert_allclose(jnp.std(noise), sigma, rtol=0.03, atol=1e-7)
    assert abs(float(jnp.mean(noise))) <= 4 * sigma / np.sqrt(noise.size) + 1e-7


def test_adversarial_gradient_flows_through_augmentation(make_cyclegan, x64):
    """The derivative along a direction in the generator's parameters, against a central difference."""
    alone = LossConfig(adversarial_a2b=1.0, adversarial_b2a=0.0, cycle_a=0.0, cycle_b=0.0)
    config = make_cyclegan(loss=alone, cyclegan={"num_blocks": 0, "diff_augment": 0.8, "instance_noise": 0.3})
    networks, state = nets.make_networks(config), jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    rng = np.random.default_rng(0)
    g, d, along = (
        jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape)), net.params)
        for net in (state.g_a2b, state.d_b, state.g_a2b)
    )
    a = jnp.asarray(images(3), jnp.float64)
    drawn = []

    def loss(amount):
        def augment(draw, fake):
            drawn.append(draw)
            return seen.augment(config, jnp.int32(0), np.arange(3), keys.root_key(0), draw, fake)

        fake = apply(networks.g_a2b, jax.tree.map(lambda x, y: x + amount * y, g, along), a)
        d_b = functools.partial(apply, networks.d_b, d)
        n = losses.Inputs(alone, a, a, a, fake, None, None, None, d_b, jnp.zeros(3, int), augment)
        return jnp.mean(terms.generator_terms(n, losses.TERMS)["adversarial_a2b"])

    (low, _, high), (_, grad, _) = jax.jit(jax.vmap(jax.value_and_grad(loss)))(jnp.array([-1e-5, 0, 1e-5]))
    np.testing.assert_allclose(grad, (high - low) / 2e-5, rtol=1e-5)
    assert abs(grad) > 1e-3 and drawn == [Draw.FOOLED_B]

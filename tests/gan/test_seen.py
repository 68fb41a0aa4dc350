"""What discriminators see: mirrored and augmented images, and instance noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.cyclegan import losses, nets, steps
from genjax.cyclegan.config import LossConfig
from genjax.data import batches
from genjax.gan import seen, terms
from genjax.gan.params import apply
from genjax.keys import Draw

pytestmark = pytest.mark.slow


def images(num=6, shape=(16, 16, 1), seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, *shape)).astype(np.float32)


@pytest.mark.parametrize("pairs", [False, True])
def test_training_images_mirror_pairs_alike(make_cyclegan, pairs):
    config = make_cyclegan(data={"flip": True, "paired": True, "train_pairs": pairs})
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 1), np.uint8)
    batch, key, draws = batches.Batch((images, images), np.arange(8)), jax.random.key(0), seen.image_draws(config)
    a, b = map(np.asarray, seen.augmented(config, batch, key, draws, batch.images))
    assert (a == b).all() == pairs
    # The mask of what is kept is mirrored with the images.
    examples = steps._examples(config, batch, key, {"keep_mask": images[0]})
    for kept, of in zip(examples.kept, (a, b), strict=True):
        mirrored = [np.abs(image - (images[i] / 127.5 - 1)).max() > 0.1 for i, image in enumerate(of)]
        expected = [1 - (images[0][:, ::-1] if turned else images[0]) / 255 for turned in mirrored]
        np.testing.assert_allclose(kept, expected, atol=1e-6)
        assert 0 < sum(mirrored) < 8


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

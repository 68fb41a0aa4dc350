"""Networks, losses, pools and schedules of CycleGAN against PyTorch, in float64, from copied weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra parity: pip install -e '.[parity]'")

import torch_cyclegan as reference  # noqa: E402
from copied_weights import from_torch, to_torch, with_weights_of  # noqa: E402
from genjax import keys, optim, parallel  # noqa: E402
from genjax.config import OptimConfig  # noqa: E402
from genjax.cyclegan import losses, nets, steps  # noqa: E402
from genjax.cyclegan.config import CycleGanConfig  # noqa: E402
from genjax.gan import adversarial, image_pool  # noqa: E402
from genjax.gan.params import apply  # noqa: E402
from random_networks import random_images  # noqa: E402
from torch_networks import cyclegan_of  # noqa: E402

torch.set_num_threads(1)  # the tensors are tiny, and threads would mostly wait for one another
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

EXACT = dict(rtol=1e-8, atol=1e-12)

# The fields of a case, the size of its images, and channels in A and B. Cases named after discriminators compare these
# alone, the others generators.
NETWORKS = {
    "resnet": ({"base_channels": 5, "num_blocks": 2}, (20, 16), (3, 1)),
    "resnet, residual, no blocks": ({"base_channels": 3, "num_blocks": 0, "output": "residual"}, (8, 12), (3, 3)),
    "unet": ({"generator": "unet", "base_channels": 3, "num_downs": 5}, (32, 64), (1, 3)),
    "unet, residual, deeper": (
        {"generator": "unet", "base_channels": 2, "num_downs": 6, "output": "residual"}, (64, 64), (3, 3)
    ),
    "patches of 16": ({"discriminator_channels": 5, "discriminator_layers": 1}, (12, 8), (3, 1)),
    "patches of 70": ({"discriminator_channels": 3, "discriminator_layers": 3}, (40, 32), (1, 3)),
    "patches of 142": ({"discriminator_channels": 2, "discriminator_layers": 4}, (48, 64), (1, 3)),
    "pixels": ({"discriminator": "pixel", "discriminator_channels": 6}, (8, 12), (3, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_and_their_gradients_equal_torch(make_cyclegan, name):
    fields, size, channels = NETWORKS[name]
    no_identity = dataclasses.replace(losses.CLASSIC, identity_a=0.0, identity_b=0.0)
    config = make_cyclegan(
        data={"image_size": size, "channels": channels}, loss=no_identity,
        cyclegan=CycleGanConfig(
            **{"discriminator_layers": 1, "base_channels": 1, "num_blocks": 0, "pool_size": 8} | fields
        ),
    )  # fmt: skip
    theirs = cyclegan_of(config)
    state = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    ours = {n: with_weights_of(getattr(state, n).params, module) for n, module in theirs.items()}
    of_discriminators = name.startswith(("patches", "pixels"))
    for which, source in (("d_a", 0), ("d_b", 1)) if of_discriminators else (("g_a2b", 0), ("g_b2a", 1)):
        x = random_images((*size, channels[source]))
        given = to_torch(x).requires_grad_()
        expected = theirs[which](given)
        probe = torch.tensor(np.random.default_rng(1).normal(size=expected.shape))
        theirs[which].zero_grad()
        (expected * probe).sum().backward()

        def probed(params, x, probe, which=which):
            found = apply(getattr(nets.make_networks(config), which), params, x)
            return jnp.sum(found * probe), found

        probed_grads = jax.jit(jax.grad(probed, (0, 1), has_aux=True))
        grads, found = probed_grads(ours[which], jnp.array(x), jnp.array(from_torch(probe)))
        np.testing.assert_allclose(found, from_torch(expected), **EXACT)
        wanted = with_weights_of(ours[which], theirs[which], lambda parameter: parameter.grad), from_torch(given.grad)
        for g, w in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-8, atol=1e-11)


KINDS = ("lsgan", "vanilla", "hinge", "wgan_gp")


@pytest.mark.parametrize("kind", KINDS)
def test_adversarial_losses_equal_torch(kind):
    theirs, config = kind.removesuffix("_gp"), dataclasses.replace(losses.CLASSIC, adversarial=kind)
    real, fake = np.random.default_rng(0).normal(size=(2, 5, 6, 6, 1)) * 3
    on_real, on_fake = (reference.gan_loss(theirs, torch.tensor(x), x is real, True) for x in (real, fake))
    found = adversarial.real_fake_loss(config, jnp.array(real), jnp.array(fake))
    np.testing.assert_allclose(found.mean(), 0.5 * (on_real + on_fake), **EXACT)
    found = adversarial.generator_loss(config, jnp.array(fake))
    np.testing.assert_allclose(found.mean(), reference.gan_loss(theirs, torch.tensor(fake), True, False), **EXACT)


@pytest.mark.parametrize("element", range(8))
def test_dihedral_equals_torch(element):
    images = random_images((6, 6, 3))
    found = losses.dihedral(jnp.array(images), jnp.full(2, element))
    np.testing.assert_array_equal(found, from_torch(reference.dihedral(to_torch(images), element)))


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_query_equals_torch_over_500_batches(batch):
    """Images are their own numbers, so that equal contents mean equal decisions."""
    pool, theirs = image_pool.empty(50, (1, 1, 1)), reference.ImagePool(50)
    mesh = parallel.make_mesh(jax.devices()[:1])
    specs = (parallel.REPLICATED, parallel.SPLIT, parallel.SPLIT, parallel.REPLICATED)
    query = parallel.pmap(image_pool.query, mesh, specs, (parallel.REPLICATED, parallel.SPLIT))
    swapped = 0
    for i in range(500):
        numbers, position = np.arange(i * batch, (i + 1) * batch, dtype=float), np.arange(batch, dtype=np.int32)
        key = jax.random.fold_in(jax.random.key(7), i)
        pool, returned = query(pool, numbers.reshape(-1, 1, 1, 1), position, key)
        uniforms = np.asarray(jax.vmap(lambda k: jax.random.uniform(k, (2,)))(keys.per_example(key, position)))
        expected = theirs.query(torch.tensor(numbers).reshape(-1, 1, 1, 1), uniforms).flatten().tolist()
        assert returned.ravel().tolist() == expected
        swapped += sum(number < i * batch for number in expected)
    assert pool.images.ravel().tolist() == torch.stack(theirs.images).flatten().tolist()
    assert swapped > 500 * batch / 3


@pytest.mark.parametrize("variant", ["epoch_end", "epoch_start", "lua"])
def test_learning_rate_equals_torch(variant):
    config = OptimConfig(learning_rate=2e-4, schedule="linear", steps_per_epoch=7, linear_decay=variant)
    expected = np.repeat(reference.lr_sequence(variant, 100, 100, 2e-4), 7)
    found = jax.jit(jax.vmap(lambda step: optim.learning_rate(config, 1400, step)))(jnp.arange(1400))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-16)

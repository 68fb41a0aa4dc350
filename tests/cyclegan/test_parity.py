"""Networks, losses, pools, schedules and whole training steps against PyTorch, in float64, from copied weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra parity: pip install -e '.[parity]'")

import torch_cyclegan as reference  # noqa: E402
from copied_weights import from_torch, to_torch, with_weights_of  # noqa: E402
from genjax import cyclegan, keys, optim, parallel  # noqa: E402
from genjax.compiled import seeded_step  # noqa: E402
from genjax.config import OptimConfig  # noqa: E402
from genjax.cyclegan import losses, nets, steps  # noqa: E402
from genjax.cyclegan.config import CycleGanConfig, LossConfig  # noqa: E402
from genjax.data.batches import Batch  # noqa: E402
from genjax.gan import adversarial, image_pool  # noqa: E402
from genjax.gan.params import apply  # noqa: E402
from genjax.keys import Draw, Stream  # noqa: E402

EXACT = dict(rtol=1e-8, atol=1e-12)
NAMES = ("g_a2b", "g_b2a", "d_a", "d_b")

torch.set_num_threads(1)  # the tensors are tiny, and threads would mostly wait for one another
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


def torch_nets(config):
    """The four networks, with weights large enough for every layer to matter."""
    net, (a, b) = config.cyclegan, config.data.channels

    def generator(source, target):
        if net.generator == "unet":
            return reference.UnetGenerator(source, target, net.num_downs, net.base_channels, net.output)
        return reference.ResnetGenerator(source, target, net.base_channels, net.num_blocks, net.output)

    def discriminator(channels):
        if net.discriminator == "pixel":
            return reference.PixelDiscriminator(channels, net.discriminator_channels)
        return reference.PatchDiscriminator(channels, net.discriminator_channels, net.discriminator_layers)

    seen_a, seen_b = (a + b, a + b) if net.conditional else (a, b)
    networks = generator(a, b), generator(b, a), discriminator(seen_a), discriminator(seen_b)
    made = dict(zip(NAMES, networks, strict=True))
    torch.manual_seed(0)
    for module in made.values():
        module.double()
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, 0, 0.3)
    return made


def fresh_params(config):
    state = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    return {n: getattr(state, n).params for n in NAMES}


def images_of(shape, num=2, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, *shape))


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
    theirs = torch_nets(config)
    ours = {n: with_weights_of(params, theirs[n]) for n, params in fresh_params(config).items()}
    of_discriminators = name.startswith(("patches", "pixels"))
    for which, source in (("d_a", 0), ("d_b", 1)) if of_discriminators else (("g_a2b", 0), ("g_b2a", 1)):
        x = images_of((*size, channels[source]))
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
    images = images_of((6, 6, 3))
    found = losses.dihedral(jnp.array(images), jnp.full(2, element))
    np.testing.assert_array_equal(found, from_torch(reference.dihedral(to_torch(images), element)))


STEPS = {
    "classic": (losses.CLASSIC, {}),
    "all terms, hinge": (
        LossConfig(adversarial="hinge", adversarial_a2b=0.7, adversarial_b2a=1.3, cycle_a=3.0, cycle_b=5.0,
                   identity_a=0.5, identity_b=0.25, affine_a2b=1.5, affine_b2a=2.5),
        {"discriminator": "pixel", "output": "residual"},
    ),
    "wgan-gp": (dataclasses.replace(losses.CLASSIC, adversarial="wgan_gp", gradient_penalty=7.0), {"pool_size": 0}),
    "pix2pix, with a pool": (losses.PIX2PIX, {"conditional": True}),
    "known pairs": (dataclasses.replace(losses.CLASSIC, paired=7.0), {}),
}  # fmt: skip


PAIRS = {"pix2pix, with a pool": {"paired": True, "train_pairs": True}, "known pairs": {"pairs": "pairs:unused"}}


@pytest.mark.parametrize("name", STEPS)
def test_train_step_equals_torch(make_cyclegan, name):
    """Three steps, in which the pools fill and swap: every loss, moment of Adam, parameter and stored image.

    Blocks of generators are compared with the networks above.
    """
    loss, fields = STEPS[name]
    sizes = {"base_channels": 3, "num_blocks": 0, "discriminator_channels": 3, "discriminator_layers": 1}
    networks = sizes | {"pool_size": 4} | fields
    config = make_cyclegan(
        data={"image_size": (16, 16), "channels": (3, 3), "batch_size": 4} | PAIRS.get(name, {}), loss=loss,
        # Gradients of biases before a normalisation are nothing but rounding errors, largest in second derivatives,
        # and Adam would make steps of them if it were not for its epsilon.
        optim={"learning_rate": 2e-4, "b1": 0.5, "eps": 1e-4 if loss.adversarial == "wgan_gp" else 1e-8},
        cyclegan=networks,
    )  # fmt: skip
    theirs = torch_nets(config)
    optimizers, pools = (
        reference.make_optimizers(theirs, eps=config.optim.eps),
        {x: reference.ImagePool(networks["pool_size"]) for x in "ab"},
    )
    state = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float64 if x.dtype == jnp.float32 else x.dtype), state)
    copied = {n: with_weights_of(params, theirs[n]) for n, params in fresh_params(config).items()}
    state = state._replace(**{n: optim.init_net(config.optim, params) for n, params in copied.items()})
    mesh = parallel.make_mesh(jax.devices()[:1])
    # Placed as steps return it, or the second one would compile again.
    state = jax.device_put(state, jax.NamedSharding(mesh, parallel.REPLICATED))
    step_fn = parallel.pmap(
        seeded_step(cyclegan.TASK, config), mesh, (parallel.REPLICATED, parallel.SPLIT, parallel.REPLICATED),
        parallel.REPLICATED, donate=(0,),
    )  # fmt: skip
    weights = {name: getattr(loss, name) for name in losses.TERMS if getattr(loss, name) > 0}
    terms = ("g_loss", "d_a_loss", "d_b_loss", *weights)
    if loss.adversarial == "wgan_gp":
        # The discriminator's whole loss is halved here, and there not its penalty.
        weights["gradient_penalty"] = loss.gradient_penalty / 2

    for step in range(3):
        raw = np.random.default_rng(step).integers(0, 256, (4, 4, 16, 16, 3), np.uint8)
        known = tuple(raw[2:]) if config.data.pairs else ()
        batch = Batch(tuple(raw[:2]), np.arange(4, dtype=np.int32), known)
        a, b, *pairs = (to_torch((x / 255 - 0.5) / 0.5) for x in (*raw[:2], *known))
        # The same draws, by their addresses.
        key = keys.for_step(keys.root_key(config.seed), Stream.TRAIN, step)

        def uniform(draw, shape, key=key, position=batch.position):
            example_keys = keys.per_example(keys.for_draw(key, draw), position)
            return np.asarray(jax.vmap(lambda k: jax.random.uniform(k, shape))(example_keys))

        element_keys = keys.per_example(keys.for_draw(key, Draw.ELEMENT), batch.position)
        elements = np.asarray(steps._elements(config, element_keys)).tolist()
        uniforms = {"a": uniform(Draw.POOL_A, (2,)), "b": uniform(Draw.POOL_B, (2,))}
        alphas = {"a": uniform(Draw.FRACTION_A, (1, 1, 1)), "b": uniform(Draw.FRACTION_B, (1, 1, 1))}
        alphas = {x: torch.tensor(alpha) for x, alpha in alphas.items()}
        expected = reference.training_step(
            theirs, optimizers, pools, a, b, weights, loss.adversarial.removesuffix("_gp"), uniforms, alphas,
            {"a2b": elements, "b2a": elements}, pairs or (a, b), config.cyclegan.conditional,
        )  # fmt: skip

        state, metrics = step_fn(state, batch, parallel.replicate_scalar(mesh, config.seed))
        for term in terms:
            wanted = expected["g" if term == "g_loss" else term.removesuffix("_loss")]
            np.testing.assert_allclose(metrics[term], wanted, err_msg=f"{term} at step {step}", **EXACT)
        for n in NAMES:
            optimizer = optimizers[n[0]]
            adam = getattr(state, n).opt_state
            for found, moment in (
                (getattr(state, n).params, lambda p: p),
                (adam.mu, lambda p, o=optimizer: o.state[p]["exp_avg"]),
                (adam.nu, lambda p, o=optimizer: o.state[p]["exp_avg_sq"]),
            ):
                wanted = with_weights_of(copied[n], theirs[n], moment)
                for f, w in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
                    np.testing.assert_allclose(f, w, err_msg=f"{n} at step {step}", **EXACT)
        for ours, x in ((state.pool_a, "a"), (state.pool_b, "b")):
            assert int(ours.num) == len(pools[x].images)
            if pools[x].images:
                np.testing.assert_allclose(ours.images, from_torch(torch.stack(pools[x].images)), **EXACT)


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

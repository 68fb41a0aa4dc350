"""Whole training steps of CycleGAN against PyTorch, in float64, from copied weights."""

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
from genjax.cyclegan import losses, steps  # noqa: E402
from genjax.cyclegan.config import LossConfig  # noqa: E402
from genjax.data.batches import Batch  # noqa: E402
from genjax.keys import Draw, Stream  # noqa: E402
from torch_networks import cyclegan_of  # noqa: E402

EXACT = dict(rtol=1e-8, atol=1e-12)

torch.set_num_threads(1)  # the tensors are tiny, and threads would mostly wait for one another
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


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

    Blocks of generators are compared in test_parity_parts.py.
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
    theirs = cyclegan_of(config)
    optimizers, pools = (
        reference.make_optimizers(theirs, eps=config.optim.eps),
        {x: reference.ImagePool(networks["pool_size"]) for x in "ab"},
    )
    state = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float64 if x.dtype == jnp.float32 else x.dtype), state)
    copied = {n: with_weights_of(getattr(state, n).params, module) for n, module in theirs.items()}
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
        for n in theirs:
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

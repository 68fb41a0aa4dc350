"""Whole training steps of CUT and FastCUT against PyTorch, in float64, from copied weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra parity: pip install -e '.[parity]'")

import torch_cut as reference  # noqa: E402
from copied_weights import to_torch, with_weights_of  # noqa: E402
from genjax import cut, keys, optim, parallel  # noqa: E402
from genjax.compiled import seeded_step  # noqa: E402
from genjax.cut import losses, nets, steps  # noqa: E402
from genjax.data.batches import Batch  # noqa: E402
from genjax.keys import Draw, Stream  # noqa: E402
from tiny import tiny_cut  # noqa: E402
from torch_networks import PatchDiscriminator, ResnetGenerator  # noqa: E402

torch.set_num_threads(1)
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

EXACT = dict(rtol=1e-8, atol=1e-12)
FEATURES = ("pixels", "down_1", "down_2", "block_1", "block_2")
CHANNELS = dict(zip(FEATURES, (3, 6, 12, 12, 12), strict=True))


def heads_of(params, modules, of=lambda parameter: parameter):
    """The parameters of the heads with the numbers of PyTorch's."""
    found = {}
    for name, head in modules.items():
        for part in ("hidden", "output"):
            linear = getattr(head, part)
            values = {"kernel": of(linear.weight).detach().numpy().T, "bias": of(linear.bias).detach().numpy()}
            found[f"{name}_{part}"] = {key: jnp.array(value) for key, value in values.items()}
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, params)
    return found


@pytest.mark.parametrize(("mirror", "loss"), [(False, losses.CUT), (True, losses.FAST_CUT)], ids=["cut", "fastcut"])
def test_train_step_equals_torch(mirror, loss):
    """Three steps: every loss, moment of Adam and parameter of all networks."""
    config = tiny_cut(
        "unused", data={"channels": (3, 3), "batch_size": 4}, loss=loss,
        optim={"learning_rate": 2e-4, "b1": 0.5, "eps": 1e-6},  # as rounding errors of dead biases make steps with 1e-8
        cut={"base_channels": 3, "num_blocks": 2, "discriminator_channels": 3, "features": FEATURES,
             "num_patches": 20, "mirror": mirror},
    )  # fmt: skip
    theirs = {"g_a2b": ResnetGenerator(3, 3, 3, 2), "d_b": PatchDiscriminator(3, 3, 1)}
    heads = {name: reference.Head(CHANNELS[name], 8) for name in FEATURES}
    torch.manual_seed(0)
    for module in (*theirs.values(), *heads.values()):
        module.double()
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, 0, 0.3)
    trained = {"g": theirs["g_a2b"].parameters(), "d": theirs["d_b"].parameters()}
    trained["heads"] = [parameter for head in heads.values() for parameter in head.parameters()]
    optimizers = {
        name: torch.optim.Adam(params, lr=2e-4, betas=(0.5, 0.999), eps=1e-6) for name, params in trained.items()
    }

    state = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float64 if x.dtype == jnp.float32 else x.dtype), state)
    copied = {name: with_weights_of(getattr(state, name).params, module) for name, module in theirs.items()}
    copied["heads"] = heads_of(state.heads.params, heads)
    state = state._replace(**{name: optim.init_net(config.optim, params) for name, params in copied.items()})
    mesh = parallel.make_mesh(jax.devices()[:1])
    state = jax.device_put(state, jax.NamedSharding(mesh, parallel.REPLICATED))
    step_fn = parallel.pmap(
        seeded_step(cut.TASK, config), mesh, (parallel.REPLICATED, parallel.SPLIT, parallel.REPLICATED),
        parallel.REPLICATED, donate=(0,),
    )  # fmt: skip
    mirrored_ever = set()
    for step in range(3):
        raw = np.random.default_rng(step).integers(0, 256, (2, 4, 16, 16, 3), np.uint8)
        batch = Batch(tuple(raw), np.arange(4, dtype=np.int32))
        # The same draws, by their addresses.
        key = keys.for_step(keys.root_key(config.seed), Stream.TRAIN, step)
        sizes = {"pixels": 16, "down_1": 8, "down_2": 4, "block_1": 4, "block_2": 4}
        maps = {name: jnp.zeros((1, sizes[name], sizes[name], 1)) for name in FEATURES}
        places = nets.draw_places(keys.for_draw(key, Draw.PATCHES), maps, 20)
        example_keys = keys.per_example(keys.for_draw(key, Draw.MIRRORED), batch.position)
        mirrored = set(np.flatnonzero(jax.vmap(jax.random.bernoulli)(example_keys)) if mirror else ())
        mirrored_ever |= mirrored
        weights = {name: getattr(loss, name) for name in losses.TERMS}
        a, b = (to_torch((x / 255 - 0.5) / 0.5) for x in raw)
        expected = reference.training_step(
            theirs, heads, optimizers, a, b, weights, jax.tree.map(np.array, places), mirrored, 0.07
        )
        state, metrics = step_fn(state, batch, parallel.replicate_scalar(mesh, config.seed))
        for name, wanted in expected.items():
            np.testing.assert_allclose(metrics[name], wanted, err_msg=f"{name} at step {step}", **EXACT)
        for name, which in (("g_a2b", "g"), ("d_b", "d"), ("heads", "heads")):
            adam = getattr(state, name).opt_state
            for found, moment in (
                (getattr(state, name).params, lambda p: p),
                (adam.mu, lambda p, o=optimizers[which]: o.state[p]["exp_avg"]),
                (adam.nu, lambda p, o=optimizers[which]: o.state[p]["exp_avg_sq"]),
            ):
                wanted = (
                    heads_of(copied[name], heads, moment)
                    if name == "heads"
                    else with_weights_of(copied[name], theirs[name], moment)
                )
                for f, w in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
                    np.testing.assert_allclose(f, w, err_msg=f"{name} at step {step}", **EXACT)
    assert 0 < len(mirrored_ever) or not mirror

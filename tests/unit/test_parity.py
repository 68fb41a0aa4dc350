"""Whole training steps of UNIT against PyTorch, in float64, from copied weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra parity: pip install -e '.[parity]'")

import torch_unit as reference  # noqa: E402
from copied_weights import kernel, numbered, to_torch, with_weights_of  # noqa: E402
from genjax import keys, optim, parallel, unit  # noqa: E402
from genjax.compiled import seeded_step  # noqa: E402
from genjax.data.batches import Batch  # noqa: E402
from genjax.keys import Draw, Stream  # noqa: E402
from genjax.unit import losses, steps  # noqa: E402
from tiny import tiny_unit  # noqa: E402
from torch_networks import PatchDiscriminator, convolutions  # noqa: E402

torch.set_num_threads(1)
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

EXACT = dict(rtol=1e-8, atol=1e-12)
WIDTH = 3
CHANNELS = {"a": 1, "b": 3}


def coder_of(name, params, module, of=lambda parameter: parameter):
    """The parameters of an encoder, a decoder or their shared part with the numbers of PyTorch's."""
    padded, strided, up = (numbered(params, kind) for kind in ("ReflectConv", "Conv", "ConvTranspose"))
    order = [*padded, *up]
    if name.startswith("encoder"):
        order = [padded[0], *strided, *padded[1:]]
    if name.startswith("decoder"):
        order = [*padded[:-1], *up, padded[-1]]
    new = [
        {"kernel": jnp.array(kernel(conv, of(conv.weight))), "bias": jnp.array(of(conv.bias).detach().numpy())}
        for conv in convolutions(module)
    ]
    assert jax.tree.map(jnp.shape, order) == jax.tree.map(jnp.shape, new)
    found = {id(layer): made for layer, made in zip(order, new, strict=True)}
    return {layer: found[id(value)] for layer, value in params.items()}


def test_train_step_equals_torch():
    """Three steps between grey and colour: every loss, moment of Adam and parameter of all networks."""
    # All terms with weights of their own, so that none can take another's place.
    weights = {name: 0.1 + 0.3 * i for i, name in enumerate(losses.TERMS) if not name.startswith("perceptual")}
    config = tiny_unit(
        "unused", data={"channels": (1, 3), "batch_size": 4},
        loss=dataclasses.replace(losses.UNIT, **weights),
        optim={"learning_rate": 2e-4, "b1": 0.5, "eps": 1e-6},  # as rounding errors of dead biases make steps with 1e-8
        unit={"base_channels": WIDTH, "num_blocks": 2, "discriminator_channels": 3},
    )  # fmt: skip
    coders = {f"encoder_{domain}": reference.encoder(c, WIDTH, 1) for domain, c in CHANNELS.items()}
    coders |= {f"decoder_{domain}": reference.decoder(c, WIDTH, 1) for domain, c in CHANNELS.items()}
    coders |= {f"shared_{part}": reference.shared(WIDTH, 1) for part in ("encoder", "decoder")}
    judges = {f"d_{domain}": PatchDiscriminator(c, 3, 1) for domain, c in CHANNELS.items()}
    torch.manual_seed(0)
    for module in (*coders.values(), *judges.values()):
        module.double()
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, 0, 0.3)
    optimizers = {
        name: torch.optim.Adam([p for module in of.values() for p in module.parameters()], 2e-4, (0.5, 0.999), 1e-6)
        for name, of in (("coders", coders), ("d", judges))
    }

    state = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float64 if x.dtype == jnp.float32 else x.dtype), state)

    def copied(of=lambda parameter: parameter):
        """Numbers of PyTorch's networks in the arrangement of the state."""
        params = {name: with_weights_of(getattr(state, name).params, module, of) for name, module in judges.items()}
        own = state.coders.params
        return params | {"coders": {name: coder_of(name, own[name], module, of) for name, module in coders.items()}}

    state = state._replace(**{name: optim.init_net(config.optim, params) for name, params in copied().items()})
    mesh = parallel.make_mesh(jax.devices()[:1])
    state = jax.device_put(state, jax.NamedSharding(mesh, parallel.REPLICATED))
    step_fn = parallel.pmap(
        seeded_step(unit.TASK, config), mesh, (parallel.REPLICATED, parallel.SPLIT, parallel.REPLICATED),
        parallel.REPLICATED,
    )  # fmt: skip
    for step in range(3):
        rng = np.random.default_rng(step)
        raw = tuple(rng.integers(0, 256, (4, 16, 16, c), np.uint8) for c in CHANNELS.values())
        batch = Batch(raw, np.arange(4, dtype=np.int32))
        # The same noise, by its address.
        key = keys.for_step(keys.root_key(config.seed), Stream.TRAIN, step)
        example_keys = keys.per_example(keys.for_draw(key, Draw.LATENTS), batch.position)
        noise = np.asarray(keys.normal(example_keys, 4 * 4 * 4 * 4 * WIDTH)).reshape(4, 4, 4, 4, 4 * WIDTH)
        a, b = (to_torch((x / 255 - 0.5) / 0.5) for x in raw)
        expected = reference.training_step(
            {**coders, **judges}, optimizers, a, b, weights, torch.tensor(np.moveaxis(noise, -1, 2).copy())
        )
        state, metrics = step_fn(state, batch, parallel.replicate_scalar(mesh, config.seed))
        for name, wanted in expected.items():
            np.testing.assert_allclose(metrics[name], wanted, err_msg=f"{name} at step {step}", **EXACT)
        moments = {
            part: copied(
                lambda p, part=part: optimizers["d" if p in optimizers["d"].state else "coders"].state[p][part]
            )
            for part in ("exp_avg", "exp_avg_sq")
        }
        params = copied()
        for name in params:
            net = getattr(state, name)
            for found, wanted in (
                (net.params, params[name]),
                (net.opt_state.mu, moments["exp_avg"][name]),
                (net.opt_state.nu, moments["exp_avg_sq"][name]),
            ):
                np.testing.assert_equal(jax.tree.structure(found), jax.tree.structure(wanted))
                for f, w in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
                    np.testing.assert_allclose(f, w, err_msg=f"{name} at step {step}", **EXACT)

"""Steps of CycleGAN with whole networks: state, averages, pools, precision, equal results on any number of devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import cyclegan, keys, parallel
from genjax.cyclegan import losses, nets, steps
from genjax.gan import discriminators
from genjax.gan.networks import DISCRIMINATORS, GENERATORS
from genjax.train import fingerprint, loop, multi_seed
from genjax.train.rows import read_rows
from studies.reproducibility.stepping import mesh_of, replicas_agree, walk
from tiny import tiny_cyclegan, write_domains
from two_domains import NETWORKS, SMALL, assert_step_agrees_on_devices, noise, small_networks

pytestmark = pytest.mark.slow


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
    assert_step_agrees_on_devices(cyclegan.make_task(make_networks), config, NETWORKS)


def test_train_step_agrees_on_devices_in_float32(eight):
    config, ((on_eight, metrics, *_), *_) = eight
    on_one, metrics_on_one = next(walk(cyclegan.TASK, config, noise(), mesh_of(1), 1))
    for name in ("g_loss", "d_a_loss", "d_b_loss", "accuracy_d_a", "gap_d_b", "correlation_b2a"):
        np.testing.assert_allclose(metrics_on_one[name], metrics[name], rtol=1e-5, atol=1e-6)
    total = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in moments(on_one)))
    # Rounding depends on the processor, and is of the size of the largest gradients; float64 above is exact to 1e-8.
    for a, b in zip(moments(on_one), moments(on_eight), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a) + 1e-6 * total


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
    data = write_domains(tmp_path, (6, 7, 2, 3))

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


@pytest.mark.parametrize(("size", "elements"), [((16, 16), {1, 2, 3, 4, 5, 6, 7}), ((16, 32), {2, 4, 6})])
def test_elements_are_all_symmetries_but_the_identity(make_cyclegan, size, elements):
    config = make_cyclegan(data={"image_size": size})
    drawn = steps._elements(config, keys.per_example(keys.root_key(0), jnp.arange(500)))
    assert set(np.asarray(drawn).tolist()) == elements

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys, parallel
from genjax.compiled import seeded_step
from genjax.data import batches, sources
from genjax.train import fingerprint
from genjax.vae import losses, nets, sampling, steps
from studies.reproducibility.stepping import mesh_of, replicas_agree, walk


def run_steps(config, mesh, num_steps, dtype=None):
    """The state and the metrics after the last step."""
    train = sources.load(config.data, config.seed).train
    *_, last = walk(steps, config, train, mesh, num_steps, dtype)
    return last


def test_replicas_stay_bitwise_equal(make_run):
    state, _ = run_steps(make_run(), parallel.make_mesh(), 5)
    assert replicas_agree(state)


def test_replicas_part_when_the_mean_over_devices_is_removed(make_run, monkeypatch):
    monkeypatch.setattr(parallel, "mean_over_devices", lambda tree: tree)
    state, _ = run_steps(make_run(), parallel.make_mesh(), 5)
    assert not replicas_agree(state)


def test_latent_noise_and_binarisation_have_the_same_bits_on_any_number_of_devices(make_run, monkeypatch):
    """Looks at what really enters the loss inside the compiled step."""
    config = make_run()

    def inputs(num):
        seen = {}

        def record(config, params, x, noise, beta):
            jax.debug.callback(
                lambda x, n: seen.update({bytes(row): bytes(e) for row, e in zip(x, n, strict=True)}), x, noise
            )
            return original(config, params, x, noise, beta)

        original = losses.elbo_terms
        with monkeypatch.context() as patch:
            patch.setattr(losses, "elbo_terms", record)
            run_steps(config, mesh_of(num), 1)
        jax.effects_barrier()
        return seen

    one = inputs(1)
    assert len(one) == 16
    for num in (2, 4, 8):
        assert inputs(num) == one, f"on {num} devices"


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_one_and_eight_devices_agree_in_float64(make_run, x64, architecture):
    config = make_run(vae={"architecture": architecture, "hidden": (6, 4)})
    (one, loss_one), (eight, loss_eight) = (run_steps(config, mesh_of(num), 1, jnp.float64) for num in (1, 8))
    for name in loss_one:
        np.testing.assert_allclose(loss_one[name], loss_eight[name], rtol=1e-8, atol=1e-12)
    # After one step Adam's first moment is the gradient, times a constant.
    for a, b in zip(*(jax.tree.leaves(state.net.opt_state.mu) for state in (one, eight)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


def test_one_and_eight_devices_agree_in_float32(make_run):
    (one, loss_one), (eight, loss_eight) = (run_steps(make_run(), mesh_of(num), 1) for num in (1, 8))
    np.testing.assert_allclose(loss_one["objective"], loss_eight["objective"], rtol=1e-5)
    grads = [jax.tree.leaves(jax.device_get(state.net.opt_state.mu)) for state in (one, eight)]
    total = np.sqrt(sum(np.sum(g**2) for g in grads[0]))
    for a, b in zip(*grads, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a) + 1e-7 * total


def test_gradient_of_the_step_is_the_finite_difference_of_its_objective(make_run, x64):
    config = make_run(vae={"architecture": "conv", "hidden": (4,), "likelihood": "gaussian_learned", "beta": 0.7},
                      data={"binarize": "none", "dequantize": True})  # fmt: skip
    mesh = mesh_of(1)
    batch = batches.load(sources.load(config.data, 0).train, 0, 0, 16, slice(None))
    step_fn = parallel.pmap(
        seeded_step(vae.TASK, config), mesh, (parallel.REPLICATED, parallel.SPLIT, parallel.REPLICATED),
        parallel.REPLICATED,
    )  # fmt: skip
    state = jax.jit(lambda: steps.init(config, keys.root_key(0)))()
    state = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, state)

    def objective(params):
        return float(
            step_fn(state._replace(net=state.net._replace(params=params)), batch, jnp.int32(0))[1]["objective"]
        )

    mu = step_fn(state, batch, jnp.int32(0))[0].net.opt_state.mu
    grads = jax.tree.map(lambda m: m / (1 - config.optim.b1), mu)
    rng = np.random.default_rng(0)
    for _ in range(5):
        direction = jax.tree.map(lambda p: rng.normal(size=p.shape), grads)
        ahead, behind = (
            objective(jax.tree.map(lambda p, d, h=h: p + h * d, state.net.params, direction)) for h in (1e-5, -1e-5)
        )
        slope = sum(np.sum(g * d) for g, d in zip(*map(jax.tree.leaves, (grads, direction)), strict=True))
        np.testing.assert_allclose((ahead - behind) / 2e-5, slope, rtol=1e-6)


def test_a_step_that_is_not_finite_changes_nothing_but_the_counters(make_run, monkeypatch):
    config, mesh = make_run(), parallel.make_mesh()
    original = losses.beta
    monkeypatch.setattr(losses, "beta", lambda vae, step: jnp.where(step == 3, jnp.inf, original(vae, step)))
    train = sources.load(config.data, config.seed).train
    _, _, before, after, later = (jax.device_get(state) for state, _ in walk(steps, config, train, mesh, 5))
    assert [(int(s.step), int(s.skipped)) for s in (before, after, later)] == [(3, 0), (4, 1), (5, 1)]
    assert fingerprint.tree_digest((before.net, before.ema)) == fingerprint.tree_digest((after.net, after.ema))
    assert fingerprint.tree_digest(later.net.params) != fingerprint.tree_digest(after.net.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(later))


def test_the_best_is_best_by_the_bound_whatever_training_minimises():
    assert steps.score({"objective": 1.0, "elbo": -9.0, "negative_elbo": 9.0, "rate": 2.0, "distortion": 7.0}) == 9


def test_evaluation_does_not_augment(make_run):
    config = make_run(data={"binarize": "none", "flip": True, "load_size": (11, 11)})
    state = jax.jit(lambda: steps.init(config, keys.root_key(0)))()
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), np.uint8)
    batch = batches.Batch((jnp.repeat(jnp.asarray(image), 16, axis=0),), jnp.zeros(16, jnp.int32))
    (alike,) = steps.eval_step(config, state, batch, keys.root_key(1))
    (spread,) = steps.eval_step(config, state, batch._replace(position=jnp.arange(16)), keys.root_key(1))
    (mirrored,) = steps.eval_step(
        config, state, batch._replace(images=(batch.images[0][:, :, ::-1],)), keys.root_key(1)
    )
    assert np.ptp(alike["rate"]) == 0 and np.ptp(spread["rate"]) < 1e-5 < abs(alike["rate"] - mirrored["rate"]).min()


def test_evaluation_and_sampling_use_the_averaged_weights(make_run):
    config = make_run()
    state = jax.jit(lambda: steps.init(config, keys.root_key(0)))()
    batch = batches.Batch((jnp.zeros((4, 8, 8, 1), jnp.uint8),), jnp.arange(4))
    other = state._replace(net=jax.tree.map(jnp.zeros_like, state.net))
    for fn in (steps.eval_step, steps.visualize):
        assert fingerprint.tree_digest(fn(config, state, batch, keys.root_key(1))) == fingerprint.tree_digest(
            fn(config, other, batch, keys.root_key(1))
        )
        blank = state._replace(ema=jax.tree.map(jnp.zeros_like, state.ema))
        assert fingerprint.tree_digest(fn(config, blank, batch, keys.root_key(1))) != fingerprint.tree_digest(
            fn(config, state, batch, keys.root_key(1))
        )


def test_temperature_scales_the_latents(make_run):
    config = make_run(vae={"likelihood": "gaussian"}, data={"binarize": "none"})
    params = jax.jit(lambda: nets.init_params(config, keys.root_key(0)))()
    cold, hot = (sampling.prior(config, params, keys.root_key(1), jnp.arange(200), t) for t in (0.0, 1.0))
    assert np.ptp(cold, axis=0).max() == 0  # z = 0 in every row
    assert np.std(hot, axis=0).mean() > 0.01


def test_interpolation_runs_between_the_posterior_means(make_run):
    config = make_run(data={"binarize": "none"})
    params = jax.jit(lambda: nets.init_params(config, keys.root_key(0)))()
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    starts, ends = (jnp.repeat(jnp.asarray(image)[None], 3, 0) for image in images)
    path = sampling.interpolate(config, params, starts, ends, jnp.array([0.0, 0.5, 1.0]))
    means = nets.encode(config, params, jnp.asarray(images) / 255).mean
    z = jnp.stack([means[0], (means[0] + means[1]) / 2, means[1]])
    np.testing.assert_allclose(path, jax.nn.sigmoid(nets.decode(config, params, z).location), rtol=1e-5)


def test_traversal_moves_one_dimension_and_leaves_the_others(make_run):
    config = make_run(data={"binarize": "none"})
    params = jax.jit(lambda: nets.init_params(config, keys.root_key(0)))()
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), np.uint8)
    images = jnp.repeat(jnp.asarray(image), 2, 0)
    mean = nets.encode(config, params, jnp.asarray(image) / 255).mean[0]
    rows = sampling.traverse(config, params, images, jnp.array([2, 3]), jnp.array([-3.0, mean[3]]))
    z = jnp.stack([mean.at[2].set(-3.0), mean])
    np.testing.assert_allclose(rows, jax.nn.sigmoid(nets.decode(config, params, z).location), rtol=1e-5)

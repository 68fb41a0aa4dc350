import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys, parallel, vae
from genjax.compiled import seeded_step
from genjax.data import batches, sources
from genjax.train import fingerprint
from genjax.vae import objectives, steps
from genjax.vae.model import from_config
from studies.reproducibility.stepping import mesh_of, replicas_agree, walk

pytestmark = pytest.mark.slow


def run_steps(config, mesh, num_steps, dtype=None):
    """The state and the metrics after the last step."""
    train = sources.load(config.data, config.seed).train
    *_, last = walk(vae.TASK, config, train, mesh, num_steps, dtype)
    return last


def test_train_step_keeps_replicas_bitwise_equal(make_run):
    state, _ = run_steps(make_run(), parallel.make_mesh(), 5)
    assert replicas_agree(state)


def test_train_step_parts_replicas_without_mean(make_run, monkeypatch):
    monkeypatch.setattr(parallel, "mean_over_devices", lambda tree: tree)
    state, _ = run_steps(make_run(), parallel.make_mesh(), 5)
    assert not replicas_agree(state)


def test_train_step_inputs_are_equal_on_any_devices(make_run, monkeypatch):
    """Looks at what really enters the loss inside the compiled step."""
    config = make_run(vae={"objective": "iwae", "train_draws": 3})

    def inputs(num):
        seen = {}

        def record(config, model, params, x, noise, step, features):
            jax.debug.callback(
                lambda x, n: seen.update({bytes(row): bytes(e) for row, e in zip(x, n, strict=True)}), x, noise
            )
            return original(config, model, params, x, noise, step, features)

        original = objectives.training_terms
        with monkeypatch.context() as patch:
            patch.setattr(objectives, "training_terms", record)
            run_steps(config, mesh_of(num), 1)
        jax.effects_barrier()
        return seen

    one = inputs(1)
    assert len(one) == 16
    assert inputs(8) == one


NETWORKS = {
    "mlp": {"hidden_sizes": (6, 4)},
    "conv": {"hidden_sizes": (6, 4)},
    # At first, the KL of the second group alone is above so many free bits.
    "ladder": {"hidden_sizes": (6,), "latent_dim": 32, "groups": (1, 4), "free_bits": 0.1},
}
CONTINUOUS = {"binarize": "none", "dequantize": True}
OBJECTIVES = {
    "dimension": {"vae": {"free_bits": 0.003, "free_bits_per": "dimension", "train_draws": 2}},
    "capacity": {"vae": {"objective": "capacity", "capacity": 1e-3, "capacity_warmup": 0.0, "beta": 5.0}},
    "iwae": {"vae": {"objective": "iwae", "train_draws": 3}},
    "dreg": {"vae": {"objective": "dreg", "train_draws": 3}},
    "optimal": {"vae": {"likelihood": "gaussian_optimal"}, "data": CONTINUOUS},
}


@pytest.mark.parametrize("architecture", NETWORKS)
def test_train_step_agrees_across_devices_in_float64(make_run, x64, architecture):
    assert_agree_across_devices(make_run(vae={"architecture": architecture, **NETWORKS[architecture]}))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_train_step_agrees_across_devices_for_any_objective(make_run, x64, objective):
    assert_agree_across_devices(make_run(**OBJECTIVES[objective]))


def assert_agree_across_devices(config):
    """Losses and gradients of one step, in float64."""
    (one, loss_one), (eight, loss_eight) = (run_steps(config, mesh_of(num), 1, jnp.float64) for num in (1, 8))
    for name in loss_one:
        np.testing.assert_allclose(loss_one[name], loss_eight[name], rtol=1e-8, atol=1e-12)
    # After one step Adam's first moment is the gradient, times a constant.
    for a, b in zip(*(jax.tree.leaves(state.net.opt_state.mu) for state in (one, eight)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)
    if config.vae.likelihood == "gaussian_optimal":
        for state, metrics in ((one, loss_one), (eight, loss_eight)):
            np.testing.assert_allclose(state.net.params["decoder"]["variance"], metrics["variance"], rtol=1e-12)


def test_optimal_variance_is_where_a_learned_one_converges(make_run, tmp_path):
    """And both are the mean squared error of the averaged weights, by which images are drawn and scored."""
    rest = {"optim": {"learning_rate": 5e-3, "ema_decay": 0.99}, "data": CONTINUOUS}
    rest["train"] = {"num_steps": 1500, "eval_every": 1500, "checkpoint_every": 1500, "log_every": 1500}
    likelihoods = {"optimal": {"likelihood": "gaussian_optimal"}, "learned": {"likelihood": "gaussian_learned"}}
    likelihoods["learned"]["sigma"] = 0.3
    sigma = {}
    for name, chosen in likelihoods.items():
        config = make_run(str(tmp_path / name), vae=chosen, **rest)
        walked = run_steps(config, mesh_of(1), 1500)
        model, params = from_config(config), walked[0].ema
        images = jnp.asarray(sources.load(config.data, 0).train[0], jnp.float32) / 255
        noise = jnp.asarray(np.random.default_rng(0).normal(size=(len(images), 4)), jnp.float32)

        @jax.jit
        def of(params, model=model, images=images, noise=noise):
            found = model.decode(params, model.infer(params, images, noise).groups)
            return jnp.exp(found.log_sigma), jnp.sqrt(jnp.mean((images - found.location) ** 2))

        sigma[name], error = map(float, of(params))
        assert sigma[name] == pytest.approx(error, rel=0.03), name
    assert sigma["optimal"] == pytest.approx(sigma["learned"], rel=0.03)


def test_train_step_agrees_across_devices_in_float32(make_run):
    (one, loss_one), (eight, loss_eight) = (run_steps(make_run(), mesh_of(num), 1) for num in (1, 8))
    np.testing.assert_allclose(loss_one["loss"], loss_eight["loss"], rtol=1e-5)
    grads = [jax.tree.leaves(jax.device_get(state.net.opt_state.mu)) for state in (one, eight)]
    total = np.sqrt(sum(np.sum(g**2) for g in grads[0]))
    for a, b in zip(*grads, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a) + 1e-7 * total


def test_summarize_adds_standard_errors_of_elbo():
    values = {"elbo": np.random.default_rng(0).normal(size=(3, 5)), "rate": np.ones((3, 5))}
    found = steps.summarize(values)
    assert found["rate"] == 1 and found["elbo"] == pytest.approx(values["elbo"].mean())
    draws = np.sqrt((values["elbo"].var(axis=0, ddof=1) / 3).sum()) / 5
    assert found["elbo_draw_se"] == pytest.approx(draws) and found["elbo_image_se"] > 0


def test_train_step_gradient_is_finite_difference(make_run, x64):
    config = make_run(vae={"architecture": "conv", "hidden_sizes": (4,), "likelihood": "gaussian_learned", "beta": 0.7},
                      data={"binarize": "none", "dequantize": True})  # fmt: skip
    mesh = mesh_of(1)
    batch = batches.load(sources.load(config.data, 0).train, 0, 0, 16, slice(None))
    step_fn = parallel.pmap(
        seeded_step(vae.TASK, config), mesh, (parallel.REPLICATED, parallel.SPLIT, parallel.REPLICATED),
        parallel.REPLICATED,
    )  # fmt: skip
    state = jax.jit(lambda: steps.init(config, keys.root_key(0)))()
    state = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, state)

    def loss(params):
        return float(step_fn(state._replace(net=state.net._replace(params=params)), batch, jnp.int32(0))[1]["loss"])

    mu = step_fn(state, batch, jnp.int32(0))[0].net.opt_state.mu
    grads = jax.tree.map(lambda m: m / (1 - config.optim.b1), mu)
    rng = np.random.default_rng(0)
    for _ in range(5):
        direction = jax.tree.map(lambda p: rng.normal(size=p.shape), grads)
        ahead, behind = (
            loss(jax.tree.map(lambda p, d, h=h: p + h * d, state.net.params, direction)) for h in (1e-5, -1e-5)
        )
        grad = sum(np.sum(g * d) for g, d in zip(*map(jax.tree.leaves, (grads, direction)), strict=True))
        np.testing.assert_allclose((ahead - behind) / 2e-5, grad, rtol=1e-6)


@pytest.mark.parametrize(("weight", "loss_is_finite"), [(np.inf, False), (0.0, True)])
def test_train_step_skips_what_is_not_finite(make_run, monkeypatch, weight, loss_is_finite):
    """Either the loss or its gradient alone: the square root is 0 at 0, and has no gradient there."""
    config, mesh = make_run(), parallel.make_mesh()
    beta, training_terms = objectives.beta, objectives.training_terms

    def rooted(config, model, params, x, noise, step, features):
        root = jnp.sqrt(objectives.beta(config, step) * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)))
        terms = training_terms(config, model, params, x, noise, step, features)
        return terms._replace(loss=terms.loss + root)

    monkeypatch.setattr(objectives, "beta", lambda config, step: jnp.where(step == 3, weight, beta(config, step)))
    monkeypatch.setattr(objectives, "training_terms", rooted)
    train = sources.load(config.data, config.seed).train
    walked = [jax.device_get(pair) for pair in walk(vae.TASK, config, train, mesh, 5)]
    assert np.isfinite(walked[3][1]["loss"]) == loss_is_finite
    before, after, later = (state for state, _ in walked[2:])
    assert [(int(s.step), int(s.skipped)) for s in (before, after, later)] == [(3, 0), (4, 1), (5, 1)]
    assert fingerprint.tree_digest((before.net, before.ema)) == fingerprint.tree_digest((after.net, after.ema))
    assert fingerprint.tree_digest(later.net.params) != fingerprint.tree_digest(after.net.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(later))


def test_eval_step_does_not_augment(make_run):
    config = make_run(data={"binarize": "none", "flip": True})
    state = jax.jit(lambda: steps.init(config, keys.root_key(0)))()
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), np.uint8)
    batch = batches.Batch((jnp.repeat(jnp.asarray(image), 16, axis=0),), jnp.zeros(16, jnp.int32))
    score = jax.jit(lambda batch: steps.eval_step(config, state, batch, keys.root_key(1)))
    (alike,) = score(batch)
    (spread,) = score(batch._replace(position=jnp.arange(16)))
    (mirrored,) = score(batch._replace(images=(batch.images[0][:, :, ::-1],)))
    assert not [name for name in alike if name.startswith("kl_group")]  # of one group, whose KL is the rate
    assert np.ptp(alike["rate"]) == 0 and np.ptp(spread["rate"]) < 1e-5 < abs(alike["rate"] - mirrored["rate"]).min()


@pytest.mark.parametrize(
    ("changes", "has_loss"),
    [({}, True), ({"vae": {"objective": "iwae"}}, False), ({"loss": {"perceptual": 1.0}}, False)],
    ids=["elbo", "iwae", "perceptual"],
)
def test_eval_step_gives_a_loss_for_elbo_alone(make_run, changes, has_loss):
    config = make_run(**changes)
    state = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    batch = batches.Batch((jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.uint8),), jax.ShapeDtypeStruct((4,), jnp.int32))
    (metrics,) = jax.eval_shape(lambda *given: steps.eval_step(config, *given, keys.root_key(1)), state, batch)
    assert ("loss" in metrics) == has_loss and metrics["negative_elbo"].shape == (4,)


def test_eval_step_and_visualize_use_averaged_weights(make_run):
    config = make_run()
    state = jax.jit(lambda: steps.init(config, keys.root_key(0)))()
    batch = batches.Batch((jnp.zeros((4, 8, 8, 1), jnp.uint8),), jnp.arange(4))
    other = state._replace(net=jax.tree.map(jnp.zeros_like, state.net))
    blank = state._replace(ema=jax.tree.map(jnp.zeros_like, state.ema))
    for fn in (steps.eval_step, steps.visualize):
        compiled = jax.jit(lambda state, fn=fn: fn(config, state, batch, keys.root_key(1)))
        digest, of_other, of_blank = (fingerprint.tree_digest(compiled(each)) for each in (state, other, blank))
        assert of_other == digest != of_blank

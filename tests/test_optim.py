import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import optim
from genjax.config import OptimConfig


def test_update_is_adam(x64):
    """Against Algorithm 1 of Kingma and Ba, written out."""
    config = OptimConfig(learning_rate=0.1, b1=0.8, b2=0.95, eps=1e-6)
    rng = np.random.default_rng(0)
    params = rng.normal(size=4)
    net = optim.init_net(config, {"w": jnp.asarray(params)})
    m, v = np.zeros(4), np.zeros(4)
    for t in range(1, 6):
        grad = rng.normal(size=4)
        net = optim.update_net(config, net, {"w": jnp.asarray(grad)}, jnp.asarray(0.1 / t))
        m, v = 0.8 * m + 0.2 * grad, 0.95 * v + 0.05 * grad**2
        params = params - 0.1 / t * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-6)
    np.testing.assert_allclose(net.params["w"], params, rtol=1e-12)


def test_update_with_weight_decay_is_adamw(x64):
    """Against algorithm 2 of Loshchilov and Hutter for a matrix; a bias does not decay."""
    plain, decaying = (OptimConfig(learning_rate=0.1, weight_decay=decay) for decay in (0.0, 0.3))
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.normal(size=(2, 3))), "bias": jnp.asarray(rng.normal(size=3))}
    grads = jax.tree.map(jnp.cos, params)
    adam, adamw = (
        optim.update_net(config, optim.init_net(config, params), grads, jnp.asarray(0.1)).params
        for config in (plain, decaying)
    )
    np.testing.assert_allclose(adamw["kernel"], adam["kernel"] - 0.1 * 0.3 * params["kernel"], rtol=1e-12)
    np.testing.assert_array_equal(adamw["bias"], adam["bias"])


def test_learning_rate_warms_up_then_falls(x64):
    config = OptimConfig(learning_rate=2.0, schedule="cosine", warmup=1 / 11)
    rates = [float(optim.learning_rate(config, 110, jnp.int32(step))) for step in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(rates, [0, 1, 2, 1, 0], atol=1e-6)


@pytest.mark.parametrize(("warmup", "expected"), [(0.0, [3, 3, 3]), (0.04, [0, 1.5, 3])])
def test_constant_learning_rate(warmup, expected):
    config = OptimConfig(learning_rate=3.0, warmup=warmup)
    assert [float(optim.learning_rate(config, 100, jnp.int32(step))) for step in (0, 2, 50)] == expected


# The share of the peak in these epochs, the first of which is 1, of 100 + 100: each variant in closed form.
LINEAR = {
    "epoch_end": {1: 1, 99: 1, 100: 1, 101: 100 / 101, 102: 99 / 101, 200: 1 / 101},
    "epoch_start": {1: 1, 99: 1, 100: 100 / 101, 101: 99 / 101, 102: 98 / 101, 200: 0},
    "lua": {1: 1, 99: 1, 100: 1, 101: 1, 102: 99 / 100, 200: 1 / 100},
}


@pytest.mark.parametrize("steps_per_epoch", [1, 7])
@pytest.mark.parametrize("variant", LINEAR)
def test_linear_learning_rate_in_closed_form(variant, steps_per_epoch):
    config = OptimConfig(
        learning_rate=2e-4, schedule="linear", steps_per_epoch=steps_per_epoch,
        linear_decay=variant,
    )  # fmt: skip
    steps = jnp.arange(200 * steps_per_epoch, dtype=jnp.int32)
    factors = jax.jit(jax.vmap(lambda step: optim.linear_factor(config, len(steps), step)))(steps)
    rates = jax.jit(jax.vmap(lambda step: optim.learning_rate(config, len(steps), step)))(steps)
    np.testing.assert_allclose(rates, 2e-4 * factors, rtol=1e-6, atol=2e-4 * 1e-7)  # up to rounding of 1 - x
    epochs = np.asarray(factors).reshape(200, steps_per_epoch)
    np.testing.assert_array_equal(epochs, np.broadcast_to(epochs[:, :1], epochs.shape))
    for epoch, expected in LINEAR[variant].items():
        np.testing.assert_allclose(epochs[epoch - 1], expected, rtol=0, atol=1e-7, err_msg=f"epoch {epoch}")
    falls = np.diff(epochs[:, 0])
    slope = 1 / 100 if variant == "lua" else 1 / 101
    np.testing.assert_allclose(falls[(falls != 0).argmax() :], -slope, atol=2e-7)  # once it falls, straight to the end


@pytest.mark.parametrize("variant", LINEAR)
def test_linear_factor_may_decay_from_the_start(variant):
    config = OptimConfig(learning_rate=1.0, schedule="linear", decay=1.0, linear_decay=variant)
    expected = {
        "epoch_end": [4 / 5, 3 / 5, 2 / 5, 1 / 5],
        "epoch_start": [3 / 5, 2 / 5, 1 / 5, 0],
        "lua": [1, 3 / 4, 1 / 2, 1 / 4],
    }
    rates = [float(optim.learning_rate(config, 4, jnp.int32(step))) for step in range(4)]
    np.testing.assert_allclose(rates, expected[variant], rtol=1e-6, atol=1e-7)


def test_ema_decay_grows_to_the_configured_one(x64):
    config = OptimConfig(learning_rate=1.0, ema_decay=0.9)
    average = {"w": jnp.asarray(5.0)}
    expected = 5.0
    for step in range(200):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        average = optim.ema(config, jnp.int32(step), average, {"w": jnp.asarray(float(step))})
        np.testing.assert_allclose(average["w"], expected, rtol=1e-6)  # the decay is a ratio of int32, in float32


def test_ema_keeps_the_type_of_the_weights():
    config = OptimConfig(learning_rate=1.0)
    average = optim.ema(config, jnp.int32(3), {"w": jnp.ones(2)}, {"w": jnp.zeros(2)})
    assert average["w"].dtype == jnp.float32


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_one_bad_number_anywhere_is_found(bad):
    tree = {"a": jnp.ones((3, 3)), "b": jnp.ones(5).at[2].set(bad)}
    assert not optim.all_finite(jnp.int32(1), tree)
    assert optim.all_finite(jnp.int32(1), tree["a"])


def test_numbers_whose_squares_overflow_count_as_not_finite():
    """Adam's second moment of such a gradient would be infinite, and stay so."""
    assert not optim.all_finite({"a": jnp.ones(2), "b": jnp.float32(1e20)})
    assert optim.all_finite({"a": jnp.ones(2), "b": jnp.float32(1e18)})


def test_update_if_updates_all_or_nothing():
    """In a branch on CPU, where XLA would put the condition into each leaf's program; in none elsewhere."""
    old = {"f": jnp.zeros((2, 3)), "i": jnp.int32(0), "none": {}, "pair": (jnp.bool_(False), jnp.full(3, jnp.inf))}
    new = {"f": jnp.ones((2, 3)), "i": jnp.int32(1), "none": {}, "pair": (jnp.bool_(True), jnp.full(3, jnp.nan))}

    def update(state):
        flag, numbers = state["pair"]
        return state | {"f": state["f"] + 1, "i": state["i"] + 1, "pair": (~flag, numbers * jnp.nan)}

    updated = jax.jit(lambda condition, state: optim.update_if(condition, update, state))
    text = {
        platform: updated.trace(jnp.bool_(True), old).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    # The choice of the platform's form is itself a branch, on a constant.
    branches = {platform: program.count("stablehlo.case") for platform, program in text.items()}
    assert branches["cpu"] == branches["cuda"] + 1 == branches["tpu"] + 1
    assert [program.count("stablehlo.select") for program in text.values()] == [0, 4, 4]
    for condition, expected in ((True, new), (False, old)):
        found = updated(jnp.bool_(condition), old)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert f.dtype == e.dtype
            np.testing.assert_array_equal(f, e)


def test_optimiser_state_counts_updates_and_not_steps():
    config = OptimConfig(learning_rate=1.0)
    net = optim.init_net(config, {"w": jnp.ones(2)})
    assert isinstance(net.opt_state, optax.ScaleByAdamState)
    assert int(optim.update_net(config, net, {"w": jnp.ones(2)}, jnp.float32(1)).opt_state.count) == 1

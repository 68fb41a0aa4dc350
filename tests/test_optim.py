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


def test_learning_rate_warms_up_then_falls_along_a_half_cosine(x64):
    config = OptimConfig(learning_rate=2.0, schedule="cosine", warmup_steps=10)
    rates = [float(optim.learning_rate(config, 110, jnp.int32(step))) for step in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(rates, [0, 1, 2, 1, 0], atol=1e-6)


@pytest.mark.parametrize(("warmup", "expected"), [(0, [3, 3, 3]), (4, [0, 1.5, 3])])
def test_constant_learning_rate(warmup, expected):
    config = OptimConfig(learning_rate=3.0, warmup_steps=warmup)
    assert [float(optim.learning_rate(config, 100, jnp.int32(step))) for step in (0, 2, 50)] == expected


def test_ema_forgets_the_first_weights_then_decays_as_configured(x64):
    config = OptimConfig(learning_rate=1.0, ema_decay=0.9)
    average = {"w": jnp.asarray(5.0)}
    expected = 5.0
    for step in range(200):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        average = optim.ema(config, jnp.int32(step), average, {"w": jnp.asarray(float(step))})
    np.testing.assert_allclose(average["w"], expected, rtol=1e-7)  # the decay is a ratio of int32, in float32


def test_ema_keeps_the_type_of_the_weights():
    config = OptimConfig(learning_rate=1.0)
    average = optim.ema(config, jnp.int32(3), {"w": jnp.ones(2)}, {"w": jnp.zeros(2)})
    assert average["w"].dtype == jnp.float32


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_one_bad_number_anywhere_is_found(bad):
    tree = {"a": jnp.ones((3, 3)), "b": jnp.ones(5).at[2].set(bad)}
    assert not optim.all_finite(jnp.int32(1), tree)
    assert optim.all_finite(jnp.int32(1), tree["a"])


def test_select_takes_all_or_nothing():
    new, old = {"a": jnp.ones(2), "n": jnp.int32(4)}, {"a": jnp.zeros(2), "n": jnp.int32(3)}
    assert int(optim.select(jnp.bool_(True), new, old)["n"]) == 4
    kept = optim.select(jnp.bool_(False), {"a": jnp.full(2, jnp.nan), "n": jnp.int32(4)}, old)
    np.testing.assert_array_equal(kept["a"], old["a"])


def test_optimiser_state_counts_updates_and_not_steps():
    config = OptimConfig(learning_rate=1.0)
    net = optim.init_net(config, {"w": jnp.ones(2)})
    assert isinstance(net.opt_state, optax.ScaleByAdamState)
    assert int(optim.update_net(config, net, {"w": jnp.ones(2)}, jnp.float32(1)).opt_state.count) == 1

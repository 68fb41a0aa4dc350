import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys, unit
from genjax.compiled import seeded_step
from genjax.data import batches
from genjax.unit import losses
from genjax.unit.config import UnitConfig
from tiny import tiny_unit


def test_kl_is_that_of_a_numerical_integral():
    """KL(N(m, 1) || N(0, 1)) of each number, integrated on a grid; images do not mix."""
    means = np.array([[0.0, 0.5], [-3.0, 1.0]])
    x = np.linspace(-15, 15, 20_001)
    log_q = -((x - means[..., None]) ** 2) / 2  # less a constant that both logarithms have
    density = np.exp(log_q) / np.sqrt(2 * np.pi)
    expected = np.trapezoid(density * (log_q + x**2 / 2), x).mean(axis=1)
    np.testing.assert_allclose(losses.kl(jnp.array(means).reshape(2, 1, 1, 2)), expected, rtol=1e-6)


def test_named_weights_are_those_of_the_paper():
    """Section 4 has lambda_0, ..., lambda_4 = 10, 0.1, 100, 0.1, 100."""
    of = losses.UNIT
    for domain, way in (("a", "a2b"), ("b", "b2a")):
        weights = [f"adversarial_{way}", f"kl_{domain}", f"reconstruction_{domain}"]
        weights += [f"cycle_kl_{domain}", f"cycle_{domain}"]
        np.testing.assert_allclose([10 * getattr(of, name) for name in weights], [10, 0.1, 100, 0.1, 100])
    assert set(losses.TERMS) <= set(vars(of))


def test_perceptual_terms_compare_what_the_l1_terms_compare():
    """Of images that are each one number, by their difference."""
    a, b = jnp.full((1, 1, 1, 1), 0.5), jnp.full((1, 1, 1, 1), -0.5)
    made = losses.Made(**{name: jnp.full((1, 1, 1, 1), 2.0**i) for i, name in enumerate(losses.Made._fields)})
    n = losses.Inputs(losses.UNIT, a, b, made, *[None] * 3, lpips=lambda x, y: jnp.abs(x - y).reshape(1))
    for term in ("reconstruction", "cycle"):
        expected = sum(losses.TERMS[f"{term}_{domain}"](n) for domain in "ab")
        np.testing.assert_allclose(losses.TERMS[f"perceptual_{term}"](n), expected)


@pytest.mark.slow
def test_train_step_gives_terms_the_features(small_lpips):
    weights = {"perceptual_cycle": 1.0, "perceptual_reconstruction": 1.0}
    config = tiny_unit("unused", loss=weights, unit={"discriminator": "pixel"})
    state = jax.eval_shape(lambda: unit.TASK.init(config, keys.root_key(0)))
    batch = batches.Batch(tuple(np.zeros((8, 16, 16, 1), np.uint8) for _ in range(2)), np.arange(8, dtype=np.int32))
    trace = jax.make_jaxpr(seeded_step(unit.TASK, config), axis_env=[("data", 1)], return_shape=True)
    _, (_, metrics) = trace(state, batch, np.int32(0))
    assert weights.keys() < metrics.keys()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"generator": "unet"}, "--unit.generator unet hands maps past the latent"),
        ({"output": "residual"}, "--unit.output residual hands the image past the latent"),
        ({"num_blocks": 2, "shared_blocks": 3}, "--unit.shared-blocks must lie from 1 to --unit.num-blocks 2, got 3"),
        ({"shared_blocks": 0}, "--unit.shared-blocks must lie from 1 to --unit.num-blocks 4, got 0"),
    ],
)
def test_configurations_refuse_what_cannot_be(fields, said):
    with pytest.raises(ValueError, match=said):
        UnitConfig(**fields)


def test_run_refuses_what_would_have_no_effect():
    with pytest.raises(ValueError, match="UNIT has no loss of pairs, so --data.pairs pairs:known"):
        tiny_unit("unused", data={"pairs": "pairs:known"})
    with pytest.raises(ValueError, match="all weights of the loss are 0"):
        tiny_unit("unused", loss=dict.fromkeys(losses.TERMS, 0.0))

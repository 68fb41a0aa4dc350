import jax.numpy as jnp
import numpy as np
import pytest

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


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"generator": "unet"}, "--unit.generator unet hands maps past the latent"),
        ({"output": "residual"}, "--unit.output residual hands the image past the latent"),
        ({"num_blocks": 2, "shared_blocks": 3}, "--unit.shared-blocks must lie in 1 to num_blocks, 2, got 3"),
        ({"shared_blocks": 0}, "--unit.shared-blocks must lie in 1 to num_blocks, 4, got 0"),
    ],
)
def test_configurations_refuse_what_cannot_be(fields, said):
    with pytest.raises(ValueError, match=said):
        UnitConfig(**fields)


def test_run_refuses_what_would_have_no_effect():
    with pytest.raises(ValueError, match="UNIT has no loss of pairs, and --data.pairs pairs:known"):
        tiny_unit("unused", data={"pairs": "pairs:known"})
    with pytest.raises(ValueError, match="all weights of the loss are 0"):
        tiny_unit("unused", loss=dict.fromkeys(losses.TERMS, 0.0))

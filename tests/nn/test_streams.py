"""Networks on streams against the same networks on the whole map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.gan import generators
from genjax.nn import streams

SIZE = (24, 36)
GENERATORS = {
    "resnet": generators.resnet(3, 2, 2),
    "residual, group": generators.resnet(3, 2, 1, residual=True, norm="group", affine=True),
    "layer": generators.resnet(1, 2, 1, norm="layer"),
    "no norm": generators.resnet(3, 2, 1, norm="none"),
    "unet": generators.unet(3, 2, 3, affine=True),
}


def drawn(generator, dtype):
    """Random parameters with which every layer matters."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: generators.init(generator, keys.root_key(0), (16, 16, 3)))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.2, leaf.shape), dtype), shapes)


def source(x):
    return streams.source(lambda start, number: x[:, start : start + number], x.shape[1:], x.dtype)


def noise(size, dtype=float, channels=3):
    return np.random.default_rng(1).uniform(-1, 1, (1, *size, channels)).astype(dtype)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", GENERATORS)
def test_compute_equals_the_whole_network(name):
    """In strips that do not divide the height, and in one strip."""
    generator, x = GENERATORS[name], noise(SIZE)
    params = {"params": drawn(generator, float)}
    expected = np.asarray(jax.jit(generator.apply)(params, x))
    assert np.std(expected) > 0.01 and np.abs(expected).max() < 0.999 + generator.residual
    for strip in (10, 64) if name in ("resnet", "unet") else (10,):
        found = streams.compute(generator.apply(params, source(x)), strip)
        np.testing.assert_allclose(found, expected, atol=1e-10)

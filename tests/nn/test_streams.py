"""Networks on streams against the same networks on the whole map."""

import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.gan import generators
from genjax.nn import layers, streams

SIZE = (24, 40)
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


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", GENERATORS)
def test_compute_equals_the_whole_network(name):
    """In strips that do not divide the height, and in one strip."""
    generator, x = GENERATORS[name], noise(SIZE)
    params = {"params": drawn(generator, float)}
    expected = np.asarray(jax.jit(generator.apply)(params, x))
    assert np.std(expected) > 0.01 and (generator.residual or np.median(np.abs(expected)) < 0.999)  # not all saturated
    for strip in (10, 64) if name in ("resnet", "unet") else (10,):
        found = streams.compute(generator.apply(params, source(x)), strip)
        np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [(1, 3), (5, 1), (9, 4)])
def test_compute_takes_strips_as_high_as_the_map(size):
    x = noise(size)
    doubled = streams.pointwise(lambda x: 2 * x, source(x))
    for strip in (1, 4, 100):
        np.testing.assert_array_equal(streams.compute(doubled, strip), 2 * x)


@pytest.mark.parametrize("strip", [3, 16, 64])
def test_norm_takes_moments_of_the_whole_map(strip):
    """Levels far from zero, with one value in the last corner that every strip has to know of."""
    x = noise((41, 12), np.float32) + 1e3
    x[0, -1, -1] = 1e4
    found = streams.compute(layers.Norm().apply({}, lambda x: x, source(x)), strip)
    wide = x.astype(float)
    expected = (wide - wide.mean((1, 2), keepdims=True)) / wide.std((1, 2), keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
def test_compute_holds_two_maps_of_a_residual_block(monkeypatch):
    """A strip is freed when no later one needs it. The rows that are held are counted after each."""
    generator, x = generators.resnet(1, 1, 3), noise((128, 8), np.float32)
    stored, held, reports = [], [], []

    class Counted(streams.Store):
        def append(self, rows):
            super().append(rows)
            stored.append(weakref.ref(self.strips[-1]))

    def after_strip(*report):
        reports.append(report)
        alive = [strip().shape for strip in stored if strip() is not None]
        held.append(sum(rows for _, rows, _, channels in alive if channels == 4))  # without the output

    monkeypatch.setattr(streams, "Store", Counted)
    streams.compute(generator.apply({"params": drawn(generator, np.float32)}, source(x)), 4, after_strip)
    height, strip = 128 // 4, 4
    assert 2 * height <= max(held) <= 2 * height + 3 * strip
    assert reports == [(done + 1, len(reports)) for done in range(len(reports))]

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.cyclegan import losses, step_metrics
from genjax.gan.adversarial import Logits
from genjax.gan.image_pool import Pool
from studies.reproducibility.stepping import mesh_of


def on_devices(num, function, *arrays):
    """`function` of arrays that are split over so many devices."""
    mesh = mesh_of(num)
    specs = (parallel.SPLIT,) * len(arrays)
    return jax.device_get(parallel.pmap(function, mesh, specs, parallel.REPLICATED)(*arrays))


def measured(images, translated, inputs=None, outputs=None, devices=1):
    none = Pool(None, jnp.int32(0))

    def measure(images, translated):
        return step_metrics.translation_metrics("a2b", images, translated, inputs or none, outputs or none)

    return on_devices(devices, measure, images, translated)


def noise(num, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, 8, 8, channels)).astype(np.float32)


@pytest.mark.parametrize("devices", [1, 8])
def test_diversity_is_the_ratio_of_pairwise_distances(devices):
    images, translated = noise(8), noise(8, seed=1) * np.linspace(0.1, 1, 8, dtype=np.float32).reshape(8, 1, 1, 1)

    def distance(x):
        return np.sqrt(np.mean([np.mean((p - q) ** 2) for i, p in enumerate(x) for q in x[:i]]))

    found = measured(images, translated, devices=devices)
    np.testing.assert_allclose(found["diversity_a2b"], distance(translated) / distance(images), rtol=1e-5)
    if devices == 1:
        np.testing.assert_allclose(measured(images, 0.3 - 0.5 * images)["diversity_a2b"], 0.5, rtol=1e-5)
        assert measured(images, np.ones_like(images))["diversity_a2b"] == 0
        assert np.isfinite(measured(np.ones_like(images), translated)["diversity_a2b"])


def test_correlation_compares_luminances():
    colour = noise(4, 3)
    grey = np.tensordot(colour, np.array([0.299, 0.587, 0.114], np.float32), 1)[..., None]
    for translated, expected in ((grey, 1), (-0.1 * grey, -1), (np.zeros_like(grey), 0)):
        np.testing.assert_allclose(measured(colour, translated)["correlation_a2b"], expected, atol=1e-5)


def test_diversity_of_one_image_uses_the_pools():
    image, stored = noise(1), np.concatenate([noise(3, seed=1), 99 * np.ones((2, 8, 8, 1), np.float32)])
    pool = Pool(jnp.asarray(stored), jnp.int32(3))  # what lies beyond is no image
    assert measured(image, image, pool, pool)["diversity_a2b"] == pytest.approx(1)
    same = Pool(jnp.broadcast_to(image / 2, (5, 8, 8, 1)), jnp.int32(5))
    assert measured(image, image / 2, pool, same)["diversity_a2b"] == 0
    apart = np.sqrt(np.mean((stored[:3] - image / 2) ** 2) / np.mean((stored[:3] - image) ** 2))
    assert measured(image, image / 2, pool, pool)["diversity_a2b"] == pytest.approx(apart, rel=1e-5)
    double = Pool(2 * pool.images, pool.num)
    assert measured(image, 2 * image, pool, double)["diversity_a2b"] == pytest.approx(2)
    assert set(measured(image, image)) == {"correlation_a2b"}  # nothing to compare with
    first = Pool(jnp.zeros((5, 8, 8, 1)), jnp.int32(0))
    assert np.isfinite(measured(image, image, first, first)["diversity_a2b"])


def test_measure_takes_each_direction_with_its_pools():
    """With a batch of one; translations into B are twice the images, those into A the negatives of half of them."""
    a, b = noise(1), noise(1, seed=1)
    stored = jnp.asarray(noise(5, seed=2))
    pool_a, pool_b = Pool(stored, jnp.int32(5)), Pool(2 * stored, jnp.int32(5))
    logits = {name: Logits(*jnp.array([[gap], [0.0]])) for name, gap in (("d_a", 0.7), ("d_b", 0.2))}

    def measure(a, b):
        return step_metrics.measure(losses.CLASSIC, a, b, -b / 2, 2 * a, pool_a, pool_b, logits)

    found = on_devices(1, measure, a, b)
    half = np.sqrt(np.mean((stored + b / 2) ** 2) / np.mean((2 * stored - b) ** 2))
    expected = {
        "diversity_a2b": 2, "diversity_b2a": half, "correlation_a2b": 1, "correlation_b2a": -1,
        "accuracy_d_a": 1, "accuracy_d_b": 0.5, "gap_d_a": 0.7, "gap_d_b": 0.2,
    }  # fmt: skip
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)

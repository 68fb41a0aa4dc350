import jax
import numpy as np
import pytest

from genjax import parallel
from genjax.cyclegan import losses
from genjax.gan import step_metrics
from genjax.gan.adversarial import Logits
from studies.reproducibility.stepping import mesh_of


def measured(a, b, fake_a, fake_b, devices=1):
    """Metrics of images that are split over so many devices; discriminators are right about 3 of 4 and 1 of 4."""
    logits = np.array([[0.9, 0.2], [0.7, 0.4]] * (len(a) // 2), np.float32)

    def measure(a, b, fake_a, fake_b, logits):
        of = {"d_a": Logits(logits[:, 0], logits[:, 1]), "d_b": Logits(logits[:, 1], logits[:, 0])}
        return step_metrics.measure(losses.CLASSIC, {"a2b": (a, fake_b), "b2a": (b, fake_a)}, of)

    specs = (parallel.SPLIT,) * 5
    return jax.device_get(
        parallel.pmap(measure, mesh_of(devices), specs, parallel.REPLICATED)(a, b, fake_a, fake_b, logits)
    )


def noise(num, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, 8, 8, channels)).astype(np.float32)


@pytest.mark.parametrize(("num", "devices"), [(2, 1), (16, 1), (16, 8)])
def test_measure_averages_over_any_batch(num, devices):
    """Translations into B are twice the images, those into A the negatives of half of them."""
    a, b = noise(num), noise(num, seed=1)
    found = measured(a, b, -b / 2, 2 * a, devices)
    expected = {
        "correlation_a2b": 1, "correlation_b2a": -1,
        "accuracy_d_a": 1, "accuracy_d_b": 0, "gap_d_a": 0.5, "gap_d_b": -0.5,
    }  # fmt: skip
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_correlation_compares_luminances():
    colour = noise(4, 3)
    grey = np.tensordot(colour, np.array([0.299, 0.587, 0.114], np.float32), 1)[..., None]
    for translated, expected in ((grey, 1), (-0.1 * grey, -1), (np.zeros_like(grey), 0)):
        np.testing.assert_allclose(measured(colour, colour, colour, translated)["correlation_a2b"], expected, atol=1e-5)

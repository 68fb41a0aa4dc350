from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.cyclegan.config import CycleGanConfig
from genjax.data.splits import Splits
from genjax.evaluation import thresholds
from genjax.gan import monitor
from genjax.gan.diversity import diversity
from genjax.gan.networks import TwoWay


class State(NamedTuple):
    ema: dict


class Scale:
    """A generator whose only parameter is a factor around mid-grey: 1 copies, 0 collapses."""

    def apply(self, variables, x):
        return variables["params"] * x


def noise(num, low, span, seed):
    """Images [num, 16, 16, 1] of noise."""
    return np.random.default_rng(seed).integers(low, low + span, (num, 16, 16, 1), np.uint8)


def measured(make_cyclegan, images, factors=(1.0, 1.0), batch_size=16, devices=8):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    config = make_cyclegan(data={"batch_size": batch_size}, cyclegan={"pool_size": 16})
    a2b, b2a = (parallel.replicate(mesh, lambda factor=factor: jnp.float32(factor)) for factor in factors)
    evaluate = diversity(config, mesh, make_networks=lambda config: TwoWay(Scale(), Scale(), None, None))
    return evaluate(State({"a2b": a2b, "b2a": b2a}), Splits((), images, ()), "validation")


def collapsed(found):
    """Warnings of a run with these figures at its latest evaluation."""
    rows = [{"step": step} for step in range(100, 200, 10)]
    config = SimpleNamespace(
        loss=SimpleNamespace(adversarial="lsgan", adversarial_a2b=1, adversarial_b2a=1), net=CycleGanConfig()
    )
    return set(
        monitor.find_warnings(config, 0.0, rows, {"step": 100} | {f"validation/{n}": v for n, v in found.items()})
    )


@pytest.fixture
def dark_and_light():
    return noise(40, 0, 128, 0), noise(30, 128, 128, 1)


@pytest.mark.parametrize(("batch_size", "devices"), [(1, 1), (4, 1), (16, 1), (16, 8)])
def test_diversity_ignores_batch_size_and_devices(make_cyclegan, dark_and_light, batch_size, devices):
    """Copies of a dark domain are as diverse as the light one, and half of it is half as diverse."""
    found = measured(make_cyclegan, dark_and_light, (1.0, 0.5), batch_size, devices)
    a, b = (images[np.linspace(0, len(images) - 1, 30).astype(int)] for images in dark_and_light)
    ratio = np.sqrt(a.var(axis=0).mean() / b.var(axis=0).mean())
    assert found == pytest.approx({"diversity_a2b": ratio, "diversity_b2a": 0.5 / ratio}, rel=1e-5)
    assert ratio == pytest.approx(1, abs=0.05) and not collapsed(found)


def test_diversity_finds_equal_translations(make_cyclegan, dark_and_light):
    found = measured(make_cyclegan, dark_and_light, (0.0, 1.0))
    assert found["diversity_a2b"] == 0 and collapsed(found) == {"collapsed_a2b"}


def test_diversity_is_relative_to_the_target(make_cyclegan):
    """B's images are much alike; translations as alike as they are no collapse, nor any if B has but one image."""
    diverse = noise(40, 0, 256, 0)
    alike = 120 + noise(40, 0, 16, 1)
    assert not collapsed(measured(make_cyclegan, (diverse, alike), (1 / 16, 16.0)))
    assert collapsed(measured(make_cyclegan, (diverse, alike), (1 / 128, 16.0))) == {"collapsed_a2b"}
    for flat in (np.full_like(diverse, 120), alike[:1]):
        found = measured(make_cyclegan, (diverse, flat), (0.0, 16.0))
        assert found["diversity_a2b"] == 1 and "collapsed_a2b" not in collapsed(found)
    assert 4 / 255 > thresholds.ALIKE  # about the spread of `alike`

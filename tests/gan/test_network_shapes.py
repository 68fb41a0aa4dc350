"""Generators and discriminators: numbers of parameters, shapes, and what a logit sees."""

import functools
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import gan
from genjax.gan import generators, params
from genjax.gan.discriminators import PatchDiscriminator, PixelDiscriminator
from random_networks import kernels, random_params

pytestmark = pytest.mark.slow


def count(module, image_shape):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params.shapes(module, image_shape)))


def test_package_imports_no_family():
    for path in Path(gan.__file__).parent.glob("*.py"):
        assert not re.search(r"genjax(\.| import )(cyclegan|vae)", path.read_text()), path


GENERATORS = {
    11_378_179: (3, functools.partial(generators.resnet, num_blocks=9)),
    7_837_699: (3, functools.partial(generators.resnet, num_blocks=6)),
    11_365_633: (1, functools.partial(generators.resnet, num_blocks=9)),
    7_825_153: (1, functools.partial(generators.resnet, num_blocks=6)),
    54_409_603: (3, functools.partial(generators.unet, num_downs=8)),
    41_825_667: (3, functools.partial(generators.unet, num_downs=7)),
}


@pytest.mark.parametrize("expected", GENERATORS)
def test_generators_have_the_reference_parameter_count(expected):
    channels, make = GENERATORS[expected]
    assert count(make(channels), (256, 256, channels)) == expected


DISCRIMINATORS = {
    2_764_737: (3, PatchDiscriminator()),
    2_762_689: (1, PatchDiscriminator()),
    136_385: (3, PatchDiscriminator(num_layers=1)),
    662_977: (3, PatchDiscriminator(num_layers=2)),
    6_959_553: (3, PatchDiscriminator(num_layers=4)),
    11_154_369: (3, PatchDiscriminator(num_layers=5)),
    8_705: (3, PixelDiscriminator()),
}


@pytest.mark.parametrize("expected", DISCRIMINATORS)
def test_discriminators_have_the_reference_parameter_count(expected):
    channels, module = DISCRIMINATORS[expected]
    assert count(module, (128, 128, channels)) == expected


def test_patch_discriminator_gives_a_map_of_logits():
    module = PatchDiscriminator()
    shapes = params.shapes(module, (64, 64, 3))
    for size, expected in {256: 30, 128: 14, 64: 6, 32: 2, 24: 1}.items():
        images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
        logits = jax.eval_shape(functools.partial(params.apply, module), shapes, images)
        assert logits.shape == (2, expected, expected, 1)


@pytest.mark.parametrize(("num_layers", "expected"), [(1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_patch_discriminator_logit_sees_one_patch(num_layers, expected):
    """Rows of the image with a gradient; without normalisation, by which a logit depends a little on the whole map."""
    smallest, stride = 3 << num_layers, 2**num_layers
    module = PatchDiscriminator(1, num_layers, norm="none")
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), params.shapes(module, (96, 96, 1)))
    images = jnp.ones((1, expected // stride * stride + 4 * stride, smallest, 1))
    middle = images.shape[1] // stride // 2 - 1
    grad = jax.jit(jax.grad(lambda x: params.apply(module, ones, x)[0, middle, 0, 0]))(images)
    rows = np.flatnonzero(np.asarray(grad).any(axis=(0, 2, 3)))
    assert 0 < rows[0] and rows[-1] < images.shape[1] - 1  # the border cuts nothing off
    assert len(rows) == rows[-1] - rows[0] + 1 == expected


def test_pixel_discriminator_logit_sees_one_pixel():
    module = PixelDiscriminator(2)
    shapes = params.shapes(module, (8, 12, 1))
    assert all(kernel.shape[:2] == (1, 1) for kernel in kernels(random_params(shapes)).values())
    images = jax.ShapeDtypeStruct((2, 8, 12, 1), jnp.float32)
    assert jax.eval_shape(functools.partial(params.apply, module), shapes, images).shape == (2, 8, 12, 1)


@pytest.mark.parametrize("channels", [(1, 3), (3, 1), (3, 3)], ids=str)
@pytest.mark.parametrize(
    ("make", "unit"),
    [(functools.partial(generators.resnet, num_blocks=1), 4), (functools.partial(generators.unet, num_downs=3), 8)],
)
def test_generators_keep_any_size_they_can_halve(make, unit, channels):
    source, target = channels
    module = make(target, base_channels=2)
    shapes = params.shapes(module, (16, 16, source))
    for size in ((8, 8), (8, 6 * unit), (13 * unit, 5 * unit)):
        images = jax.ShapeDtypeStruct((2, *size, source), jnp.float32)
        out = jax.eval_shape(functools.partial(params.apply, module), shapes, images)
        assert out.shape == (2, *size, target)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.cyclegan import nets, steps
from genjax.gan import translation
from genjax.gan.networks import DOMAINS, TwoWay
from genjax.gan.params import apply

UNET = {"generator": "unet", "num_downs": 3, "base_channels": 2}
RESNET = {"num_blocks": 0, "base_channels": 2}
SIZES = [(1, 1), (5, 7), (33, 20), (4, 1), (8, 8), (9, 8)]


def configured(make_cyclegan, channels=(1, 1), **cyclegan):
    loss = {"identity_a": 0.0, "identity_b": 0.0}
    return make_cyclegan(data={"channels": channels}, cyclegan=cyclegan, loss=loss)


def random_images(shape, num=2, seed=0):
    return np.random.default_rng(seed).uniform(size=(num, *shape)).astype(np.float32)


def random_params(config):
    """Averaged parameters of both generators with which every layer matters."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)).ema)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)


def translated(config, params, images, direction="a2b"):
    fn = jax.jit(lambda params, x: translation.translate(config, params, direction, x, nets.make_networks))
    return np.asarray(fn(params, images))


@pytest.mark.parametrize("fields", [RESNET, UNET], ids=["resnet", "unet"])
def test_translate_keeps_any_size(make_cyclegan, fields):
    config = configured(make_cyclegan, (1, 3), **fields)
    params = random_params(config)
    for size in SIZES:
        for direction, (source, target) in DOMAINS.items():
            images = jax.ShapeDtypeStruct((2, *size, (1, 3)[source]), jnp.float32)
            out = jax.eval_shape(
                lambda p, x, d=direction: translation.translate(config, p, d, x, nets.make_networks), params, images
            )
            assert out.shape == (2, *size, (1, 3)[target])


@pytest.mark.parametrize(("fields", "unit"), [(RESNET, 4), (UNET, 8), ({**UNET, "num_downs": 4}, 16)], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (5, 17), (33, 20), (16, 32)], ids=str)
def test_translate_mirrors_borders_and_cuts_them_off(make_cyclegan, fields, unit, size):
    """With a generator from outside, which sees the padded images in [-1, 1]."""
    seen = []

    class Scale:
        def apply(self, variables, x):
            seen.append(x)
            return x * variables["params"]

    config, images = configured(make_cyclegan, **fields), random_images((*size, 1))
    networks = TwoWay(Scale(), None, None, None)
    out = translation.translate(config, {"a2b": 3.0}, "a2b", jnp.array(images), lambda config: networks)
    smallest = max(unit, 8)
    padded = tuple(max(smallest, -(-length // unit) * unit) for length in size)
    bottom, right = (padded[i] - size[i] for i in range(2))
    expected = np.pad(images, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="symmetric")
    (x,) = seen
    assert x.shape[1:3] == padded and bottom < smallest and right < smallest
    np.testing.assert_allclose(x, 2 * expected - 1, atol=1e-6)
    np.testing.assert_allclose(out, np.clip((3 * (2 * images - 1) + 1) / 2, 0, 1), atol=1e-6)


@pytest.mark.parametrize("fields", [RESNET, {**RESNET, "output": "residual"}, UNET], ids=["tanh", "residual", "unet"])
def test_translate_applies_the_generator_to_pixels(make_cyclegan, fields):
    config = configured(make_cyclegan, **fields)
    params, images = random_params(config), random_images((16, 8, 1))
    plain = jax.jit(lambda params, x: apply(nets.make_networks(config).g_b2a, params, x))
    outputs = np.asarray(plain(params["b2a"], 2 * images - 1))
    found = translated(config, params, images, "b2a")
    np.testing.assert_allclose(found, np.clip((outputs + 1) / 2, 0, 1), atol=1e-5)
    assert found.min() >= 0 and found.max() <= 1
    assert (np.abs(outputs).max() > 1) == ("output" in fields)  # what has to be clipped
    assert np.abs(found - translated(config, params, images, "a2b")).max() > 0.1


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 20)], ids=str)
def test_translate_by_the_identity_changes_nothing(make_cyclegan, size):
    config = configured(make_cyclegan, (3, 3), **RESNET, output="residual")
    params = random_params(config)
    for generator in params.values():  # as it begins
        generator["decoder"]["ReflectConv_0"] = jax.tree.map(np.zeros_like, generator["decoder"]["ReflectConv_0"])
    images = random_images((*size, 3))
    images[0, 0, 0], images[-1, -1, -1] = 0, 1
    np.testing.assert_allclose(translated(config, params, images), images, atol=1e-6)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax import keys
from genjax.cyclegan import nets, translation

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
    shapes = jax.eval_shape(
        lambda: {direction: nets.init_generator(config, direction, keys.root_key(0)) for direction in nets.DOMAINS}
    )
    return jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)


def translated(config, params, images, direction="a2b"):
    fn = jax.jit(
        lambda params, x: translation.translate(config, params, direction, x),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    return np.asarray(fn(params, images))


@pytest.mark.parametrize("fields", [RESNET, UNET], ids=["resnet", "unet"])
def test_any_size_stays_and_channels_are_the_other_domains(make_cyclegan, fields):
    config = configured(make_cyclegan, (1, 3), **fields)
    params = random_params(config)
    for size in SIZES:
        for direction, (source, target) in nets.DOMAINS.items():
            images = jax.ShapeDtypeStruct((2, *size, (1, 3)[source]), jnp.float32)
            out = jax.eval_shape(lambda p, x, d=direction: translation.translate(config, p, d, x), params, images)
            assert out.shape == (2, *size, (1, 3)[target])


@pytest.mark.parametrize(("fields", "unit"), [(RESNET, 4), (UNET, 8), ({**UNET, "num_downs": 4}, 16)], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (5, 17), (33, 20), (16, 32)], ids=str)
def test_borders_are_mirrored_and_cut_off_again(make_cyclegan, monkeypatch, fields, unit, size):
    """With stand-ins for the networks, which see the padded images in [-1, 1]."""
    seen = []

    def generate(config, direction, params, x):
        seen.append(x)
        return x * params

    monkeypatch.setattr(nets, "generate", generate)
    config, images = configured(make_cyclegan, **fields), random_images((*size, 1))
    out = translation.translate(config, {"a2b": 3.0, "b2a": None}, "a2b", jnp.array(images))
    smallest = max(unit, 8)
    padded = tuple(max(smallest, -(-length // unit) * unit) for length in size)
    bottom, right = (padded[i] - size[i] for i in range(2))
    expected = np.pad(images, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="symmetric")
    (x,) = seen
    assert x.shape[1:3] == padded and bottom < smallest and right < smallest
    np.testing.assert_allclose(x, 2 * expected - 1, atol=1e-6)
    np.testing.assert_allclose(out, np.clip((3 * (2 * images - 1) + 1) / 2, 0, 1), atol=1e-6)


@pytest.mark.parametrize("fields", [RESNET, {**RESNET, "output": "residual"}, UNET], ids=["tanh", "residual", "unet"])
def test_a_size_without_borders_is_the_plain_network_on_pixels(make_cyclegan, fields):
    config = configured(make_cyclegan, **fields)
    params, images = random_params(config), random_images((16, 8, 1))
    plain = jax.jit(
        lambda params, x: nets.generate(config, "b2a", params, x),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    outputs = np.asarray(plain(params["b2a"], 2 * images - 1))
    found = translated(config, params, images, "b2a")
    np.testing.assert_allclose(found, np.clip((outputs + 1) / 2, 0, 1), atol=1e-5)
    assert found.min() >= 0 and found.max() <= 1
    assert (np.abs(outputs).max() > 1) == ("output" in fields)  # what has to be clipped
    assert np.abs(found - translated(config, params, images, "a2b")).max() > 0.1


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 20)], ids=str)
def test_a_generator_that_is_the_identity_leaves_images_of_any_size_alone(make_cyclegan, size):
    config = configured(make_cyclegan, (3, 3), **RESNET, output="residual")
    params = random_params(config)
    for generator in params.values():  # as it begins
        generator["decoder"]["ReflectConv_0"] = jax.tree.map(np.zeros_like, generator["decoder"]["ReflectConv_0"])
    images = random_images((*size, 3))
    images[0, 0, 0], images[-1, -1, -1] = 0, 1
    np.testing.assert_allclose(translated(config, params, images), images, atol=1e-6)


def test_luminance_is_pillows_grey():
    colours = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
    colours[0, :2] = 0, 255, 255  # far from grey
    grey = np.stack([np.asarray(Image.fromarray(image).convert("L"), float) for image in colours])
    found = np.asarray(translation.luminance(jnp.asarray(colours / np.float32(255)))) * 255
    assert np.abs(found - grey).max() < 0.51  # Pillow rounds to whole levels
    images = random_images((4, 5, 1))
    np.testing.assert_array_equal(translation.luminance(jnp.array(images)), images[..., 0])


def test_correlation_is_numpys(x64):
    x, y = (np.random.default_rng(seed).uniform(size=(4, 6, 7, 1)) for seed in range(2))
    y = 0.5 * x + 0.5 * y
    y[1], y[2] = 1 - x[1], 0.2 + 0.3 * x[2]
    found = translation.correlation(jnp.array(x), jnp.array(y))
    np.testing.assert_allclose(found, [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(x, y, strict=True)])
    np.testing.assert_allclose(found[1:3], [-1, 1])
    assert 0.3 < found[0] < 0.95
    colours = np.random.default_rng(2).uniform(size=(4, 6, 7, 3))
    grey = colours @ np.array([0.299, 0.587, 0.114])
    found = translation.correlation(jnp.array(colours), jnp.array(x))
    np.testing.assert_allclose(found, [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(grey, x, strict=True)])


@pytest.mark.parametrize("size", [(8, 8), (100, 100)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_correlation_of_a_flat_image_is_0(size, channels):
    """Also where its mean, in float32, is not quite its level."""
    levels = np.linspace(0, 1, 11, dtype=np.float32).reshape(-1, 1, 1, 1)
    flat, other = np.tile(levels, (1, *size, channels)), random_images((*size, channels), 11)
    for x, y in ((flat, other), (other, flat), (flat, flat)):
        np.testing.assert_array_equal(translation.correlation(jnp.array(x), jnp.array(y)), np.zeros(11))


def test_ink_overlap_by_hand():
    x, y = np.ones((5, 2, 3, 1), np.float32), np.ones((5, 2, 3, 1), np.float32)
    x[0, 0, :2], y[0, 0, 1:] = 0.4, 0.1  # one pixel in common, three in all, of six
    x[1, 0, 0], y[1, 1, 1] = 0, 0  # nothing in common
    x[2, 1], y[2, 1] = 0, 0.49  # the same
    x[3], y[3, 0] = 0.6, 0.7  # no ink
    x[4, 0, 0], y[4, 0, 0] = 0.5, 0  # mid-grey is none either
    both, either = translation.ink_overlap(jnp.array(x), jnp.array(y))
    np.testing.assert_allclose(both, [1 / 6, 0, 1 / 2, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(either, [3 / 6, 2 / 6, 1 / 2, 0, 1 / 6], rtol=1e-6)
    np.testing.assert_array_equal(translation.ink_overlap(jnp.array(y), jnp.array(x)), (both, either))

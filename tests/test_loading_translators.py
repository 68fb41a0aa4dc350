"""Translators of trained CycleGANs: images of any size, equal bits in any batch, and what is refused."""

import jax
import numpy as np
import pytest

from genjax import cyclegan, keys, parallel
from genjax.cyclegan import nets
from genjax.gan import translation
from genjax.loading import load_sampler, load_translator
from genjax.train import fingerprint, loop
from tiny import tiny_cyclegan
from untrained import write_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def translator(trained_identity):
    return load_translator(trained_identity.workdir)


def photographs(num, height, width):
    return np.random.default_rng(1).integers(0, 256, (num, height, width, 3), np.uint8)


def test_translator_takes_uint8_or_floats_of_any_size(trained_identity):
    translator = load_translator(trained_identity.workdir)
    assert translator.step == 4
    for height, width in ((16, 16), (9, 21)):
        images = photographs(3, height, width)
        for translate in (translator.a2b, translator.b2a):
            np.testing.assert_allclose(translate(images), images / 255, atol=1e-4)  # this network changes nothing
            np.testing.assert_array_equal(translate(images), translate(images.astype(np.float32) / 255))


def test_translate_has_equal_bits_in_any_batch(trained_identity, translator):
    images = photographs(11, 16, 16)
    whole = translator.a2b(images)
    one_device = load_translator(trained_identity.workdir, mesh=parallel.make_mesh(jax.devices()[:1]))
    np.testing.assert_array_equal(one_device.a2b(images), whole)
    np.testing.assert_array_equal(translator.a2b(images[9:]), whole[9:])


def test_load_translator_takes_averaged_generators(trained_identity, translator):
    state = loop.fit(cyclegan.TASK, trained_identity).state
    assert fingerprint.tree_digest(translator.params) == fingerprint.tree_digest(state.ema)


def test_translator_refuses_what_does_not_fit(translator):
    for images, said in [
        (np.zeros((2, 8, 8, 1), np.uint8), r"expected images \[n, h, w, 3\], got \[2, 8, 8, 1\]"),
        (np.zeros((8, 8, 3), np.uint8), r"got \[8, 8, 3\]: a single one is image\[None\]"),
        ([np.zeros((8, 8, 3), np.uint8)], "expected an array of images, got list: give np.stack"),
        (np.zeros((1, 8, 8, 3), np.int16), r"expected uint8 or uint16 images or floats in \[0, 1\], got int16"),
        (np.full((1, 8, 8, 3), 255.0), r"expected floats in \[0, 1\], got 255.0 to 255.0"),
        (np.full((1, 8, 8, 3), np.nan), r"expected floats in \[0, 1\], got nan"),
    ]:
        with pytest.raises(ValueError, match=said):
            translator.a2b(images)
    with pytest.raises(ValueError, match="translates a2b and b2a, not 'A2B'"):
        translator.translate("A2B", photographs(1, 8, 8))


def test_load_translator_refuses_unscored_and_other_runs(trained_identity, trained):
    with pytest.raises(ValueError, match="has a validation score"):
        load_translator(trained_identity.workdir, "best")
    with pytest.raises(ValueError, match="holds a vae run"):
        load_translator(trained.workdir)
    with pytest.raises(ValueError, match="holds a cyclegan run"):
        load_sampler(trained_identity.workdir)


@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_translate_uses_the_directions_generator(tmp_path, direction):
    data, loss = {"channels": (1, 3)}, {"identity_a": 0.0, "identity_b": 0.0}
    config = tiny_cyclegan(str(tmp_path / "run"), data=data, loss=loss, cyclegan={"num_blocks": 0})
    state = jax.jit(lambda: cyclegan.TASK.init(config, keys.root_key(0)))()
    write_checkpoint(config, state, 1)
    images = photographs(2, 8, 8)[..., : config.data.channels[direction == "b2a"]]
    translator = load_translator(tmp_path / "run")
    found = getattr(translator, direction)(images)
    np.testing.assert_array_equal(translator.translate(direction, images), found)
    assert found.shape == (2, 8, 8, config.data.channels[direction == "a2b"])
    translate = jax.jit(lambda x: translation.translate(config, state.ema, direction, x, nets.make_networks))
    expected = translate(images / np.float32(255))
    np.testing.assert_allclose(found, expected, atol=1e-5)

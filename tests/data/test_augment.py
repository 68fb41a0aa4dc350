"""What happens to images on the device, with one key for each example."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.data import augment, image_arrays
from genjax.data.config import DataConfig

pytestmark = pytest.mark.slow

PLAIN = DataConfig(source="unused", image_size=(8, 8), channels=(1,), batch_size=16)
FLIPPED = dataclasses.replace(PLAIN, flip=True)
CONFIGS = {
    "flip": FLIPPED,
    "dequantize": dataclasses.replace(FLIPPED, dequantize=True),
    "binarize": dataclasses.replace(FLIPPED, binarize="stochastic"),
}


def example_keys(position, step=0, seed=0):
    return keys.per_example(keys.for_step(keys.root_key(seed), keys.Stream.TRAIN, step), jnp.asarray(position))


def noise_images(num, shape=(8, 8, 1), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, *shape), dtype=np.uint8)


def z_score(draws, probability):
    """How many standard errors the sum of Bernoulli draws lies from its expectation."""
    probability = np.broadcast_to(probability, draws.shape).astype(float)
    return (draws.sum(dtype=float) - probability.sum()) / np.sqrt((probability * (1 - probability)).sum())


@pytest.mark.parametrize("level", [1, 32, 128, 200, 254])
def test_binarize_draws_one_with_probability_intensity(level):
    images = np.full((256, 16, 16, 1), level, np.uint8)
    drawn = np.asarray(augment.binarize(example_keys(np.arange(256)), images))
    assert drawn.dtype == np.float32 and set(np.unique(drawn)) == {0, 1}
    assert abs(z_score(drawn, level / 255)) < 4


@pytest.mark.parametrize("function", [augment.binarize, jax.jit(augment.binarize)], ids=["eager", "jit"])
@pytest.mark.parametrize("level, value", [(0, 0), (255, 1)])
def test_binarize_leaves_black_and_white_alone(function, level, value):
    drawn = np.asarray(function(example_keys(np.arange(256)), np.full((256, 32, 32, 1), level, np.uint8)))
    assert np.all(drawn == value)


@pytest.mark.parametrize("uniform, first_white", [(0.0, 1), (1 - 2**-24, 255)], ids=["smallest", "largest"])
def test_binarize_handles_both_ends_of_uniform(monkeypatch, uniform, first_white):
    monkeypatch.setattr(augment, "uniform", lambda keys, shape: jnp.full((len(keys), *shape), uniform))
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    drawn = np.asarray(augment.binarize(example_keys([0]), levels)).ravel()
    np.testing.assert_array_equal(drawn, np.arange(256) >= first_white)


def test_dequantize_fills_one_grey_level_evenly():
    images = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 16, 16, 1))
    dequantized = np.asarray(augment.dequantize(example_keys(np.arange(256)), images), np.float64)
    noise = dequantized * 256 - images  # exact in float64
    assert noise.min() >= 0 and noise.max() <= 1
    assert abs(noise.mean() - 0.5) < 4 * np.sqrt(1 / 12 / noise.size)
    assert abs(noise.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / noise.size)
    assert z_score(noise < 0.1, 0.1) == pytest.approx(0, abs=4)


def test_augment_maps_16_bits_to_the_same_interval():
    shallow = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    deep = shallow.astype(np.uint16) * np.uint16(257)
    np.testing.assert_allclose(image_arrays.to_unit(deep), image_arrays.to_unit(shallow), atol=1e-7)
    np.testing.assert_allclose(image_arrays.unit_floats(deep), image_arrays.unit_floats(shallow), atol=1e-7)
    noise = np.asarray(augment.dequantize(example_keys(np.arange(256)), deep), np.float64) * 65536 - deep
    assert -0.01 <= noise.min() < 0.1 and 0.9 < noise.max() <= 1.01  # within one of 65536 levels
    drawn = np.asarray(
        augment.binarize(example_keys(np.arange(256)), np.uint16([0, 65535]).repeat(128)[:, None, None, None])
    )
    assert drawn.ravel().tolist() == [0] * 128 + [1] * 128


def test_flip_mirrors_half_of_the_images():
    images = noise_images(1024, (3, 4, 3))
    flipped = np.asarray(augment.flip(example_keys(np.arange(1024)), images))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    np.testing.assert_array_equal(mirrored, ~(flipped == images).all((1, 2, 3)))  # each is one or the other
    assert abs(z_score(mirrored, 0.5)) < 4


@pytest.mark.parametrize("name", CONFIGS)
def test_training_images_do_not_depend_on_the_batch(name):
    images, function = noise_images(16), jax.jit(augment.training_images, static_argnums=0)
    whole = np.asarray(function(CONFIGS[name], example_keys(np.arange(16)), images))
    order = np.array([5, 4, 11, 15])
    for rows in (slice(4, 9), slice(0, 1), order):
        part = np.asarray(function(CONFIGS[name], example_keys(np.arange(16)[rows]), images[rows]))
        assert part.tobytes() == whole[rows].tobytes()


@pytest.mark.parametrize("name", CONFIGS)
def test_training_images_follow_position_step_and_seed(name):
    images = np.broadcast_to(noise_images(1), (64, 8, 8, 1))

    def augmented(**address):
        return np.asarray(augment.training_images(CONFIGS[name], example_keys(np.arange(64), **address), images))

    first = augmented()
    assert first.tobytes() == augmented().tobytes()
    assert len(np.unique(first.reshape(64, -1), axis=0)) == (2 if name == "flip" else 64)
    for other in (augmented(step=1), augmented(seed=1)):
        assert not np.array_equal(first, other)


def test_training_images_flips_if_asked():
    images = noise_images(64)
    trained = image_arrays.to_uint8(np.asarray(augment.training_images(FLIPPED, example_keys(np.arange(64)), images)))
    same, mirrored = ((trained == other).all((1, 2, 3)) for other in (images, images[:, :, ::-1]))
    assert np.all(same ^ mirrored) and 16 < mirrored.sum() < 48
    unflipped = augment.training_images(PLAIN, example_keys(np.arange(64)), images)
    np.testing.assert_array_equal(image_arrays.to_uint8(np.asarray(unflipped)), images)


def test_evaluation_images_never_flips():
    images = noise_images(256)
    evaluated = augment.evaluation_images(FLIPPED, example_keys(np.arange(256)), images)
    np.testing.assert_array_equal(image_arrays.to_uint8(np.asarray(evaluated)), images)
    noisy = np.asarray(augment.evaluation_images(CONFIGS["dequantize"], example_keys(np.arange(256)), images))
    assert np.all((noisy >= images / 256) & (noisy <= (images + 1.0) / 256))


@pytest.mark.parametrize("name", ["dequantize", "binarize"])
def test_evaluation_images_adds_the_likelihoods_noise(name):
    evaluated = augment.evaluation_images(CONFIGS[name], example_keys(np.arange(4)), noise_images(4))
    expected = getattr(augment, name)(example_keys(np.arange(4)), noise_images(4))
    assert np.asarray(evaluated).tobytes() == np.asarray(expected).tobytes()


def test_fixed_binarization_is_only_scaled():
    images = noise_images(8) // 128 * np.uint8(255)
    fixed = dataclasses.replace(PLAIN, binarize="fixed")
    for function in (augment.training_images, augment.evaluation_images):
        np.testing.assert_array_equal(function(fixed, example_keys(np.arange(8)), images), images // 255)


def test_training_images_draws_augmentations_apart():
    """They draw from keys of their own, so the noise does not depend on the flips."""
    dark, noisy = np.zeros((64, 8, 8, 1), np.uint8), dataclasses.replace(PLAIN, dequantize=True)
    noise, flipped = (
        np.asarray(augment.training_images(config, example_keys(np.arange(64)), dark))
        for config in (noisy, CONFIGS["dequantize"])
    )
    np.testing.assert_array_equal(noise, flipped)


def test_training_images_shares_no_key(monkeypatch):
    def words(keys_of):
        return {key.tobytes() for key in np.asarray(jax.random.key_data(keys_of))}

    parents = example_keys(np.arange(32))
    used = {"parents": words(parents)}

    def spy(name):
        function = getattr(augment, name)

        def note(keys_of, *args):
            used[name] = words(keys_of)
            return function(keys_of, *args)

        monkeypatch.setattr(augment, name, note)

    for name in ("flip", "dequantize"):
        spy(name)
    augment.training_images(CONFIGS["dequantize"], parents, noise_images(32))
    assert [len(found) for found in used.values()] == [32] * 3 and len(set.union(*used.values())) == 3 * 32


def test_flip_golden_decisions():
    # As before there were crops, in the first commits: no change may alter which images of a seed are mirrored.
    images = noise_images(24)
    trained = image_arrays.to_uint8(np.asarray(augment.training_images(FLIPPED, example_keys(np.arange(24)), images)))
    mirrored = (trained == images[:, :, ::-1]).all((1, 2, 3))
    assert "".join("01"[int(which)] for which in mirrored) == "110010110000010110100110"


def test_turn_turns_each_image_by_each_multiple_of_90_degrees_equally_often():
    images = np.broadcast_to(noise_images(1), (4000, 8, 8, 1))
    turned = np.asarray(augment.turn(example_keys(np.arange(4000)), jnp.asarray(images)))
    quarters = [(turned == np.rot90(images, k, axes=(1, 2))).all(axis=(1, 2, 3)) for k in range(4)]
    assert (np.sum(quarters, axis=0) == 1).all()
    for hits in quarters:
        assert abs(z_score(hits, 0.25)) < 4


def test_training_images_flip_alike_with_and_without_turns():
    """A turn draws from a key of its own: over all images, each of the eight symmetries is as frequent."""
    config = dataclasses.replace(FLIPPED, turns=True)
    images = np.broadcast_to(noise_images(1), (4000, 8, 8, 1))
    found = np.asarray(augment.training_images(config, example_keys(np.arange(4000)), jnp.asarray(images)))
    plain = image_arrays.to_unit(jnp.asarray(images[:1]))
    for mirrored in (plain, plain[:, :, ::-1]):
        for k in range(4):
            hits = (found == np.rot90(mirrored, k, axes=(1, 2))).all(axis=(1, 2, 3))
            assert abs(z_score(hits, 1 / 8)) < 4

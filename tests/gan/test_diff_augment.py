import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.gan import diff_augment

augment, colour, translate, cut_out = (
    jax.jit(part, static_argnums=2)
    for part in (diff_augment.augment, diff_augment.colour, diff_augment.translate, diff_augment.cut_out)
)


def images(num=6, shape=(16, 12, 3), seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, *shape)).astype(np.float32)


def example_keys(position, seed=0):
    return keys.per_example(keys.for_step(keys.root_key(seed), keys.Stream.TRAIN, 0), jnp.asarray(position))


def test_augment_at_strength_0_is_the_identity():
    given, position = images(), np.arange(6, dtype=np.int32)
    assert diff_augment.augment(example_keys(position), given, 0.0) is given
    # Each part by itself, too, whatever is drawn.
    draws = jnp.asarray(np.random.default_rng(1).uniform(size=(6, 3)), jnp.float32)
    np.testing.assert_allclose(colour(draws, given, 0.0), given, atol=1e-6)
    np.testing.assert_array_equal(translate(draws[:, :2], given, 0.0), given)
    np.testing.assert_array_equal(cut_out(draws[:, :2], given, 0.0), given)


@pytest.mark.parametrize(("strength", "most"), [(1.0, (2, 3)), (0.4, (1, 1))])
def test_translate_draws_every_shift_equally_often(strength, most):
    """16x24 images, with one draw in the middle of each equal part of [0, 1)."""
    numbers = [2 * m + 1 for m in most]
    draws = [[(i + 0.5) / numbers[0], (j + 0.5) / numbers[1]] for i, j in itertools.product(*map(range, numbers))]
    given = images(len(draws), (16, 24, 1))
    moved = translate(jnp.asarray(draws, jnp.float32), given, strength)
    shifts = itertools.product(*(range(-m, m + 1) for m in most))
    for found, image, (down, right) in zip(moved, given, shifts, strict=True):
        expected = np.zeros((16, 24, 1), np.float32)
        rows, columns = (slice(max(by, 0), size + min(by, 0)) for by, size in ((down, 16), (right, 24)))
        from_rows, from_columns = (slice(max(-by, 0), size - max(by, 0)) for by, size in ((down, 16), (right, 24)))
        expected[rows, columns] = image[from_rows, from_columns]
        np.testing.assert_array_equal(found, expected)
    ends = jnp.array([[0, 0], [1 - 2**-24, 1 - 2**-24]], jnp.float32)  # draws are below 1
    np.testing.assert_array_equal(translate(ends, given[[0, -1]], strength), moved[np.array([0, -1])])


@pytest.mark.parametrize(("size", "side"), [((12, 16), (6, 8)), ((10, 14), (5, 7))], ids=str)
def test_cut_out_centres_rectangles_anywhere(size, side):
    """Over every place of the hole, of which each is as probable: sides even and odd."""
    places = [s + 1 - hole % 2 for s, hole in zip(size, side, strict=True)]
    centres = list(itertools.product(*map(range, places)))
    draws = [[(i + 0.5) / places[0], (j + 0.5) / places[1]] for i, j in centres]
    cut = np.asarray(cut_out(jnp.asarray(draws, jnp.float32), np.ones((len(draws), *size, 2), np.float32), 1.0))
    assert set(np.unique(cut)) == {0, 1} and np.array_equal(cut[..., 0], cut[..., 1])
    hole = cut[..., 0] == 0
    for one, centre in zip(hole, centres, strict=True):
        expected = np.zeros(size, bool)
        expected[tuple(slice(max(c - s // 2, 0), c - s // 2 + s) for c, s in zip(centre, side, strict=True))] = True
        np.testing.assert_array_equal(one, expected)
    np.testing.assert_array_equal(hole.sum(0), hole.sum(0)[::-1, ::-1])  # no corner is cut more often than another


@pytest.mark.parametrize("channels", [2, 3])
def test_colour_equals_the_paper_and_has_no_bias(channels):
    given = images(8, (8, 8, channels))
    draws = np.random.default_rng(1).uniform(size=(8, 3)).astype(np.float32)
    found = colour(jnp.asarray(draws), given, 1.0)
    for image, (u, v, w), one in zip(given.astype(np.float64), draws.astype(np.float64), found, strict=True):
        image = image + (u - 0.5)
        grey = image.mean(axis=2, keepdims=True)
        image = grey + 2 * v * (image - grey)
        image = image.mean() + (w + 0.5) * (image - image.mean())
        np.testing.assert_allclose(one, image, atol=2e-6)
    # Each draw and its mirror image, in all combinations: a mean over all draws.
    mirrored = np.abs(draws[0] - np.array(list(itertools.product((0, 1), repeat=3))))
    mean = colour(jnp.asarray(mirrored, jnp.float32), np.stack([given[0]] * 8), 0.6).mean(axis=0)
    np.testing.assert_allclose(mean, given[0], atol=1e-6)


def test_colour_of_grey_images_has_no_saturation():
    grey, draws = images(4, (8, 8, 1)), jnp.array([[0.5, 0.0, 0.5], [0.5, 1.0, 0.5], [0.7, 0.0, 0.5], [0.7, 1.0, 0.5]])
    found = colour(draws, grey, 1.0)
    np.testing.assert_allclose(found[:2], grey[:2], atol=1e-6)
    np.testing.assert_allclose(found[2:], grey[2:] + 0.2, atol=1e-6)


def test_augment_depends_on_the_position_alone():
    given, position = images(8), np.arange(8)
    whole = augment(example_keys(position), given, 1.0)
    parts = [augment(example_keys(position[i : i + 2]), given[i : i + 2], 1.0) for i in range(0, 8, 2)]
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=2e-6)
    np.testing.assert_array_equal(whole == 0, np.concatenate(parts) == 0)  # shifts and holes
    alike = augment(example_keys(position), np.stack([given[0]] * 8), 1.0)
    assert len({np.asarray(one).tobytes() for one in alike}) == 8
    assert not np.array_equal(whole, augment(example_keys(position, seed=1), given, 1.0))

"""Means over turns and mirrors, and over neighbouring frames."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from genjax.evaluation import flicker
from genjax.gan import canvas_sizes, smoothing
from genjax.gan.smoothing import Dihedral, Frame


@dataclasses.dataclass(frozen=True)
class Each:
    """A translator that applies a function to each image."""

    fn: Callable[[np.ndarray], np.ndarray]

    def groups(self, sizes):
        return canvas_sizes.choose(sizes)

    def translate_group(self, direction, images, group):
        assert all(image.shape[:2] == (group.rows, group.columns) for image in images)
        return [self.fn(image) for image in images]


def random(shape):
    return np.random.default_rng(0).random(shape)


def blurred(image):
    """Commutes with turns and mirrors."""
    return np.sqrt(ndimage.gaussian_filter(image, (1, 1, 0)))


def moved(image):
    """Moves an image down by a pixel, which no turn keeps."""
    return np.roll(image, 1, axis=0)


def smooth(fn, image):
    (group,) = Dihedral(Each(fn)).groups(np.array([image.shape[:2]]))
    (found,) = Dihedral(Each(fn)).translate_group("a2b", [image], group)
    return found


def test_turned_back_inverts_eight_different_turns():
    image = random((4, 6, 2))
    turns = [smoothing.turned(image, element) for element in range(8)]
    assert len({turn.tobytes() for turn in turns}) == 8
    for element, turn in enumerate(turns):
        np.testing.assert_array_equal(smoothing.turned_back(turn, element), image)


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 12, 1)])
def test_dihedral_leaves_an_equivariant_translation(shape):
    image = random(shape)
    np.testing.assert_allclose(smooth(blurred, image), blurred(image), rtol=1e-12)


def test_dihedral_averages_and_becomes_equivariant():
    image = random((8, 12, 3))
    around = [np.roll(image, by, axis) for by in (-1, 1) for axis in (0, 1)]
    np.testing.assert_allclose(smooth(moved, image), sum(around) / 4)
    for element in range(8):
        turned = smooth(moved, smoothing.turned(image, element))
        np.testing.assert_allclose(turned, smoothing.turned(smooth(moved, image), element))


def texture(width):
    return ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(64, width, 1)), (2, 2, 0))


def still(num):
    """Frames that are alike, whose translations have noise of their own."""
    scene = texture(64)
    return [Frame(scene, scene + 0.1 * np.random.default_rng(i).normal(size=scene.shape)) for i in range(num)]


def test_over_time_divides_flicker_by_three():
    frames = still(8)
    outputs = list(smoothing.over_time(frames))
    np.testing.assert_allclose(outputs[3], np.mean([frame.translation for frame in frames[2:5]], axis=0), atol=1e-6)
    # Neighbouring means share two of three frames: their difference is (n4 - n1) / 3.
    inner = [(frame.image, output) for frame, output in zip(frames, outputs, strict=True)][1:-1]
    assert flicker.measure(inner).outputs == pytest.approx(flicker.measure(frames).outputs / 3, rel=0.05)


def test_over_time_follows_the_motion():
    scene = texture(76)
    frames = [Frame(image, image) for image in (scene[:, 3 * i :][:, :64] for i in range(4))]
    for frame, output in zip(frames, smoothing.over_time(frames), strict=True):
        assert np.abs(output - frame.image).max() < 0.1 * np.ptp(scene)
        assert np.sqrt(np.mean((output - frame.image) ** 2)) < 0.005 * np.ptp(scene)


def test_over_time_takes_no_mean_across_a_lost_frame():
    first, second, third = still(3)
    outputs = list(smoothing.over_time([first, second, None, third]))
    np.testing.assert_allclose(outputs[1], (first.translation + second.translation) / 2, atol=1e-6)
    assert outputs[2] is None
    np.testing.assert_allclose(outputs[3], third.translation, atol=1e-6)
    assert list(smoothing.over_time([])) == []

"""Flicker of videos whose motion and noise are known."""

import math

import numpy as np
import pytest
from scipy import ndimage

from genjax.evaluation import flicker


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def texture(height, width, channels=1, seed=0):
    """Smooth noise in [0, 1], which TV-L1 can follow."""
    blurred = ndimage.gaussian_filter(noise(height, width, channels, seed=seed), (2, 2, 0))
    return ((blurred - blurred.min()) / np.ptp(blurred)).astype(np.float32)


def panned(num, step=(1, 2), size=64, channels=1):
    scene = texture(size + num * step[0], size + num * step[1], channels)
    return [scene[i * step[0] :][:size, i * step[1] :][:, :size] for i in range(num)]


def noisy(frames, deviation):
    return [frame + noise(*frame.shape, seed=i) * deviation for i, frame in enumerate(frames)]


def test_measure_is_zero_for_a_pan():
    frames = panned(4, channels=3)
    found = flicker.measure((frame, 1 - frame / 2) for frame in frames)
    assert found.num_pairs == 3 and found.inputs < 1e-3 and found.outputs < 1e-3
    assert np.sqrt(np.mean((frames[1] - frames[0]) ** 2)) > 0.05


@pytest.mark.parametrize("deviation", [0.01, 0.1])
def test_measure_is_root_two_of_independent_noise(deviation):
    still = [texture(64, 64)] * 4
    found = flicker.measure(zip(still, noisy(still, deviation), strict=True))
    assert found.inputs == 0
    assert found.outputs == pytest.approx(math.sqrt(2) * deviation, rel=0.03)


def test_measure_leaves_out_pixels_that_enter():
    first, second = panned(2, step=(0, 3))
    painted = second.copy()
    painted[:, -3:] = 1
    found = flicker.measure([(first, first), (second, painted)])
    assert found.outputs == pytest.approx(found.inputs, abs=1e-3)


def test_motions_tell_what_is_hidden():
    scene, patch = texture(64, 64), texture(32, 32, seed=1)
    first, second = scene.copy(), scene.copy()
    first[16:48, 12:44] = patch
    second[16:48, 16:48] = patch  # four pixels to the right
    back, forth = flicker.motions(second, first)
    assert np.median(back.flow[1, 20:44, 20:44]) == pytest.approx(-4, abs=0.1)
    assert back.shown[18:46, 13:15].mean() < 0.3  # uncovered
    assert forth.shown[18:46, 45:47].mean() < 0.3  # covered
    elsewhere = np.ones((64, 64), bool)
    elsewhere[10:54, 6:54] = False
    assert back.shown[elsewhere].mean() > 0.95 and forth.shown[elsewhere].mean() > 0.95


def test_carried_interpolates():
    image = noise(9, 8, 2)
    flow = np.zeros((2, 9, 8))
    flow[0] = 2
    np.testing.assert_allclose(flicker.carried(image, flow)[:-2], image[2:])
    flow[:] = 0.5
    mean = (image[:-1, :-1] + image[1:, :-1] + image[:-1, 1:] + image[1:, 1:]) / 4
    np.testing.assert_allclose(flicker.carried(image, flow)[:-1, :-1], mean)


def test_measure_takes_no_pair_across_a_lost_frame():
    frames = [(frame, frame) for frame in panned(4, size=32)]
    assert flicker.measure([*frames[:2], None, *frames[2:]]).num_pairs == 2
    nothing = flicker.measure([frames[0], None])
    assert nothing.num_pairs == 0 and math.isnan(nothing.outputs) and math.isnan(nothing.inputs)

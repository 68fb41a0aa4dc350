"""Baselines of restoration against their definitions and scikit-learn's ridge regression."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from genjax.vae.operators import Downsample
from studies.restoration import baselines, study
from tiny import tiny_run

RNG = np.random.default_rng(0)
TRAIN = 0.5 * RNG.uniform(size=(60, 3, 4, 1)) + 0.5 * RNG.uniform(size=(60, 1, 1, 1))
IMAGES = RNG.uniform(0.2, 0.8, size=(5, 3, 4, 1))
MISSING = RNG.uniform(size=(5, 3, 4, 1)) < 0.4


def test_neighbours_are_nearest_on_observed_pixels():
    found = baselines.neighbours(TRAIN, IMAGES, MISSING, num=3)
    for image, missing, filled in zip(IMAGES, MISSING, found, strict=True):
        order = sorted(range(60), key=lambda i, image=image, missing=missing: ((TRAIN[i] - image)[~missing] ** 2).sum())
        expected = np.where(missing, TRAIN[order[:3]].mean(axis=0), image)
        np.testing.assert_allclose(filled, expected, atol=1e-12)


@pytest.mark.parametrize("strength", baselines.STRENGTHS)
def test_ridge_equals_scikit_learn(strength):
    flat, penalty = TRAIN.reshape(60, -1), strength * 59  # the covariance divides by n - 1
    found = baselines.ridge_fill(baselines.image_moments(TRAIN), IMAGES, MISSING, strength).reshape(5, -1)
    for row, missing, filled in zip(IMAGES.reshape(5, -1), MISSING.reshape(5, -1), found, strict=True):
        ridge = Ridge(alpha=penalty).fit(flat[:, ~missing], flat[:, missing])
        expected = ridge.predict(row[None, ~missing])[0].clip(0, 1)
        np.testing.assert_allclose(filled[missing], expected, atol=1e-9)
        np.testing.assert_array_equal(filled[~missing], row[~missing])

    measure = RNG.uniform(size=(4, 12))
    small = IMAGES.reshape(5, -1) @ measure.T
    expected = Ridge(alpha=penalty).fit(flat @ measure.T, flat).predict(small).clip(0, 1)
    np.testing.assert_allclose(
        baselines.ridge_enlarge(baselines.image_moments(TRAIN), small, measure, strength), expected, atol=1e-9
    )


def test_nats_averages_probabilities_of_all_missing_pixels():
    binary = np.array([1, 0, 1, 1]).reshape(1, 2, 2, 1)
    missing = np.array([True, True, False, True]).reshape(1, 2, 2, 1)
    first, second = np.array([0.9, 0.2, 0.5, 0.7]), np.array([0.3, 0.6, 0.5, 0.05])
    means = np.stack([first, second]).reshape(1, 2, 2, 2, 1)
    probability = (0.9 * 0.8 * 0.7 + 0.3 * 0.4 * 0.05) / 2
    assert study._nats(means, binary, missing) == pytest.approx(-np.log(probability) / 3)
    certain = study._nats(np.zeros_like(means), binary, missing)
    assert certain == pytest.approx(-(2 * np.log(0.01) + np.log(0.99)) / 3)


def test_metrics_score_mean_and_samples_apart():
    truth = np.full((2, 12, 12, 1), 0.5)
    samples = np.stack([truth + 0.1, truth - 0.08], axis=1)
    row = study._metrics(samples, truth, np.ones((2, 12, 12), bool))
    assert row["psnr_mean"] == pytest.approx(40)  # off by 0.01
    assert row["psnr_sample"] == pytest.approx((20 - 20 * np.log10(0.08)) / 2)
    assert row["psnr_best_of_8"] == pytest.approx(-20 * np.log10(0.08))
    assert row["diversity"] == pytest.approx(0.09)
    assert "ssim_mean" in row
    assert "ssim_mean" not in study._metrics(samples[:, :, :10], truth[:, :10])  # it has no window


def test_as_trained_has_all_turns_and_mirrors():
    image = np.arange(12.0).reshape(1, 2, 2, 3)
    data = tiny_run("unused").data
    assert len(baselines.as_trained(image, dataclasses.replace(data, flip=False, turns=False))) == 1
    found = baselines.as_trained(image, dataclasses.replace(data, flip=True, turns=True))
    assert len(np.unique(found.reshape(8, -1), axis=0)) == 8
    np.testing.assert_array_equal(found.mean(axis=0), np.full((2, 2, 3), image.mean(axis=(0, 1, 2))))


def test_agreeing_changes_means_of_blocks_alone():
    rng = np.random.default_rng(0)
    images, small = rng.uniform(0.4, 0.6, (2, 8, 4, 3)), rng.uniform(0.45, 0.55, (2, 4, 2, 3))
    found = baselines.agreeing(images, small, Downsample(2))
    np.testing.assert_allclose(Downsample(2).apply(found), small, atol=1e-12)
    np.testing.assert_allclose(np.diff(found[:, ::2] - images[:, ::2], axis=2)[:, :, ::2], 0, atol=1e-12)

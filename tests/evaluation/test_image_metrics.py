import numpy as np
import pytest
from skimage import metrics

from genjax.evaluation import image_metrics


def noisy(shape, scale, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(size=shape)
    return np.clip(truth + scale * rng.normal(size=shape), 0, 1), truth


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [0.02, 0.5])
def test_ssim_and_psnr_are_those_of_scikit_image(channels, scale):
    images, truth = noisy((5, 28, 33, channels), scale)
    options = dict(data_range=1.0, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    expected = [metrics.structural_similarity(x, y, **options) for x, y in zip(images, truth, strict=True)]
    np.testing.assert_allclose(image_metrics.ssim(images, truth), expected, atol=1e-10)
    np.testing.assert_allclose(
        image_metrics.ssim(images.astype(np.float32), truth.astype(np.float32)), expected, atol=1e-5
    )
    expected = [metrics.peak_signal_noise_ratio(x, y, data_range=1.0) for x, y in zip(images, truth, strict=True)]
    np.testing.assert_allclose(image_metrics.psnr(images, truth), expected)


def test_equal_images():
    images, _ = noisy((2, 11, 11, 1), 0.1)
    np.testing.assert_array_equal(image_metrics.ssim(images, images), 1.0)
    np.testing.assert_array_equal(image_metrics.psnr(images, images), np.inf)
    flat = np.ones((1, 16, 16, 3))
    np.testing.assert_allclose(image_metrics.ssim(flat, flat), 1.0)


@pytest.mark.parametrize("one_mask", [True, False])
def test_psnr_counts_the_pixels_it_is_told_to(one_mask):
    images, truth = noisy((3, 8, 9, 3), 0.3)
    where = np.random.default_rng(1).uniform(size=(8, 9) if one_mask else (3, 8, 9)) < 0.4
    found = image_metrics.psnr(images, truth, where)
    for i in range(3):
        counted = where if one_mask else where[i]
        expected = -10 * np.log10(np.mean((images[i][counted] - truth[i][counted]) ** 2))
        assert found[i] == pytest.approx(expected, rel=1e-12)


def test_what_cannot_be_compared_is_refused():
    images, truth = noisy((2, 8, 8, 1), 0.1)
    with pytest.raises(ValueError, match="11x11 pixels, the images 8x8"):
        image_metrics.ssim(images, truth)
    where = np.stack([np.ones((8, 8), bool), np.zeros((8, 8), bool)])
    with pytest.raises(ValueError, match="image 1 has no pixel"):
        image_metrics.psnr(images, truth, where)

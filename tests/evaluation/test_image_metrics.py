import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage import metrics

from genjax.evaluation import image_metrics


def uniform(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape)


def noisy(shape, scale):
    truth = uniform(*shape)
    return np.clip(truth + scale * np.random.default_rng(1).normal(size=shape), 0, 1), truth


def with_jax(fn):
    """`fn` on JAX's arrays, compiled, to NumPy's."""
    return lambda *images: jax.tree.map(np.asarray, jax.jit(fn)(*map(jnp.asarray, images)))


BOTH = pytest.mark.parametrize("kind", [lambda fn: fn, with_jax], ids=["numpy", "jax"])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [0.02, 0.5])
def test_ssim_and_psnr_equal_scikit_image(channels, scale):
    images, truth = noisy((5, 28, 33, channels), scale)
    options = dict(data_range=1.0, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    expected = [metrics.structural_similarity(x, y, **options) for x, y in zip(images, truth, strict=True)]
    np.testing.assert_allclose(image_metrics.ssim(images, truth), expected, atol=1e-10)
    found = image_metrics.ssim(images.astype(np.float32), truth.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    expected = [metrics.peak_signal_noise_ratio(x, y, data_range=1.0) for x, y in zip(images, truth, strict=True)]
    np.testing.assert_allclose(image_metrics.psnr(images, truth), expected)


def test_ssim_and_psnr_of_equal_images_are_best():
    images = uniform(2, 11, 11, 1)
    np.testing.assert_array_equal(image_metrics.ssim(images, images), 1.0)
    np.testing.assert_array_equal(image_metrics.psnr(images, images), np.inf)
    flat = np.ones((1, 16, 16, 3))
    np.testing.assert_allclose(image_metrics.ssim(flat, flat), 1.0)


@pytest.mark.parametrize("one_mask", [True, False])
def test_psnr_counts_masked_pixels(one_mask):
    images, truth = noisy((3, 8, 9, 3), 0.3)
    where = uniform(*((8, 9) if one_mask else (3, 8, 9))) < 0.4
    found = image_metrics.psnr(images, truth, where)
    for i in range(3):
        counted = where if one_mask else where[i]
        expected = -10 * np.log10(np.mean((images[i][counted] - truth[i][counted]) ** 2))
        assert found[i] == pytest.approx(expected, rel=1e-12)


def test_ssim_and_psnr_refuse_what_is_undefined():
    images, truth = noisy((2, 8, 8, 1), 0.1)
    with pytest.raises(ValueError, match="11x11 pixels, the images 8x8: give larger"):
        image_metrics.ssim(images, truth)
    where = np.stack([np.ones((8, 8), bool), np.zeros((8, 8), bool)])
    with pytest.raises(ValueError, match="image 1 has no pixel to compare: give a mask"):
        image_metrics.psnr(images, truth, where)


@BOTH
def test_l1_is_mean_absolute_difference(kind):
    images, truth = uniform(3, 4, 5, 2), uniform(3, 4, 5, 2, seed=1)
    expected = [np.abs(x - y).mean() for x, y in zip(images, truth, strict=True)]
    np.testing.assert_allclose(kind(image_metrics.l1)(images, truth), expected, rtol=1e-6)


@BOTH
def test_luminance_equals_pillow_grey(kind):
    colours = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
    colours[0, :2] = 0, 255, 255  # far from grey
    grey = np.stack([np.asarray(Image.fromarray(image).convert("L"), float) for image in colours])
    found = kind(image_metrics.luminance)(colours / np.float32(255)) * 255
    assert np.abs(found - grey).max() < 0.51  # Pillow rounds to whole levels
    images = uniform(3, 4, 5, 1).astype(np.float32)
    np.testing.assert_array_equal(kind(image_metrics.luminance)(images), images[..., 0])
    several = np.random.default_rng(1).random((3, 4, 5, 4), np.float32)
    np.testing.assert_allclose(kind(image_metrics.luminance)(several), several.mean(-1), rtol=1e-6)


def pearson(x, y):
    return [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(x, y, strict=True)]


@BOTH
def test_correlation_equals_numpy(kind, x64):
    x, y = (uniform(4, 6, 7, 1, seed=seed) for seed in range(2))
    y = 0.5 * x + 0.5 * y
    y[1], y[2] = 1 - x[1], 0.2 + 0.3 * x[2]
    found = kind(image_metrics.correlation)(x, y)
    np.testing.assert_allclose(found, pearson(x, y))
    np.testing.assert_allclose(found[1:3], [-1, 1])
    assert 0.3 < found[0] < 0.95
    colours = uniform(4, 6, 7, 3, seed=2)
    grey = colours @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(kind(image_metrics.correlation)(colours, x), pearson(grey, x))


@BOTH
@pytest.mark.parametrize("size", [(8, 8), (100, 100)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_correlation_of_a_flat_image_is_zero(kind, size, channels):
    """Also where its mean, in float32, is not quite its level."""
    levels = np.linspace(0, 1, 11, dtype=np.float32).reshape(-1, 1, 1, 1)
    flat, other = np.tile(levels, (1, *size, channels)), uniform(11, *size, channels).astype(np.float32)
    for x, y in ((flat, other), (other, flat), (flat, flat)):
        np.testing.assert_array_equal(kind(image_metrics.correlation)(x, y), np.zeros(11))


@BOTH
def test_intersection_and_union_count_dark_pixels(kind):
    x, y = np.ones((5, 2, 3, 1), np.float32), np.ones((5, 2, 3, 1), np.float32)
    x[0, 0, :2], y[0, 0, 1:] = 0.4, 0.1  # one pixel in common, three in all, of six
    x[1, 0, 0], y[1, 1, 1] = 0, 0  # nothing in common
    x[2, 1], y[2, 1] = 0, 0.49  # the same
    x[3], y[3, 0] = 0.6, 0.7  # nothing dark
    x[4, 0, 0], y[4, 0, 0] = 0.5, 0  # mid-grey is not dark
    both, either = kind(image_metrics.intersection_and_union)(x, y)
    np.testing.assert_allclose(both, [1 / 6, 0, 1 / 2, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(either, [3 / 6, 2 / 6, 1 / 2, 0, 1 / 6], rtol=1e-6)
    np.testing.assert_array_equal(kind(image_metrics.intersection_and_union)(y, x), (both, either))
    assert image_metrics.iou(1.0, 4.0) == 0.25 and image_metrics.iou(0.0, 0.0) == 1


def test_paired_averages_each_metric():
    images, truth = noisy((6, 12, 13, 3), 0.1)
    found = image_metrics.paired(images, truth, lambda x, y: image_metrics.l1(x, y) ** 2)
    l1 = image_metrics.l1(images, truth)
    assert found["l1"].value == pytest.approx(l1.mean()) and found["lpips"].value == pytest.approx((l1**2).mean())
    assert found["ssim"].value == pytest.approx(image_metrics.ssim(images, truth).mean())
    assert found["psnr"].value == pytest.approx(metrics.peak_signal_noise_ratio(truth, images, data_range=1.0))
    for interval in found.values():
        assert interval.low < interval.value < interval.high
    assert set(image_metrics.paired(images[:, :8], truth[:, :8])) == {"l1", "psnr"}
    exact = image_metrics.paired(truth, truth)
    assert exact["psnr"].value == np.inf and exact["l1"] == (0, 0, 0)


def test_paired_psnr_interval_covers_other_samples():
    hits, rng = [], np.random.default_rng(0)
    for _ in range(100):
        error = np.sqrt(rng.gamma(2, size=(40, 1, 1, 1))) * np.ones((40, 2, 2, 1)) / 10
        psnr = image_metrics.paired(error, np.zeros_like(error))["psnr"]
        hits.append(psnr.low <= -10 * np.log10(2 / 100) <= psnr.high)
    assert np.mean(hits) >= 0.88


def test_paired_refuses_what_is_undefined():
    images, truth = noisy((3, 12, 12, 1), 0.1)
    with pytest.raises(ValueError, match=r"as many truths, got \(3, 12, 12, 1\) and \(2, 12, 12, 1\)"):
        image_metrics.paired(images, truth[:2])
    with pytest.raises(ValueError, match="expected at least 2 images"):
        image_metrics.paired(images[:1], truth[:1])
    images[2, 0, 0] = np.nan
    with pytest.raises(ValueError, match="image 2, or its truth, is not finite"):
        image_metrics.paired(images, truth)


def test_pairwise_diversity_pairs_each_image_once():
    levels = 2.0 ** np.arange(9).reshape(-1, 1, 1, 1)
    pairs = []

    def distance(x, y):
        pairs.append(np.concatenate([x, y]).ravel())
        return np.abs(x - y).mean(axis=(1, 2, 3))

    assert image_metrics.pairwise_diversity(levels, distance, seed=1).value > 0
    assert len(set(pairs[0])) == len(pairs[0]) == 8
    assert image_metrics.pairwise_diversity(np.ones((8, 2, 2, 1)), distance).value == 0
    many = np.random.default_rng(0).uniform(size=(4000, 1, 1, 1))
    found = image_metrics.pairwise_diversity(many, distance)
    assert found.low < 1 / 3 < found.high < found.low + 0.05  # the mean distance of two uniform numbers
    with pytest.raises(ValueError, match="at least 4 images are needed for their diversity, got 3"):
        image_metrics.pairwise_diversity(levels[:3], distance)


def test_diversity_is_ratio_of_pairwise_distances():
    images, reference = 0.4 + 0.3 * uniform(6, 16, 16, 1), uniform(7, 16, 16, 3, seed=1)
    assert image_metrics.diversity(np.broadcast_to(reference[:1], reference.shape), reference) == pytest.approx(0)
    assert image_metrics.diversity(reference[::-1], reference) == pytest.approx(1)
    assert image_metrics.diversity(0.5 * reference + 0.2, reference) == pytest.approx(0.5)
    assert np.isfinite(image_metrics.diversity(images, np.ones_like(images)))

    def squared(x):
        return np.mean([np.mean((one - other) ** 2) for one in x for other in x])

    expected = np.sqrt(squared(images) / squared(reference))
    assert image_metrics.diversity(images, reference) == pytest.approx(expected)


def test_mean_and_variance_equal_numpy():
    images = np.random.default_rng(0).integers(0, 256, (9, 5, 6, 3), np.uint8)
    mean, variance = image_metrics.mean_and_variance(images)
    np.testing.assert_allclose(mean, images.mean(axis=0), rtol=1e-12)
    assert variance == pytest.approx(images.astype(float).var(axis=0).mean(), rel=1e-12)

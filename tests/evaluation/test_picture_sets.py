"""Which metrics of a set of pictures are measured, and on what."""

import numpy as np
import pytest

from genjax import parallel
from genjax.evaluation import features, image_metrics, lpips, memorisation
from genjax.evaluation.picture_sets import METRICS, Sets, compile_measure

PIXELS = features.load("pixels")


def pictures(num, seed):
    return np.random.default_rng(seed).integers(0, 256, (num, 12, 12, 3), np.uint8)


def measured(sets, **options):
    return compile_measure(PIXELS, parallel.make_mesh(), **options)(sets).metrics


def test_measure_leaves_out_what_does_not_apply():
    drawn, real = pictures(20, 0), pictures(30, 1)
    alone = list(METRICS[:7])
    assert list(measured(Sets(drawn, real))) == alone
    assert list(measured(Sets(drawn, real, train=pictures(25, 2)))) == [*alone, "authenticity", "train_test_gap"]
    assert list(measured(Sets(drawn, real, truth=pictures(20, 3)))) == [*alone, "l1", "psnr", "ssim"]
    assert list(measured(Sets(drawn, real), metrics=("recall", "kid"))) == ["recall", "kid"]


def test_measure_agrees_with_each_metric():
    drawn, real, train = pictures(20, 0), pictures(30, 1), pictures(25, 2)
    found = measured(Sets(drawn, real, train, truth=pictures(20, 3)))
    flat = [(images / np.float32(255)).reshape(len(images), -1) for images in (drawn, real, train)]
    assert found["train_test_gap"] == memorisation.train_test_gap(flat[0], flat[2], flat[1])
    assert found["l1"].value == pytest.approx(np.abs(drawn / 255 - pictures(20, 3) / 255).mean(), rel=1e-6)


def test_measure_catches_a_copier():
    train, real = pictures(40, 0), pictures(40, 1)
    copier = measured(Sets(train[:20], real, train), metrics=("authenticity", "train_test_gap"))
    honest = measured(Sets(pictures(20, 2), real, train), metrics=("authenticity", "train_test_gap"))
    assert copier["authenticity"].value == 0 and copier["train_test_gap"].low > 0.9
    assert honest["authenticity"].value > 0.2 and abs(honest["train_test_gap"].value) < 0.5


@pytest.mark.slow
@pytest.mark.skipif(not features.installed(), reason="needs the extra features")
def test_measure_gives_lpips_of_small_pictures():
    """In grey and of 8 pixels too, which are enlarged; a picture is at distance 0 from itself."""
    x = pictures(8, 0)[:, :8, :8, :1]
    names = ("lpips_diversity", "lpips_content", "lpips")
    measure = compile_measure(features.load("alexnet"), parallel.make_mesh(), names)
    found = measure(Sets(x, x, inputs=np.roll(x, 1, axis=0), truth=x)).metrics
    assert tuple(found) == names and found["lpips"].value < 1e-6 < 0.1 < found["lpips_content"].value
    assert image_metrics.SSIM_SIZE > 8 and lpips.LEAST == 64


def test_measure_finds_the_nearest_training_pictures():
    train = pictures(40, 0)
    found = compile_measure(PIXELS, parallel.make_mesh(), ())(Sets(train[[7, 3]], pictures(9, 1), train))
    assert found.nearest is None and found.metrics == {}
    found = compile_measure(PIXELS, parallel.make_mesh(), ("authenticity",))(Sets(train[[7, 3]], pictures(9, 1), train))
    assert list(found.nearest[:, 0]) == [7, 3] and found.num_real == 9

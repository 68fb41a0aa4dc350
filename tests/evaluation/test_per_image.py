import math

import jax
import numpy as np
import pytest

from genjax import keys, parallel
from genjax.data.splits import Splits
from genjax.evaluation.per_image import draw_standard_error, image_standard_error, means, per_image_means
from genjax.vae import steps


def test_per_image_means_draw_noise_anew(make_run):
    """As often as the split asks for, the same in every call, for each image."""

    def noise(config, state, batch, key):
        return ({"noise": jax.vmap(jax.random.uniform)(keys.per_example(key, batch.position))},)

    source = (np.zeros((20, 8, 8, 1), np.uint8),)
    evaluator = per_image_means(noise, lambda values: values, lambda config, split: 3 if split == "test" else 2)
    evaluate = evaluator(make_run(), parallel.make_mesh(jax.devices()[:2]))
    test, validation = (evaluate(None, Splits((), source, source), split)["noise"] for split in ("test", "validation"))
    assert test.shape == (3, 20) and validation.shape == (2, 20)
    assert len({*test.ravel(), *validation.ravel()}) == 5 * 20
    np.testing.assert_array_equal(evaluate(None, Splits((), source, source), "test")["noise"], test)


def scores(draws, num, seed=0):
    """Images of different levels (sd 3) and noise of different strengths: [draws, num]."""
    rng = np.random.default_rng(seed)
    level, strength = 3 * rng.normal(size=num), rng.uniform(0.5, 2, num)
    return level + strength * np.random.default_rng(seed + 1).normal(size=(draws, num)), level, strength


def test_draw_standard_error_is_that_of_redrawing():
    values, _, strength = scores(40, 500)
    assert draw_standard_error(values) == pytest.approx(math.sqrt(np.sum(strength**2) / 40) / 500, rel=0.05)
    assert draw_standard_error(values + np.arange(500)) == pytest.approx(draw_standard_error(values))
    whole = draw_standard_error(np.stack([values[0], values[0]]))
    assert whole == 0 and math.isnan(draw_standard_error(values[:1]))


def test_image_standard_error_is_that_of_other_images():
    values, level, _ = scores(40, 500)
    assert image_standard_error(values) == pytest.approx(np.std(level, ddof=1) / math.sqrt(500), rel=0.02)
    assert image_standard_error(np.tile(values[:, :1], 500)) == pytest.approx(0, abs=1e-12)
    assert math.isnan(image_standard_error(values[:, :1]))


def test_standard_errors_hide_nothing_that_is_not_finite():
    values, *_ = scores(4, 5)
    values[2, 3] = np.inf
    for error in (draw_standard_error, image_standard_error):
        assert not math.isfinite(error(values))


def test_summarize_adds_errors_of_the_bound():
    values, *_ = scores(16, 50)
    found = steps.summarize({"elbo": values, "rate": 2 * values})
    assert found == means({"elbo": values, "rate": 2 * values}) | {
        "elbo_draw_se": draw_standard_error(values), "elbo_image_se": image_standard_error(values),
        "rate_image_se": image_standard_error(2 * values),
    }  # fmt: skip
    assert found["rate"] == pytest.approx(2 * values.mean())

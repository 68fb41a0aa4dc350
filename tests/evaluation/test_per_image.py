import math

import jax
import numpy as np
import pytest

from genjax import keys, parallel, vae
from genjax.data import sources
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


def test_per_image_means_ignore_batch_size_and_devices(make_run):
    def figures(num, batch_size):
        config, mesh = make_run(data={"batch_size": batch_size}), parallel.make_mesh(jax.devices()[:num])
        state = parallel.replicate(mesh, lambda: vae.TASK.init(config, jax.random.key(0)))
        splits = sources.load(config.data, 0)
        assert len(splits.test[0]) % batch_size  # the last batch is not full
        return vae.TASK.evaluators[0](config, mesh)(state, splits, "test")

    reference = figures(1, 7)
    for num, batch_size in [(1, 100), (2, 16), (8, 64)]:
        for name, value in figures(num, batch_size).items():
            np.testing.assert_allclose(value, reference[name], rtol=1e-6)


def test_per_image_means_count_every_image_once(make_run):
    config, mesh = make_run(), parallel.make_mesh()
    evaluator = per_image_means(
        lambda config, state, batch, key: tuple(
            {name: images.sum((1, 2, 3))} for name, images in zip("ab", batch.images, strict=True)
        )
    )
    rng = np.random.default_rng(0)
    for sizes in ((37, 20), (16, 40)):
        source = tuple(rng.integers(0, 256, (num, 8, 8, 1), np.uint8) for num in sizes)
        figures = evaluator(config, mesh)(None, Splits((), (), source), "test")
        for name, images in zip("ab", source, strict=True):
            np.testing.assert_allclose(figures[name], images.sum((1, 2, 3)).mean(), rtol=1e-12)


def test_per_image_means_repeat_at_any_step(make_run):
    config, mesh = make_run(), parallel.make_mesh()
    state = parallel.replicate(mesh, lambda: vae.TASK.init(config, jax.random.key(0)))
    evaluate, splits = vae.TASK.evaluators[0](config, mesh), sources.load(config.data, 0)
    later = state._replace(step=parallel.replicate_scalar(mesh, 7))
    assert evaluate(state, splits, "test") == evaluate(later, splits, "test")

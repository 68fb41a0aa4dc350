"""LPIPS as a loss: the metric's numbers, gradients that are finite, and features that never judge what they train."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import cyclegan, parallel, vae
from genjax.compiled import with_precision
from genjax.cyclegan.config import LossConfig
from genjax.evaluation import best, lpips, perceptual, picture_sets
from genjax.gan.terms import lpips_by, once
from tiny import tiny_cut, tiny_cyclegan, tiny_run, tiny_unit

pytestmark = [
    pytest.mark.skipif(not lpips.installed(), reason="needs the extra features"),
]

PERCEPTUAL = {"perceptual_cycle": 1.0, "perceptual_features": "alexnet"}


@pytest.fixture(scope="module")
def features():
    return lpips.load("alexnet").params


def noise(seed, size=(64, 64), channels=3, num=2):
    return np.random.default_rng(seed).random((num, *size, channels), np.float32)


@pytest.mark.parametrize(("size", "channels"), [((64, 70), 3), ((64, 64), 1)])
def test_distance_is_lpips(features, size, channels):
    x, y = noise(0, size, channels), noise(1, size, channels)
    expected = lpips.distances(lpips.load("alexnet"), x, y, parallel.make_mesh(jax.devices()[:1]))
    assert expected.min() > 0.05
    np.testing.assert_allclose(jax.jit(perceptual.distance)(features, x, y), expected, rtol=0, atol=1e-6)
    signed = jax.jit(lpips_by({"lpips": features}))(2 * x - 1, 2 * y - 1)
    np.testing.assert_allclose(signed, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("size", "channels"), [((8, 70), 3), ((32, 32), 1)])
def test_distance_enlarges_small_images_as_the_metric_does(features, size, channels):
    x, y = noise(0, size, channels), np.round(noise(1, size, channels))
    measured = picture_sets._compile_lpips("alexnet", parallel.make_mesh(jax.devices()[:1]))(x, y)
    assert measured.min() > 0.05
    np.testing.assert_allclose(jax.jit(perceptual.distance)(features, x, y), measured, rtol=1e-5)


def test_gradient_is_finite_and_zero_for_equal_images(features):
    """A last layer of zeros too: the length of zeros has no gradient, and ReLU, which left them, hands none on."""
    last = {**features["AlexNet_0"]["Conv_4"], "bias": np.full(256, -1e4, np.float32)}
    x, y = noise(0), noise(1)
    slope = jax.jit(jax.value_and_grad(lambda params, x, y: jnp.sum(perceptual.distance(params, x, y)), argnums=1))
    for params in (features, {**features, "AlexNet_0": {**features["AlexNet_0"], "Conv_4": last}}):
        value, grad = slope(params, x, x)
        assert value == 0 and not np.asarray(grad).any()
        value, grad = slope(params, x, y)
        assert value > 0.05 and np.isfinite(grad).all() and np.abs(grad).max() > 0


def test_distance_is_in_float32_whatever_the_precision(features):
    programs = {
        precision: str(jax.make_jaxpr(with_precision(perceptual.distance, precision))(features, noise(0), noise(1)))
        for precision in ("float32", "bfloat16")
    }
    assert programs["bfloat16"] == programs["float32"] and "bf16" not in programs["bfloat16"]
    assert "precision=(Precision.HIGHEST, Precision.HIGHEST)" in programs["bfloat16"]


def test_distance_refuses_to_do_without_features():
    with pytest.raises(ValueError, match="perceptual losses need features: give train_step their weights as constants"):
        lpips_by({})(noise(0), noise(1))


def test_once_computes_each_array_once():
    seen = []
    fn = once(lambda x: seen.append(x) or x + 1)
    first, second = jnp.zeros(2), jnp.zeros(2)
    assert fn(first) is fn(first) and fn(second) is not fn(first) and len(seen) == 2


@pytest.mark.parametrize(("make", "term"), [(tiny_cyclegan, "_cycle"), (tiny_unit, "_cycle"), (tiny_run, "")])
def test_load_records_the_features(make, term):
    config, held = perceptual.load(make("unused", loss={f"perceptual{term}": 1, "perceptual_features": "alexnet"}))
    assert config.loss.perceptual_sha256 == lpips.SHA256["alexnet"] and perceptual.load(config)[0] == config
    jax.tree.map(np.testing.assert_array_equal, held, {"lpips": lpips.load("alexnet").params})
    other = dataclasses.replace(config, loss=dataclasses.replace(config.loss, perceptual_sha256="0" * 64))
    with pytest.raises(ValueError, match=f"its SHA-256 is {lpips.SHA256['alexnet']}, not 0000.* give no --loss.perce"):
        perceptual.load(other)


@pytest.mark.parametrize("make", [tiny_cyclegan, tiny_unit, tiny_cut, tiny_run])
def test_load_reads_nothing_without_a_weight(make, monkeypatch):
    monkeypatch.setattr(lpips, "load", lambda name: pytest.fail("was loaded"))
    assert perceptual.load(make("unused")) == (make("unused"), {})


def test_configurations_refuse_features_of_no_use():
    weights = {"adversarial_a2b": 1.0, "adversarial_b2a": 1.0, "cycle_a": 1.0, "cycle_b": 1.0}
    for name, value in (("perceptual_features", "alexnet"), ("perceptual_sha256", "abc")):
        said = f"--loss.{name.replace('_', '-')} {value} has no effect, as the perceptual losses have weight 0"
        with pytest.raises(ValueError, match=said):
            LossConfig(**weights, **{name: value})
    with pytest.raises(ValueError, match="all weights of the loss are 0"):
        LossConfig(**dict.fromkeys(weights, 0.0))
    with pytest.raises(ValueError, match="--loss.perceptual must not be negative, got -1"):
        tiny_run("unused", loss={"perceptual": -1.0})
    with pytest.raises(ValueError, match="--loss.perceptual 1.0 has no place in --vae.objective iwae"):
        tiny_run("unused", loss={"perceptual": 1.0}, vae={"objective": "iwae"})
    with pytest.raises(ValueError, match="see grey or RGB images, and --data.channels gives 4"):
        perceptual.load(tiny_cyclegan("unused", loss=PERCEPTUAL, data={"channels": (4, 4)}))
    free = {"identity_a": 0.0, "identity_b": 0.0, "perceptual_identity": 1.0}
    with pytest.raises(ValueError, match="--loss.perceptual-identity 0"):
        tiny_cyclegan("unused", loss=free, data={"channels": (1, 3)})


def test_resolve_refuses_the_features_of_the_loss():
    """By any distance; auto takes the other features, and others may judge."""
    config = tiny_cyclegan("unused", loss=PERCEPTUAL, data={"channels": (3, 3)})
    assert best.resolve(cyclegan.TASK, config, "auto") == "kid:vgg16"
    assert best.resolve(cyclegan.TASK, config, "mind:vgg16") == "mind:vgg16"
    with pytest.raises(
        ValueError, match=r"--train.best-by mind:alexnet would judge .* give --train.best-by mind:vgg16"
    ):
        best.resolve(cyclegan.TASK, config, "mind:alexnet")
    run = tiny_run("unused", loss={"perceptual": 1.0})
    assert best.resolve(vae.TASK, run, "kid:alexnet") == "kid:alexnet"
    with pytest.raises(ValueError, match="--train.best-by kid:vgg16 would judge"):
        best.resolve(vae.TASK, run, "kid:vgg16")

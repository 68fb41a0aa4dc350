"""Spectral normalisation: singular values, one iteration a step, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.gan import discriminators, params
from genjax.gan.discriminators import PatchDiscriminator, PixelDiscriminator
from random_networks import random_images, random_params

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("module", [PatchDiscriminator(3, 2), PixelDiscriminator(3)], ids=["patch", "pixel"])
def test_spectral_normalise_makes_the_largest_singular_value_1(x64, module):
    given = random_params(params.shapes(module, (16, 16, 1)))

    @jax.jit
    def converged(given):
        first = discriminators.init_spectral(given, keys.root_key(1))
        last = jax.lax.fori_loop(0, 100, lambda _, vectors: discriminators.spectral_normalise(given, vectors)[1], first)
        return discriminators.spectral_normalise(given, last)[0], (first, last)

    normalised, vectors = converged(given)
    for vector in jax.tree.leaves(vectors):
        np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-6)
    assert normalised.keys() == given.keys()
    for name, layer in normalised.items():
        before, after = (
            np.linalg.svd(np.reshape(p[name]["kernel"], (-1, len(layer["bias"]))), compute_uv=False)
            for p in (given, normalised)
        )
        np.testing.assert_allclose(after[0], 1, atol=1e-4)
        np.testing.assert_allclose(layer["kernel"] * before[0], given[name]["kernel"], rtol=1e-4)
        np.testing.assert_array_equal(layer["bias"], given[name]["bias"])


def test_spectral_normalise_leaves_norms_alone():
    module = PatchDiscriminator(3, 2, affine=True)
    given = random_params(params.shapes(module, (16, 16, 1)), dtype=jnp.float32)
    vectors = discriminators.init_spectral(given, keys.root_key(0))
    assert sorted(vectors) == [f"Conv_{i}" for i in range(4)]
    normalised, turned = discriminators.spectral_normalise(given, vectors)
    assert normalised.keys() == given.keys() and turned.keys() == vectors.keys()
    assert normalised["Norm_0"] is given["Norm_0"]


def test_spectral_normalise_iterates_once(x64):
    """Algorithm 1 of Miyato et al. 2018, with the vector of the smaller side carried from step to step."""
    kernel, vector = random_images((2, 3, 4), 2), np.array([0.5, -0.5, 0.5, -0.5])
    matrix = kernel.reshape(-1, 4)
    left = matrix @ vector / np.linalg.norm(matrix @ vector)
    right = left @ matrix / np.linalg.norm(left @ matrix)
    layer = {"kernel": jnp.array(kernel), "bias": jnp.zeros(4)}
    normalised, turned = discriminators.spectral_normalise({"Conv_0": layer}, {"Conv_0": jnp.array(vector)})
    np.testing.assert_allclose(turned["Conv_0"], right, rtol=1e-12)
    np.testing.assert_allclose(normalised["Conv_0"]["kernel"], kernel / (left @ matrix @ right), rtol=1e-12)


def test_spectral_normalise_gradient_matches_finite_differences(x64):
    """With vectors that have converged, against finite differences of W / sigma(W), sigma from NumPy."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 3)))[0] for n in (8, 3))
    kernel, probe = ((left * [2.0, 0.9, 0.4]) @ right.T).reshape(2, 2, 2, 3), rng.normal(size=(2, 2, 2, 3))

    def by_definition(kernel):
        return np.sum(probe * kernel) / np.linalg.svd(kernel.reshape(-1, 3), compute_uv=False)[0]

    def probed(kernel, vector):
        layers = {"Conv_0": {"kernel": kernel, "bias": jnp.zeros(3)}}
        normalised, _ = discriminators.spectral_normalise(layers, {"Conv_0": vector})
        return jnp.sum(probe * normalised["Conv_0"]["kernel"])

    vector = jnp.array(right[:, 0])
    np.testing.assert_allclose(probed(jnp.array(kernel), vector), by_definition(kernel), rtol=1e-12)
    grads = np.asarray(jax.jit(jax.grad(probed))(jnp.array(kernel), vector))
    for index in np.ndindex(kernel.shape):
        step = np.zeros(kernel.shape)
        step[index] = 1e-6
        expected = (by_definition(kernel + step) - by_definition(kernel - step)) / 2e-6
        np.testing.assert_allclose(grads[index], expected, rtol=1e-6, atol=1e-8)


def test_spectral_normalise_gradient_takes_vectors_as_fixed(x64):
    """With vectors far from converged, where they would turn with the kernel: in closed form."""
    kernel, probe, vector = random_images((2, 3, 4), 2), random_images((2, 3, 4), 2) ** 2, np.array([0.8, 0.6, 0, 0])

    def probed(kernel):
        layers = {"Conv_0": {"kernel": kernel, "bias": jnp.zeros(4)}}
        normalised, _ = discriminators.spectral_normalise(layers, {"Conv_0": jnp.array(vector)})
        return jnp.sum(probe * normalised["Conv_0"]["kernel"])

    matrix = kernel.reshape(-1, 4)
    left = matrix @ vector / np.linalg.norm(matrix @ vector)
    right = left @ matrix / np.linalg.norm(left @ matrix)
    sigma = left @ matrix @ right
    expected = probe / sigma - np.sum(probe * kernel) / sigma**2 * np.outer(left, right).reshape(kernel.shape)
    np.testing.assert_allclose(jax.grad(probed)(jnp.array(kernel)), expected, rtol=1e-10)

"""Generators and discriminators: initial parameters, examples kept apart, norms and precision."""

import functools
import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from genjax import keys
from genjax.gan import discriminators, generators, params
from genjax.gan.discriminators import PatchDiscriminator, PixelDiscriminator
from random_networks import kernels, random_images, random_params

pytestmark = pytest.mark.slow

BF16 = jnp.dtype(jnp.bfloat16)
NETWORKS = {
    "resnet": functools.partial(generators.resnet, 1, 2, 1),
    "unet": functools.partial(generators.unet, 1, 2, 3),
    "patch": functools.partial(PatchDiscriminator, 2, 2),
    "pixel": functools.partial(PixelDiscriminator, 2),
}


def init(module, image_shape=(16, 16, 1), seed=0):
    part = generators if isinstance(module, generators.Generator) else discriminators
    return jax.jit(lambda: part.init(module, keys.root_key(seed), image_shape))()


FIXED = {  # hash of names and shapes, and a sum of the values
    "resnet": ("c56aa3fa", 0.34424796015703796, generators.resnet(1, 2, 1)),
    "unet": ("2090c985", -0.23250906414600114, generators.unet(1, 2, 3)),
    "patch": ("5bfe2ea6", 0.02009823636921787, PatchDiscriminator(3, 2)),
    "pixel": ("3b96bdb0", 0.040483240386855246, PixelDiscriminator(3)),
}


@pytest.mark.parametrize("name", FIXED)
def test_init_gives_the_same_parameters_in_every_version(name):
    """Names of modules and the order of draws are part of every digest."""
    digest, total, module = FIXED[name]
    leaves = jax.tree_util.tree_leaves_with_path(init(module, (16, 16, 3)))
    names = "".join(f"{jax.tree_util.keystr(path)}{leaf.shape}" for path, leaf in leaves)
    assert hashlib.sha256(names.encode()).hexdigest()[:8] == digest
    values = np.concatenate([np.asarray(leaf, np.float64).ravel() for _, leaf in leaves])
    np.testing.assert_allclose(np.sum(values * np.cos(np.arange(values.size))), total, rtol=1e-5)


def test_init_draws_kernels_from_n_0_002():
    drawn = []
    for name, make in NETWORKS.items():
        fresh = init(make())
        found = kernels(fresh)
        for path, kernel in found.items():
            assert abs(kernel.std() / 0.02 - 1) < 5 / math.sqrt(2 * kernel.size), (name, path)
            assert abs(kernel.mean()) < 5 * 0.02 / math.sqrt(kernel.size), (name, path)
            drawn.append(kernel.ravel())
        biases = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(fresh) if path[-1].key == "bias"]
        assert len(biases) == len(found) and not any(np.any(bias) for bias in biases)
        # No two layers have draws in common: the encoder and its decoder have keys of their own.
        values = np.concatenate([kernel.ravel() for kernel in found.values()])
        assert len(np.unique(values)) > 0.99 * len(values)  # float32 draws collide now and then
    assert scipy.stats.kstest(np.concatenate(drawn) / 0.02, "norm").pvalue > 1e-3


@pytest.mark.parametrize(
    ("module", "last"),
    [
        (generators.resnet(1, 2, 1, residual=True), "['decoder']['ReflectConv_0']['kernel']"),
        (generators.unet(1, 2, 3, residual=True), "['decoder']['ConvTranspose_2']['kernel']"),
    ],
    ids=["resnet", "unet"],
)
def test_residual_generator_begins_as_the_identity(module, last):
    fresh = init(module)
    assert [path for path, kernel in kernels(fresh).items() if not kernel.any()] == [last]
    images = 3 * random_images((16, 16, 1))  # outside of [-1, 1] too
    generate = jax.jit(functools.partial(params.apply, module))
    np.testing.assert_allclose(generate(fresh, images), images, rtol=1e-6)
    there_and_back = generate(fresh, generate(fresh, images))
    assert np.abs(there_and_back - images).mean() < 1e-6
    moved = generate(random_params(fresh, dtype=jnp.float32), images)
    assert np.abs(moved - images).mean() > 0.1


WITH_NORM = {  # whose biases a normalisation subtracts again
    "resnet": {f"['encoder']['{name}']['bias']" for name in ("ReflectConv_0", "Conv_0", "Conv_1", "ReflectConv_1",
                                                               "ReflectConv_2")}
    | {f"['decoder']['ConvTranspose_{i}']['bias']" for i in range(2)},
    "unet": {"['encoder']['Conv_1']['bias']"} | {f"['decoder']['ConvTranspose_{i}']['bias']" for i in range(2)},
    "patch": {"['Conv_1']['bias']", "['Conv_2']['bias']"},
    "pixel": {"['Conv_1']['bias']"},
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_apply_keeps_examples_apart_and_norms_undo_biases(x64, name):
    module = NETWORKS[name]()
    given, images = random_params(params.shapes(module, (16, 16, 1))), random_images((16, 16, 1), 4)
    is_bias = jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "bias", given)
    biases = jax.tree.map(lambda leaf, bias: leaf if bias else None, given, is_bias)

    @jax.jit
    def outputs_and_grads(biases, images):
        def probed(biases):
            both = jax.tree.map(lambda b, p: p if b is None else b, biases, given, is_leaf=lambda x: x is None)
            outputs = params.apply(module, both, images)
            return jnp.sum(outputs * jnp.sin(jnp.arange(outputs.size)).reshape(outputs.shape)), outputs

        grads, outputs = jax.grad(probed, has_aux=True)(biases)
        return outputs, grads

    outputs, grads = outputs_and_grads(biases, images)
    assert np.abs(outputs - outputs[:1]).max(axis=(1, 2, 3))[1:].min() > 1e-3
    for row in range(4):
        alone, _ = outputs_and_grads(biases, np.repeat(images[row : row + 1], 4, axis=0))
        np.testing.assert_allclose(alone[0], outputs[row], rtol=1e-11, atol=1e-12)
    grads = {jax.tree_util.keystr(p): np.abs(s).max() for p, s in jax.tree_util.tree_leaves_with_path(grads)}
    assert {path for path, grad in grads.items() if grad < 1e-10} == WITH_NORM[name]
    assert min(grad for path, grad in grads.items() if path not in WITH_NORM[name]) > 1e-3


@pytest.mark.parametrize("name", ["resnet", "unet", "patch"])
def test_apply_computes_in_bfloat16_and_normalises_in_float32(name):
    outputs = {}
    images = jnp.asarray(random_images((16, 16, 1)), jnp.float32)
    for dtype in (None, BF16):
        module = NETWORKS[name](dtype=dtype)
        shapes, apply = params.shapes(module, (16, 16, 1)), functools.partial(params.apply, module)
        assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
        given = random_params(shapes, 0.2, jnp.float32)
        jaxpr = str(jax.make_jaxpr(apply)(given, images)).splitlines()
        convolutions = [line for line in jaxpr if " conv_general_dilated" in line]
        assert convolutions and all(("bf16[" in line) == (dtype == BF16) for line in convolutions)
        assert not [line for line in jaxpr if "bf16[" in line and " reduce_sum" in line]
        outputs[dtype] = jax.jit(apply)(given, images)
        assert outputs[dtype].dtype == jnp.float32
    difference = np.abs(outputs[BF16] - outputs[None])
    assert 0 < difference.max() < 0.1 * np.abs(outputs[None]).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_affine_norms_begin_as_plain_ones(name):
    plain, affine = NETWORKS[name](norm="layer"), NETWORKS[name](norm="layer", affine=True)
    images = jnp.asarray(random_images((16, 16, 1)), jnp.float32)
    with_gains = init(affine)
    gains = [path for path, _ in jax.tree_util.tree_leaves_with_path(with_gains) if path[-1].key == "scale"]
    assert len(gains) == len(WITH_NORM[name])
    first, other = (
        jax.jit(functools.partial(params.apply, module))(given, images)
        for module, given in ((affine, with_gains), (plain, init(plain)))
    )
    np.testing.assert_array_equal(first, other)

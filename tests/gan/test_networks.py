import functools
import hashlib
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from genjax import gan, keys
from genjax.gan import discriminators, generators, params
from genjax.gan.discriminators import PatchDiscriminator, PixelDiscriminator

pytestmark = pytest.mark.slow

BF16 = jnp.dtype(jnp.bfloat16)


def count(module, image_shape):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params.shapes(module, image_shape)))


def random_params(shapes, scale=0.5, dtype=float):
    """Parameters with which every layer matters; much faster than initialising."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, scale, leaf.shape), dtype), shapes)


def random_images(shape, num=2, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, *shape))


def kernels(tree):
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if path[-1].key == "kernel"
    }


def test_package_imports_no_family():
    for path in Path(gan.__file__).parent.glob("*.py"):
        assert not re.search(r"genjax(\.| import )(cyclegan|vae)", path.read_text()), path


GENERATORS = {
    11_378_179: (3, functools.partial(generators.resnet, num_blocks=9)),
    7_837_699: (3, functools.partial(generators.resnet, num_blocks=6)),
    11_365_633: (1, functools.partial(generators.resnet, num_blocks=9)),
    7_825_153: (1, functools.partial(generators.resnet, num_blocks=6)),
    54_409_603: (3, functools.partial(generators.unet, num_downs=8)),
    41_825_667: (3, functools.partial(generators.unet, num_downs=7)),
}


@pytest.mark.parametrize("expected", GENERATORS)
def test_generators_have_the_reference_parameter_count(expected):
    channels, make = GENERATORS[expected]
    assert count(make(channels), (256, 256, channels)) == expected


DISCRIMINATORS = {
    2_764_737: (3, PatchDiscriminator()),
    2_762_689: (1, PatchDiscriminator()),
    136_385: (3, PatchDiscriminator(num_layers=1)),
    662_977: (3, PatchDiscriminator(num_layers=2)),
    6_959_553: (3, PatchDiscriminator(num_layers=4)),
    11_154_369: (3, PatchDiscriminator(num_layers=5)),
    8_705: (3, PixelDiscriminator()),
}


@pytest.mark.parametrize("expected", DISCRIMINATORS)
def test_discriminators_have_the_reference_parameter_count(expected):
    channels, module = DISCRIMINATORS[expected]
    assert count(module, (128, 128, channels)) == expected


def test_patch_discriminator_gives_a_map_of_logits():
    module = PatchDiscriminator()
    shapes = params.shapes(module, (64, 64, 3))
    for size, expected in {256: 30, 128: 14, 64: 6, 32: 2, 24: 1}.items():
        images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
        logits = jax.eval_shape(functools.partial(params.apply, module), shapes, images)
        assert logits.shape == (2, expected, expected, 1)


@pytest.mark.parametrize(("num_layers", "expected"), [(1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_patch_discriminator_logit_sees_one_patch(num_layers, expected):
    """Rows of the image with a gradient; without normalisation, by which a logit depends a little on the whole map."""
    smallest, stride = 3 << num_layers, 2**num_layers
    module = PatchDiscriminator(1, num_layers, norm="none")
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), params.shapes(module, (96, 96, 1)))
    images = jnp.ones((1, expected // stride * stride + 4 * stride, smallest, 1))
    middle = images.shape[1] // stride // 2 - 1
    grad = jax.jit(jax.grad(lambda x: params.apply(module, ones, x)[0, middle, 0, 0]))(images)
    rows = np.flatnonzero(np.asarray(grad).any(axis=(0, 2, 3)))
    assert 0 < rows[0] and rows[-1] < images.shape[1] - 1  # the border cuts nothing off
    assert len(rows) == rows[-1] - rows[0] + 1 == expected


def test_pixel_discriminator_logit_sees_one_pixel():
    module = PixelDiscriminator(2)
    shapes = params.shapes(module, (8, 12, 1))
    assert all(kernel.shape[:2] == (1, 1) for kernel in kernels(random_params(shapes)).values())
    images = jax.ShapeDtypeStruct((2, 8, 12, 1), jnp.float32)
    assert jax.eval_shape(functools.partial(params.apply, module), shapes, images).shape == (2, 8, 12, 1)


@pytest.mark.parametrize("channels", [(1, 3), (3, 1), (3, 3)], ids=str)
@pytest.mark.parametrize(
    ("make", "unit"),
    [(functools.partial(generators.resnet, num_blocks=1), 4), (functools.partial(generators.unet, num_downs=3), 8)],
)
def test_generators_keep_any_size_they_can_halve(make, unit, channels):
    source, target = channels
    module = make(target, base_channels=2)
    shapes = params.shapes(module, (16, 16, source))
    for size in ((8, 8), (8, 6 * unit), (13 * unit, 5 * unit)):
        images = jax.ShapeDtypeStruct((2, *size, source), jnp.float32)
        out = jax.eval_shape(functools.partial(params.apply, module), shapes, images)
        assert out.shape == (2, *size, target)


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

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from genjax import keys
from genjax.cyclegan import nets, steps
from tiny import tiny_cyclegan

# Programs here run once or twice: compiling them is the cost, and of fresh parameters above all.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

UNET = {"generator": "unet", "depth": 3}


def configured(make_cyclegan, size=(16, 16), channels=(1, 1), precision="float32", **cyclegan):
    """A run with other networks; without identity losses, so that domains may differ in channels."""
    loss = {"identity_a": 0.0, "identity_b": 0.0}
    data = {"image_size": size, "channels": channels}
    return make_cyclegan(data=data, cyclegan=cyclegan, precision=precision, loss=loss)


def full(make_cyclegan, size=(64, 64), channels=(3, 3), **cyclegan):
    """A run with networks of the reference's width."""
    return configured(make_cyclegan, size, channels, width=64, **{"discriminator_width": 64} | cyclegan)


def generator_shapes(config, direction="a2b"):
    return jax.eval_shape(lambda: nets.init_generator(config, direction, keys.root_key(0)))


def discriminator_shapes(config, domain=0):
    return jax.eval_shape(lambda: nets.init_discriminator(config, domain, keys.root_key(0)))


def count(shapes):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def random_params(shapes, scale=0.5, dtype=float):
    """Parameters with which every layer matters; much faster than initialising."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, scale, leaf.shape), dtype), shapes)


def random_images(shape, num=2, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, *shape))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The configuration and first state of a tiny run."""
    config = tiny_cyclegan(str(tmp_path_factory.mktemp("fresh")))
    return config, jit(lambda: steps.init(config, keys.root_key(0)))()


def kernels(params):
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "kernel"
    }


GENERATORS = {
    11_378_179: ((256, 256), (3, 3), {"blocks": 9}),
    7_837_699: ((128, 128), (3, 3), {"blocks": 6}),
    11_365_633: ((256, 256), (1, 1), {"blocks": 9}),
    7_825_153: ((128, 128), (1, 1), {"blocks": 6}),
    54_409_603: ((256, 256), (3, 3), {"generator": "unet", "depth": 8}),
    41_825_667: ((128, 128), (3, 3), {"generator": "unet", "depth": 7}),
}


@pytest.mark.parametrize("expected", GENERATORS)
def test_generators_have_the_parameters_of_the_reference(make_cyclegan, expected):
    size, channels, fields = GENERATORS[expected]
    config = full(make_cyclegan, size, channels, **fields)
    assert [count(generator_shapes(config, direction)) for direction in ("a2b", "b2a")] == [expected, expected]


DISCRIMINATORS = {
    2_764_737: (3, {"discriminator_layers": 3}),
    2_762_689: (1, {"discriminator_layers": 3}),
    136_385: (3, {"discriminator_layers": 1}),
    662_977: (3, {"discriminator_layers": 2}),
    6_959_553: (3, {"discriminator_layers": 4}),
    11_154_369: (3, {"discriminator_layers": 5}),
    8_705: (3, {"discriminator": "pixel"}),
}


@pytest.mark.parametrize("expected", DISCRIMINATORS)
def test_discriminators_have_the_parameters_of_the_reference(make_cyclegan, expected):
    channels, fields = DISCRIMINATORS[expected]
    config = full(make_cyclegan, (128, 128), (channels, 1), **fields)
    assert count(discriminator_shapes(config)) == expected


def test_the_four_networks_together(make_cyclegan):
    config = full(make_cyclegan, (256, 256), blocks=9, discriminator_layers=3)
    state = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    assert sum(count(getattr(state, name).params) for name in (*steps.GENERATORS, *steps.DISCRIMINATORS)) == 28_285_832


def test_maps_of_the_70_pixel_discriminator(make_cyclegan):
    config = full(make_cyclegan, discriminator_layers=3)
    for size, expected in {256: 30, 128: 14, 64: 6, 32: 2, 24: 1}.items():
        images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
        logits = jax.eval_shape(lambda p, x: nets.discriminate(config, p, x), discriminator_shapes(config), images)
        assert logits.shape == (2, expected, expected, 1)


@pytest.mark.parametrize(("strides", "expected"), [(1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_a_logit_sees_a_patch(make_cyclegan, monkeypatch, strides, expected):
    """Rows of the image with a gradient; without normalisation, by which a logit depends a little on the whole map."""
    monkeypatch.setattr(nets.layers, "instance_norm", lambda x: x)
    smallest, stride = 3 << strides, 2**strides
    config = configured(make_cyclegan, (96, 96), discriminator_width=1, discriminator_layers=strides)
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), discriminator_shapes(config))
    images = jnp.ones((1, expected // stride * stride + 4 * stride, smallest, 1))
    middle = images.shape[1] // stride // 2 - 1
    slope = jit(jax.grad(lambda x: nets.discriminate(config, params, x)[0, middle, 0, 0]))(images)
    rows = np.flatnonzero(np.asarray(slope).any(axis=(0, 2, 3)))
    assert 0 < rows[0] and rows[-1] < images.shape[1] - 1  # the border cuts nothing off
    assert len(rows) == rows[-1] - rows[0] + 1 == expected


def test_a_pixel_discriminator_sees_one_pixel(make_cyclegan):
    config = configured(make_cyclegan, (8, 12), discriminator="pixel")
    shapes = discriminator_shapes(config)
    assert all(kernel.shape[:2] == (1, 1) for kernel in kernels(random_params(shapes)).values())
    images = jax.ShapeDtypeStruct((2, 8, 12, 1), jnp.float32)
    assert jax.eval_shape(lambda p, x: nets.discriminate(config, p, x), shapes, images).shape == (2, 8, 12, 1)


@pytest.mark.parametrize("channels", [(1, 3), (3, 1), (3, 3)], ids=str)
@pytest.mark.parametrize(("fields", "unit", "smallest"), [({}, 4, 8), (UNET, 8, 8)], ids=["resnet", "unet"])
def test_generators_keep_any_size_they_can_halve_and_have_the_other_domains_channels(
    make_cyclegan, fields, unit, smallest, channels
):
    config = configured(make_cyclegan, channels=channels, **fields)
    for direction, (source, target) in nets.DOMAINS.items():
        shapes = generator_shapes(config, direction)
        for size in ((smallest, smallest), (smallest, 6 * unit), (13 * unit, 5 * unit)):
            images = jax.ShapeDtypeStruct((2, *size, channels[source]), jnp.float32)
            out = jax.eval_shape(lambda p, x, d=direction: nets.generate(config, d, p, x), shapes, images)
            assert out.shape == (2, *size, channels[target])


def test_kernels_are_drawn_from_n_0_002_and_biases_are_0(fresh):
    _, state = fresh
    drawn = []
    for name in (*steps.GENERATORS, *steps.DISCRIMINATORS):
        params = getattr(state, name).params
        found = kernels(params)
        assert len(found) == (8 if name in steps.GENERATORS else 3)
        for path, kernel in found.items():
            assert abs(kernel.std() / 0.02 - 1) < 5 / math.sqrt(2 * kernel.size), (name, path)
            assert abs(kernel.mean()) < 5 * 0.02 / math.sqrt(kernel.size), (name, path)
            drawn.append(kernel.ravel())
        biases = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == "bias"]
        assert len(biases) == len(found) and not any(np.any(bias) for bias in biases)
    drawn = np.concatenate(drawn)
    assert scipy.stats.kstest(drawn / 0.02, "norm").pvalue > 1e-3
    assert len(np.unique(drawn)) > 0.99 * len(drawn)  # float32 draws collide now and then


def test_networks_begin_different(fresh):
    """Networks from one key would have kernels in common: the generators with each other, the encoder its decoder."""
    _, state = fresh
    for one, other in (steps.GENERATORS, steps.DISCRIMINATORS):
        ours, theirs = kernels(getattr(state, one).params), kernels(getattr(state, other).params)
        assert ours.keys() == theirs.keys()
        for path, kernel in ours.items():
            assert np.isin(kernel, theirs[path]).mean() < 0.01, path


@pytest.mark.parametrize("fields", [{"blocks": 1}, UNET], ids=["resnet", "unet"])
def test_a_residual_generator_begins_as_the_identity_by_its_last_layer_alone(make_cyclegan, fields):
    config = configured(make_cyclegan, output="residual", width=2, **fields)
    params = jit(lambda: nets.init_generator(config, "a2b", keys.root_key(0)))()
    last = "['decoder']['ConvTranspose_2']['kernel']" if fields is UNET else "['decoder']['ReflectConv_0']['kernel']"
    assert [path for path, kernel in kernels(params).items() if not kernel.any()] == [last]
    images = 3 * random_images((16, 16, 1))  # outside of [-1, 1] too
    generate = jit(lambda params, x: nets.generate(config, "a2b", params, x))
    np.testing.assert_allclose(generate(params, images), images, rtol=1e-6)
    there_and_back = generate(params, generate(params, images))
    assert np.abs(there_and_back - images).mean() < 1e-6
    moved = generate(random_params(params, dtype=jnp.float32), images)
    assert np.abs(moved - images).mean() > 0.1


NETWORKS = {"resnet": {}, "unet": UNET, "patch": {"discriminator_layers": 2}, "pixel": {"discriminator": "pixel"}}
WITH_NORM = {  # whose biases a normalisation subtracts again
    "resnet": {f"['encoder']['{name}']['bias']" for name in ("ReflectConv_0", "Conv_0", "Conv_1", "ReflectConv_1",
                                                               "ReflectConv_2")}
    | {f"['decoder']['ConvTranspose_{i}']['bias']" for i in range(2)},
    "unet": {"['encoder']['Conv_1']['bias']"} | {f"['decoder']['ConvTranspose_{i}']['bias']" for i in range(2)},
    "patch": {"['Conv_1']['bias']", "['Conv_2']['bias']"},
    "pixel": {"['Conv_1']['bias']"},
}  # fmt: skip


def network(config, name):
    """A network's parameters, as shapes, and its function of parameters and images."""
    if name in ("resnet", "unet"):
        return generator_shapes(config), lambda params, x: nets.generate(config, "a2b", params, x)
    return discriminator_shapes(config), lambda params, x: nets.discriminate(config, params, x)


@pytest.mark.parametrize("name", NETWORKS)
def test_examples_are_independent_and_biases_before_a_normalisation_dead(make_cyclegan, x64, name):
    config = configured(make_cyclegan, width=2, discriminator_width=2, **NETWORKS[name])
    shapes, apply = network(config, name)
    params, images = random_params(shapes), random_images((16, 16, 1), 4)
    is_bias = jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "bias", params)
    biases = jax.tree.map(lambda leaf, bias: leaf if bias else None, params, is_bias)

    @jit
    def outputs_and_slopes(biases, images):
        def probed(biases):
            both = jax.tree.map(lambda b, p: p if b is None else b, biases, params, is_leaf=lambda x: x is None)
            outputs = apply(both, images)
            return jnp.sum(outputs * jnp.sin(jnp.arange(outputs.size)).reshape(outputs.shape)), outputs

        slopes, outputs = jax.grad(probed, has_aux=True)(biases)
        return outputs, slopes

    outputs, slopes = outputs_and_slopes(biases, images)
    assert np.abs(outputs - outputs[:1]).max(axis=(1, 2, 3))[1:].min() > 1e-3
    for row in range(4):
        alone, _ = outputs_and_slopes(biases, np.repeat(images[row : row + 1], 4, axis=0))
        np.testing.assert_allclose(alone[0], outputs[row], rtol=1e-11, atol=1e-12)
    slopes = {jax.tree_util.keystr(p): np.abs(s).max() for p, s in jax.tree_util.tree_leaves_with_path(slopes)}
    assert {path for path, slope in slopes.items() if slope < 1e-10} == WITH_NORM[name]
    assert min(slope for path, slope in slopes.items() if path not in WITH_NORM[name]) > 1e-3


@pytest.mark.parametrize("name", ["resnet", "unet", "patch"])
def test_bfloat16_computes_in_bfloat16_but_normalises_in_float32(make_cyclegan, name):
    outputs = {}
    for precision in ("float32", "bfloat16"):
        config = configured(make_cyclegan, precision=precision, width=2, discriminator_width=2, **NETWORKS[name])
        shapes, apply = network(config, name)
        assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
        params, images = random_params(shapes, 0.2, jnp.float32), jnp.asarray(random_images((16, 16, 1)), jnp.float32)
        jaxpr = str(jax.make_jaxpr(apply)(params, images)).splitlines()
        convolutions = [line for line in jaxpr if " conv_general_dilated" in line]
        assert convolutions and all(("bf16[" in line) == (precision == "bfloat16") for line in convolutions)
        assert not [line for line in jaxpr if "bf16[" in line and " reduce_sum" in line]
        outputs[precision] = jit(apply)(params, images)
        assert outputs[precision].dtype == jnp.float32
    difference = np.abs(outputs["bfloat16"] - outputs["float32"])
    assert 0 < difference.max() < 0.1 * np.abs(outputs["float32"]).max()


@pytest.mark.parametrize("fields", [{"discriminator_layers": 2}, {"discriminator": "pixel"}], ids=["patch", "pixel"])
def test_spectral_norm_makes_the_largest_singular_value_1(make_cyclegan, x64, fields):
    config = configured(make_cyclegan, discriminator_width=3, **fields)
    params = random_params(discriminator_shapes(config))

    @jit
    def converged(params):
        first = nets.init_spectral(params, keys.root_key(1))
        last = jax.lax.fori_loop(0, 100, lambda _, vectors: nets.spectral_normalise(params, vectors)[1], first)
        return nets.spectral_normalise(params, last)[0], (first, last)

    normalised, vectors = converged(params)
    for vector in jax.tree.leaves(vectors):
        np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-6)
    assert normalised.keys() == params.keys()
    for name, layer in normalised.items():
        before, after = (
            np.linalg.svd(np.reshape(p[name]["kernel"], (-1, len(layer["bias"]))), compute_uv=False)
            for p in (params, normalised)
        )
        np.testing.assert_allclose(after[0], 1, atol=1e-4)
        np.testing.assert_allclose(layer["kernel"] * before[0], params[name]["kernel"], rtol=1e-4)
        np.testing.assert_array_equal(layer["bias"], params[name]["bias"])


def test_one_power_iteration_turns_the_vector_once(x64):
    """Algorithm 1 of Miyato et al. 2018, with the vector of the smaller side carried from step to step."""
    kernel, vector = random_images((2, 3, 4), 2), np.array([0.5, -0.5, 0.5, -0.5])
    matrix = kernel.reshape(-1, 4)
    left = matrix @ vector / np.linalg.norm(matrix @ vector)
    right = left @ matrix / np.linalg.norm(left @ matrix)
    layer = {"kernel": jnp.array(kernel), "bias": jnp.zeros(4)}
    normalised, turned = nets.spectral_normalise({"Conv_0": layer}, {"Conv_0": jnp.array(vector)})
    np.testing.assert_allclose(turned["Conv_0"], right, rtol=1e-12)
    np.testing.assert_allclose(normalised["Conv_0"]["kernel"], kernel / (left @ matrix @ right), rtol=1e-12)


def test_spectral_norm_has_the_gradient_of_the_kernel_over_its_singular_value(x64):
    """With vectors that have converged, against finite differences of W / sigma(W), sigma from NumPy."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 3)))[0] for n in (8, 3))
    kernel, probe = ((left * [2.0, 0.9, 0.4]) @ right.T).reshape(2, 2, 2, 3), rng.normal(size=(2, 2, 2, 3))

    def by_definition(kernel):
        return np.sum(probe * kernel) / np.linalg.svd(kernel.reshape(-1, 3), compute_uv=False)[0]

    def objective(kernel, vector):
        params, _ = nets.spectral_normalise({"Conv_0": {"kernel": kernel, "bias": jnp.zeros(3)}}, {"Conv_0": vector})
        return jnp.sum(probe * params["Conv_0"]["kernel"])

    vector = jnp.array(right[:, 0])
    np.testing.assert_allclose(objective(jnp.array(kernel), vector), by_definition(kernel), rtol=1e-12)
    grads = np.asarray(jax.jit(jax.grad(objective))(jnp.array(kernel), vector))
    for index in np.ndindex(kernel.shape):
        step = np.zeros(kernel.shape)
        step[index] = 1e-6
        expected = (by_definition(kernel + step) - by_definition(kernel - step)) / 2e-6
        np.testing.assert_allclose(grads[index], expected, rtol=1e-6, atol=1e-8)

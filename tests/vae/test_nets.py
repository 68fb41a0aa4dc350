import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.vae import losses, nets

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (33, 33, 3), (64, 64, 1), (20, 37, 3)]


def init(config):
    return jax.jit(lambda: nets.init_params(config, keys.root_key(0)))()


def shaped(make_run, architecture, shape, **vae):
    hidden = (8, 6) if architecture == "conv" else (12, 10)
    vae = {"architecture": architecture, "hidden": hidden, "latent_dim": 5, **vae}
    return make_run(data={"image_size": shape[:2], "channels": shape[2:], "binarize": "none"}, vae=vae)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_any_image_shape_comes_back_as_it_was(make_run, architecture, shape):
    config = shaped(make_run, architecture, shape)
    params = jax.eval_shape(lambda: nets.init_params(config, keys.root_key(0)))
    images = jax.ShapeDtypeStruct((3, *shape), jnp.float32)
    posterior = jax.eval_shape(lambda p, x: nets.encode(config, p, x), params, images)
    assert posterior.mean.shape == posterior.log_sigma.shape == (3, 5)
    pixels = jax.eval_shape(lambda p, z: nets.decode(config, p, z), params, posterior.mean)
    assert pixels.location.shape == (3, *shape)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_every_parameter_learns_and_stays_float32(make_run, architecture, precision):
    config = shaped(make_run, architecture, (9, 10, 3), likelihood="gaussian_learned")
    config = make_run(
        precision=precision, data={"image_size": (9, 10), "channels": (3,), "binarize": "none"}, vae=vars(config.vae)
    )
    params = init(config)
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 9, 10, 3)), jnp.float32)
    noise = keys.normal(keys.per_example(keys.root_key(1), np.arange(4)), 5)

    @jax.jit
    def objective_grads(params):
        def objective(p):
            terms = losses.elbo_terms(config, p, images, noise, 1.0)
            return terms.objective.sum(), terms

        return jax.grad(objective, has_aux=True)(params)

    grads, terms = objective_grads(params)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.abs(grad).max() > 0, path
        assert grad.dtype == jnp.float32, path
    assert {term.dtype for term in terms} == {jnp.dtype("float32")}


def test_bfloat16_computes_in_bfloat16(make_run):
    jaxpr = {}
    for precision in ("float32", "bfloat16"):
        config = make_run(precision=precision)
        params = init(config)
        jaxpr[precision] = str(jax.make_jaxpr(lambda p, c=config: nets.encode(c, p, jnp.zeros((2, 8, 8, 1))))(params))
    products = [line for line in jaxpr["bfloat16"].splitlines() if "dot_general" in line]
    assert products and all("bf16" in line for line in products)
    assert "bf16" not in jaxpr["float32"]


def test_networks_follow_float64(make_run, x64):
    config = shaped(make_run, "conv", (8, 8, 1))
    params = jax.tree.map(lambda p: p.astype(jnp.float64), init(config))
    assert nets.encode(config, params, jnp.zeros((1, 8, 8, 1))).mean.dtype == jnp.float64
    jaxpr = str(jax.make_jaxpr(lambda p: nets.decode(config, p, jnp.zeros((1, 5))).location)(params))
    assert "f32" not in jaxpr


def test_encoder_and_decoder_start_from_different_keys(make_run):
    params = init(make_run(vae={"hidden": (64,), "latent_dim": 32}))
    encoder, decoder = (params[name]["Dense_0"]["kernel"] for name in ("encoder", "decoder"))
    assert not np.isin(np.asarray(decoder).ravel()[:20], np.asarray(encoder)).any()


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_posterior_scale_is_bounded_and_its_gradient_finite(make_run, scale):
    config = make_run()
    params = init(config)
    params["encoder"] = jax.tree.map(lambda p: p * scale, params["encoder"])
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 8, 8, 1)), jnp.float32)
    log_sigma = nets.encode(config, params, images).log_sigma
    assert np.abs(log_sigma).max() <= nets.LOG_SIGMA_BOUND
    grads = jax.jit(jax.grad(lambda p: losses.gaussian_kl(*nets.encode(config, p, images)).sum()))(params)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_up_convolution_is_the_transposed_convolution_it_says_it_is(x64):
    """A 3x3 convolution and depth to space against a 6x6 transposed convolution of stride 2, written by definition."""
    from genjax.nn.layers import UpConv

    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, 3, 4, 2)), rng.normal(size=(3, 3, 2, 4 * 5))
    params = {"Conv_0": {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(20)}}
    got = UpConv(5).apply({"params": params}, jnp.asarray(x))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((1, 6, 8, 5))
    taps = kernel.reshape(
        3, 3, 2, 2, 2, 5
    )  # row and column of the tap, channel in, phase of row and column, channel out
    for i in range(6):
        for j in range(8):
            window = padded[0, i // 2 : i // 2 + 3, j // 2 : j // 2 + 3]
            expected[0, i, j] = np.einsum("abc,abcd->d", window, taps[:, :, :, i % 2, j % 2])
    np.testing.assert_allclose(got, expected, rtol=1e-10)

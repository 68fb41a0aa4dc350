import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from genjax import keys
from genjax.vae import losses, nets, posterior
from genjax.vae.model import Posterior, from_config

pytestmark = pytest.mark.slow

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (33, 33, 3), (64, 64, 1), (20, 37, 3)]


CONTINUOUS = {"binarize": "none", "dequantize": True}


def init(config):
    return jax.jit(lambda: from_config(config).init(keys.root_key(0)))()


def shaped(make_run, architecture, shape, precision="float32", **changes):
    hidden = (8, 6) if architecture == "conv" else (12, 10)
    changes = {"architecture": architecture, "hidden_sizes": hidden, "latent_dim": 5, **changes}
    learned = changes.get("likelihood") == "gaussian_learned"
    data = {"image_size": shape[:2], "channels": shape[2:], "binarize": "none", "dequantize": learned}
    return make_run(precision=precision, data=data, vae=changes)


# The networks.


def test_networks_are_made_from_sizes_alone():
    encoder, decoder = nets.ConvEncoder((4, 6), 5), nets.ConvDecoder((4, 6), (9, 10, 3))
    images = jnp.zeros((2, 9, 10, 3))
    shapes = jax.eval_shape(lambda: encoder.init_with_output(keys.root_key(0), images)[0])
    assert [shape.shape for shape in shapes] == [(2, 5), (2, 5)]
    assert (
        jax.eval_shape(lambda: decoder.init_with_output(keys.root_key(0), jnp.zeros((2, 5)))[0]).shape == images.shape
    )


def test_mlp_encoder_centres_pixels_if_asked():
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 4, 4, 1)))
    sizes = (8,), 3
    params = nets.MlpEncoder(*sizes).init(keys.root_key(0), images)
    centred, plain = (nets.MlpEncoder(*sizes, centred=c) for c in (True, False))
    np.testing.assert_array_equal(centred.apply(params, images)[0], plain.apply(params, 2 * images - 1)[0])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_flat_vae_keeps_any_image_shape(make_run, architecture, shape):
    flat = from_config(shaped(make_run, architecture, shape))
    params = jax.eval_shape(lambda: flat.init(keys.root_key(0)))
    images, noise = (jax.ShapeDtypeStruct((3, *size), jnp.float32) for size in (shape, (5,)))
    latents = jax.eval_shape(flat.infer, params, images, noise)
    kl = jax.eval_shape(lambda *arguments: flat.infer(*arguments).kl, params, images, noise)
    assert latents.groups[0].shape == (3, 5) and kl.shape == (3,)
    likelihood = jax.eval_shape(flat.decode, params, latents.groups)
    assert likelihood.logits.shape == (3, *shape)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_every_parameter_learns_and_stays_float32(make_run, architecture, precision):
    config = shaped(make_run, architecture, (9, 10, 3), precision, likelihood="gaussian_learned")
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 9, 10, 3)), jnp.float32)
    noise = keys.normal(keys.per_example(keys.root_key(1), np.arange(4)), 5)

    @jax.jit
    def loss_grads(params):
        def loss(params):
            terms = losses.elbo_terms(from_config(config), params, images, noise, 1.0)
            return terms.loss.sum(), terms

        return jax.grad(loss, has_aux=True)(params)

    grads, terms = loss_grads(init(config))
    assert "log_sigma" in grads["decoder"]
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.abs(grad).max() > 0, path
        assert grad.dtype == jnp.float32, path
    assert {term.dtype for term in jax.tree.leaves(terms)} == {jnp.dtype("float32")}


def test_encode_multiplies_in_bfloat16_if_asked(make_run):
    jaxpr = {}
    for precision in ("float32", "bfloat16"):
        config = make_run(precision=precision)
        encode = lambda p, c=config: from_config(c).encode(p, jnp.zeros((2, 8, 8, 1)))  # noqa: E731
        jaxpr[precision] = str(jax.make_jaxpr(encode)(init(config)))
    products = [line for line in jaxpr["bfloat16"].splitlines() if "dot_general" in line]
    assert products and all("bf16" in line for line in products)
    assert "bf16" not in jaxpr["float32"]


def test_flat_vae_follows_float64(make_run, x64):
    flat = from_config(shaped(make_run, "conv", (8, 8, 1)))
    params = jax.tree.map(lambda p: p.astype(jnp.float64), jax.jit(flat.init)(keys.root_key(0)))
    assert flat.encode(params, jnp.zeros((1, 8, 8, 1))).mean.dtype == jnp.float64
    jaxpr = str(jax.make_jaxpr(lambda p: flat.decode(p, (jnp.zeros((1, 5)),)).logits)(params))
    assert "f32" not in jaxpr


def test_init_gives_each_network_its_own_key(make_run):
    params = init(make_run(vae={"hidden_sizes": (64,), "latent_dim": 32}))
    encoder, decoder = (params[name]["Dense_0"]["kernel"] for name in ("encoder", "decoder"))
    assert not np.isin(np.asarray(decoder).ravel()[:20], np.asarray(encoder)).any()


def test_init_begins_at_the_given_variance(make_run):
    learned = init(make_run(data=CONTINUOUS, vae={"likelihood": "gaussian_learned", "sigma": 0.3}))
    optimal = init(make_run(data=CONTINUOUS, vae={"likelihood": "gaussian_optimal"}))
    np.testing.assert_allclose(np.exp(learned["decoder"]["log_sigma"]), 0.3, rtol=1e-6)
    np.testing.assert_allclose(optimal["decoder"]["variance"], 0.5, rtol=1e-6)


# The approximate posterior.


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_encode_bounds_sigma_with_finite_gradient(make_run, scale):
    config = make_run()
    flat, params = from_config(config), init(config)
    params["encoder"] = jax.tree.map(lambda p: p * scale, params["encoder"])
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 8, 8, 1)), jnp.float32)
    assert np.abs(flat.encode(params, images).log_sigma).max() <= posterior.LOG_SIGMA_BOUND
    grads = jax.jit(jax.grad(lambda p: flat.encode(p, images).kl().sum()))(params)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_posterior_kl_is_its_defining_integral(x64):
    mean, log_sigma = np.array([[0.3, -1.2, 0.0]]), np.array([[0.4, -0.9, 0.0]])
    expected = 0.0
    for m, s in zip(mean[0], np.exp(log_sigma[0]), strict=True):
        q = scipy.stats.norm(m, s)
        integrand = lambda z, q=q: q.pdf(z) * (q.logpdf(z) - scipy.stats.norm.logpdf(z))  # noqa: E731
        expected += scipy.integrate.quad(integrand, -15, 15)[0]
    np.testing.assert_allclose(Posterior(jnp.asarray(mean), jnp.asarray(log_sigma)).kl(), [expected], rtol=1e-7)


def test_posterior_samples_have_its_density_and_kl(x64):
    posterior = Posterior(jnp.array([[0.5, -1.0]]), jnp.array([[-0.5, 0.3]]))
    noise = keys.normal(keys.per_example(keys.root_key(0), np.arange(200_000)), 2)
    e = posterior.sample(noise)
    q = scipy.stats.norm(np.asarray(posterior.mean), np.exp(posterior.log_sigma))
    log_q = q.logpdf(np.asarray(e)).sum(1)
    np.testing.assert_allclose(posterior.log_prob(e) - math.log(2 * math.pi), log_q, rtol=1e-9)
    ratio = log_q - scipy.stats.norm.logpdf(e).sum(1)
    assert abs(ratio.mean() - float(posterior.kl()[0])) < 4 * ratio.std() / math.sqrt(len(ratio))


def test_infer_samples_what_encode_describes(make_run):
    config = make_run()
    flat, params = from_config(config), init(config)
    images, noise = jnp.full((2, 8, 8, 1), 0.3), jnp.array([[0.0, 1.0, -1.0, 2.0]] * 2)
    latents, posterior = flat.infer(params, images, noise), flat.encode(params, images)
    np.testing.assert_allclose(latents.groups[0], posterior.mean + np.exp(posterior.log_sigma) * noise, rtol=1e-6)
    np.testing.assert_allclose(latents.kl, posterior.kl(), rtol=1e-6)


def test_up_conv_equals_transposed_convolution_by_definition(x64):
    """A 3x3 convolution and depth to space against a 6x6 transposed convolution of stride 2, written by definition."""
    from genjax.nn.layers import UpConv

    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, 3, 4, 2)), rng.normal(size=(3, 3, 2, 4 * 5))
    params = {"Conv_0": {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(20)}}
    got = UpConv(5).apply({"params": params}, jnp.asarray(x))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((1, 6, 8, 5))
    # row and column of the tap, channel in, phase of row and column, channel out
    taps = kernel.reshape(3, 3, 2, 2, 2, 5)
    for i in range(6):
        for j in range(8):
            window = padded[0, i // 2 : i // 2 + 3, j // 2 : j // 2 + 3]
            expected[0, i, j] = np.einsum("abc,abcd->d", window, taps[:, :, :, i % 2, j % 2])
    np.testing.assert_allclose(got, expected, rtol=1e-10)

"""Each form of a convolution against XLA's own, with its gradients, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nn.kernels import convolutions

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

EXACT = dict(rtol=1e-12, atol=1e-12)
SHAPES = [(1, 4, 4, 1, 2), (3, 5, 7, 2, 3)]
"""Batch, height, width, channels in and out."""


def numbers(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def kernel_of(size, channels, features):
    return numbers((size, size, channels, features), 1)


def outputs_and_gradients(fn, *inputs):
    """What `fn` returns for arrays, and the gradients with respect to them of a sum with fixed weights."""

    @jax.jit
    def both(*inputs):
        outputs, pull = jax.vjp(fn, *inputs)
        return outputs, pull(jnp.cos(jnp.arange(outputs.size, dtype=outputs.dtype)).reshape(outputs.shape))

    return jax.tree.leaves(both(*map(jnp.array, inputs)))


def assert_same(found, expected):
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, **EXACT)


PADDINGS = [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 1), (1, 0))]
CHANNELS = [(2, PADDINGS[0]), (2, PADDINGS[1]), (2, PADDINGS[2]), (3, PADDINGS[2]), (9, PADDINGS[2])]
"""Channels in and padding: which gradients are computed how depends on channels alone."""


@pytest.mark.parametrize("cached", [0, convolutions.CACHED_SIZE])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (2, 1), (3, 1), (3, 2), (4, 1), (4, 2), (7, 1)])
@pytest.mark.parametrize(("channels", "padding"), CHANNELS, ids=str)
def test_conv_cpu_equals_native_with_gradients(monkeypatch, channels, size, stride, padding, cached):
    """Fewer channels than features, as many, more; where what is multiplied fits a cache, and where it does not."""
    monkeypatch.setattr(convolutions, "CACHED_SIZE", cached)
    x, kernel = numbers((2, 9, 8, channels)), kernel_of(size, channels, 3)
    cpu, native = (
        outputs_and_gradients(functools.partial(fn, stride, padding), x, kernel)
        for fn in (convolutions.conv_cpu, convolutions.conv_native)
    )
    assert_same(cpu, native)


@pytest.mark.parametrize("cached", [0, convolutions.CACHED_SIZE])
@pytest.mark.parametrize(("channels", "stride"), [(2, 1), (2, 2), (9, 2)])
def test_conv_cpu_has_native_second_derivatives(monkeypatch, channels, stride, cached):
    monkeypatch.setattr(convolutions, "CACHED_SIZE", cached)
    x, kernel = numbers((2, 6, 5, channels)), kernel_of(3, channels, 3)

    def penalty(fn):
        def of(x, kernel):
            grad = jax.grad(lambda x: jnp.sum(jnp.sin(fn(stride, ((1, 1), (1, 1)), x, kernel))))(x)
            return jnp.sum(grad**2, keepdims=True)

        return of

    functions = convolutions.conv_cpu, convolutions.conv_native
    cpu, native = (outputs_and_gradients(penalty(fn), x, kernel) for fn in functions)
    assert_same(cpu, native)


@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("shape", [(1, 9, 7, 1, 3), (3, 8, 11, 2, 1)], ids=str)
def test_conv_rows_as_features_equals_native_with_gradients(shape, size):
    b, h, w, channels, features = shape
    given = numbers((b, h, w, channels)), kernel_of(size, channels, features)
    rows, native = (
        outputs_and_gradients(fn, *given)
        for fn in (
            convolutions.conv_rows_as_features,
            functools.partial(convolutions.conv_native, 1, convolutions.NO_PADDING),
        )
    )
    assert rows[0].shape == (b, h - size + 1, w - size + 1, features)
    assert_same(rows, native)


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize("size", [1, 3, 4, 7])
def test_conv_rows_as_channels_equals_native_with_gradients(size, padding):
    given = numbers((2, 9, 8, 3)), kernel_of(size, 3, 5)
    found, native = (
        outputs_and_gradients(functools.partial(fn, padding), *given)
        for fn in (convolutions.conv_rows_as_channels, functools.partial(convolutions.conv_native, 1))
    )
    assert_same(found, native)


@pytest.mark.parametrize("form", [convolutions.transpose_by_phases, convolutions.transpose_by_depth])
@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transpose_forms_equal_native_with_gradients(shape, size, form):
    b, h, w, channels, features = shape
    given = numbers((b, h, w, channels)), kernel_of(size, channels, features)
    found, native = (outputs_and_gradients(fn, *given) for fn in (form, convolutions.transpose_native))
    assert found[0].shape == (b, 2 * h, 2 * w, features)
    assert_same(found, native)


@pytest.mark.parametrize("border", [1, 3])
def test_mirror_forms_equal_numpy(border):
    x = numbers((2, 4, 5, 3))
    expected = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), mode="reflect")
    for form in (convolutions.mirror_native, convolutions.mirror_by_gather):
        np.testing.assert_array_equal(form(border, jnp.array(x)), expected)
    np.testing.assert_array_equal(convolutions.mirror(jnp.array(x), border), expected)


@pytest.mark.parametrize("border", [1, 3])
def test_mirror_has_native_first_and_second_derivatives(border):
    def native(x):
        return convolutions.mirror_native(border, x)

    def mirror(x):
        return convolutions.mirror(x, border)

    def penalty(fn):
        return lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(fn(x))))(x) ** 2, keepdims=True)

    x = numbers((2, 4, 5, 3))
    assert_same(outputs_and_gradients(mirror, x), outputs_and_gradients(native, x))
    assert_same(outputs_and_gradients(penalty(mirror), x), outputs_and_gradients(penalty(native), x))


@pytest.mark.parametrize("border", [1, 3])
def test_mirror_gradient_counts_each_pixel_as_shown(border):
    rows, columns = (np.bincount(np.pad(np.arange(size), border, mode="reflect")) for size in (4, 5))
    found = jax.grad(lambda x: jnp.sum(convolutions.mirror(x, border)))(jnp.zeros((1, 4, 5, 1)))
    np.testing.assert_array_equal(found[0, :, :, 0], np.outer(rows, columns))

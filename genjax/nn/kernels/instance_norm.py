"""Instance normalisation and its gradient: native forms, and forms in two passes for NVIDIA GPUs.

All forms agree up to rounding. The gain of two passes is in experiments/results/speed.md.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

NORM_EPS = 1e-5  # added to the variance that `instance_norm` divides by


@jax.custom_vjp
def instance_norm(x: Array) -> Array:
    """Normalises each channel of each image [b, h, w, c] to mean 0 and variance 1, without parameters.

    Statistics are at least float32 (Ulyanov et al. 2016; eps 1e-5). The gradient is

        dx = (dy - mean(dy) - y mean(dy y)) / sqrt(variance + eps)
    """
    # The gradient is written out, because the one that JAX derives reads the map once more. On an NVIDIA GPU both
    # directions read the map twice (forward an eighth more) and, unlike XLA's native form, store no map in float32.
    return _forward(x)[0]


def group_norm(x: Array, groups: int) -> Array:
    """Normalises each group of channels of each image [b, h, w, c] to mean 0 and variance 1, without parameters."""
    wide = _at_least_float32(x).reshape(*x.shape[:3], groups, -1)
    mean = jnp.mean(wide, axis=(1, 2, 4), keepdims=True)
    scale = lax.rsqrt(jnp.mean(jnp.square(wide - mean), axis=(1, 2, 4), keepdims=True) + NORM_EPS)
    return ((wide - mean) * scale).reshape(x.shape).astype(x.dtype)


def _forward(x: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    y, mean, scale = lax.platform_dependent(x, cuda=normalize_in_two_passes, default=normalize_native)
    return y, (x, mean, scale)  # the gradient computes y again instead of storing it


def _backward(saved: tuple[Array, Array, Array], cotangent: Array) -> tuple[Array]:
    dx: Array = lax.platform_dependent(*saved, cotangent, cuda=input_grad_in_two_passes, default=input_grad_native)
    return (dx,)


instance_norm.defvjp(_forward, _backward)


def normalize_native(x: Array) -> tuple[Array, Array, Array]:
    """Returns y = (x - mean) scale, mean and scale; the last two are [b, 1, 1, c]."""
    wide = _at_least_float32(x)
    mean = jnp.mean(wide, axis=(1, 2), keepdims=True)
    scale = lax.rsqrt(jnp.mean(jnp.square(wide - mean), axis=(1, 2), keepdims=True) + NORM_EPS)
    return ((wide - mean) * scale).astype(x.dtype), mean, scale


def normalize_in_two_passes(x: Array) -> tuple[Array, Array, Array]:
    """Computes `normalize_native` in two passes: mean and variance, then y."""
    # E[x^2] - E[x]^2 loses digits where the mean is large, so both are of distances from the mean of every eighth row.
    # That mean lies within sqrt(7) standard deviations of the whole map's, whatever the image, so E[x^2] is at most 8
    # times the variance. For a single pixel, in place of an eighth of them, there is no such bound.
    (near,) = _spatial_means(_at_least_float32(x[:, ::8]))
    distance, square = _spatial_means(x - near, jnp.square(x - near))
    scale = lax.rsqrt(jnp.maximum(square - jnp.square(distance), 0) + NORM_EPS)
    x, mean, scale = lax.optimization_barrier((x, near + distance, scale))
    return ((x - mean) * scale).astype(x.dtype), mean, scale


def input_grad_native(x: Array, mean: Array, scale: Array, cotangent: Array) -> Array:
    """Computes the gradient of x from the outputs' `cotangent`, and mean and scale of the forward pass."""
    y, cotangent = (x - mean) * scale, cotangent.astype(mean.dtype)
    mean_dy, mean_dy_y = (jnp.mean(s, axis=(1, 2), keepdims=True) for s in (cotangent, cotangent * y))
    return ((cotangent - mean_dy - y * mean_dy_y) * scale).astype(x.dtype)


def input_grad_in_two_passes(x: Array, mean: Array, scale: Array, cotangent: Array) -> Array:
    """Computes `input_grad_native` in two passes: both means, then the gradient."""
    mean_dy, mean_dy_y = _spatial_means(_at_least_float32(cotangent), cotangent * ((x - mean) * scale))
    # Without the barrier XLA would compute y once for both passes, and store it as a map in float32.
    x, cotangent, mean, scale, mean_dy, mean_dy_y = lax.optimization_barrier(
        (x, cotangent, mean, scale, mean_dy, mean_dy_y)
    )
    return ((cotangent - mean_dy - (x - mean) * scale * mean_dy_y) * scale).astype(x.dtype)


def _spatial_means(*maps: Array) -> list[Array]:
    """Averages maps [b, h, w, c] over height and width, to [b, 1, 1, c] each."""
    # Rows first: XLA reduces a whole map at once several times slower on a GPU.
    rows = lax.optimization_barrier([jnp.mean(values, axis=2, keepdims=True) for values in maps])
    return [jnp.mean(row, axis=1, keepdims=True) for row in rows]


def _at_least_float32(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))

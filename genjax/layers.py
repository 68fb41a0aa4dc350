"""Linen pieces that networks of any family are built from. Modules hold no randomness: noise is an argument."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from genjax.config import Precision

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "gelu": nn.gelu, "silu": nn.silu, "tanh": jnp.tanh}


def compute_dtype(precision: Precision) -> jnp.dtype | None:
    """The type of the layers' arithmetic; None keeps that of inputs and parameters (float32, or float64 in tests)."""
    return jnp.dtype(jnp.bfloat16) if precision == "bfloat16" else None


def matmul_precision(precision: Precision) -> str:
    """For `jax.default_matmul_precision`: true float32 products, also where the hardware's default is coarser."""
    return "highest" if precision == "float32" else "default"


class UpConv(nn.Module):
    """Doubles height and width: a 3x3 convolution to four times the channels, then depth to space (Shi et al. 2016).

    The same linear maps as a transposed 6x6 convolution of stride 2, in a form that every backend runs fast.
    """

    features: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[b, h, w, c] to [b, 2h, 2w, features]."""
        x = nn.Conv(4 * self.features, (3, 3), dtype=self.dtype)(x)
        b, h, w, _ = x.shape
        x = x.reshape(b, h, w, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(b, 2 * h, 2 * w, self.features)

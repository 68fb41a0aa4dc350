"""Times each form of genjax's convolutions and norm against XLA's own, forward and backward.

$ python experiments/benchmark.py convolution_forms

It helps to choose the forms in `genjax/nn/kernels/` for a platform, with the sizes of the paper's networks. The forms
of an operation take turns. The least times are reported, as other work on a machine only adds to them.
"""

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import tyro
from jax import Array

from genjax import flag_help
from genjax.compiled import matmul_precision
from genjax.nn import layers
from genjax.nn.kernels import convolutions as forms
from genjax.nn.kernels import instance_norm as norm_forms
from genjax.nn.kernels.convolutions import NO_PADDING

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: the operations to time, and how often."""

    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """Precision of maps, kernels and products."""
    size: int = 64
    """Height and width of the images; 64 and 256 are the paper's."""
    batch: int = 1
    """Images in a batch."""
    turns: int = 20
    """Turns of each form; the least time is reported."""


Forms = Mapping[str, Callable[..., Array]]


class Operation(NamedTuple):
    """Forms of one computation, on arrays of the same shapes."""

    forms: Forms
    shapes: tuple[tuple[int, ...], ...]


def main() -> dict[str, float]:
    """Returns the seconds of each form."""
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    results: dict[str, float] = {}
    for name, operation in _operations(options.batch, options.size).items():
        for form, seconds in _least(options, operation).items():
            results[f"{name}.{form}"] = float(f"{seconds:.4g}")
            logger.info("%-34s %-10s %10.3f ms", name, form, 1e3 * seconds)
    return results


def _operations(b: int, size: int) -> dict[str, Operation]:
    """Returns the operations of a generator and a discriminator for images of `size`, by name."""
    small, half, eighth = size // 4, size // 2, size // 8
    plain, padded = (_native_and_cpu(padding) for padding in (NO_PADDING, ((1, 1), (1, 1))))
    transposed: Forms = {"native": forms.transpose_native, "phases": forms.transpose_by_phases}
    transposed = {**transposed, "depth": forms.transpose_by_depth}
    norms: Forms = {"native": _norm, "written": _written(norm_forms.normalize_native, norm_forms.input_grad_native)}
    two_passes = _written(norm_forms.normalize_in_two_passes, norm_forms.input_grad_in_two_passes)
    norms = {**norms, "two passes": two_passes}
    mirrors: Forms = {"native": functools.partial(forms.mirror_native, 1), "gather": _mirror_gathered}
    first: Forms = {**plain, "channels": functools.partial(forms.conv_rows_as_channels, NO_PADDING)}
    last: Forms = {"native": plain["native"], "rows": forms.conv_rows_as_features}
    return {
        "residual 3x3": Operation(plain, ((b, small + 2, small + 2, 256), (3, 3, 256, 256))),
        "first 7x7": Operation(first, ((b, size + 6, size + 6, 3), (7, 7, 3, 64))),
        "last 7x7": Operation(last, ((b, size + 6, size + 6, 64), (7, 7, 64, 3))),
        "discriminator 4x4": Operation(padded, ((b, eighth, eighth, 256), (4, 4, 256, 512))),
        "transposed 3x3, 256 to 128": Operation(transposed, ((b, small, small, 256), (3, 3, 256, 128))),
        "transposed 3x3, 128 to 64": Operation(transposed, ((b, half, half, 128), (3, 3, 128, 64))),
        "mirror, 256 channels": Operation(mirrors, ((b, small, small, 256),)),
        "norm, 256 channels": Operation(norms, ((b, small, small, 256),)),
        "norm, 64 channels": Operation(norms, ((b, size, size, 64),)),
    }


def _native_and_cpu(padding: forms.Padding) -> Forms:
    return {
        "native": functools.partial(forms.conv_native, 1, padding),
        "cpu": functools.partial(forms.conv_cpu, 1, padding),
    }


def _norm(x: Array) -> Array:
    """Computes `layers.instance_norm`, with the gradient that JAX derives."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean, variance = (fn(wide, axis=(1, 2), keepdims=True) for fn in (jnp.mean, jnp.var))
    return ((wide - mean) * jax.lax.rsqrt(variance + 1e-5)).astype(x.dtype)


def _written(normalised: Callable[..., Any], input_grad: Callable[..., Array]) -> Callable[[Array], Array]:
    """Makes `layers.instance_norm` from these two forms, for any platform."""

    @jax.custom_vjp
    def norm(x: Array) -> Array:
        y: Array = normalised(x)[0]
        return y

    def forward(x: Array) -> tuple[Array, tuple[Array, ...]]:
        y, mean, scale = normalised(x)
        return y, (x, mean, scale)

    norm.defvjp(forward, lambda saved, dy: (input_grad(*saved, dy),))
    return norm


@jax.custom_vjp
def _mirror_gathered(x: Array) -> Array:
    """Computes `mirror` and its gradient by the forms for a GPU."""
    return forms.mirror_by_gather(1, x)


_mirror_gathered.defvjp(lambda x: (_mirror_gathered(x), x), functools.partial(forms.mirror_backward, 1))


def _least(options: Options, operation: Operation) -> dict[str, float]:
    """Measures the seconds of each form, for outputs and all gradients."""
    dtype = layers.compute_dtype(options.precision) or jnp.dtype(jnp.float32)
    keys = jax.random.split(jax.random.key(0), len(operation.shapes) + 1)
    inputs = [jax.random.normal(key, shape, dtype) for key, shape in zip(keys[1:], operation.shapes, strict=True)]
    cotangent = jax.random.normal(keys[0], jax.eval_shape(next(iter(operation.forms.values())), *inputs).shape, dtype)
    compiled = {}
    with jax.default_matmul_precision(matmul_precision(options.precision)):
        for name, form in operation.forms.items():
            compiled[name] = jax.jit(functools.partial(_both, form)).lower(cotangent, *inputs).compile()
    seconds = dict.fromkeys(compiled, float("inf"))
    for turn in range(options.turns + 1):
        for name, fn in compiled.items():
            jax.block_until_ready(fn(cotangent, *inputs))
            began = time.perf_counter()
            jax.block_until_ready(fn(cotangent, *inputs))
            if turn > 0:
                seconds[name] = min(seconds[name], time.perf_counter() - began)
    return seconds


def _both(form: Callable[..., Array], cotangent: Array, *inputs: Array) -> Any:
    outputs, pull = jax.vjp(form, *inputs)
    return outputs, pull(cotangent)

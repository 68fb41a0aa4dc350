"""Parameters of networks: shapes, initial values, and application of a network."""

import functools
import itertools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, optim
from genjax.optim import Params
from genjax.parallel import PyTree


def shapes(module: nn.Module, image_shape: tuple[int, ...]) -> Params:
    """Returns shapes and types of a network's parameters, for images of `image_shape` (height, width, channels)."""
    # eval_shape computes nothing, so the key is of no importance.
    image = jnp.zeros((1, *image_shape))
    found: Params = jax.eval_shape(lambda x: module.init(keys.root_key(0), x), image)["params"]
    return found


def draw(shapes: PyTree, key: Array) -> Params:
    """Draws kernels from N(0, 0.02), as Zhu et al. 2017 do; biases are 0."""
    leaves, structure = jax.tree.flatten(shapes)
    # Kernels have two axes or more; a bias takes no numbers.
    sizes = [math.prod(leaf.shape) if len(leaf.shape) > 1 else 0 for leaf in leaves]
    # One draw for all kernels compiles many times faster than one draw for each.
    drawn = 0.02 * jax.random.normal(key, (sum(sizes),), jnp.float32)
    draws = jnp.split(drawn, list(itertools.accumulate(sizes))[:-1])
    filled = [
        draw.reshape(leaf.shape) if draw.size else jnp.zeros(leaf.shape, jnp.float32)
        for draw, leaf in zip(draws, leaves, strict=True)
    ]
    params: Params = jax.tree.unflatten(structure, filled)
    return params


def apply(module: nn.Module, params: Params, images: Array) -> Array:
    """Applies a network to images [b, h, w, c]; its only collection is "params"."""
    outputs: Array = module.apply({"params": params}, images)  # type: ignore[assignment]
    return outputs


def bind(module: nn.Module, params: Params, remat: bool = False) -> Callable[[Array], Array]:
    """Binds a network to its parameters; returns a function of images, for losses to be written as in a paper.

    With `remat` it is `computed_again`.
    """
    bound = functools.partial(apply, module)
    return functools.partial(computed_again(bound) if remat else bound, params)


def computed_again(fn: Callable[[Params, PyTree], PyTree]) -> Callable[[Params, PyTree], PyTree]:
    """Wraps `fn(params, x)`, so that its gradient computes all but its inputs again, in place of keeping it.

    (Chen et al. 2016.)
    """

    def forward(params: Params, x: PyTree) -> tuple[PyTree, tuple[Params, PyTree]]:
        return fn(params, x), (params, x)

    def backward(inputs: tuple[Params, PyTree], gradient: PyTree) -> tuple[Params, PyTree]:
        params, x = inputs
        # Without waiting, XLA would see that both computations are the same, and keep the first.
        x = optim.wait_for(gradient, x)
        result: tuple[Params, PyTree] = jax.vjp(fn, params, x)[1](gradient)
        return result

    wrapped = jax.custom_vjp(fn)
    wrapped.defvjp(forward, backward)
    return wrapped

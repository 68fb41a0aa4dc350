"""Programs of a trained model: functions of arrays that hold its weights, of any number and size of images."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.compiled import with_precision
from genjax.gan import translation
from genjax.gan.networks import DOMAINS, Direction
from genjax.keys import Stream
from genjax.loading import Sampler, Translator
from genjax.vae import sampling

Outputs = Array | tuple[Array, ...]


class Program(NamedTuple):
    """A function to export. Images are float32 in [0, 1], but for those of `reconstruct`."""

    fn: Callable[..., Outputs]
    inputs: dict[str, jax.ShapeDtypeStruct]  # in order; sizes may be symbolic
    outputs: tuple[str, ...]

    @property
    def is_random(self) -> bool:
        """Returns True if it draws noise, from a seed."""
        return "seed" in self.inputs

    def described(self) -> dict[str, dict[str, str]]:
        """Returns types and shapes of inputs and outputs, such as float32[n, 4*h, 4*w, 3]."""
        outputs = jax.eval_shape(self.fn, *self.inputs.values())
        named = zip(self.outputs, outputs if isinstance(outputs, tuple) else (outputs,), strict=True)
        return {
            "inputs": {name: _described(value) for name, value in self.inputs.items()},
            "outputs": {name: _described(value) for name, value in named},
        }


def of_model(model: Sampler | Translator) -> dict[str, Program]:
    """Returns the programs of a model by name; of a translator, the directions that it has."""
    found = _of_sampler(model) if isinstance(model, Sampler) else _of_translator(model)
    return {
        name: program._replace(fn=with_precision(program.fn, model.config.precision)) for name, program in found.items()
    }


def _of_translator(model: Translator) -> dict[str, Program]:
    """Returns the directions: images of any height and width that the generator accepts."""
    (unit, smallest), params = model.config.net.generator_sizes, jax.device_get(model.params)
    least = -(-smallest // unit)
    # h and w count the generator's units, so that all sizes are multiples of them.
    n, h, w = jax.export.symbolic_shape("n, h, w", constraints=[f"h >= {least}", f"w >= {least}"])

    def program(direction: Direction) -> Program:
        def translate(images: Array) -> Array:
            return translation.translate_accepted(model.config, params, direction, images, model.make_networks)

        shape = (n, unit * h, unit * w, model.config.data.channels[DOMAINS[direction][0]])
        return Program(translate, {"images": jax.ShapeDtypeStruct(shape, jnp.float32)}, ("translated",))

    return {direction: program(direction) for direction in model.directions}


def _of_sampler(sampler: Sampler) -> dict[str, Program]:
    """Returns encode and decode, and the samplers prior and reconstruct: image i is that of `Sampler`."""
    model, params, (shape,) = sampler.model, jax.device_get(sampler.params), sampler.config.data.image_shapes
    (n,) = jax.export.symbolic_shape("n")
    images, levels = (jax.ShapeDtypeStruct((n, *shape), dtype) for dtype in (jnp.float32, jnp.uint8))
    e = jax.ShapeDtypeStruct((n, model.latent_dim), jnp.float32)
    seed, position = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((n,), jnp.int32)

    def prior(seed: Array, position: Array, temperature: Array) -> Array:
        key = keys.for_step(keys.root_key(seed), Stream.PRIOR, 0)
        return sampling.prior(model, params, key, temperature, position)

    def reconstruct(seed: Array, position: Array, images: Array) -> Array:
        key = keys.for_step(keys.root_key(seed), Stream.RECONSTRUCT, 0)
        return sampling.reconstruct(model, sampler.config.data, params, key, position, images)

    def encode(images: Array) -> tuple[Array, ...]:
        return tuple(model.encode(params, images))

    def decode(e: Array) -> Array:
        return sampling.decode(model, params, e)

    temperature = jax.ShapeDtypeStruct((), jnp.float32)
    return {
        "prior": Program(prior, {"seed": seed, "position": position, "temperature": temperature}, ("images",)),
        "reconstruct": Program(reconstruct, {"seed": seed, "position": position, "images": levels}, ("images",)),
        "encode": Program(encode, {"images": images}, ("mean", "log_sigma")),
        "decode": Program(decode, {"e": e}, ("images",)),
    }


def _described(value: jax.ShapeDtypeStruct) -> str:
    return f"{value.dtype}[{', '.join(map(str, value.shape))}]"

"""StableHLO: programs that `jax.export` reads, without genjax, on a CPU, an NVIDIA GPU or a TPU."""

import jax

from genjax.data.imports import optional_module
from genjax.export.programs import Program

PLATFORMS = ("cpu", "cuda", "tpu")
"""Platforms of each file, which holds the fast form of an operation for each of them."""


def serialized(program: Program) -> bytes:
    """Returns a program as `jax.export.deserialize` reads it; ValueError without flatbuffers."""
    optional_module("flatbuffers", "the format stablehlo", "'genjax-images[export]'")
    exported = jax.export.export(jax.jit(program.fn), platforms=PLATFORMS)(*program.inputs.values())
    return bytes(exported.serialize())

"""How tests compile: cheaply, in a fifth of the time, and as users do where what is shown is of their machine code."""

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator
from typing import Any

FLAGS: dict[str, Any] = {"xla_cpu_parallel_codegen_split_count": 1, "xla_cpu_use_fusion_emitters": False}
"""Options of XLA's compiler with which small programs compile in half the time."""

USUAL: dict[str, Any] = {"xla_cpu_parallel_codegen_split_count": 32, "xla_cpu_use_fusion_emitters": True}
"""The same options, as they are without these flags."""

if int(importlib.metadata.version("jax").split(".")[1]) > 10:  # later releases refuse an option that they do not have
    del FLAGS["xla_cpu_use_fusion_emitters"], USUAL["xla_cpu_use_fusion_emitters"]

CHEAP = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": " ".join(f"--{name}={FLAGS[name]}" for name in FLAGS)}
"""Environment variables of all tests, and of the processes that they start: set before JAX is imported."""


@contextlib.contextmanager
def fully_compiled() -> Iterator[None]:
    """Compiles as users do, here and in processes that are started meanwhile.

    Nothing else should be compiled meanwhile that later tests might find in memory. On the disk the two kinds are kept
    apart.
    """
    import jax
    import jax.numpy as jnp

    jit, variables = jax.jit, {name: os.environ.pop(name) for name in CHEAP}

    def usual_jit(*args: Any, compiler_options: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        traced = isinstance(jnp.zeros(()), jax.core.Tracer)  # within a traced function JAX takes no options
        return jit(*args, **kwargs, compiler_options=None if traced else USUAL | (compiler_options or {}))

    jax.jit = usual_jit
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.jit = jit
        jax.config.update("jax_disable_most_optimizations", True)
        os.environ.update(variables)

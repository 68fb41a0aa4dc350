"""Record of the environment: everything outside the configuration that can change the bits of a result."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax

from genjax.config import RunConfig
from genjax.files import Json

FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "JAX_")
"""Prefixes of environment variables that can change results."""

CACHES = ("JAX_COMPILATION_CACHE_", "JAX_PERSISTENT_CACHE_")
"""Prefixes of environment variables that match FLAGS but cannot change results."""

PACKAGES = ("genjax-images", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def check_float32() -> None:
    """Raises ValueError if JAX is set to float64, which a training would mix with float32."""
    if jax.config.read("jax_enable_x64"):
        raise ValueError("JAX_ENABLE_X64 is set, and trainings are in float32 (or bfloat16, by --precision): unset it")


def describe(config: RunConfig) -> Json:
    """Describes everything outside the configuration that can change the bits of a result."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(FLAGS) and not name.startswith(CACHES)
        },
        "precision": config.precision,
        "git": _git(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _git() -> str:
    """Returns the commit of genjax's source tree, with `-dirty` if it was changed; "" outside a git checkout."""
    root = Path(__file__).parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        tracked = subprocess.run(["git", "-C", str(root), "ls-files", "--error-unmatch", __file__], capture_output=True)
        found = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return found.stdout.strip() if tracked.returncode == 0 else ""

"""Record of the environment: everything outside the configuration that can change the bits of a result."""

import os
import platform
import re
import subprocess
import sys
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

import jax
from jax.extend import backend

from genjax.config import RunConfig
from genjax.files import Json

FLAGS = (
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "NVIDIA_TF32_OVERRIDE",
    "NPROC",
    "PJRT_NPROC",
    "NCCL_ALGO",
    "NCCL_PROTO",
    "JAX_",
)
"""Prefixes of environment variables that can change results. (The two of NPROC set XLA's number of threads.)"""

HARMLESS = (
    "JAX_COMPILATION_CACHE_", "JAX_PERSISTENT_CACHE_",
    "JAX_COORDINATOR_", "JAX_LOCAL_DEVICE_IDS", "JAX_PARTITION_INDEX", "JAX_SLICE_INDEX",
)  # fmt: skip
"""Prefixes of environment variables that match FLAGS but cannot change results: caches, and the place of a process."""

PACKAGES = ("genjax-images", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")

ACCELERATORS = {"gpu": ("nvidia-", "jax-cuda", "jax-rocm"), "tpu": ("libtpu",)}
"""Beginnings of the names of packages that a kind of device needs: CUDA, cuDNN, NCCL, JAX's plugins, libtpu."""

DRIVER = Path("/sys/module/nvidia/version")
CPUINFO = Path("/proc/cpuinfo")
MODEL = ("model name", "cpu family", "model", "CPU implementer", "CPU part")
FEATURES = re.compile("sse|ssse|avx|amx|fma|f16c|asimd|fphp|sve|bf16|i8mm")
"""Beginnings of the names of instruction sets for floating-point numbers, on x86 and ARM."""

HOST = ("platform", "processor", "threads")
"""Fields that change no bits where a GPU or TPU computes."""


def check_float32() -> None:
    """Raises ValueError if JAX is set to float64, which a training would mix with float32."""
    if jax.config.read("jax_enable_x64"):
        raise ValueError("JAX_ENABLE_X64 is set, and trainings are in float32 (or bfloat16, by --precision): unset it")


def describe(config: RunConfig) -> Json:
    """Describes everything outside the configuration that can change the bits of a result."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES} | _accelerator_packages(),
        "platform": f"{platform.system()} {platform.machine()} {''.join(platform.libc_ver()) or platform.release()}",
        "processor": _processor(),
        "device": ", ".join(sorted({device.device_kind for device in jax.local_devices()})),
        "runtime": backend.get_backend().platform_version,
        "driver": DRIVER.read_text().strip() if jax.default_backend() == "gpu" and DRIVER.exists() else "",
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": {
            name: _flags_of_file(value) if name == "XLA_FLAGS" else value
            for name, value in sorted(os.environ.items())
            if name.startswith(FLAGS) and not name.startswith(HARMLESS)
        },
        "precision": config.precision,
        "git": _git(),
    } | _script()


def _flags_of_file(value: str) -> str:
    """Returns the flags in the file that XLA_FLAGS may name in their place; otherwise the value."""
    file = not value.startswith("--") and Path(value).is_file()
    return Path(value).read_text().strip() if file else value


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _accelerator_packages() -> dict[str, str]:
    """Returns the versions of installed packages that the devices need."""
    beginnings = ACCELERATORS.get(jax.default_backend())
    if beginnings is None:
        return {}
    installed = {package.name.lower().replace("_", "-"): package.version for package in distributions()}
    return {name: installed[name] for name in sorted(installed) if name.startswith(beginnings)}


def _processor() -> Json:
    """Describes the processor: its model, and the instructions that compilers choose among."""
    text = CPUINFO.read_text() if CPUINFO.exists() else ""  # Linux alone has it
    # A block for each processor; the first stands for all.
    fields = dict(re.findall(r"^(.*?)\s*: (.*)$", text.partition("\n\n")[0], re.MULTILINE))
    features = (fields.get("flags") or fields.get("Features", "")).split()
    return {
        "model": ", ".join(fields[name] for name in MODEL if name in fields) or platform.processor(),
        "features": " ".join(sorted(filter(FEATURES.match, features))),
    }


def _script() -> dict[str, str]:
    """Returns the SHA-256 of the script that runs, if it is neither of genjax nor an installed command."""
    file = Path(getattr(sys.modules["__main__"], "__file__", None) or __file__)
    known = Path(sys.executable).parent, Path(__file__).parents[2]
    if not file.is_file() or any(folder.resolve() in file.resolve().parents for folder in known):
        return {}
    return {"script": sha256(file.read_bytes()).hexdigest()}


def _git() -> str:
    """Returns the commit of genjax's source tree, with `-dirty` if it was changed; "" outside a git checkout."""
    root = Path(__file__).parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        # An installed genjax may lie inside a repository that is not its own.
        tracked = subprocess.run(["git", "-C", str(root), "ls-files", "--error-unmatch", __file__], capture_output=True)
        found = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return found.stdout.strip() if tracked.returncode == 0 else ""

"""VAEs and CycleGAN in JAX and Flax, with reproducible training."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("genjax-images")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

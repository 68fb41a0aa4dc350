"""Feature networks, which map images to the vectors [n, d] that metrics of whole sets compare."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from genjax import parallel
from genjax.compiled import compile_chunks, with_precision
from genjax.data.splits import Images
from genjax.evaluation import classifier, inception, inputs, lpips
from genjax.optim import Params

NAMES = "pixels, alexnet, vgg16, inception:FILE, classifier:FILE"

CHUNK = 16  # images per device and call: of 299x299 pixels, Inception takes 0.7 GB for them

LPIPS_SIZES = {"alexnet": (128, 128), "vgg16": (64, 64)}
"""Sizes of the images that the networks of LPIPS see.

AlexNet begins with a stride of 4: at 64 pixels it misses noise of 0.02 on digits of 28 pixels. VGG16 begins with 1.
"""

LEAST = 8  # pixels: an image with a shorter side holds too little to be enlarged

installed = lpips.installed
"""True if the weights of alexnet and vgg16 are there, which the extra `features` installs."""


class Features(NamedTuple):
    """A feature network, and all that makes its features comparable."""

    name: str
    """Name as `load` takes it."""
    sha256: str
    """SHA-256 of the file of weights; empty without weights."""
    size: tuple[int, int] | None
    """Height and width of the images that the network sees; None for any."""
    channels: int | None
    """Channels of the images that the network sees, where grey is repeated; None for any number."""
    resize: str
    """Method that brings images to `size`: bicubic, or none, where images of other sizes are refused."""
    params: Params
    """Weights, as NumPy arrays."""
    apply: Callable[[Params, Array], Array]
    """Maps params and images [b, h, w, c], floats in [0, 1], to features [b, d]."""


def load(name: str) -> Features:
    """Loads the feature network called `name`, one of `NAMES`.

    Raises ValueError for other names, for a missing extra and for a wrong file; FileNotFoundError if there is no file.
    """
    kind, _, path = name.partition(":")
    if name == "pixels":
        return Features(name, "", None, None, "none", {}, lambda params, images: images.reshape(len(images), -1))
    if kind == "classifier" and path:
        network, sha256 = classifier.load(path)
        height, width, channels = network.image_shape
        return Features(name, sha256, (height, width), channels, "none", network.params, classifier.features)
    if kind == "inception" and path:
        params, sha256 = inception.load(path)
        return Features(name, sha256, inception.SIZE, 3, "bicubic", params, inception.features)
    if name in lpips.SHA256:
        weights = lpips.load(name)
        return Features(name, weights.sha256, LPIPS_SIZES[name], 3, "bicubic", weights.params, _layer_means)
    raise ValueError(f"there are no features {name!r}: choose from {NAMES}")


def compile_extract(features: Features, mesh: Mesh) -> Callable[[Images], np.ndarray]:
    """Compiles `extract` once, for many sets of images: images [n, h, w, c] -> float32 [n, d]."""
    apply = compile_chunks(with_precision(features.apply, "float32"), mesh, CHUNK)
    params = parallel.replicate(mesh, lambda params: params, features.params)  # copied to the devices once
    width = CHUNK * mesh.size

    def extract(images: Images) -> np.ndarray:
        if len(images) == 0:
            raise ValueError("there are no images to take features of: at least one is needed")
        # Lazily, so that one batch at a time is decoded.
        batches = (images[np.arange(i, min(i + width, len(images)))] for i in range(0, len(images), width))
        found = np.concatenate([apply((params,), (_seen(features, batch),)) for batch in batches])
        if not np.isfinite(found).all():
            raise ValueError(f"the features {features.name} of these images are not finite: are its weights damaged?")
        return found

    return extract


def extract(features: Features, images: Images, mesh: Mesh) -> np.ndarray:
    """Computes the features of uint8 or uint16 images [n, h, w, c], or floats in [0, 1]: float32 [n, d].

    Images go to the devices in small batches, so a set may be larger than memory. An image's features have the same
    bits in any set and on any number of devices. Raises ValueError for images that the network does not take.
    """
    return compile_extract(features, mesh)(images)


def check(features: Features, image_shape: tuple[int, ...]) -> None:
    """Raises ValueError with the remedy if the network does not take images of shape (height, width, channels)."""
    *size, channels = image_shape
    if features.resize == "none" and features.size not in (None, tuple(size)):
        raise ValueError(
            f"{features.name} takes images of {features.size[0]}x{features.size[1]} pixels, and these have "
            f"{size[0]}x{size[1]}: give it images of its own size, or take other features"
        )
    if features.resize != "none" and min(size) < LEAST:
        raise ValueError(
            f"{features.name} needs images of at least {LEAST}x{LEAST} pixels, and these have {size[0]}x{size[1]}: "
            "take the features pixels"
        )
    if features.channels is not None:
        inputs.check_channels(channels, features.channels)


def _seen(features: Features, images: np.ndarray) -> np.ndarray:
    """Brings images [n, h, w, c] to the form that the network sees: float32 [n, *size, channels]."""
    if images.ndim != 4:
        raise ValueError(f"expected images [n, height, width, channels], got an array {list(images.shape)}")
    check(features, images.shape[1:])
    # Grey is repeated after the resize, which has less to do then.
    found = inputs.resized(images, features.size or images.shape[1:3])
    return found if features.channels is None else inputs.with_channels(found, features.channels)


def _layer_means(params: Params, images: Array) -> Array:
    """Averages each of the five layers of a network of LPIPS over an image: [b, 1152 or 1472]."""
    # The last layer alone hardly tells digits from mirrored ones.
    return jnp.concatenate([jnp.mean(layer, axis=(1, 2)) for layer in lpips.layers(params, images)], axis=1)

"""Small convolutional classifier, for domain adaptation and as a feature network that needs no download.

It is not Inception, so do not call a distance between its features FID.
"""

import functools
import hashlib
import io
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jax import Array

from genjax import files, keys
from genjax.compiled import matmul_precision
from genjax.data import batches, image_arrays
from genjax.keys import Stream
from genjax.optim import Params

CHUNK = 500  # images per call of the compiled network


class Network(nn.Module):
    """Three 3x3 convolutions, the last two of stride 2, and two dense layers."""

    num_classes: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Maps images [b, h, w, c] in [0, 1] to features [b, 128] and logits [b, num_classes]."""
        x = nn.relu(nn.Conv(16, (3, 3), padding=1, name="conv_1")(2 * x - 1))
        x = nn.relu(nn.Conv(32, (3, 3), 2, padding=1, name="conv_2")(x))
        x = nn.relu(nn.Conv(64, (3, 3), 2, padding=1, name="conv_3")(x))
        x = nn.relu(nn.Dense(128, name="hidden")(x.reshape(len(x), -1)))
        logits: Array = nn.Dense(self.num_classes, name="out")(x)
        return x, logits


class Classifier(NamedTuple):
    """Trained network: shape (height, width, channels) of its images, and parameters as NumPy arrays."""

    image_shape: tuple[int, ...]
    params: Params

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.params["out"]["bias"])


def init(image_shape: tuple[int, ...], num_classes: int, key: Array) -> Params:
    """Draws initial parameters for images of `image_shape` (height, width, channels)."""
    params: Params = Network(num_classes).init(key, jnp.zeros((1, *image_shape)))["params"]
    return params


def features(params: Params, images: Array) -> Array:
    """Maps images [b, h, w, c] in [0, 1] to the last hidden layer [b, 128]."""
    return _apply(params, images)[0]


def logits(params: Params, images: Array) -> Array:
    """Maps images [b, h, w, c] in [0, 1] to unnormalised log-probabilities [b, num_classes]."""
    return _apply(params, images)[1]


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Computes -log p(label) in nats, [b], from logits [b, num_classes] and integer labels [b]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def fit(
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    seed: int,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
) -> Classifier:
    """Trains on uint8 images [n, h, w, c] and integer labels [n], by Adam with cosine decay to 0.

    The bits of the result follow from `seed` on one machine. Raises ValueError for images or labels of another shape or
    type, and for labels outside 0..num_classes-1.
    """
    image_arrays.check(images, images.shape[1:])
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer) or len(images) == 0:
        raise ValueError(
            f"expected an integer label for each of {len(images)} images, got {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"expected labels in 0..{num_classes - 1}, got {labels.min()} to {labels.max()}: give a higher num_classes "
            "or other labels"
        )
    optimizer, step = _training(learning_rate, num_steps)
    params = init(images.shape[1:], num_classes, keys.for_step(keys.root_key(seed), Stream.INIT, 0))
    state = optimizer.init(params)
    for i in range(num_steps):
        # As in other trainings: each image once an epoch, whatever the batch size.
        rows = batches.indices(seed, Stream.SHUFFLE_FIRST, i, batch_size, len(images))
        params, state = step(params, state, images[rows], labels[rows].astype(np.int32))
    return Classifier(images.shape[1:], jax.device_get(params))


def probabilities(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """Computes class probabilities [n, num_classes] of uint8 images [n, h, w, c]."""
    image_arrays.check(images, classifier.image_shape)
    parts = [_probabilities(classifier.params, images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
    return np.concatenate(jax.device_get(parts))


def accuracy(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> float:
    """Computes the share of uint8 images [n, h, w, c] whose most probable class is their label [n]."""
    return float(np.mean(probabilities(classifier, images).argmax(axis=1) == labels))


def save(path: epath.PathLike, classifier: Classifier) -> str:
    """Writes an .npz file for `load` atomically; returns the SHA-256 of its bytes."""
    flat = {f"{layer}.{name}": leaf for layer, leaves in classifier.params.items() for name, leaf in leaves.items()}
    content = files.encode_npz({"image_shape": np.array(classifier.image_shape)} | flat)
    files.write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def load(path: epath.PathLike) -> tuple[Classifier, str]:
    """Reads a classifier that `save` wrote, and the file's SHA-256; FileNotFoundError or ValueError if it is none."""
    file = files.resolve(path)
    if not file.exists():
        raise FileNotFoundError(f"no such classifier: {file}")
    content = file.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            flat = dict(archive)
        image_shape = tuple(int(size) for size in flat.pop("image_shape"))
        params: Params = {}
        for name, leaf in flat.items():
            layer, _, kind = name.partition(".")
            params.setdefault(layer, {})[kind] = leaf
        # Shapes and types of every array have to be those of the network, or a later error would name no file.
        expected = jax.eval_shape(lambda: init(image_shape, len(flat["out.bias"]), keys.root_key(0)))
        if jax.tree.map(lambda x: (x.shape, x.dtype), params) != jax.tree.map(lambda x: (x.shape, x.dtype), expected):
            raise ValueError("its arrays are those of another network")
    except Exception as error:  # NumPy, zipfile and zlib raise nearly anything on damaged bytes
        raise ValueError(
            f"{file} holds no classifier of this version of genjax ({error}): give a file that classifier.save wrote"
        ) from error
    return Classifier(image_shape, params), hashlib.sha256(content).hexdigest()


@functools.lru_cache(maxsize=8)
def _training(learning_rate: float, num_steps: int) -> tuple[optax.GradientTransformation, Callable]:
    """Makes the optimiser and one step of it; cached, so that fits with the same settings compile once."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

    @jax.jit
    def step(
        params: Params, state: optax.OptState, images: Array, labels: Array
    ) -> tuple[optax.Params, optax.OptState]:
        loss = lambda params: jnp.mean(cross_entropy(logits(params, image_arrays.to_unit(images)), labels))  # noqa: E731
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    return optimizer, step


def _apply(params: Params, images: Array) -> tuple[Array, Array]:
    num_classes = params["out"]["bias"].shape[0]
    # float32 even inside a bfloat16 training, so that a classifier's outputs are the same everywhere.
    with jax.default_matmul_precision(matmul_precision("float32")):
        outputs: tuple[Array, Array] = Network(num_classes).apply({"params": params}, images)  # type: ignore[assignment]
    return outputs


@jax.jit
def _probabilities(params: Params, images: Array) -> Array:
    return jax.nn.softmax(logits(params, image_arrays.to_unit(images)))

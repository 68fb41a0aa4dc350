"""Inception v3 of FID (Szegedy et al. 2016; Heusel et al. 2017), from a user's file of PyTorch weights.

It is TensorFlow's network of 2015 and not torchvision's: averages leave padding out, and the last block takes maxima.
"""

import hashlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax import Array

from genjax import files, keys, torch_files
from genjax.optim import Params

SIZE = (299, 299)

CLASSES = ("fc.weight", (1008, 2048))
"""Layer that is not used here, by which the file is told from torchvision's, with 1000 classes."""

EPSILON = 1e-3  # of batch normalisation

Chain = tuple[tuple[int, int, int], ...]
"""Convolutions one after the other: features, and height and width of the window, of each."""

Chains = dict[str, Chain]


class Inception(nn.Module):
    """Inception v3 up to its last pooling; layers have the names of the PyTorch files."""

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images [b, 299, 299, 3] in [0, 1] to features [b, 2048]."""
        # The range that TensorFlow's graph was given: white does not quite reach 1.
        x = _conv((255 * images - 128) / 128, "Conv2d_1a_3x3", 32, 3, 3, stride=2)
        x = _conv(x, "Conv2d_2a_3x3", 32, 3, 3, padding="VALID")
        x = _halved(_conv(x, "Conv2d_2b_3x3", 64, 3, 3))
        x = _conv(x, "Conv2d_3b_1x1", 80, 1, 1)
        x = _halved(_conv(x, "Conv2d_4a_3x3", 192, 3, 3, padding="VALID"))
        for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = _block_a(x, name, pooled)
        chains: Chains = {"branch3x3": ((384, 3, 3),), "branch3x3dbl": ((64, 1, 1), (96, 3, 3), (96, 3, 3))}
        x = _joined(x, "Mixed_6a", chains, _halved(x), stride=2)
        for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            x = _block_c(x, name, width)
        chains = {
            "branch3x3": ((192, 1, 1), (320, 3, 3)),
            "branch7x7x3": ((192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)),
        }
        x = _joined(x, "Mixed_7a", chains, _halved(x), stride=2)
        x = _block_e(x, "Mixed_7b", _averaged(x))
        x = _block_e(x, "Mixed_7c", nn.max_pool(x, (3, 3), (1, 1), "SAME"))
        return jnp.mean(x, axis=(1, 2))


def load(path: epath.PathLike) -> tuple[Params, str]:
    """Reads the weights of torch-fidelity or pytorch-fid from a .pth file, and its SHA-256.

    Raises FileNotFoundError if there is no file, and ValueError if it is another one or PyTorch is not installed.
    """
    tensors = torch_files.read(path)
    expected = jax.eval_shape(lambda: Inception().init(keys.root_key(0), jnp.zeros((1, *SIZE, 3))))["params"]
    shapes: dict[str, tuple[int, ...]] = dict([CLASSES])
    for name, leaves in expected.items():
        height, width, inputs, outputs = leaves["kernel"].shape
        shapes[f"{name}.conv.weight"] = (outputs, inputs, height, width)
        shapes |= {f"{name}.bn.{part}": (outputs,) for part in ("weight", "bias", "running_mean", "running_var")}
    for name, shape in shapes.items():
        if name not in tensors:
            fault = "is missing"
        elif tensors[name].shape != shape:
            fault = f"has {list(tensors[name].shape)} and should have {list(shape)}"
        elif not np.isfinite(tensors[name]).all():
            fault = "is not finite"
        else:
            continue
        raise ValueError(
            f"{path} is not the Inception of FID: {name} {fault}. Give the file of torch-fidelity or pytorch-fid, "
            "...inception-2015-12-05-6726825d.pth; torchvision's network is another"
        )
    sha256 = hashlib.sha256(files.resolve(path).read_bytes()).hexdigest()
    return {name: _normalised(tensors, name) for name in expected}, sha256


def features(params: Params, images: Array) -> Array:
    """Maps images [b, 299, 299, 3] in [0, 1] to features [b, 2048]."""
    found: Array = Inception().apply({"params": params}, images)  # type: ignore[assignment]
    return found


def _normalised(tensors: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Merges a convolution and the batch normalisation after it into one convolution with a bias."""
    layer = {
        part: tensors[f"{name}.{part}"].astype(np.float64)
        for part in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    }
    # norm(W x) = (W x - mean) scale + offset, which is (scale W) x + (offset - mean scale).
    scale = layer["bn.weight"] / np.sqrt(layer["bn.running_var"] + EPSILON)
    kernel = layer["conv.weight"].transpose(2, 3, 1, 0) * scale  # [out, in, h, w] to [h, w, in, out]
    bias = layer["bn.bias"] - layer["bn.running_mean"] * scale
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


def _conv(
    x: Array, name: str, features: int, height: int, width: int, stride: int = 1, padding: str | None = None
) -> Array:
    """Convolves, then rectifies; convolutions of stride 2 have no padding."""
    padding = padding or ("SAME" if stride == 1 else "VALID")
    return nn.relu(nn.Conv(features, (height, width), stride, padding, name=name)(x))


def _chain(x: Array, name: str, chain: Chain, stride: int = 1) -> Array:
    """Applies the convolutions NAME_1, NAME_2, ..., or NAME if it is one; the last one has the stride."""
    for i, conv in enumerate(chain, 1):
        x = _conv(x, name if len(chain) == 1 else f"{name}_{i}", *conv, stride=stride if i == len(chain) else 1)
    return x


def _joined(x: Array, name: str, chains: Chains, pooled: Array, stride: int = 1) -> Array:
    """Joins the outputs of chains, and then what was pooled, along the channels."""
    outputs = [_chain(x, f"{name}.{branch}", chain, stride) for branch, chain in chains.items()]
    return jnp.concatenate([*outputs, pooled], axis=-1)


def _averaged(x: Array) -> Array:
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _halved(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), (2, 2))


def _block_a(x: Array, name: str, num_pooled: int) -> Array:
    chains: Chains = {
        "branch1x1": ((64, 1, 1),),
        "branch5x5": ((48, 1, 1), (64, 5, 5)),
        "branch3x3dbl": ((64, 1, 1), (96, 3, 3), (96, 3, 3)),
    }
    return _joined(x, name, chains, _conv(_averaged(x), f"{name}.branch_pool", num_pooled, 1, 1))


def _block_c(x: Array, name: str, c: int) -> Array:
    chains: Chains = {
        "branch1x1": ((192, 1, 1),),
        "branch7x7": ((c, 1, 1), (c, 1, 7), (192, 7, 1)),
        "branch7x7dbl": ((c, 1, 1), (c, 7, 1), (c, 1, 7), (c, 7, 1), (192, 1, 7)),
    }
    return _joined(x, name, chains, _conv(_averaged(x), f"{name}.branch_pool", 192, 1, 1))


def _block_e(x: Array, name: str, pooled: Array) -> Array:
    """Applies a block whose chains end in two convolutions beside each other."""
    short = _conv(x, f"{name}.branch3x3_1", 384, 1, 1)
    long = _chain(x, f"{name}.branch3x3dbl", ((448, 1, 1), (384, 3, 3)))
    outputs = [
        _conv(x, f"{name}.branch1x1", 320, 1, 1),
        _conv(short, f"{name}.branch3x3_2a", 384, 1, 3),
        _conv(short, f"{name}.branch3x3_2b", 384, 3, 1),
        _conv(long, f"{name}.branch3x3dbl_3a", 384, 1, 3),
        _conv(long, f"{name}.branch3x3dbl_3b", 384, 3, 1),
        _conv(pooled, f"{name}.branch_pool", 192, 1, 1),
    ]
    return jnp.concatenate(outputs, axis=-1)

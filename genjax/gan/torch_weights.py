"""Conversion of generators between pytorch-CycleGAN-and-pix2pix and genjax: names and layouts.

Files do not hold padding modes, activations and eps; they are assumed to be those of the original, as in generators.py.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from etils import epath

from genjax import torch_files
from genjax.optim import Params

Tensors = dict[str, np.ndarray]  # state dict: weights and biases by their names in PyTorch

# Unused buffers that older versions of PyTorch saved for instance normalisation.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


FIRST = {"model.1.weight": 7, "model.model.0.weight": 4}
"""Names of the first weight of a ResNet and of a U-Net, and the size of its kernel."""


class GeneratorSizes(NamedTuple):
    """Kind and sizes that determine a generator of the original."""

    kind: Literal["resnet", "unet"]
    base_channels: int  # channels of the first convolution (ngf)
    depth: int  # residual blocks of a ResNet (n_blocks), or times that a U-Net halves height and width (num_downs)
    in_channels: int
    out_channels: int

    def __str__(self) -> str:
        """Describes the generator, such as `ResNet of 9 blocks, base_channels 64, channels 3 to 3`."""
        kind = f"ResNet of {self.depth} blocks" if self.kind == "resnet" else f"U-Net of {self.depth} downsamplings"
        return f"{kind}, base_channels {self.base_channels}, channels {self.in_channels} to {self.out_channels}"


class Layer(NamedTuple):
    """One convolution: its name in a state dict, its place in our parameters, and its sizes."""

    name: str
    coder: Literal["encoder", "decoder"]
    module: str
    kernel_size: int
    in_channels: int
    out_channels: int

    @property
    def transposed(self) -> bool:
        """True if it doubles height and width."""
        return self.module.startswith("ConvTranspose")

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of its weight in PyTorch."""
        channels = self.in_channels, self.out_channels
        return (*(channels if self.transposed else channels[::-1]), self.kernel_size, self.kernel_size)


def read_generator(path: epath.PathLike, key: str = "") -> tuple[GeneratorSizes, Params]:
    """Reads a generator of the original; parameters are NumPy arrays in float32.

    The file is a state dict, or a training's checkpoint with state dicts inside; of several generators in it, `key`
    names one, such as netG_A. Raises the errors of `torch_files.read`, and ValueError if there is none, or if names,
    shapes or values are not those of a generator.
    """
    tensors = torch_files.read(path, nested=True)
    try:
        tensors = _cleaned(unwrapped(tensors, key))
        sizes = sizes_of(tensors)
        return sizes, to_params(sizes, tensors)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def unwrapped(tensors: Tensors, key: str = "") -> Tensors:
    """Returns the state dict of the one generator in `tensors`, or of that named by `key`, without its prefix.

    Prefixes are those of DataParallel (module.), torch.compile (_orig_mod.), and of the places in a checkpoint.
    """
    prefixes = [
        name.removesuffix(first)
        for name, value in tensors.items()
        for first, size in FIRST.items()
        if re.search(rf"(^|\.){re.escape(first)}$", name) and value.shape[2:] == (size, size)
    ]
    # A discriminator's layers may look like a U-Net's first: it has no inner levels.
    inner = re.compile(r"model\.model\.1\.model\.\d")
    prefixes = [
        prefix for prefix in prefixes
        if f"{prefix}model.1.weight" in tensors or any(inner.match(name.removeprefix(prefix)) for name in tensors)
    ]  # fmt: skip
    chosen = [prefix for prefix in prefixes if not key or key in (prefix.rstrip("."), *prefix.split("."))]
    listed = ", ".join(prefix.rstrip(".") or "(no name)" for prefix in prefixes)
    if key and not chosen:
        raise ValueError(f"holds no generator called {key}: it holds {listed or _listed(tensors)}")
    if len(chosen) > 1:
        raise ValueError(f"holds several generators: name one of {listed} with --key or --init-key")
    if not chosen:
        return tensors  # whose error says what they are
    return {name.removeprefix(chosen[0]): value for name, value in tensors.items() if name.startswith(chosen[0])}


def sizes_of(tensors: Tensors) -> GeneratorSizes:
    """Infers the sizes of a generator from names and shapes of its tensors; ValueError if it is neither kind."""
    # The first layer has a 7x7 kernel in a ResNet, a 4x4 kernel one level deeper in a U-Net; the last bias tells the
    # channels of the output.
    first = (tensors[name].shape if name in tensors else () for name in ("model.1.weight", "model.model.0.weight"))
    match tuple(first):
        case (int(base_channels), int(in_channels), 7, 7), ():
            # Count the blocks by their first convolution.
            depth = len({name for name in tensors if re.fullmatch(r"model\.\d+\.conv_block\.1\.weight", name)})
            sizes, last = GeneratorSizes("resnet", base_channels, depth, in_channels, 0), f"model.{17 + depth}.bias"
        case (), (int(base_channels), int(in_channels), 4, 4):
            # Each level of a U-Net lies inside the one before, which its name repeats.
            depth = max(name.count("model.") for name in tensors) - 1
            sizes, last = GeneratorSizes("unet", base_channels, depth, in_channels, 0), "model.model.3.bias"
        case _:
            raise ValueError(
                "holds no generator (a discriminator?): one begins with model.1.weight [base_channels, channels, 7, 7] "
                f"(ResNet) or model.model.0.weight [base_channels, channels, 4, 4] (U-Net), not {_listed(tensors)}"
            )
    if last not in tensors or tensors[last].ndim != 1:
        raise ValueError(
            f"begins as a generator but has no {last}, its last tensor: only generators with reflection padding and "
            f"two layers of stride 2 can be converted, not {_listed(tensors)}"
        )
    return sizes._replace(out_channels=len(tensors[last]))


def layers(sizes: GeneratorSizes) -> list[Layer]:
    """Lists the convolutions of a generator, from input to output in encoder and decoder."""
    return _resnet_layers(sizes) if sizes.kind == "resnet" else _unet_layers(sizes)


def to_params(sizes: GeneratorSizes, tensors: Tensors) -> Params:
    """Converts a state dict to float32 parameters; kernels are [height, width, in, out], flipped if transposed.

    Raises ValueError, with names and shapes, unless the tensors are exactly those of such a generator and finite.
    """
    # Compare all names and shapes before any conversion, so that one error names what is wrong.
    expected: dict[str, tuple[int, ...]] = {}
    for layer in layers(sizes):
        expected |= {f"{layer.name}.weight": layer.weight_shape, f"{layer.name}.bias": (layer.out_channels,)}
    found = {name: value.shape for name, value in tensors.items()}
    wrong = [
        f"{name} is {found.get(name, 'absent')} instead of {expected.get(name, 'absent')}"
        for name in {**expected, **found}
        if expected.get(name) != found.get(name)
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        biases = [name for name in expected if name.endswith(".bias") and name not in found]
        reason = (
            f". It lacks {len(biases)} biases: the original leaves them out with --norm batch and none"
            if biases
            else ""
        )
        raise ValueError(f"is not the {sizes} that it seems: {'; '.join(wrong[:3])}{more}{reason}")
    broken = [name for name, value in tensors.items() if not np.isfinite(value).all()]
    if broken:
        raise ValueError(f"has weights that are not finite in float32: {_listed(tensors, broken)}")
    params: Params = {"encoder": {}, "decoder": {}}
    for layer in layers(sizes):
        weight, bias = (tensors[f"{layer.name}.{part}"] for part in ("weight", "bias"))
        # PyTorch's order is out, in, height, width; a transposed one's is in, out, and it is flipped against ours.
        kernel = weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1) if layer.transposed else weight.transpose(2, 3, 1, 0)
        params[layer.coder][layer.module] = {"kernel": np.ascontiguousarray(kernel), "bias": bias}
    return params


def to_tensors(sizes: GeneratorSizes, params: Params) -> Tensors:
    """Converts a generator's parameters to a state dict; the inverse of `to_params`."""
    tensors: Tensors = {}
    for layer in layers(sizes):
        kernel, bias = (np.asarray(params[layer.coder][layer.module][part]) for part in ("kernel", "bias"))
        weight = kernel.transpose(2, 3, 0, 1)[:, :, ::-1, ::-1] if layer.transposed else kernel.transpose(3, 2, 0, 1)
        tensors |= {f"{layer.name}.weight": weight, f"{layer.name}.bias": bias}
    return tensors


def _cleaned(tensors: Tensors) -> Tensors:
    """Drops DataParallel's prefix and unused buffers, and renumbers layers of blocks with dropout.

    Raises ValueError for normalisations with weights.
    """
    tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    norms = [name for name, value in tensors.items() if name.endswith(".weight") and value.ndim == 1]
    if norms:
        raise ValueError(
            f"has {len(norms)} normalisations with weights ({_listed(tensors, norms)}), as batch normalisation has: "
            "only generators with plain instance normalisation (--norm instance there) can be converted"
        )
    blurs = [name for name in tensors if name.endswith(".filt")]
    if blurs:
        raise ValueError(
            f"has {len(blurs)} layers that blur before they change the size ({_listed(tensors, blurs)}), as CUT's "
            "generators have: only those with plain strides (--no_antialias --no_antialias_up there) can be converted"
        )
    kept = {name: value for name, value in tensors.items() if name.rpartition(".")[2] not in BUFFERS}
    # Dropout lies between a block's convolutions, and moves the second from place 5 to 6.
    return {name.replace(".conv_block.6.", ".conv_block.5."): value for name, value in kept.items()}


def _resnet_layers(sizes: GeneratorSizes) -> list[Layer]:
    """Lists the convolutions of a ResNet; PyTorch's numbers also count padding, normalisation and activation."""
    width, wide, end = sizes.base_channels, 4 * sizes.base_channels, 10 + sizes.depth
    found = [
        Layer("model.1", "encoder", "ReflectConv_0", 7, sizes.in_channels, width),
        Layer("model.4", "encoder", "Conv_0", 3, width, 2 * width),
        Layer("model.7", "encoder", "Conv_1", 3, 2 * width, wide),
    ]
    for i in range(2 * sizes.depth):
        name = f"model.{10 + i // 2}.conv_block.{5 if i % 2 else 1}"
        found.append(Layer(name, "encoder", f"ReflectConv_{i + 1}", 3, wide, wide))
    return [
        *found,
        Layer(f"model.{end}", "decoder", "ConvTranspose_0", 3, wide, 2 * width),
        Layer(f"model.{end + 3}", "decoder", "ConvTranspose_1", 3, 2 * width, width),
        Layer(f"model.{end + 7}", "decoder", "ReflectConv_0", 7, width, sizes.out_channels),
    ]


def _unet_layers(sizes: GeneratorSizes) -> list[Layer]:
    """Lists the convolutions of a U-Net; in PyTorch each level is a sequence that contains the next level."""
    # From the outermost level inwards; `outer_in` and `outer_out` are what the level above gives and takes.
    found, sequence = [], "model.model"
    outer_in, outer_out = sizes.in_channels, sizes.out_channels
    for level in range(sizes.depth):
        first, last, width = level == 0, level == sizes.depth - 1, sizes.base_channels * min(2**level, 8)
        # First conv, inner, ReLU, conv; then ReLU, conv, norm, inner, ReLU, conv; last ReLU, conv, ReLU, conv.
        down, up = 0 if first else 1, 3 if first or last else 5
        found.append(Layer(f"{sequence}.{down}", "encoder", f"Conv_{level}", 4, outer_in, width))
        from_below = width if last else 2 * width  # the skip connection doubles it
        module = f"ConvTranspose_{sizes.depth - 1 - level}"
        found.append(Layer(f"{sequence}.{up}", "decoder", module, 4, from_below, outer_out))
        outer_in, outer_out = width, width
        sequence += ".1.model" if first else ".3.model"
    return found


def _listed(tensors: Tensors, names: Iterable[str] | None = None) -> str:
    """Lists the first three tensors with their shapes."""
    names = list(tensors if names is None else names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"{name} {list(tensors[name].shape)}" for name in names[:3]) + more

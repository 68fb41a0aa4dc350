"""CycleGAN's generators under the names that its PyTorch implementation gives them (pytorch-CycleGAN-and-pix2pix)."""

import re
from typing import Any, NamedTuple

import jax
import numpy as np

from genjax import keys
from genjax.cyclegan import nets
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun
from genjax.cyclegan.nets import Direction

Tensors = dict[str, np.ndarray]

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Older PyTorch wrote them for instance normalisation too, which does not use them."""


class Layer(NamedTuple):
    """One convolution, there and here."""

    name: str
    """Of its weight and bias in a state dict, without these words."""
    coder: str
    """encoder or decoder."""
    module: str
    """In the parameters of that."""

    @property
    def transposed(self) -> bool:
        """Whether it doubles height and width."""
        return self.module.startswith("ConvTranspose")


def layers(net: CycleGanConfig) -> list[Layer]:
    """The convolutions of a generator."""
    return _unet_layers(net.depth) if net.generator == "unet" else _resnet_layers(net.blocks)


def _resnet_layers(blocks: int) -> list[Layer]:
    """One sequence, in which borders, normalisations and activations count too; blocks have sequences of their own."""
    found = [Layer("model.1", "encoder", "ReflectConv_0")]
    found += [Layer(f"model.{4 + 3 * i}", "encoder", f"Conv_{i}") for i in range(2)]
    for i in range(2 * blocks):
        found.append(Layer(f"model.{10 + i // 2}.conv_block.{5 if i % 2 else 1}", "encoder", f"ReflectConv_{i + 1}"))
    end = 10 + blocks
    found += [Layer(f"model.{end + 3 * i}", "decoder", f"ConvTranspose_{i}") for i in range(2)]
    return [*found, Layer(f"model.{end + 7}", "decoder", "ReflectConv_0")]


def _unet_layers(depth: int) -> list[Layer]:
    """Each level is a sequence that holds the next one; the first has no activation, the last no level below."""
    found, level_name = [], "model.model"
    for level in range(depth):
        first, last = level == 0, level == depth - 1
        found.append(Layer(f"{level_name}.{0 if first else 1}", "encoder", f"Conv_{level}"))
        up = 3 if first or last else 5
        found.append(Layer(f"{level_name}.{up}", "decoder", f"ConvTranspose_{depth - 1 - level}"))
        level_name += ".1.model" if first else ".3.model"
    return found


def clean(tensors: Tensors) -> Tensors:
    """Without the prefix of DataParallel, dead buffers, and what dropout, which is off, does to the names.

    Raises ValueError for weights of a normalisation.
    """
    tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    weights = [name for name, value in tensors.items() if name.endswith(".weight") and value.ndim == 1]
    if weights:
        raise ValueError(
            f"has {len(weights)} normalisations with weights ({listed(tensors, weights)}), as batch normalisation "
            "has: only generators with plain instance normalisation (--norm instance there) can be converted"
        )
    kept = {name: value for name, value in tensors.items() if name.rpartition(".")[2] not in BUFFERS}
    return {name.replace(".conv_block.6.", ".conv_block.5."): value for name, value in kept.items()}


def form(tensors: Tensors) -> tuple[CycleGanConfig, tuple[int, int]]:
    """What the `clean` weights are those of, and the channels that come in and go out; ValueError if of neither kind.

    Borders, activations and eps are in no file: taken to be those of the original's CycleGAN.
    """
    shapes = {name: value.shape for name, value in tensors.items()}
    match shapes.get("model.1.weight"), shapes.get("model.model.0.weight"):
        case (int(width), int(channels), 7, 7), None:
            blocks = len({name for name in tensors if re.fullmatch(r"model\.\d+\.conv_block\.1\.weight", name)})
            net, last = _net(generator="resnet", width=width, blocks=blocks), f"model.{17 + blocks}.bias"
        case None, (int(width), int(channels), 4, 4):
            depth = max(name.count("model.") for name in tensors) - 1
            net, last = _net(generator="unet", width=width, depth=depth), "model.model.3.bias"
        case _:
            raise ValueError(
                "holds no generator (a discriminator?): it begins with model.1.weight [width, channels, 7, 7] (ResNet) "
                f"or model.model.0.weight [width, channels, 4, 4] (U-Net), not {listed(tensors, list(tensors))}"
            )
    out = shapes.get(last, ())
    if len(out) != 1:
        raise ValueError(
            f"begins as a generator does, and has no {last}, where that would end: only those with reflecting borders "
            f"and two layers of stride 2 can be converted, not {listed(tensors, list(tensors))}"
        )
    return net, (channels, out[0])


def _net(**fields: Any) -> CycleGanConfig:
    """No discriminators come with a generator, nor images for their pools: the least of either."""
    return CycleGanConfig(discriminator="pixel", discriminator_width=1, pool_size=0, **fields)


def to_params(config: CycleGanRun, direction: Direction, tensors: Tensors) -> dict[str, Any]:
    """The parameters, float32, of a generator of `config` from `clean` tensors.

    Raises ValueError, with names and shapes, if they are not exactly those of such a generator, or not finite.
    """
    params = _shapes(config, direction)
    wanted = _state_dict_shapes(config, params)
    found = {name: value.shape for name, value in tensors.items()}
    wrong = [
        f"{name} is {found.get(name, 'absent')} instead of {wanted.get(name, 'absent')}"
        for name in {**wanted, **found}
        if wanted.get(name) != found.get(name)
    ]
    if wrong:
        net = config.cyclegan
        kind = f"U-Net of depth {net.depth}" if net.generator == "unet" else f"ResNet of {net.blocks} blocks"
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"is not the {kind} and width {net.width} that it seems: {'; '.join(wrong[:3])}{more}")
    broken = [name for name, value in tensors.items() if not np.isfinite(value.astype(np.float32)).all()]
    if broken:
        raise ValueError(f"has weights that are not finite in float32: {listed(tensors, broken)}")
    for layer in layers(config.cyclegan):
        kernel, bias = (tensors[f"{layer.name}.{part}"].astype(np.float32) for part in ("weight", "bias"))
        axes = (2, 3, 0, 1) if layer.transposed else (2, 3, 1, 0)
        kernel = kernel[:, :, ::-1, ::-1] if layer.transposed else kernel
        params[layer.coder][layer.module] = {"kernel": np.ascontiguousarray(kernel.transpose(axes)), "bias": bias}
    return params


def to_tensors(config: CycleGanRun, params: dict[str, Any]) -> Tensors:
    """The state dict of a generator's parameters."""
    tensors = {}
    for layer in layers(config.cyclegan):
        kernel, bias = (np.asarray(params[layer.coder][layer.module][part]) for part in ("kernel", "bias"))
        weight = kernel.transpose((2, 3, 0, 1) if layer.transposed else (3, 2, 0, 1))
        tensors[f"{layer.name}.weight"] = weight[:, :, ::-1, ::-1] if layer.transposed else weight
        tensors[f"{layer.name}.bias"] = bias
    return tensors


def _shapes(config: CycleGanRun, direction: Direction) -> dict[str, Any]:
    shapes: dict[str, Any] = jax.eval_shape(lambda: nets.init_generator(config, direction, keys.root_key(0)))
    return shapes


def _state_dict_shapes(config: CycleGanRun, params: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hollow = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), params)
    return {name: value.shape for name, value in to_tensors(config, hollow).items()}


def listed(tensors: Tensors, names: list[str]) -> str:
    """The first of some tensors, with their shapes."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"{name} {list(tensors[name].shape)}" for name in names[:3]) + more

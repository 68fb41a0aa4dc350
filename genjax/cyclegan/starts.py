"""Start of a CycleGAN from other weights: of a run, or of the original's generators in files of PyTorch."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from genjax.config import NO_FILE
from genjax.cyclegan.config import CycleGanRun
from genjax.cyclegan.nets import DISCRIMINATORS, DOMAINS, Direction
from genjax.cyclegan.steps import CycleGanState
from genjax.gan import torch_weights
from genjax.gan.torch_weights import GeneratorSizes
from genjax.task import Parts, Starts

DIRECTIONS = tuple(DOMAINS)

GENERATOR = ("cyclegan.generator", "cyclegan.output", "cyclegan.generator_norm")
DISCRIMINATOR = ("cyclegan.discriminator", "cyclegan.discriminator_norm", "cyclegan.spectral_norm")
"""Settings that change what a network does, and not the shapes of its parameters."""


def parts(state: CycleGanState) -> Parts:
    """Returns the averaged generators, the discriminators, and the singular vectors of their layers."""
    return {**state.ema, "d_a": state.d_a.params, "d_b": state.d_b.params, "spectral": state.spectral}


def begin(state: CycleGanState, parts: Parts) -> CycleGanState:
    """Returns a state before its first step with other parameters, which the averages begin with too."""
    for name in (*DIRECTIONS, *DISCRIMINATORS):
        if name in parts:
            field = f"g_{name}" if name in DIRECTIONS else name
            state = state._replace(**{field: getattr(state, field)._replace(params=parts[name])})
    averages = {name: jax.tree.map(jnp.copy, parts[name]) for name in DIRECTIONS if name in parts}
    return state._replace(ema=state.ema | averages, spectral=parts.get("spectral", state.spectral))


def choose(config: CycleGanRun, names: tuple[str, ...]) -> tuple[str, ...]:
    """Chooses the parts to take, by --init-parts, of those that a source holds."""
    lacking = [name for name in (*DIRECTIONS, *DISCRIMINATORS) if name not in names]
    if config.init_parts == "all" and lacking:
        raise ValueError(f"it holds no {' '.join(lacking)}: give --init-parts generators or auto")
    return tuple(name for name in names if config.init_parts != "generators" or name in DIRECTIONS)


def read_torch(paths: tuple[str, ...], keys: tuple[str, ...]) -> tuple[Parts, Mapping[str, Any]]:
    """Reads generators of the original: A to B, and B to A from a second file or key.

    Returns them as parts, and the settings of a run that has such networks. Raises ValueError, with the file, for other
    files, and if the two generators are not of one CycleGAN.
    """
    if len(paths) == 1 and len(keys) == 2:  # both in one file
        paths *= 2
    if len(paths) > 2 or len(keys) not in (0, len(paths)):
        raise ValueError(
            f"--init-from {' '.join(paths)} --init-key {' '.join(keys)}: give one or two files, and no keys or one each"
        )
    found = {
        direction: torch_weights.read_generator(path, key)
        for direction, path, key in zip(DIRECTIONS, paths, keys or ("", ""), strict=False)
        if path != NO_FILE
    }
    if not found:
        raise ValueError(f"--init-from {' '.join(paths)} names no file")
    forms = {_settings(direction, sizes) for direction, (sizes, _) in found.items()}
    if len(forms) > 1:
        described = "; ".join(f"{path}: {sizes}" for path, (sizes, _) in zip(paths, found.values(), strict=True))
        raise ValueError(
            f"the generators are not of one CycleGAN ({described}): begin from one, and give {NO_FILE} for the other"
        )
    return {direction: params for direction, (_, params) in found.items()}, dict(forms.pop())


def sizes_of(config: CycleGanRun, direction: Direction) -> GeneratorSizes:
    """Returns the sizes of a run's generator."""
    net, (source, target) = config.cyclegan, DOMAINS[direction]
    depth = net.num_blocks if net.generator == "resnet" else net.num_downs
    return GeneratorSizes(
        net.generator, net.base_channels, depth, config.data.channels[source], config.data.channels[target]
    )


def _settings(direction: Direction, sizes: GeneratorSizes) -> tuple[tuple[str, Any], ...]:
    channels = (sizes.in_channels, sizes.out_channels)
    return (
        ("cyclegan.generator", sizes.kind),
        ("cyclegan.output", "tanh"),
        ("cyclegan.generator_norm", "instance"),
        ("cyclegan.norm_affine", False),
        ("cyclegan.base_channels", sizes.base_channels),
        ("cyclegan.num_blocks" if sizes.kind == "resnet" else "cyclegan.num_downs", sizes.depth),
        ("data.channels", channels if direction == "a2b" else channels[::-1]),
    )


STARTS: Starts[CycleGanRun, CycleGanState] = Starts(
    parts=parts,
    begin=begin,
    choose=choose,
    settings=(
        "cyclegan.generator", "cyclegan.output", "cyclegan.base_channels", "cyclegan.num_blocks", "cyclegan.num_downs",
        "cyclegan.discriminator", "cyclegan.discriminator_channels", "cyclegan.discriminator_layers",
        "cyclegan.generator_norm", "cyclegan.discriminator_norm", "cyclegan.norm_affine", "cyclegan.spectral_norm",
        "data.channels",
    ),
    alike=dict.fromkeys(DIRECTIONS, GENERATOR) | dict.fromkeys(DISCRIMINATORS, DISCRIMINATOR),
    read_torch=read_torch,
)  # fmt: skip

"""Start from other weights: of a run, or of the original's generators in files of PyTorch."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from genjax.config import NO_FILE
from genjax.gan import torch_weights
from genjax.gan.config import GanRun
from genjax.gan.networks import DOMAINS, Direction
from genjax.gan.torch_weights import GeneratorSizes
from genjax.task import Parts, Starts

GENERATOR = ("generator", "output", "generator_norm")
DISCRIMINATOR = ("discriminator", "discriminator_norm", "spectral_norm")
"""Settings that change what a network does, and not the shapes of its parameters."""

SIZES = ("base_channels", "num_blocks", "num_downs", "discriminator_channels", "discriminator_layers", "norm_affine")
"""Settings that change the shapes of parameters."""


def make_starts(
    section: str, directions: tuple[Direction, ...], beside: Mapping[str, tuple[str, ...]], own: tuple[str, ...] = ()
) -> Starts[Any, Any]:
    """Makes the starts of a family, whose state holds `g_a2b` and so on, averages `ema`, and `spectral`.

    `section` is the field of its networks; `beside` names the networks beside the generators, with the settings that
    have to be alike; `own` are settings of the family alone that its networks depend on.
    """

    def parts(state: Any) -> Parts:
        return {**state.ema, **{name: getattr(state, name).params for name in beside}, "spectral": state.spectral}

    def begin(state: Any, parts: Parts) -> Any:
        for name in (*directions, *beside):
            if name in parts:
                field = f"g_{name}" if name in directions else name
                state = state._replace(**{field: getattr(state, field)._replace(params=parts[name])})
        # Copies, because no buffer may be donated twice.
        averages = {name: jax.tree.map(jnp.copy, parts[name]) for name in directions if name in parts}
        return state._replace(ema=state.ema | averages, spectral=parts.get("spectral", state.spectral))

    def choose(config: GanRun, names: tuple[str, ...]) -> tuple[str, ...]:
        lacking = [name for name in (*directions, *beside) if name not in names]
        if config.init_parts == "all" and lacking:
            raise ValueError(f"it holds no {' '.join(lacking)}: give --init-parts generators or auto")
        return tuple(name for name in names if config.init_parts != "generators" or name in directions)

    def read_torch(paths: tuple[str, ...], keys: tuple[str, ...]) -> tuple[Parts, Mapping[str, Any]]:
        return _read_torch(section, directions, paths, keys)

    def dotted(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{section}.{name}" for name in names)

    alike = dict.fromkeys(directions, GENERATOR) | dict(beside)
    settings = (*dotted((*GENERATOR, *DISCRIMINATOR, *SIZES, *own)), "data.channels")
    return Starts(parts, begin, choose, settings, {name: dotted(fields) for name, fields in alike.items()}, read_torch)


def sizes_of(config: GanRun, direction: Direction) -> GeneratorSizes:
    """Returns the sizes of a run's generator."""
    net, (source, target) = config.net, DOMAINS[direction]
    depth = net.num_blocks if net.generator == "resnet" else net.num_downs
    return GeneratorSizes(
        net.generator, net.base_channels, depth, config.data.channels[source], config.data.channels[target]
    )


def _read_torch(
    section: str, directions: tuple[Direction, ...], paths: tuple[str, ...], keys: tuple[str, ...]
) -> tuple[Parts, Mapping[str, Any]]:
    """Reads generators of the original: A to B, and B to A from a second file or key.

    Returns them as parts, and the settings of a run that has such networks. Raises ValueError, with the file, for other
    files, and if the two generators are not of one CycleGAN.
    """
    if len(paths) == 1 and len(keys) == 2 == len(directions):  # both in one file
        paths *= 2
    if len(paths) > len(directions) or len(keys) not in (0, len(paths)):
        many = "one file, and one key or none" if len(directions) == 1 else "one or two files, and no keys or one each"
        given = f" --init-key {' '.join(keys)}" if keys else ""
        raise ValueError(f"--init-from {' '.join(paths)}{given}: give {many}")
    found = {
        direction: torch_weights.read_generator(path, key)
        for direction, path, key in zip(directions, paths, keys or ("", ""), strict=False)
        if path != NO_FILE
    }
    if not found:
        raise ValueError(f"--init-from {' '.join(paths)} names no file")
    forms = {_settings(section, direction, sizes) for direction, (sizes, _) in found.items()}
    if len(forms) > 1:
        described = "; ".join(f"{path}: {sizes}" for path, (sizes, _) in zip(paths, found.values(), strict=True))
        raise ValueError(
            f"the generators are not of one CycleGAN ({described}): begin from one, and give {NO_FILE} for the other"
        )
    return {direction: params for direction, (_, params) in found.items()}, dict(forms.pop())


def _settings(section: str, direction: Direction, sizes: GeneratorSizes) -> tuple[tuple[str, Any], ...]:
    channels = (sizes.in_channels, sizes.out_channels)
    return (
        (f"{section}.generator", sizes.kind),
        # A file does not say these three: the original has no others that are read here.
        (f"{section}.output", "tanh"),
        (f"{section}.generator_norm", "instance"),
        (f"{section}.norm_affine", False),
        (f"{section}.base_channels", sizes.base_channels),
        (f"{section}.{'num_blocks' if sizes.kind == 'resnet' else 'num_downs'}", sizes.depth),
        ("data.channels", channels if direction == "a2b" else channels[::-1]),
    )

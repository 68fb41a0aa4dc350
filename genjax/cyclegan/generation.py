"""Generation of whole sets of pictures by a CycleGAN: translations in both directions."""

from collections.abc import Callable

from jax import Array
from jax.sharding import Mesh

from genjax.compiled import compile_rows
from genjax.cyclegan import translation
from genjax.cyclegan.config import CycleGanRun
from genjax.cyclegan.nets import DOMAINS, Direction, MakeNetworks, make_networks
from genjax.cyclegan.steps import CycleGanState
from genjax.data import image_arrays
from genjax.data.splits import Splits
from genjax.optim import Params
from genjax.task import Generate, Generated, Split


def compile_generate(
    config: CycleGanRun, mesh: Mesh, *, make_networks: MakeNetworks = make_networks
) -> Generate[CycleGanState]:
    """Compiles a function that translates evenly spaced images of each domain: sets "a2b" and "b2a"."""

    def compiled(direction: Direction) -> Callable:
        def translate(config: CycleGanRun, params: Params, images: Array) -> Array:
            return translation.translate(config, params, direction, image_arrays.to_unit(images), make_networks)

        return compile_rows(translate, config, mesh, chunk=8)

    run = {direction: compiled(direction) for direction in DOMAINS}

    def generate(state: CycleGanState, splits: Splits, split: Split, num: int, seed: int) -> dict[str, Generated]:
        del seed  # translations have no noise
        images, made = getattr(splits, split), dict[str, Generated]()
        for direction, (source, target) in DOMAINS.items():
            given = image_arrays.evenly_spaced(images[source], num)
            truth = image_arrays.evenly_spaced(images[target], num) if config.data.paired else None
            made[direction] = Generated(run[direction]((state.ema,), (given,)), target, given, truth)
        return made

    return generate

"""Generation of whole sets of pictures: translations in each direction."""

from collections.abc import Callable

from jax import Array
from jax.sharding import Mesh

from genjax.compiled import compile_rows
from genjax.data import image_arrays
from genjax.data.splits import Splits
from genjax.gan import translation
from genjax.gan.config import GanRun
from genjax.gan.networks import DOMAINS, Direction, MakeNetworks
from genjax.optim import Params
from genjax.task import Generate, Generated, Split, State


def compile_generate(config: GanRun, mesh: Mesh, *, make_networks: MakeNetworks) -> Generate[State]:
    """Compiles a function that translates evenly spaced images: sets "a2b" and "b2a", where there is a generator."""

    def compiled(direction: Direction) -> Callable:
        def translate(config: GanRun, params: Params, images: Array) -> Array:
            return translation.translate(config, params, direction, image_arrays.to_unit(images), make_networks)

        return compile_rows(translate, config, mesh, chunk=8)

    run = {direction: compiled(direction) for direction in make_networks(config).generators}

    def generate(state: State, splits: Splits, split: Split, num: int, seed: int) -> dict[str, Generated]:
        del seed  # translations have no noise
        images, made = getattr(splits, split), dict[str, Generated]()
        for direction in run:
            source, target = DOMAINS[direction]
            given = image_arrays.evenly_spaced(images[source], num)
            truth = image_arrays.evenly_spaced(images[target], num) if config.data.paired else None
            made[direction] = Generated(run[direction]((state.ema,), (given,)), target, given, truth)
        return made

    return generate

"""Generation of whole sets of pictures by a VAE: draws from its prior."""

import numpy as np
from jax import Array
from jax.sharding import Mesh

from genjax import keys, parallel
from genjax.compiled import compile_rows
from genjax.data.splits import Splits
from genjax.keys import Stream
from genjax.optim import Params
from genjax.task import Generate, Generated, Split
from genjax.vae import sampling
from genjax.vae.config import VaeRun
from genjax.vae.model import MakeModel, from_config
from genjax.vae.steps import VaeState


def compile_generate(config: VaeRun, mesh: Mesh, *, make_model: MakeModel = from_config) -> Generate[VaeState]:
    """Compiles a function that draws "samples" from the prior, the same as `Sampler.prior` with the seed's root key."""
    model = make_model(config)

    def draw(config: VaeRun, params: Params, seed: Array, position: Array) -> Array:
        return sampling.prior(model, params, keys.for_step(keys.root_key(seed), Stream.PRIOR, 0), 1.0, position)

    compiled = compile_rows(draw, config, mesh)

    def generate(state: VaeState, splits: Splits, split: Split, num: int, seed: int) -> dict[str, Generated]:
        pictures = compiled((state.ema, parallel.replicate_scalar(mesh, seed)), (np.arange(num, dtype=np.int32),))
        return {"samples": Generated(pictures, domain=0)}

    return generate

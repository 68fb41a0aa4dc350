"""Sets of samples of a VAE from fitted priors, beside those of its run."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from genjax import keys
from genjax.config import seed_of
from genjax.data import image_arrays, sources
from genjax.evaluation import intervals
from genjax.evaluation.picture_sets import Measured, Sets
from genjax.loading import Sampler, Which, load_sampler
from genjax.vae import aggregated
from genjax.vae.aggregated import FitConfig
from genjax.vae.mixture import Mixture


class Fitted(NamedTuple):
    """Priors of a VAE by the name of the set of their samples; None is N(0, I)."""

    sampler: Sampler
    priors: dict[str, Mixture | None]


def fit_priors(
    workdir: str, which: Which, kinds: Collection[aggregated.Kind], config: FitConfig, mesh: Mesh
) -> Fitted:  # fmt: skip
    """Fits priors to the training images of a VAE's run."""
    sampler = load_sampler(workdir, which, mesh)
    (train,) = sources.load(sampler.config.data, seed_of(sampler.config, "data")).train
    fitted = {f"samples_{kind.replace('-', '_')}": aggregated.fit(sampler, train, kind, config) for kind in kinds}
    return Fitted(sampler, {"samples": None, **fitted})


def with_priors(sets: dict[str, Sets], fitted: Fitted, seed: int) -> dict[str, Sets]:
    """Returns the sets of a VAE's run and, after its samples, as many from each of the fitted priors."""
    samples, key = sets["samples"], keys.root_key(seed)
    position = np.arange(len(samples.pictures))
    drawn = {
        name: samples._replace(pictures=image_arrays.to_uint8(fitted.sampler.prior(key, position, mixture=mixture)))
        for name, mixture in fitted.priors.items()
        if mixture is not None
    }
    return {"samples": samples} | drawn | sets


def add_rates(found: dict[str, Measured], fitted: Fitted, images: np.ndarray) -> None:
    """Adds the rate of real images under each prior, in nats, to the metrics of its samples."""
    for name, mixture in fitted.priors.items():
        found[name].metrics["rate"] = intervals.of_mean(aggregated.rate(fitted.sampler, images, mixture))

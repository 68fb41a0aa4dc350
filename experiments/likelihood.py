"""Estimates log p(x) of a trained VAE on test images in nats, and which latents are in use.

$ python experiments/likelihood.py --workdir runs/mnist5k --num 500 --samples 5000
$ python experiments/likelihood.py --workdir runs/mnist5k --num 100 --method all

iwae weighs draws of the encoder (Burda, Grosse and Salakhutdinov 2016). ais leads chains from the encoder's draws to
p(z|x), which needs no good encoder (Neal 2001). The true -log p(x) lies below both in expectation. bdmc bounds images
that it draws from the model from both sides (Wu et al. 2017): its sandwich_gap tells how far off ais can be.

Results are added to WORKDIR/likelihood-STEP.json, each with its protocol: images and their SHA-256, binarisation,
numbers of samples or chains, seed. A result of another protocol stays there; one of the same protocol is replaced. The
report of the run shows all of them.
"""

import dataclasses
import hashlib
import logging
import sys
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax
import numpy as np
import tyro
from etils import epath

from genjax import cli, files, flag_help, glossary, parallel, report
from genjax.checks import check_seed, require
from genjax.config import seed_of
from genjax.data import sources
from genjax.evaluation.per_image import image_standard_error
from genjax.files import Json
from genjax.loading import Sampler, Which, load_sampler
from genjax.train import weights_file
from genjax.train.rows import finite
from genjax.vae import likelihood
from genjax.vae.sampler import DEFAULT_ANNEALING
from genjax.vae.sandwich import AnnealingConfig
from studies import markdown

logger = logging.getLogger(__name__)

T = TypeVar("T")

BLOCK = 64
"""Images between two lines of progress."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: the trained VAE, and the protocol of the estimate."""

    workdir: str
    """Directory of the training run, or a file of its weights (.safetensors)."""
    method: Literal["iwae", "ais", "bdmc", "all"] = "iwae"
    """Estimator of log p(x), see above."""
    num: int = 1000
    """Number of test images, evenly spaced; all of them if there are fewer. bdmc draws as many."""
    samples: int = 5000
    """iwae: draws of latents for each image."""
    annealing: AnnealingConfig = DEFAULT_ANNEALING
    seed: int = 0
    """Seed of all noise, that of binarisation included."""
    at_once: int = 128
    """Draws of each image that a device decodes at a time. Fewer take less memory; results differ by rounding."""
    which: Which = "last"
    """The last checkpoint, the best on validation, or that of a step."""

    def __post_init__(self) -> None:
        check_seed("--seed", self.seed)
        require(self.num >= 2, f"--num must be at least 2, for a standard error, got {self.num}")
        for name in ("samples", "at_once"):
            value = getattr(self, name)
            require(value >= 1, f"--{name.replace('_', '-')} must be at least 1, got {value}")


def main() -> dict[str, Any]:
    """Estimates, and returns the numbers."""
    return estimate(tyro.cli(Options, description=flag_help.description(__doc__)))


def estimate(options: Options) -> dict[str, Any]:
    """Estimates, adds the result to likelihood-STEP.json, and returns its numbers."""
    sampler = load_sampler(options.workdir, options.which)
    data, path = sampler.config.data, weights_file.beside(options.workdir, f"likelihood-{sampler.step}.json")
    require(
        not (sampler.config.vae.likelihood == "bernoulli" and data.binarize == "none"),
        "this VAE scores grey levels as expected values of binary pixels, which have no likelihood: train with "
        "--data.binarize stochastic or fixed",
    )
    earlier = read(path)  # before the work, which a damaged file would lose
    (test,) = sources.load(data, seed_of(sampler.config, "data")).test
    require(len(test) >= 2, f"a standard error needs at least 2 test images, and {data.source} has 1: train with more")
    position = np.linspace(0, len(test) - 1, min(options.num, len(test))).astype(int)
    images = test[position]
    protocol = {
        "split": "test",
        "images": len(images),
        "of": len(test),
        "sha256": hashlib.sha256(np.ascontiguousarray(images).data).hexdigest(),
        "binarize": data.binarize,
        "dequantize": data.dequantize,
        "seed": options.seed,
    }
    results, printed = earlier, {"step": sampler.step, "images": len(images)}
    for method in METHODS if options.method == "all" else (options.method,):
        settings, numbers = METHODS[method](sampler, options, images, position)
        numbers = {
            name: value if isinstance(value, list) else finite({name: value})[name] for name, value in numbers.items()
        }
        result = {"method": method, "protocol": protocol | settings, **numbers}
        results = [*(one for one in results if not same(one, result)), result]
        printed |= {f"{method}.{name}": value for name, value in numbers.items() if not isinstance(value, list)}
        if parallel.is_main_process():  # after each method, as the next may take long
            files.write_json(path, {"step": sampler.step, "results": results})
    if parallel.is_main_process():
        print(table(printed), file=sys.stderr)
        report.write_run(options.workdir)
    return {**printed, "out": str(path)}


def table(printed: Json) -> str:
    """Formats numbers by METHOD.NAME, in words."""
    rows = []
    for key, value in printed.items():
        method, _, name = key.rpartition(".")
        if method and (term := glossary.explain(name)):
            rows.append([method, term.title, "not finite" if value is None else f"{value:.4f}", term.unit])
    return markdown.table(["method", "metric", "value", "unit"], rows)


def iwae(sampler: Sampler, options: Options, images: np.ndarray, position: np.ndarray) -> tuple[Json, Json]:
    """Estimates by importance weighting; returns settings and numbers."""

    def estimate(rows: slice) -> likelihood.Estimate:
        return sampler.estimate_likelihood(images[rows], options.samples, options.seed, options.at_once, position[rows])

    sizes = likelihood.group_sizes(sampler.model, sampler.params)
    numbers = likelihood.summarize(in_blocks(estimate, len(images)), sampler.config, sizes)
    return {"samples": options.samples}, numbers


def ais(sampler: Sampler, options: Options, images: np.ndarray, position: np.ndarray) -> tuple[Json, Json]:
    """Estimates by annealed importance sampling; returns settings and numbers."""

    def bound(rows: slice) -> np.ndarray:
        return sampler.bound_likelihood(images[rows], options.annealing, options.seed, position[rows])

    lower = in_blocks(bound, len(images)).astype(np.float64)
    numbers = {"nll": -float(lower.mean()), "nll_image_se": image_standard_error(lower[None])}
    return dataclasses.asdict(options.annealing), numbers


def bdmc(sampler: Sampler, options: Options, images: np.ndarray, position: np.ndarray) -> tuple[Json, Json]:
    """Bounds the likelihood of as many drawn images from both sides; returns settings and numbers."""
    drawn = np.arange(len(images))
    bounds = in_blocks(
        lambda rows: sampler.sandwich_likelihood(drawn[rows], options.annealing, options.seed), len(images)
    )
    lower, upper = (bound.astype(np.float64) for bound in bounds)
    numbers = {
        "nll": -float(lower.mean()),
        "nll_below": -float(upper.mean()),
        "sandwich_gap": float((upper - lower).mean()),
        "sandwich_gap_se": image_standard_error((upper - lower)[None]),
    }
    return {"split": "drawn from the model", "sha256": None, **dataclasses.asdict(options.annealing)}, numbers


METHODS: dict[str, Callable[[Sampler, Options, np.ndarray, np.ndarray], tuple[Json, Json]]] = {
    "iwae": iwae, "ais": ais, "bdmc": bdmc,
}  # fmt: skip


def in_blocks(estimate: Callable[[slice], T], num: int) -> T:
    """Joins the estimates [n, ...] of slices of `num` images, and logs how far it is."""
    parts = []
    for start in range(0, num, BLOCK):
        parts.append(estimate(slice(start, start + BLOCK)))
        logger.info("%d of %d images", min(start + BLOCK, num), num)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def read(path: epath.Path) -> list[Json]:
    """Reads the results in likelihood-STEP.json, none if it does not exist; ValueError if it holds anything else."""
    found = files.read_json(path) if path.exists() else {"results": []}
    results = found.get("results") if isinstance(found, dict) else None
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise ValueError(f"{path} is damaged, it holds no results: move it away")
    return results


def same(one: Json, other: Json) -> bool:
    """True if two results have one method and one protocol."""
    return (one.get("method"), one.get("protocol")) == (other["method"], other["protocol"])


if __name__ == "__main__":
    cli.run(main)

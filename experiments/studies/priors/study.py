"""Compares priors that are fitted to a VAE's encodings with N(0, I), over the seeds of studies.

$ python experiments/seed_study.py vae:quickstart --seeds 0 1 2 --workdir runs/quickstart
$ python experiments/study.py priors --studies runs/quickstart runs/digits

For each study it prints a table: for each prior the rate and the metrics of as many samples, and beside them those of
training pictures; mean and 95% interval over the seeds. The rate, in nats, is KL(q(e|x) || p(e)) on test images, so
the difference of two rates is that of -ELBO. No feature network takes part in it.
"""

import dataclasses
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tyro

from evaluate import cell
from genjax import files, flag_help, glossary, keys, parallel
from genjax.config import seed_of
from genjax.data import image_arrays, sources
from genjax.evaluation import features, intervals, memorisation, perceptual, whole_sets
from genjax.evaluation.intervals import Interval
from genjax.loading import load_sampler
from genjax.train import config_file
from genjax.vae import aggregated
from genjax.vae.aggregated import DEFAULT_FIT, FitConfig
from genjax.vae.mixture import Mixture
from studies import markdown
from studies.seeds import statistics

OF_SETS = ("kid", "precision", "recall", "coverage")
METRICS = (*OF_SETS, "authenticity", "train_test_gap")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: the studies, the priors, and how to measure them."""

    studies: tuple[str, ...]
    """Directories of seed studies of VAEs with two or more finished runs each."""
    priors: tuple[aggregated.Kind, ...] = aggregated.KINDS
    """Priors to compare with N(0, I)."""
    fit: FitConfig = DEFAULT_FIT
    features: str = "alexnet"
    """Network whose features are compared, as for evaluate.py."""
    num: int = 1000
    """Number of samples, and largest number of test images and of training images that they are compared with."""


def main() -> dict[str, Any]:
    """Fits and measures the priors of each study, prints its table, and returns the means over seeds."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    aggregated.check_settings(options.priors, options.fit)
    mesh = parallel.make_mesh()
    extract = features.compile_extract(features.load(options.features), mesh)
    results: dict[str, Any] = {}
    for study in options.studies:
        runs = sorted(files.resolve(study).glob("seed-*/config.json"))
        if len(runs) < 2:
            raise ValueError(f"{study} holds {len(runs)} runs seed-K, and two or more are needed: train them first")
        config = config_file.load(str(runs[0].parent))
        perceptual.check_judge(config, options.features, "--features ")
        splits = sources.load(config.data, seed_of(config, "data"))
        (train,), (test,) = splits.train, splits.test
        real, seen = (image_arrays.evenly_spaced(images, options.num) for images in (test, train))
        # All seeds share them.
        references = References(*(extract(images) for images in (real, seen)))
        rows = {name: [found] for name, found in references.floor().items()}
        for run in runs:
            logging.info("measuring %s", run.parent.name)
            sampler = load_sampler(str(run.parent), mesh=mesh)
            priors: dict[str, Mixture | None] = {"N(0, I)": None}
            priors |= {kind: aggregated.fit(sampler, train, kind, options.fit) for kind in options.priors}
            for name, mixture in priors.items():
                pictures = sampler.prior(keys.root_key(keys.SCORING_SEED), np.arange(options.num), mixture=mixture)
                found = references.measure(extract(image_arrays.to_uint8(pictures)))
                found["rate"] = intervals.of_mean(aggregated.rate(sampler, real, mixture))
                rows.setdefault(name, []).append(found)
        print(f"\n### {files.resolve(study).name}\n\n{table(rows, len(real))}", file=sys.stderr)
        for name, found_by_run in rows.items():
            for metric in found_by_run[0]:
                mean = float(np.mean([found[metric].value for found in found_by_run]))
                results[f"{files.resolve(study).name}.{metric}.{name}"] = mean
    return results


class References(NamedTuple):
    """Features of real test images, and of training images, [n, d] each."""

    real: np.ndarray
    train: np.ndarray

    def measure(self, drawn: np.ndarray) -> dict[str, Interval]:
        """Computes the metrics of samples from their features."""
        return whole_sets.set_metrics(drawn, self.real, OF_SETS) | {
            "authenticity": memorisation.authenticity(drawn, self.train),
            "train_test_gap": memorisation.train_test_gap(drawn, self.train, self.real),
        }

    def floor(self) -> dict[str, dict[str, Interval]]:
        """Computes what training images get in the place of samples: no model should be expected to score better."""
        return {"training images": whole_sets.set_metrics(self.train, self.real, OF_SETS)}


def table(rows: Mapping[str, Sequence[Mapping[str, Interval]]], num_real: int) -> str:
    """Formats a line for each prior: mean and 95% interval over the runs; training images have that of one set."""
    header = [f"prior ({num_real:,} real images)", *map(glossary.title, ("rate", *METRICS))]
    cells = [[name, *(over_runs([run.get(metric) for run in found]) for metric in ("rate", *METRICS))]
             for name, found in rows.items()]  # fmt: skip
    return markdown.table(header, cells)


def over_runs(found: Sequence[Interval | None]) -> str:
    """Formats one metric of one prior; empty where it does not apply."""
    known = [one for one in found if one is not None]
    if len(known) < 2:
        return cell(known[0]) if known else ""
    summary = statistics.summarize([one.value for one in known])
    return cell(Interval(summary.mean, summary.low, summary.high))

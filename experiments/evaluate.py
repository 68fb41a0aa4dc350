"""Measures how good a trained model's pictures are, as a set: against real pictures, training pictures, and pairs.

$ python experiments/evaluate.py --workdir runs/vae
$ python experiments/evaluate.py --workdir runs/vae --priors gaussian-mixture vampprior
$ python experiments/evaluate.py --workdir runs/icons --which best --features vgg16 --num 1000
$ python experiments/evaluate.py --images DRAWN --against REAL --features inception:pt_inception-2015-12-05.pth

A VAE is measured by samples of its prior, and of --priors that are fitted to its encodings, a translator by its
translations in both directions. Beside each set stand as many real training pictures, measured in the same way: what a
perfect model would get. Beside translations stand their inputs too: what doing nothing would get. genjax/glossary.py
explains the metrics. With a run, the table is also written to evaluation-STEP.json in its directory, and its report
shows it.
"""

import dataclasses
import logging
import sys
import time
from typing import Any

import tyro

from genjax import cli, flag_help, glossary, keys, parallel
from genjax.data import folders, pictures
from genjax.data.config import DataConfig
from genjax.evaluation import features, perceptual
from genjax.evaluation.intervals import Interval
from genjax.evaluation.picture_sets import METRICS, Measured, Sets, compile_measure
from genjax.loading import Which
from genjax.task import Split
from genjax.train import config_file
from genjax.vae import aggregated
from genjax.vae.aggregated import DEFAULT_FIT, FitConfig
from studies import markdown
from studies.evaluation import records
from studies.evaluation.sets import sets_of_run, with_copies
from studies.priors.sets import Fitted, add_rates, fit_priors, with_priors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Options: a run, or two folders of pictures; the feature network and the metrics."""

    workdir: str = ""
    """Directory of the training run to evaluate, or a file of its weights (.safetensors)."""
    images: tuple[str, ...] = ()
    """Pictures and folders of pictures to evaluate, in place of a run."""
    against: tuple[str, ...] = ()
    """Real pictures that --images are compared with."""
    features: str = "alexnet"
    """Network whose features are compared: alexnet, vgg16, inception:FILE, classifier:FILE, or pixels. alexnet and
    vgg16 need the extra features. inception is the standard network of FID, classifier one of genjax."""
    metrics: tuple[str, ...] = METRICS
    """Metrics to measure; those that do not apply are left out. Sets: kid frechet mind precision recall density
    coverage. Training images: authenticity train_test_gap. Pictures: lpips_diversity lpips_content. Pairs: l1 psnr ssim
    lpips."""
    num: int = 5000
    """Largest number of pictures in a set. It is at most the number of training images of a run, so that both sets are
    as large. Only kid may be compared between sets of different sizes."""
    split: Split = "test"
    """Real pictures that a run is compared with, and that are translated."""
    priors: tuple[aggregated.Kind, ...] = ()
    """Priors fitted to a VAE's encodings of training images, to draw samples from too."""
    fit: FitConfig = DEFAULT_FIT
    seed: int = keys.SCORING_SEED
    """Seed of the samples and of the bootstrap."""
    which: Which = "last"
    """The last checkpoint, the best on validation, or that of a step."""
    max_megapixels: int = DataConfig.max_megapixels
    """Largest picture of --images and --against that is read."""


def main() -> dict[str, Any]:
    """Measures each set, prints the table, and returns the metrics."""
    began, options = time.perf_counter(), tyro.cli(Evaluate, description=flag_help.description(__doc__))
    _check(options)
    network, mesh = features.load(options.features), parallel.make_mesh()
    record: dict[str, Any] = {}
    fitted: Fitted | None = None
    if options.workdir:
        perceptual.check_judge(config_file.load(options.workdir), network.name, "--features ")
        if options.priors:
            fitted = fit_priors(options.workdir, options.which, options.priors, options.fit, mesh)
        sets, step = sets_of_run(
            options.workdir, options.which, options.split, options.num, options.seed, mesh, options.metrics
        )
        sets = with_copies(sets)
        record = {"step": step, "which": str(options.which), "split": options.split}
        if fitted:
            sets = with_priors(sets, fitted, options.seed)
            record["priors"] = {"kinds": list(options.priors), **dataclasses.asdict(options.fit)}
    else:
        sets = {"images": _of_files(options, network)}
    measure = compile_measure(network, mesh, options.metrics, options.seed)
    found: dict[str, Measured] = {}
    for name, each in sets.items():
        logging.info("measuring %s: %d pictures, %d real ones ...", name, len(each.pictures), len(each.real))
        found[name] = measure(each)
    if not any(one.metrics for one in found.values()):
        asked = " ".join(options.metrics)
        raise ValueError(
            f"none of --metrics {asked} can be measured here with the features {network.name}: give others"
        )
    if fitted:
        add_rates(found, fitted, sets["samples"].real)
    print(table(found), file=sys.stderr)
    if options.workdir:
        print("train_...: training images in place of generated ones, which a perfect model equals", file=sys.stderr)
        if any(name.startswith("copy_") for name in found):
            print("copy_...: the inputs in place of their translations, which a useful model beats", file=sys.stderr)

    described = {name: getattr(network, name) for name in ("name", "sha256", "size", "resize")}
    record |= {
        "features": described,
        "seed": options.seed,
        "sets": {name: records.of_set(one) for name, one in found.items()},
    }
    out = ""
    if options.workdir and parallel.is_main_process():
        out = records.keep(options.workdir, record, sets, found)
    flat = {f"{metric}_{name}": value.value for name, one in found.items() for metric, value in one.metrics.items()}
    head = {"step": record["step"]} if options.workdir else {}
    return {**head, "features": network.name, **flat, "seconds": round(time.perf_counter() - began, 1), "out": out}


def _check(options: Evaluate) -> None:
    if bool(options.workdir) == bool(options.images) or bool(options.images) != bool(options.against):
        raise ValueError("give --workdir RUN, or --images PICTURES with --against REAL")
    cli.check_different(metrics=options.metrics)
    if options.priors:
        cli.check_different(priors=options.priors)
    aggregated.check_settings(options.priors, options.fit)
    if options.priors and not options.workdir:
        raise ValueError("--priors are fitted to a run's training images: give --workdir")
    if unknown := [name for name in options.metrics if name not in METRICS]:
        raise ValueError(f"--metrics {unknown[0]} is no metric: give some of {' '.join(METRICS)}")
    if options.num < 2:
        raise ValueError(f"--num must be at least 2, got {options.num}")
    keys.root_key(options.seed)


def _of_files(options: Evaluate, network: features.Features) -> Sets:
    """Reads pictures of files and folders: at their own size if they share one, else stretched to the network's."""
    read = []
    for paths in (options.images, options.against):
        sizes = {pictures.size(path, None, options.max_megapixels) for path in folders.named_images(paths)}
        size = sizes.pop() if len(sizes) == 1 else network.size
        if size is None:
            raise ValueError(
                f"--features {network.name} needs pictures of one size, and {' '.join(paths)} has several: scale them, "
                "or give other --features"
            )
        data = DataConfig(
            source="folder:",
            image_size=size,
            channels=(network.channels or 3,),
            batch_size=1,
            resize="stretch",
            upscale=True,
            max_megapixels=options.max_megapixels,
        )
        read.append(folders.read_images(paths, data, num=options.num))
    return Sets(*read)


def table(found: dict[str, Measured]) -> str:
    """Formats a table of metrics by set, values with their 95% intervals, and which direction is better."""
    names = list(dict.fromkeys(metric for one in found.values() for metric in one.metrics))
    sizes = (f"{name} ({one.num_pictures:,}, {one.num_real:,} real)" for name, one in found.items())
    header = ["metric", "better", *sizes]
    rows = [
        [
            glossary.title(name),
            _better(name),
            *(cell(one.metrics[name]) if name in one.metrics else "" for one in found.values()),
        ]
        for name in names
    ]
    return markdown.table(header, rows)


def _better(name: str) -> str:
    term = glossary.explain(name)
    return (term.better or "") if term else ""


def cell(value: Interval) -> str:
    """Formats a value and its interval."""
    if value.low is None or value.high is None:
        return f"{value.value:.4g}"
    return f"{value.value:.4g} ({value.low:.4g} to {value.high:.4g})"


if __name__ == "__main__":
    cli.run(main)

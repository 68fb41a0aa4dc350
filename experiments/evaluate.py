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
import json
import logging
import sys
import time
from collections.abc import Collection
from typing import Any

import numpy as np
import tyro
from etils import epath
from jax.sharding import Mesh

from genjax import cli, files, flag_help, glossary, keys, loading, parallel, report
from genjax.config import seed_of
from genjax.data import folders, image_arrays, pictures, sources
from genjax.data.config import DataConfig
from genjax.evaluation import features
from genjax.evaluation.intervals import Interval
from genjax.evaluation.picture_sets import METRICS, OF_TRAINING, Measured, Sets, compile_measure
from genjax.families import task_of
from genjax.loading import Which
from genjax.report import sections
from genjax.task import Split
from genjax.train import config_file, weights_file
from genjax.vae import aggregated
from genjax.vae.aggregated import DEFAULT_FIT, FitConfig
from studies import markdown
from studies.priors.sets import Fitted, add_rates, fit_priors, with_priors

SHOWN = 24
"""Pictures of a set that are drawn beside their nearest training pictures."""


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
    """Network whose features are compared: alexnet or vgg16 (extra features), inception:FILE (the standard network of
    FID), classifier:FILE (of genjax), or pixels."""
    metrics: tuple[str, ...] = METRICS
    """Metrics to measure, of: kid frechet mind precision recall density coverage (sets), authenticity train_test_gap
    (training images), lpips_diversity lpips_content (pictures), l1 psnr ssim lpips (pairs). Those that do not apply are
    left out."""
    num: int = 5000
    """Largest number of pictures in a set; of a run never more than it has training images, so that both are as many.
    Scores of sets of different sizes do not compare, but for kid."""
    split: Split = "test"
    """Real pictures that a run is compared with, and that are translated."""
    priors: tuple[aggregated.Kind, ...] = ()
    """Priors fitted to a VAE's encodings of training images, to draw samples from too."""
    fit: FitConfig = DEFAULT_FIT
    seed: int = keys.SCORING_SEED
    """Seed of the samples and of the bootstrap."""
    which: Which = "last"
    """The last checkpoint, the best on validation, or that of a step."""


def main() -> dict[str, Any]:
    """Measures each set, prints the table, and returns the metrics."""
    began, options = time.perf_counter(), tyro.cli(Evaluate, description=flag_help.description(__doc__))
    _check(options)
    network, mesh = features.load(options.features), parallel.make_mesh()
    record: dict[str, Any] = {}
    fitted: Fitted | None = None
    if options.workdir:
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
    record |= {"features": described, "seed": options.seed, "sets": {name: _record(one) for name, one in found.items()}}
    out = ""
    if options.workdir and parallel.is_main_process():
        out = _keep(options.workdir, record, sets, found)
    flat = {f"{metric}_{name}": value.value for name, one in found.items() for metric, value in one.metrics.items()}
    head = {"step": record["step"]} if options.workdir else {}
    return {**head, "features": network.name, **flat, "seconds": round(time.perf_counter() - began, 1), "out": out}


def _keep(workdir: str, record: dict[str, Any], sets: dict[str, Sets], found: dict[str, Measured]) -> str:
    """Writes results into the run, and its report; returns the file, or "" if it cannot be written, which is logged.

    A file of weights gets its results beside it, and no report.
    """
    path = weights_file.beside(workdir, f"evaluation-{record['step']}.json")
    try:
        _add(path, record)
        if not weights_file.is_named(workdir):
            _draw_nearest(files.resolve(workdir), record["step"], sets, found)
            report.write_run(workdir)
    except (OSError, ValueError) as error:  # the figures took longer than their record: they are printed in any case
        logging.warning("the results are not all in %s: %s", workdir, error)
        return ""
    return str(path)


def _record(measured: Measured) -> dict[str, Any]:
    """Returns what stands in evaluation-STEP.json about a set."""
    metrics = {name: value._asdict() for name, value in measured.metrics.items()}
    counts = {"num_generated": measured.num_pictures, "num_reference": measured.num_real}
    return (
        counts
        | ({"num_training": measured.num_training} if measured.nearest is not None else {})
        | {"metrics": metrics}
    )


def _draw_nearest(workdir: epath.Path, step: int, sets: dict[str, Sets], found: dict[str, Measured]) -> None:
    """Draws some pictures of each set beside the training pictures nearest to them, for the report."""
    for name, each in sets.items():
        rows = found[name].nearest
        if rows is not None and each.train is not None:
            shown = np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).astype(int)
            beside = (each.train[rows[shown, k]] for k in range(rows.shape[1]))
            joined = np.concatenate(
                [each.pictures[shown], *(image_arrays.to_uint8(image_arrays.unit_floats(near)) for near in beside)],
                axis=2,
            )
            path = workdir / "samples" / f"nearest {name}_generated_nearest training pictures-{step:08d}.png"
            image_arrays.write_png(path, image_arrays.grid(joined, columns=4))


def _add(path: epath.Path, record: dict[str, Any]) -> None:
    """Adds a record to those in a file; one of the same network, pictures and seed keeps its other metrics."""
    record = json.loads(json.dumps(record))  # as it is read back: with lists in place of tuples
    # Another evaluation may add its own at the same time.
    with files.locked(path.with_name(".evaluation.lock")), sections.damage(path.parent):
        earlier = files.read_json(path) if path.exists() else []
        same = [one for one in earlier if _settings(one) == _settings(record)]
        for one in same:
            for name, measured in record["sets"].items():
                measured["metrics"] = one["sets"][name]["metrics"] | measured["metrics"]
        files.write_json(path, [*(one for one in earlier if one not in same), record])


def _settings(record: dict[str, Any]) -> list[Any]:
    """Returns all that decides the figures of a record of a checkpoint."""
    counts = {name: (one["num_generated"], one["num_reference"]) for name, one in record["sets"].items()}
    return [record["features"], record["split"], record["seed"], record.get("priors"), counts]


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


def sets_of_run(
    workdir: str, which: Which, split: Split, num: int, seed: int, mesh: Mesh, metrics: Collection[str] = METRICS
) -> tuple[dict[str, Sets], int]:
    """Returns the sets that a run generates for `metrics`, each followed by training pictures, and the step."""
    config = config_file.load(workdir)
    task = task_of(config)
    step, state = loading.restore(task, config, mesh, which)
    splits = sources.load(config.data, seed_of(config, "data"))
    num = min(num, *map(len, splits.train))
    logging.info("generating up to %d pictures of each set by step %d ...", num, step)
    sets: dict[str, Sets] = {}
    for name, made in task.generate(config, mesh)(state, splits, split, num, seed).items():
        if not np.isfinite(made.pictures).all():
            raise ValueError(f"the pictures of step {step} are not finite: give another --which")
        real, train = (
            image_arrays.evenly_spaced(images[made.domain], num) for images in (getattr(splits, split), splits.train)
        )
        if len(train) < (total := len(splits.train[made.domain])) and set(metrics) & set(OF_TRAINING):
            logging.warning(
                "%s: copies are looked for among %d of %d training images; --num %d takes all",
                name, len(train), total, total,
            )  # fmt: skip
        pictures = image_arrays.to_uint8(made.pictures)  # as they would be written to files
        sets[name] = Sets(pictures, real, train, made.inputs, made.truth)
        sets[f"train_{name}"] = Sets(image_arrays.evenly_spaced(train, len(pictures)), real)
    return sets, step


def with_copies(sets: dict[str, Sets]) -> dict[str, Sets]:
    """Puts behind each set of translations its inputs as they are, if both have one form."""
    found: dict[str, Sets] = {}
    for name, each in sets.items():
        found[name] = each
        if each.inputs is not None and each.inputs.shape == each.pictures.shape:
            copies = image_arrays.to_uint8(image_arrays.unit_floats(each.inputs))
            found[f"copy_{name}"] = Sets(copies, each.real, truth=each.truth)
    return found


def _of_files(options: Evaluate, network: features.Features) -> Sets:
    """Reads pictures of files and folders: at their own size if they share one, else stretched to the network's."""
    read = []
    for paths in (options.images, options.against):
        sizes = {pictures.size(path, None, DataConfig.max_megapixels) for path in folders.named_images(paths)}
        size = sizes.pop() if len(sizes) == 1 else network.size
        if size is None:
            raise ValueError(f"--features {network.name} needs pictures of one size, and {' '.join(paths)} has several")
        data = DataConfig(
            source="folder:",
            image_size=size,
            channels=(network.channels or 3,),
            batch_size=1,
            resize="stretch",
            upscale=True,
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

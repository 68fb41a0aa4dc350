"""Compares forms and losses of CycleGAN on held-out pairs.

$ python experiments/study.py translation icons --workdir runs/translation
$ python experiments/study.py translation gray-colour --workdir runs/translation

Length, optimiser and sizes are those of the configurations quickstart and gray-colour. Each run is an ordinary run with
the same digest as from the training script. Repeat the command to resume; finished runs are not trained again. Tables,
and a page of pictures with the translations of the first seed, are written beside the runs.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro

from configs import cyclegan as cyclegan_configs
from genjax import cli, files, flag_help
from genjax.cyclegan import losses
from genjax.cyclegan.config import CycleGanRun, LossConfig
from genjax.data import image_arrays, sources
from genjax.data.splits import Splits
from genjax.loading import load_translator
from genjax.nn.layers import NormKind
from genjax.train.rows import finite
from studies.translation import image_grid, rules, tables
from studies.translation.tables import Metrics

Name = Literal[
    "classic", "classic-no-identity", "mission", "mission-no-affine", "mission-identity", "residual-identity",
    "classic-layer", "mission-identity-layer",
]  # fmt: skip


class Setting(NamedTuple):
    """The form of the generators, the losses, and the generators' norm."""

    output: Literal["tanh", "residual"]
    loss: LossConfig
    norm: NormKind = "instance"


SETTINGS: dict[Name, Setting] = {
    "classic": Setting("tanh", losses.CLASSIC),
    "classic-no-identity": Setting("tanh", dataclasses.replace(losses.CLASSIC, identity_a=0.0, identity_b=0.0)),
    "mission": Setting("residual", losses.MISSION),
    "mission-no-affine": Setting("residual", dataclasses.replace(losses.MISSION, affine_a2b=0.0, affine_b2a=0.0)),
    "mission-identity": Setting("residual", dataclasses.replace(losses.MISSION, identity_a=0.5, identity_b=0.5)),
    "residual-identity": Setting("residual", losses.CLASSIC),
    "classic-layer": Setting("tanh", losses.CLASSIC, "layer"),
    "mission-identity-layer": Setting(
        "residual", dataclasses.replace(losses.MISSION, identity_a=0.5, identity_b=0.5), "layer"
    ),
}
BASES = {"icons": cyclegan_configs.quickstart, "gray-colour": cyclegan_configs.gray_colour}
QUALITY = ("l1", "psnr", "ssim", "iou")
SYMPTOMS = ("inverted", "correlation", "change", "diversity", "cycle")
"""Metrics of quality (distances from the truth), and metrics behind the warnings."""
COLUMNS = 6
"""Number of test images on the page of pictures."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: the runs."""

    source: tyro.conf.Positional[Literal["icons", "gray-colour"]]
    """A demo set with paired test images."""
    workdir: str
    """Directory of the study; WORKDIR/SOURCE holds a directory of each run, tables.md and pictures.png."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of each setting; all settings of one seed are trained before the next seed."""
    settings: tuple[Name, ...] = tuple(SETTINGS)
    """classic is tanh(T(G(x))) with the identity loss, and classic-no-identity the same without it. The others are
    x + T(G(x)): mission with affine consistency, mission-no-affine without, mission-identity with both losses,
    residual-identity with the identity loss alone. With -layer the generators normalise all channels together."""
    num_steps: int | None = None
    """Steps of each run instead of the configuration's; the learning rate decays over the second half."""


def main() -> dict[str, Any]:
    """Trains, writes tables and pictures, and returns the mean metrics of each rule and setting."""
    options, began = tyro.cli(Options, description=flag_help.description(__doc__)), time.perf_counter()
    cli.check_different(seeds=options.seeds, settings=options.settings)
    runs = {
        (name, seed): run_of(options.workdir, options.source, name, seed, options.num_steps)
        for seed in options.seeds
        for name in options.settings
    }
    digests = {key: cli.train(run)["digest"] for key, run in runs.items()}

    splits = sources.load(run_of("", options.source, "classic", 0).data, seed=0)
    measured = {key: run_metrics(run.workdir, splits.test) for key, run in runs.items()}
    rows = {rule: [metrics] for rule, metrics in rule_metrics(splits).items()}
    rows |= {name: [measured[name, seed] for seed in options.seeds] for name in options.settings}
    text, place = _tables(rows, measured, digests), files.resolve(options.workdir) / options.source
    files.write_atomically(place / "tables.md", text)
    logging.info("\n%s", text)
    first = {name: runs[name, options.seeds[0]].workdir for name in options.settings}
    title = f"{options.source}: test images, their translations by runs of seed {options.seeds[0]}, the truth"
    page = image_grid.page(place / "pictures.png", title, pictures(first, splits))
    flat = {f"{name}.{key}": value for name, of in rows.items() for key, value in tables.mean(of).items()}
    counts = {"runs": len(runs), "seconds": round(time.perf_counter() - began, 1)}
    return {**counts, **finite(flat), "tables": str(place / "tables.md"), "page": str(page)}


def run_of(workdir: str, source: str, name: Name, seed: int, num_steps: int | None = None) -> CycleGanRun:
    """Makes the configuration of one run below `workdir`; `source` may be a part of gray-colour."""
    base = BASES[source if source in BASES else "gray-colour"]()
    train = base.train
    if num_steps is not None:
        half = max(num_steps // 2, 1)
        train = dataclasses.replace(train, num_steps=num_steps, eval_every=half, checkpoint_every=half)
    return dataclasses.replace(
        base,
        workdir=f"{workdir}/{source}/{name}-{seed}",
        seed=seed,
        data=dataclasses.replace(base.data, source=source),
        train=train,
        cyclegan=dataclasses.replace(base.cyclegan, output=SETTINGS[name].output, generator_norm=SETTINGS[name].norm),
        loss=SETTINGS[name].loss,
    )


def run_metrics(workdir: str, test: tuple[np.ndarray, ...]) -> Metrics:
    """Measures a finished run on test pairs, by direction; cycle is the L1 from an image to its double translation."""
    translator, (a, b) = load_translator(workdir), test
    to_b, to_a = translator.a2b(a), translator.b2a(b)
    return {
        "a2b": rules.metrics(a, to_b, b) | {"cycle": float(np.abs(translator.b2a(to_b) - a / 255).mean())},
        "b2a": rules.metrics(b, to_a, a) | {"cycle": float(np.abs(translator.a2b(to_a) - b / 255).mean())},
    }


def rule_metrics(splits: Splits) -> dict[str, Metrics]:
    """Measures each rule without a network, by direction."""
    (train_a, train_b), (a, b) = splits.train, splits.test
    to_b, to_a = rules.predict(a, train_b), rules.predict(b, train_a)
    return {name: {"a2b": rules.metrics(a, to_b[name], b), "b2a": rules.metrics(b, to_a[name], a)} for name in to_b}


def pictures(workdirs: Mapping[Name, str], splits: Splits) -> dict[str, np.ndarray]:
    """Returns the rows of the page: input, histogram matching, translations of the runs, truth."""
    a, b = (images[np.linspace(0, len(images) - 1, COLUMNS).astype(int)] for images in splits.test)
    matched = rules.match_histograms(splits.test[0], splits.train[1])
    rows: dict[str, np.ndarray] = {
        "input": a,
        "histogram matching": matched[np.linspace(0, len(matched) - 1, COLUMNS).astype(int)],
    }
    rows |= {name: image_arrays.to_uint8(load_translator(workdir).a2b(a)) for name, workdir in workdirs.items()}
    return rows | {"truth": b}


def _tables(
    rows: Mapping[str, Sequence[Metrics]],
    runs: Mapping[tuple[Name, int], Metrics],
    digests: Mapping[tuple[Name, int], str],
) -> str:
    """Formats tables of rules and settings (quality and symptoms), then the quality of each run."""
    (copy,) = rows["copy"]
    warnings = [", ".join(_warnings(of_row, copy)) for of_row in rows.values()]
    quality = {test: [(test, name) for name in QUALITY] for test in tables.DIRECTIONS}
    symptoms = [("a2b", name) for name in SYMPTOMS]
    rows = {f"`{name}`" if name in SETTINGS else name.replace("_", " "): of_row for name, of_row in rows.items()}
    every = {f"`{name}`, seed {seed}": [metrics] for (name, seed), metrics in runs.items()}
    short = [f"`{digests[key][:8]}`" for key in runs]
    parts = (
        tables.table("translation", rows, quality["a2b"]),
        tables.table("translation", rows, quality["b2a"]),
        tables.table("translation", rows, symptoms, {"warnings": warnings}),
        tables.table("run", every, quality["a2b"] + quality["b2a"], {"digest": short}),
    )
    return "\n\n".join(parts)


def _warnings(runs: Sequence[Metrics], copy: Metrics) -> list[str]:
    """Lists each warning with its direction, and with its number of runs if there are several."""
    given = [
        f"{warning} {words}"
        for run in runs
        for test, words in tables.DIRECTIONS.items()
        for warning in rules.warnings(run[test], copy[test])
    ]
    return [f"{name} ({given.count(name)} of {len(runs)})" if len(runs) > 1 else name for name in dict.fromkeys(given)]

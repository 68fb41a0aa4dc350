"""Trains CycleGAN's forms and objectives side by side, and scores them on pairs that training never saw.

$ python experiments/translation_study.py icons --workdir runs/translation
$ python experiments/translation_study.py gray-colour --workdir runs/translation

Length, optimiser and sizes are those of the configurations quickstart and gray-colour. Each run is a directory as the
training script would write it, and comes to its digest; the same command again resumes, and trains no finished run
again. Tables, and a page of pictures with the first seed's translations, are written beside the runs.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro

from configs import cyclegan as cyclegan_configs
from genjax import cli, cyclegan, files
from genjax.cyclegan import losses
from genjax.cyclegan.config import CycleGanRun, LossConfig
from genjax.data import image_arrays, sources
from genjax.data.splits import Splits
from genjax.loading import load_translator
from genjax.train.writers import finite
from studies.translation import image_grid, rules, tables
from studies.translation.tables import Metrics

Name = Literal[
    "classic", "classic-no-identity", "mission", "mission-no-affine", "mission-identity", "residual-identity"
]


class Setting(NamedTuple):
    """A generator's form and an objective."""

    output: Literal["tanh", "residual"]
    loss: LossConfig


SETTINGS: dict[Name, Setting] = {
    "classic": Setting("tanh", losses.CLASSIC),
    "classic-no-identity": Setting("tanh", dataclasses.replace(losses.CLASSIC, identity_a=0.0, identity_b=0.0)),
    "mission": Setting("residual", losses.MISSION),
    "mission-no-affine": Setting("residual", dataclasses.replace(losses.MISSION, affine_a2b=0.0, affine_b2a=0.0)),
    "mission-identity": Setting("residual", dataclasses.replace(losses.MISSION, identity_a=0.5, identity_b=0.5)),
    "residual-identity": Setting("residual", losses.CLASSIC),
}
BASES = {"icons": cyclegan_configs.quickstart, "gray-colour": cyclegan_configs.gray_colour}
SCORES, HEALTH = ("l1", "psnr", "ssim", "iou"), ("inverted", "correlation", "change", "diversity", "cycle")
SHOWN = 6
"""Test images on the page of pictures."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Which runs."""

    source: tyro.conf.Positional[Literal["icons", "gray-colour"]]
    """An embedded set with paired test images."""
    workdir: str
    """Each run has a directory in WORKDIR/SOURCE, beside tables.md and pictures.png."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of each setting; all settings of one seed are trained before the next."""
    settings: tuple[Name, ...] = tuple(SETTINGS)
    """classic is tanh(T(G(x))) with the identity loss, mission x + T(G(x)) with affine consistency; without that loss
    they are classic-no-identity and mission-no-affine; mission-identity is x + T(G(x)) with both losses,
    residual-identity with the identity loss alone."""
    num_steps: int | None = None
    """Steps of each run, where they are not the configuration's; the rate falls over the second half."""


def main() -> dict[str, Any]:
    """Trains, writes tables and pictures, and returns the mean figures of each rule and setting."""
    options, began = tyro.cli(Study, description=__doc__), time.perf_counter()
    cli.check_different(seeds=options.seeds, settings=options.settings)
    runs = {
        (name, seed): run_of(options.workdir, options.source, name, seed, options.num_steps)
        for seed in options.seeds
        for name in options.settings
    }
    digests = {key: cli.train(cyclegan.TASK, run)["digest"] for key, run in runs.items()}

    splits = sources.load(run_of("", options.source, "classic", 0).data, seed=0)
    found: dict[tuple[Name, int], Metrics] = {key: run_figures(run.workdir, splits.test) for key, run in runs.items()}
    rows: dict[str, list[Metrics]] = {rule: [figures] for rule, figures in rule_figures(splits).items()}
    rows |= {name: [found[name, seed] for seed in options.seeds] for name in options.settings}
    tables, place = _tables(rows, found, digests), files.resolve(options.workdir) / options.source
    files.write_atomically(place / "tables.md", tables.encode())
    logging.info("\n%s", tables)
    first = {name: runs[name, options.seeds[0]].workdir for name in options.settings}
    title = f"{options.source}: unseen test images, their translations by runs of seed {options.seeds[0]}, the truth"
    page = image_grid.page(place / "pictures.png", title, pictures(first, splits))
    flat = {f"{name}.{key}": value for name, of in rows.items() for key, value in tables.mean(of).items()}
    counts = {"runs": len(runs), "seconds": round(time.perf_counter() - began, 1)}
    return {**counts, **finite(flat), "tables": str(place / "tables.md"), "page": str(page)}


def run_of(workdir: str, source: str, name: Name, seed: int, num_steps: int | None = None) -> CycleGanRun:
    """The configuration of one run, which has a directory below `workdir`; `source` may be a part of gray-colour."""
    base = BASES[source if source in BASES else "gray-colour"]()
    optim, train = base.optim, base.train
    if num_steps is not None:
        half = max(num_steps // 2, 1)
        optim = dataclasses.replace(optim, decay_steps=half)
        train = dataclasses.replace(train, num_steps=num_steps, eval_every=half, checkpoint_every=half)
    return dataclasses.replace(
        base,
        workdir=f"{workdir}/{source}/{name}-{seed}",
        seed=seed,
        data=dataclasses.replace(base.data, source=source),
        optim=optim,
        train=train,
        cyclegan=dataclasses.replace(base.cyclegan, output=SETTINGS[name].output),
        loss=SETTINGS[name].loss,
    )


def run_figures(workdir: str, test: sources.Source) -> dict[str, dict[str, float]]:
    """The figures of a finished run on test pairs, by direction; cycle is the L1 of there and back again."""
    translator, (a, b) = load_translator(workdir), test
    to_b, to_a = translator.a2b(a), translator.b2a(b)
    return {
        "a2b": rules.metrics(a, to_b, b) | {"cycle": float(np.abs(translator.b2a(to_b) - a / 255).mean())},
        "b2a": rules.metrics(b, to_a, a) | {"cycle": float(np.abs(translator.a2b(to_a) - b / 255).mean())},
    }


def rule_figures(splits: Splits) -> dict[str, dict[str, dict[str, float]]]:
    """The figures of each rule without a network, by direction."""
    (train_a, train_b), (a, b) = splits.train, splits.test
    to_b, to_a = rules.predict(a, train_b), rules.predict(b, train_a)
    return {name: {"a2b": rules.metrics(a, to_b[name], b), "b2a": rules.metrics(b, to_a[name], a)} for name in to_b}


def pictures(workdirs: Mapping[Name, str], splits: Splits) -> dict[str, np.ndarray]:
    """The rows of a page, from the input by way of histogram matching and the runs' translations to the truth."""
    a, b = (images[np.linspace(0, len(images) - 1, SHOWN).astype(int)] for images in splits.test)
    matched = rules.match_histograms(splits.test[0], splits.train[1])
    rows: dict[str, np.ndarray] = {
        "input": a,
        "histogram matching": matched[np.linspace(0, len(matched) - 1, SHOWN).astype(int)],
    }
    rows |= {name: image_arrays.to_uint8(load_translator(workdir).a2b(a)) for name, workdir in workdirs.items()}
    return rows | {"truth": b}


def _tables(
    rows: Mapping[str, Sequence[Metrics]], runs: Mapping[tuple[Name, int], Metrics], digests: Mapping[Any, str]
) -> str:
    """Of rules and settings, scores in each direction and health; then the scores of every run."""
    (copy,) = rows["copy"]
    flags = [", ".join(_flags(of, copy)) for of in rows.values()]
    scores = {test: [(test, name) for name in SCORES] for test in tables.DIRECTIONS}
    rows = {f"`{name}`" if name in SETTINGS else name.replace("_", " "): of for name, of in rows.items()}
    every = {f"`{name}`, seed {seed}": [figures] for (name, seed), figures in runs.items()}
    short = [f"`{digests[key][:8]}`" for key in runs]
    return "\n\n".join((
        tables.table("translation", rows, scores["a2b"]),
        tables.table("translation", rows, scores["b2a"]),
        tables.table("translation", rows, [("a2b", name) for name in HEALTH], {"warnings": flags}),
        tables.table("run", every, scores["a2b"] + scores["b2a"], {"digest": short}),
    ))  # fmt: skip


def _flags(runs: Sequence[Metrics], copy: Metrics) -> list[str]:
    """Each flag that is up, with its direction and, of several runs, in how many."""
    up = [
        f"{flag} {words}"
        for run in runs
        for test, words in tables.DIRECTIONS.items()
        for flag in rules.warnings(run[test], copy[test])
    ]
    return [f"{flag} ({up.count(flag)} of {len(runs)})" if len(runs) > 1 else flag for flag in dict.fromkeys(up)]


if __name__ == "__main__":
    cli.run(main)

"""Trains and scores VAEs of table 1 of Burda, Grosse and Salakhutdinov 2016 on MNIST.

$ python experiments/study.py likelihood vae-1-1 --source npz:mnist.npz --workdir runs/likelihood
$ python experiments/study.py likelihood vae-2-1 iwae-1-5 --source npz:mnist.npz --workdir runs/likelihood

Rows are OBJECTIVE-LAYERS-K: vae or iwae, with one or two stochastic layers, and k draws in a step. Networks, pixels
(binarised anew at each step) and score (importance weighting by 5,000 draws, on the 10,000 test digits) are the
paper's; batches, rates and number of steps are not. Each run is an ordinary one in WORKDIR/ROW/seed-K. The same command
resumes; what is finished is not done again. The page about all rows that WORKDIR holds is written at the end.
"""

import dataclasses
import itertools
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tyro
from etils import epath

import likelihood
import seed_study
from genjax import files, flag_help
from genjax.checks import require
from genjax.config import OptimConfig, TrainConfig
from genjax.data.config import DataConfig
from genjax.files import Json
from genjax.train import config_file
from genjax.train.rows import read_rows
from genjax.vae.config import VaeConfig, VaeRun
from studies import markdown


class Row(NamedTuple):
    """A row of the paper's table."""

    objective: str
    layers: int
    k: int
    nll: float  # the paper's, in nats

    @property
    def title(self) -> str:
        """The row in words."""
        return f"{self.objective.upper()}, {self.layers} layer{'s'[: self.layers - 1]}, k = {self.k}"


PAPER = {
    ("vae", 1): (86.76, 86.47, 86.35),
    ("iwae", 1): (86.76, 85.54, 84.78),
    ("vae", 2): (85.33, 85.01, 84.78),
    ("iwae", 2): (85.33, 83.89, 82.90),
}
"""-log p(x) of test digits for k = 1, 5 and 50."""

ROWS = {
    f"{objective}-{layers}-{k}": Row(objective, layers, k, nll)
    for (objective, layers), found in PAPER.items()
    for k, nll in zip((1, 5, 50), found, strict=True)
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: the rows, where their digits are, and how long to train and score."""

    rows: tyro.conf.Positional[tuple[str, ...]]
    """Rows to train and score, such as vae-1-1; none writes the page alone."""
    source: str
    """All of MNIST: npz:FILE, or tfds:mnist."""
    workdir: str
    """Directory for the runs."""
    page: str = ""
    """File for the page; WORKDIR/likelihood.md if empty."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of each row."""
    steps: int = 500_000
    """Steps of each training."""
    batch_size: int = 100
    """Digits in a step (the paper: 20)."""
    learning_rate: float = 1.5e-3
    """Peak of the learning rate, which falls to 0 as a cosine (the paper: 1e-3 to 1e-4 in eight steps)."""
    eps: float = 1e-8
    """Adam's epsilon (the paper: 1e-4)."""
    num: int = 10_000
    """Test digits to score."""
    samples: int = 5000
    """Draws for each of them."""

    def __post_init__(self) -> None:
        unknown = [row for row in self.rows if row not in ROWS]
        require(not unknown, f"rows are {', '.join(ROWS)}, got {', '.join(unknown)}")
        require(len(set(self.seeds)) == len(self.seeds) >= 1, f"--seeds needs different seeds, got {self.seeds}")


def main() -> dict[str, Any]:
    """Trains and scores the rows, writes the page, and returns the scores."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    results: dict[str, Any] = {}
    for name in options.rows:
        runs = {f"seed-{seed}": run_config(options, name, seed) for seed in options.seeds}
        seed_study.train(runs)
        scored = [score(options, run.workdir) for run in runs.values()]
        results |= {
            f"{name}.{each}": float(np.mean([one[each] for one in scored])) for each in ("nll", "negative_elbo")
        }
    page = files.resolve(options.page) if options.page else files.resolve(options.workdir) / "likelihood.md"
    page.write_text(written(options))
    return {**results, "page": str(page)}


def run_config(options: Options, name: str, seed: int) -> VaeRun:
    """Returns the configuration of a row's training."""
    row = ROWS[name]
    chain = {"architecture": "chain", "groups": (50, 100), "upper_sizes": (100, 100)}
    networks = chain if row.layers == 2 else {"architecture": "mlp", "latent_dim": 50}
    return VaeRun(
        workdir=f"{options.workdir}/{name}/seed-{seed}",
        seed=seed,
        data=DataConfig(
            source=options.source, image_size=(28, 28), channels=(1,), batch_size=options.batch_size,
            binarize="stochastic", holdout=0.01,
        ),
        optim=OptimConfig(
            learning_rate=options.learning_rate, schedule="cosine", warmup=0.01, b2=0.99, eps=options.eps,
            ema_decay=0.9995,
        ),
        train=TrainConfig(
            num_steps=options.steps, log_every=500, eval_every=5000, checkpoint_every=5000, steps_per_dispatch=50
        ),
        vae=VaeConfig(
            hidden_sizes=(200, 200), activation="tanh", centred=False,
            objective="iwae" if row.objective == "iwae" else "elbo", train_draws=row.k, validation_draws=16, **networks,
        ),
    )  # fmt: skip


def score(options: Options, workdir: str) -> Json:
    """Estimates log p(x) of a trained run, unless its directory holds the same estimate."""
    asked = likelihood.Options(workdir=workdir, num=options.num, samples=options.samples)
    (found,) = (*scores(files.resolve(workdir), asked), None)[:1]
    if found is None:
        logging.info("scoring %s", workdir)
        likelihood.estimate(asked)
        (found,) = scores(files.resolve(workdir), asked)
    return found


def scores(workdir: epath.Path, asked: likelihood.Options | None = None) -> list[Json]:
    """Reads the importance-weighted estimates of a run's last step: those of a protocol, or all."""
    step = config_file.load(workdir, VaeRun).train.num_steps
    found = [one for one in likelihood.read(workdir / f"likelihood-{step}.json") if one["method"] == "iwae"]
    if asked is None:
        return found
    sought = (asked.num, asked.samples, asked.seed)
    return [one for one in found if tuple(one["protocol"][name] for name in ("images", "samples", "seed")) == sought]


def written(options: Options) -> str:
    """Returns the page: what was run, and a table of all scored rows beside the paper's."""
    lines = [line for name in ROWS for line in table_lines(files.resolve(options.workdir), name)]
    environments = sorted(
        {hardware(path) for path in files.resolve(options.workdir).glob("*-*-*/seed-*/environment.json")}
    )
    header = [
        "row", "paper", "ours", "± images", "± draws", "-ELBO", "active units", "seeds", "steps", "digits a step",
        "rate", "test digits, draws", "minutes", "digests",
    ]  # fmt: skip
    return "\n".join([
        "# Likelihood: table 1 of Burda, Grosse and Salakhutdinov 2016",
        "",
        "-log p(x) of MNIST's test digits in nats, lower is better; means over the seeds. This page is written by",
        "",
        "    python experiments/study.py likelihood ROW ... --source npz:FILE --workdir DIR --page FILE",
        "",
        "whose help says what is the paper's here and what is not. The paper's figures are those of dynamically",
        "binarised digits. Errors: if there were as many other test digits, and if the noise of the score were drawn",
        "anew. Active units are those of each group of latents, the one next to the pixels last. Minutes are those of",
        "the training, beside whatever else the machine did.",
        "",
        markdown.table(header, lines) if lines else "No row is scored yet.",
        "",
        *environments,
        "",
    ])  # fmt: skip


def table_lines(workdir: epath.Path, name: str) -> Iterator[list[str]]:
    """Yields a line for each protocol of each way in which the row was trained."""
    runs = [path.parent for path in sorted(workdir.glob(f"{name}/seed-*/result.json"))]
    found = [(run, config_file.load(run, VaeRun), one) for run in runs for one in scores(run)]

    def alike(entry: tuple[epath.Path, VaeRun, Json]) -> str:
        _, config, one = entry
        return repr(([one["protocol"][key] for key in ("images", "samples", "seed")], config.optim, config.train))

    for _, group in itertools.groupby(sorted(found, key=alike), alike):
        entries = list(group)
        config, one = entries[0][1:]

        def mean(key: str, entries: list[Any] = entries) -> float:
            return float(np.mean([one[key] for *_, one in entries]))

        yield [
            ROWS[name].title,
            f"{ROWS[name].nll:.2f}",
            f"{mean('nll'):.2f}",
            f"{mean('nll_image_se'):.2f}",
            f"{mean('nll_draw_se'):.3f}",
            f"{mean('negative_elbo'):.2f}",
            "; ".join("+".join(map(str, one["active_units_per_group"])) for *_, one in entries),
            ", ".join(run.name.removeprefix("seed-") for run, *_ in entries),
            f"{config.train.num_steps:,}",
            str(config.data.batch_size),
            f"{config.optim.learning_rate:g}",
            f"{one['protocol']['images']:,}, {one['protocol']['samples']:,}",
            ", ".join(f"{minutes(run, config):.0f}" for run, *_ in entries),
            " ".join(f"`{files.read_json(run / 'result.json')['digest'][:8]}`" for run, *_ in entries),
        ]


def minutes(run: epath.Path, config: VaeRun) -> float:
    """Returns the minutes of a run's training, over all commands that continued it."""
    total, before = 0.0, 0
    for row in read_rows(run / "timing.jsonl"):
        if "images_per_second" in row and row["step"] > before:
            total += (row["step"] - before) * config.data.batch_size / row["images_per_second"]
            before = row["step"]
    return total / 60


def hardware(path: epath.Path) -> str:
    """Returns what a run was trained on and with, as a sentence."""
    found = files.read_json(path)
    versions = ", ".join(f"{name} {version}" for name, version in found["packages"].items() if name != "genjax-images")
    return (
        f"Trained on {found['threads']} cores, {found['devices']} {found['device']} device(s); Python "
        f"{found['python']}, {versions}; {found['precision']}."
    )

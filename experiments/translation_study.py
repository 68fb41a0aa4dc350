"""Trains the objectives and forms of CycleGAN side by side, and scores them on pairs that training never saw.

$ python experiments/translation_study.py icons --workdir runs/translation
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import _start
import cyclegan_configs
import tyro

from genjax import cyclegan
from genjax.config import CycleGanRun, LossConfig
from genjax.cyclegan import losses


class Setting(NamedTuple):
    """A generator's form and an objective."""

    output: Literal["tanh", "residual"]
    loss: LossConfig


SETTINGS = {
    "classic": Setting("tanh", losses.CLASSIC),
    "classic-no-identity": Setting("tanh", dataclasses.replace(losses.CLASSIC, identity_a=0.0, identity_b=0.0)),
    "mission": Setting("residual", losses.MISSION),
    "mission-no-affine": Setting("residual", dataclasses.replace(losses.MISSION, affine_a2b=0.0, affine_b2a=0.0)),
    "residual-identity": Setting("residual", losses.CLASSIC),
    "classic-affine": Setting(
        "tanh",
        dataclasses.replace(losses.CLASSIC, identity_a=0.0, identity_b=0.0, affine_a2b=10.0, affine_b2a=10.0),
    ),
}
BASES = {
    "icons": cyclegan_configs.quickstart,
    "gray-colour": cyclegan_configs.gray_colour,
    "gray-colour-west": cyclegan_configs.gray_colour,
    "gray-colour-east": cyclegan_configs.gray_colour,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Which runs."""

    source: tyro.conf.Positional[Literal["icons", "gray-colour", "gray-colour-west", "gray-colour-east"]]
    workdir: str
    seeds: tuple[int, ...] = (0, 1, 2)
    settings: tuple[str, ...] = tuple(SETTINGS)


def run_of(options: Study, name: str, seed: int) -> CycleGanRun:
    base = BASES[options.source]()
    setting = SETTINGS[name]
    return dataclasses.replace(
        base,
        workdir=f"{options.workdir}/{options.source}/{name}-{seed}",
        seed=seed,
        data=dataclasses.replace(base.data, source=options.source),
        cyclegan=dataclasses.replace(base.cyclegan, output=setting.output),
        loss=setting.loss,
    )


def main() -> dict[str, Any]:
    options = tyro.cli(Study, description=__doc__)
    found = {}
    for seed in options.seeds:
        for name in options.settings:
            found[f"{name}-{seed}"] = _start.train(cyclegan.TASK, run_of(options, name, seed))["l1_a2b"]
    return found


if __name__ == "__main__":
    _start.run(main)

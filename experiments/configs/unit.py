"""Named UNIT configurations. Each says its command, hardware, time, and the result to expect.

Results are for the test images with seed 0; experiments/results/unit.md describes the measurements.
"""

import dataclasses
from collections.abc import Callable

from genjax.unit import losses
from genjax.unit.config import UnitConfig, UnitRun

from . import cyclegan

SMALL = UnitConfig(base_channels=32, num_blocks=2, discriminator_channels=32)
"""Networks for 32x32 images."""


def icons() -> UnitRun:
    """Outlines of icons to filled icons at 32x32, with the images, rates and steps of CycleGAN's `quickstart`.

    $ python experiments/train_unit.py icons --workdir runs/unit-icons

    Hardware: 2 CPU cores. Time: 3 minutes of CPU, 14 beside much other work. Result: L1 0.141 to the truth, IoU of ink
    0.614; CycleGAN's `quickstart` has 0.143, 0.605 and copying 0.171, 0.459.
    """
    run = cyclegan.quickstart()
    return UnitRun(data=run.data, optim=run.optim, train=run.train, unit=SMALL, loss=losses.UNIT)


def folder() -> UnitRun:
    """Two folders of your own photographs at 256x256, with the paper's weights, on CycleGAN's images and rates.

    $ python experiments/train_unit.py folder --workdir runs/photos --data.source folder:PATH_A,PATH_B

    Hardware: one GPU. Time: 500,000 steps of one image. Result: depends on the photographs; not measured here.
    """
    run = cyclegan.folder()
    train = dataclasses.replace(run.train, num_steps=500_000)
    return UnitRun(data=run.data, optim=run.optim, train=train, unit=UnitConfig(), loss=losses.UNIT)


CONFIGS: dict[str, Callable[[], UnitRun]] = {"icons": icons, "folder": folder}
"""Named configurations."""

"""Named CUT configurations. Each says its command, hardware, time, and the result to expect.

Results are for the test images with seed 0; experiments/results/cut.md describes the measurements.
"""

import dataclasses
from collections.abc import Callable

from genjax.cut import losses
from genjax.cut.config import CutConfig, CutRun

from . import cyclegan

SMALL = CutConfig(
    base_channels=32, num_blocks=3, discriminator_channels=32,
    features=("down_1", "down_2", "block_1", "block_3"), num_patches=64,
)  # fmt: skip
"""Networks for 32x32 images, whose deepest features have 64 places."""


def icons() -> CutRun:
    """Outlines of icons to filled icons at 32x32, with the images, rates and steps of CycleGAN's configuration.

    The image itself is not among the features: filling changes pixels, which its PatchNCE would prevent.

    $ python experiments/train_cut.py icons --workdir runs/cut-icons

    Hardware: 2 CPU cores. Time: 9 minutes of CPU, 42 beside much other work. Result: L1 0.107 to the truth, IoU of ink
    0.711; CycleGAN has 0.110, 0.692 and copying 0.171, 0.460.
    """
    run = cyclegan.icons()
    return CutRun(data=run.data, optim=run.optim, train=run.train, cut=SMALL, loss=losses.CUT)


def folder() -> CutRun:
    """Two folders of your own photographs at 256x256, with CUT's weights and networks, but for their plain strides.

    $ python experiments/train_cut.py folder --workdir runs/photos --data.source folder:PATH_A,PATH_B

    Hardware: one GPU. Time: 533,600 steps of one image, which is 400 epochs of horse2zebra. Result: depends on the
    photographs; not measured here.
    """
    run = cyclegan.folder()
    train = dataclasses.replace(run.train, num_steps=533_600)
    return CutRun(data=run.data, optim=run.optim, train=train, cut=CutConfig(), loss=losses.CUT)


def folder_fast() -> CutRun:
    """The same by FastCUT: no loss on images of B, and half of the images are mirrored.

    $ python experiments/train_cut.py folder-fast --workdir runs/photos --data.source folder:PATH_A,PATH_B

    Hardware: one GPU. Time: 266,800 steps of one image. Result: depends on the photographs; not measured here.
    """
    run = folder()
    return dataclasses.replace(
        run,
        optim=dataclasses.replace(run.optim, decay=0.25),
        train=dataclasses.replace(run.train, num_steps=266_800),
        cut=dataclasses.replace(run.cut, mirror=True),
        loss=losses.FAST_CUT,
    )


CONFIGS: dict[str, Callable[[], CutRun]] = {"icons": icons, "folder": folder, "folder-fast": folder_fast}
"""Named configurations."""

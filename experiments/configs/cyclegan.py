"""Named CycleGAN configurations. Each says its command, hardware, time, and the result to expect.

Results are for the test images with seed 0; experiments/results/cyclegan.md describes the measurements.
"""

import dataclasses

from genjax.config import OptimConfig, TrainConfig
from genjax.cyclegan import losses
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun
from genjax.data.config import DataConfig

SMALL = CycleGanConfig(base_channels=32, num_blocks=3, discriminator_channels=32)
"""Networks for 32x32 images, with 1.8 million parameters."""


def quickstart() -> CycleGanRun:
    """Outlines of icons to filled icons at 32x32, as in quickstart.py.

    $ python experiments/train_cyclegan.py quickstart --workdir runs/quickstart/cyclegan

    Hardware: 2 CPU cores. Time: 1.5 minutes. Result: L1 0.143 to the truth, IoU of ink 0.605; copying has 0.171, 0.460.
    """
    return CycleGanRun(
        data=DataConfig(source="icons", image_size=(32, 32), channels=(1, 1), batch_size=4, paired=True, flip=True),
        optim=OptimConfig(learning_rate=8e-4, b1=0.5, schedule="linear", ema_decay=0.99),
        train=TrainConfig(num_steps=350, log_every=50, eval_every=175, checkpoint_every=175, num_sample_images=24),
        cyclegan=SMALL,
        loss=losses.CLASSIC,
    )


def icons() -> CycleGanRun:
    """Outlines of icons to filled icons at 32x32, trained for longer.

    $ python experiments/train_cyclegan.py icons --workdir runs/icons

    Hardware: 2 CPU cores. Time: 6 minutes. Result: L1 0.110 to the truth, IoU of ink 0.692; copying has 0.171, 0.460.
    """
    run = quickstart()
    optim = dataclasses.replace(run.optim, learning_rate=4e-4, ema_decay=0.999)
    train = TrainConfig(num_steps=2500, log_every=100, eval_every=500, checkpoint_every=500, num_sample_images=24)
    return dataclasses.replace(run, optim=optim, train=train)


def gray_colour() -> CycleGanRun:
    """Grey satellite photographs to coloured ones at 32x32, as x + T(G(x)).

    Instance normalisation removes the mean level of an image, and here the level tells the colour: many of these tiles
    are nearly uniform. So the generators normalise all channels together. Affine consistency prevents patterns that the
    identity loss allows; the identity loss prevents tints that affine consistency allows.

    $ python experiments/train_cyclegan.py gray-colour --workdir runs/gray-colour

    Hardware: 2 CPU cores. Time: 3 minutes. Result: L1 0.0334 to the truth, 0.0315 as a mean of three seeds;
    copying scores 0.0679, matching the histograms of the two domains 0.0387.
    """
    data = DataConfig(source="gray-colour", image_size=(32, 32), channels=(3, 3), batch_size=4, paired=True, flip=True)
    return CycleGanRun(
        data=data,
        optim=OptimConfig(learning_rate=2e-4, b1=0.5, schedule="linear"),
        train=TrainConfig(num_steps=1200, log_every=50, eval_every=300, checkpoint_every=300, num_sample_images=24),
        cyclegan=dataclasses.replace(SMALL, output="residual", generator_norm="layer"),
        loss=dataclasses.replace(losses.MISSION, identity_a=0.5, identity_b=0.5),
    )


def satellite_relief() -> CycleGanRun:
    """Satellite photographs to shaded relief maps at 32x32: a demonstration.

    $ python experiments/train_cyclegan.py satellite-relief --workdir runs/satellite-relief

    Hardware: 2 CPU cores. Time: 5 minutes. Result: L1 0.073 to the truth. These maps are pale everywhere, so their
    median colour alone scores better, 0.067; copying the photograph scores 0.385. Translations are pale like the maps,
    but hardly distinguish land from sea, or plains from mountains.
    """
    run = gray_colour()
    return dataclasses.replace(
        run,
        data=dataclasses.replace(run.data, source="satellite-relief"),
        optim=dataclasses.replace(run.optim),
        train=TrainConfig(num_steps=1500, log_every=100, eval_every=500, checkpoint_every=500, num_sample_images=24),
        cyclegan=SMALL,
        loss=losses.CLASSIC,
    )


def faces_glasses() -> CycleGanRun:
    """Drawn faces to faces with glasses at 32x32, as x + T(G(x)): a demonstration.

    Faces that train bare never train with glasses. All glasses are of one kind and have one place in the image.

    $ python experiments/train_cyclegan.py faces-glasses --workdir runs/faces-glasses

    Hardware: 2 CPU cores. Time: 12 minutes, beside other work. Result: L1 0.0047 to the truth; copying has 0.0141.
    """
    data = DataConfig(source="faces-glasses", image_size=(32, 32), channels=(3, 3), batch_size=4, paired=True)
    return CycleGanRun(
        data=data,
        optim=OptimConfig(learning_rate=4e-4, b1=0.5, schedule="linear", ema_decay=0.999),
        train=TrainConfig(num_steps=2500, log_every=100, eval_every=500, checkpoint_every=500, num_sample_images=24),
        cyclegan=dataclasses.replace(SMALL, output="residual"),
        loss=losses.CLASSIC,
    )


def pix2pix() -> CycleGanRun:
    """Outlines of icons to filled icons at 32x32 from pairs, in both directions: the objective of Isola et al. 2017.

    $ python experiments/train_cyclegan.py pix2pix --workdir runs/pix2pix
    $ python experiments/train_cyclegan.py pix2pix --workdir runs/pix2pix --data.source pairs:PATH

    Networks and optimiser are those of quickstart. Discriminators see the input too, there is no pool, and the L1 to
    the truth weighs 100.

    Hardware: 2 CPU cores. Time: 2 minutes, beside other work. Result: L1 0.0875 to the truth, IoU of ink 0.755; copying
    has 0.171, 0.460.
    """
    run = quickstart()
    return dataclasses.replace(
        run,
        data=dataclasses.replace(run.data, source="icons-pairs", train_pairs=True),
        optim=dataclasses.replace(run.optim),
        train=dataclasses.replace(run.train, num_steps=200, eval_every=100, checkpoint_every=100),
        cyclegan=dataclasses.replace(SMALL, conditional=True, pool_size=0),
        loss=losses.PIX2PIX,
    )


def folder() -> CycleGanRun:
    """Two folders of your own photographs at 256x256, with the networks and weights of the paper.

    $ python experiments/train_cyclegan.py folder --workdir runs/photos --data.source folder:PATH_A,PATH_B
    $ python experiments/train_cyclegan.py folder --workdir runs/photos --data.source folder:PATH

    PATH holds the folders trainA and trainB, and optionally testA and testB. To try it on a CPU:
    --data.image-size 64 64 --cyclegan.base-channels 16 --cyclegan.num-blocks 3 --cyclegan.discriminator-channels 16
    --train.num-steps 500.

    Hardware: one GPU. Time: 266,800 steps of one image, which is 200 epochs of horse2zebra. Result: depends on the
    photographs; not measured here.
    """
    return CycleGanRun(
        data=DataConfig(
            source="folder:photos", image_size=(256, 256), channels=(3, 3), batch_size=1, flip=True,
            load_scale=(286 / 256,), resize="stretch",
        ),
        optim=OptimConfig(learning_rate=2e-4, b1=0.5, schedule="linear"),
        train=TrainConfig(num_steps=266_800, log_every=100, eval_every=6670, checkpoint_every=6670,
                          num_sample_images=16),
        cyclegan=CycleGanConfig(),
        loss=losses.CLASSIC,
    )  # fmt: skip


def horse2zebra() -> CycleGanRun:
    """The paper's horses to zebras, as its implementations train them: all 1,067 and 1,334 images, 200 epochs.

    $ python experiments/train_cyclegan.py horse2zebra --workdir runs/horse2zebra
    $ python experiments/train_cyclegan.py horse2zebra --workdir runs/horse2zebra --data.source folder:horse2zebra

    Hardware: one GPU. Time: 266,800 steps. Result: not measured here; published FIDs of other implementations after the
    last epoch are 62 to 77.
    """
    run = folder()
    return dataclasses.replace(
        run,
        data=dataclasses.replace(run.data, source="tfds:cycle_gan/horse2zebra", holdout=0.0),
        optim=dataclasses.replace(run.optim, steps_per_epoch=1334),
    )


def cats_dogs() -> CycleGanRun:
    """Cats to dogs at 128x128, by the label of 23,262 photographs, or from folders.

    $ python experiments/train_cyclegan.py cats-dogs --workdir runs/cats-dogs
    $ python experiments/train_cyclegan.py cats-dogs --workdir runs/cats-dogs --data.source folder:cats-dogs

    Hardware: one GPU. Time: 200,000 steps of 4 images. Result: not measured here.
    """
    run = folder()
    return dataclasses.replace(
        run,
        data=DataConfig(
            source="tfds:cats_vs_dogs", image_size=(128, 128), channels=(3, 3), batch_size=4, flip=True,
            load_scale=(143 / 128,), upscale=True, skip_corrupt=True,
        ),
        optim=dataclasses.replace(run.optim),
        train=dataclasses.replace(run.train, num_steps=200_000, eval_every=10_000, checkpoint_every=10_000),
        cyclegan=CycleGanConfig(num_blocks=6),
    )  # fmt: skip


def mission() -> CycleGanRun:
    """Satellite photographs to maps at 256x256 as x + T(G(x)), with affine consistency instead of the identity loss.

    $ python experiments/train_cyclegan.py mission --workdir runs/mission
    $ python experiments/train_cyclegan.py mission --workdir runs/mission --data.source folder:maps

    Hardware: one GPU. Time: 200,000 steps of one image. Result: not measured here.
    """
    run = folder()
    return dataclasses.replace(
        run,
        data=dataclasses.replace(run.data, source="tfds:cycle_gan/maps", holdout=0.0),
        optim=dataclasses.replace(run.optim),
        train=dataclasses.replace(run.train, num_steps=200_000, eval_every=10_000, checkpoint_every=10_000),
        cyclegan=CycleGanConfig(output="residual"),
        loss=losses.MISSION,
    )


CONFIGS = {
    "quickstart": quickstart,
    "icons": icons,
    "gray-colour": gray_colour,
    "satellite-relief": satellite_relief,
    "faces-glasses": faces_glasses,
    "pix2pix": pix2pix,
    "folder": folder,
    "horse2zebra": horse2zebra,
    "cats-dogs": cats_dogs,
    "mission": mission,
}

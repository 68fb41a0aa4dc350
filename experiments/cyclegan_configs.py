"""Named CycleGAN configurations."""

from genjax.config import CycleGanConfig, CycleGanRun, DataConfig, OptimConfig, TrainConfig
from genjax.cyclegan import losses


def quickstart() -> CycleGanRun:
    """A small CycleGAN."""
    return CycleGanRun(
        data=DataConfig(source="icons", image_size=(32, 32), channels=(1, 1), batch_size=4, paired=True, flip=True),
        optim=OptimConfig(learning_rate=4e-4, b1=0.5, schedule="linear", decay_steps=500),
        train=TrainConfig(num_steps=1000, log_every=50, eval_every=250, checkpoint_every=500, num_pictures=32),
        cyclegan=CycleGanConfig(width=32, blocks=3, discriminator_width=32),
        loss=losses.CLASSIC,
    )


CONFIGS = {"quickstart": quickstart}

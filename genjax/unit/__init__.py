"""UNIT (Liu et al. 2017): translation between two domains by VAEs that share a latent."""

import functools

from genjax.evaluation import perceptual
from genjax.gan.networks import DISCRIMINATORS
from genjax.gan.starts import DISCRIMINATOR, make_starts
from genjax.gan.task_fields import shared
from genjax.gan.terms import Terms
from genjax.task import Task
from genjax.unit import losses, nets, sampling, steps
from genjax.unit.config import UnitRun

UnitTask = Task[UnitRun, steps.UnitState]


def make_task(make_networks: nets.MakeNetworks = nets.make_networks, terms: Terms = losses.TERMS) -> UnitTask:
    """Makes the task of UNIT, with your own networks or loss terms if given."""
    starts = make_starts("unit", ("a2b", "b2a"), dict.fromkeys(DISCRIMINATORS, DISCRIMINATOR), ("shared_blocks",))
    return Task(
        name="unit",
        config_class=UnitRun,
        title="UNIT",
        headline=("cycle_a", "g_loss", "d_a_loss", "l1_a2b", "l1_b2a", "cycle_a2b", "cycle_b2a"),
        init=functools.partial(steps.init, make_networks=make_networks),
        train_step=functools.partial(steps.train_step, make_networks=make_networks, terms=terms),
        visualize=functools.partial(sampling.visualize, make_networks=make_networks),
        scores={"l1": ("l1_a2b", "l1_b2a")},
        # Files of PyTorch hold CycleGAN's generators, which share nothing.
        starts=starts._replace(begin=steps.begin, read_torch=None),
        load_constants=perceptual.load,
        **shared(make_networks),
    )


TASK: UnitTask = make_task()

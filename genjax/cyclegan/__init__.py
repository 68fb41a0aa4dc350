"""CycleGAN (Zhu et al. 2017): translation between two domains of unpaired images."""

import functools
from typing import Any

from genjax.cyclegan import classifiers, keep_mask, losses, nets, steps
from genjax.cyclegan.config import CycleGanRun, LossConfig
from genjax.evaluation import perceptual
from genjax.gan import evaluation
from genjax.gan import terms as loss_terms
from genjax.gan.networks import DISCRIMINATORS
from genjax.gan.starts import DISCRIMINATOR, make_starts
from genjax.gan.task_fields import shared
from genjax.task import Task

CycleGanTask = Task[CycleGanRun, steps.CycleGanState]


def make_task(
    make_networks: nets.MakeNetworks = nets.make_networks, terms: loss_terms.Terms = losses.TERMS
) -> CycleGanTask:
    """Makes the task of a CycleGAN, with your own networks or loss terms if given."""
    return Task(
        name="cyclegan",
        config_class=CycleGanRun,
        title="CycleGAN",
        headline=("cycle_a", "g_loss", "d_a_loss", "l1_a2b", "l1_b2a", "cycle_a2b", "cycle_b2a"),
        init=functools.partial(steps.init, make_networks=make_networks),
        train_step=functools.partial(steps.train_step, make_networks=make_networks, terms=terms),
        visualize=functools.partial(evaluation.visualize, make_networks=make_networks),
        scores={"l1": ("l1_a2b", "l1_b2a")},
        starts=make_starts("cyclegan", ("a2b", "b2a"), dict.fromkeys(DISCRIMINATORS, DISCRIMINATOR), ("conditional",)),
        load_constants=functools.partial(_load_constants, terms=terms),
        **shared(make_networks),
    )


def _load_constants(config: CycleGanRun, terms: loss_terms.Terms) -> tuple[CycleGanRun, dict[str, Any]]:
    """Checks the names of terms and weights, and loads classifiers, the keep_mask and the perceptual features."""
    loss_terms.check_names(config.loss, terms, LossConfig)
    config, held = classifiers.load(config)
    config, mask = keep_mask.load(config)
    config, features = perceptual.load(config)
    return config, {**held, **mask, **features}


TASK: CycleGanTask = make_task()

"""CUT and FastCUT (Park et al. 2020): one-sided translation by contrasting patches, with a single generator."""

import functools

from genjax.cut import losses, nets, steps
from genjax.cut.config import CutRun
from genjax.gan import evaluation
from genjax.gan.starts import DISCRIMINATOR, make_starts
from genjax.gan.task_fields import shared
from genjax.gan.terms import Terms
from genjax.task import Task

CutTask = Task[CutRun, steps.CutState]


def make_task(make_networks: nets.MakeNetworks = nets.make_networks, terms: Terms = losses.TERMS) -> CutTask:
    """Makes the task of CUT, with your own networks or loss terms if given."""
    return Task(
        name="cut",
        config_class=CutRun,
        title="CUT",
        headline=("nce_a", "g_loss", "d_b_loss", "l1_a2b", "kid_a2b"),
        init=functools.partial(steps.init, make_networks=make_networks),
        train_step=functools.partial(steps.train_step, make_networks=make_networks, terms=terms),
        visualize=functools.partial(evaluation.visualize, make_networks=make_networks),
        scores={"l1": ("l1_a2b",)},
        starts=make_starts("cut", ("a2b",), {"d_b": DISCRIMINATOR, "heads": ("features",)}, ("features", "head_units")),
        **shared(make_networks),
    )


TASK: CutTask = make_task()

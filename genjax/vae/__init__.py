"""The variational autoencoder (Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014)."""

import functools

from genjax.evaluation import perceptual
from genjax.evaluation.per_image import per_image_means
from genjax.task import Task
from genjax.vae import generation, monitor, steps
from genjax.vae.config import VaeRun
from genjax.vae.model import MakeModel, from_config
from genjax.vae.usage import active_units


def make_task(make_model: MakeModel = from_config) -> Task[VaeRun, steps.VaeState]:
    """Makes the task that trains VAEs with the networks that `make_model(config)` returns."""
    return Task(
        name="vae",
        config_class=VaeRun,
        title="VAE",
        headline=("elbo", "rate", "distortion"),
        units="likelihoods in nats per image",
        init=functools.partial(steps.init, make_model=make_model),
        train_step=functools.partial(steps.train_step, make_model=make_model),
        evaluators=(
            per_image_means(
                functools.partial(steps.eval_step, make_model=make_model), steps.summarize, steps.num_draws
            ),
            functools.partial(active_units, make_model=make_model),
        ),
        visualize=functools.partial(steps.visualize, make_model=make_model),
        scores={"elbo": ("negative_elbo",)},
        generate=functools.partial(generation.compile_generate, make_model=make_model),
        monitor=functools.partial(monitor.make_monitor, make_model=make_model),
        starts=steps.STARTS,
        load_constants=perceptual.load,
    )


TASK = make_task()

"""The variational autoencoder (Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014)."""

from genjax.evaluation.per_image import per_image_means
from genjax.task import Task
from genjax.vae import steps
from genjax.vae.config import VaeRun

TASK: Task[VaeRun, steps.VaeState] = Task(
    name="vae",
    config_class=VaeRun,
    units="likelihoods in nats per image",
    init=steps.init,
    train_step=steps.train_step,
    evaluators=(per_image_means(steps.eval_step),),
    visualize=steps.visualize,
    score=steps.score,
)

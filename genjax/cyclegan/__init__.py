"""CycleGAN (Zhu et al. 2017): translation between two domains of images that come in no pairs."""

from genjax.cyclegan import monitor, semantic, steps
from genjax.cyclegan.config import CycleGanRun
from genjax.evaluation.per_image import per_image_means
from genjax.task import Task

TASK: Task[CycleGanRun, steps.CycleGanState] = Task(
    name="cyclegan",
    config_class=CycleGanRun,
    units="pixels in [0, 1]",
    init=steps.init,
    train_step=steps.train_step,
    evaluators=(per_image_means(steps.eval_step, steps.summarize),),
    visualize=steps.visualize,
    score=steps.score,
    monitor=monitor.watch,
    load_constants=semantic.load_classifiers,
)

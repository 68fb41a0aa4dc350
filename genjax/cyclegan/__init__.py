"""CycleGAN (Zhu et al. 2017): translation between two domains of images that come in no pairs."""

from genjax.cyclegan import steps
from genjax.task import Task

TASK = Task(steps.init, steps.train_step, steps.eval_step, steps.visualize, steps.figures, steps.score)

"""The variational autoencoder (Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014)."""

from genjax.task import Task
from genjax.vae import steps

TASK = Task(steps.init, steps.train_step, steps.eval_step, steps.visualize, steps.figures, steps.score, None)

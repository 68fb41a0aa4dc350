"""The table of families: commands, run directories, reports and studies read it, and nothing else lists them."""

from genjax import cyclegan, vae
from genjax.config import RunConfig
from genjax.task import Task

FAMILIES: dict[str, Task] = {task.name: task for task in (vae.TASK, cyclegan.TASK)}


def task_of(config: RunConfig) -> Task:
    """Returns the task that trains `config`."""
    return next(task for task in FAMILIES.values() if isinstance(config, task.config_class))

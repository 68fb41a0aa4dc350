"""Table of all families, the only one: commands, run directories, reports and studies read it."""

from genjax import cut, cyclegan, unit, vae
from genjax.config import RunConfig
from genjax.task import Task

FAMILIES: dict[str, Task] = {task.name: task for task in (vae.TASK, cyclegan.TASK, cut.TASK, unit.TASK)}


def family_of(kind: type[RunConfig]) -> str:
    """Returns the name of the family whose configuration class is `kind` or a base class of it."""
    return next(name for name, task in FAMILIES.items() if issubclass(kind, task.config_class))


def task_of(config: RunConfig) -> Task:
    """Returns the task that trains `config`."""
    return FAMILIES[family_of(type(config))]

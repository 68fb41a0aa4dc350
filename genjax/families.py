"""Table of all families, the only one: commands, run directories, reports and studies read it."""

from genjax import cut, cyclegan, unit, vae
from genjax.config import RunConfig
from genjax.task import Task

PACKAGES = {package.TASK.name: package for package in (vae, cyclegan, cut, unit)}
"""Packages of the families by name; each has a TASK and the function make_task."""

FAMILIES: dict[str, Task] = {name: package.TASK for name, package in PACKAGES.items()}


def family_of(kind: type[RunConfig]) -> str:
    """Returns the name of the family whose configuration class is `kind` or a base class of it."""
    return next(name for name, task in FAMILIES.items() if issubclass(kind, task.config_class))


def task_of(config: RunConfig) -> Task:
    """Returns the task that trains `config`."""
    return FAMILIES[family_of(type(config))]

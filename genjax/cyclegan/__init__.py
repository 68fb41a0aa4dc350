"""CycleGAN (Zhu et al. 2017): translation between two domains of images that come in no pairs."""

import dataclasses
import functools

from genjax import classifier
from genjax.config import CycleGanRun
from genjax.cyclegan import health, steps
from genjax.task import Task

TASK = Task(
    steps.init, steps.train_step, steps.eval_step, steps.visualize, steps.figures, steps.score, health.watch
)  # fmt: skip


def with_classifier(config: CycleGanRun) -> tuple[Task, CycleGanRun]:
    """The task whose steps hold the classifier that `config` names, and `config` with its SHA-256; TASK without one.

    Raises FileNotFoundError or ValueError if the file holds no classifier, another one than the SHA-256 says, or one
    for images of another shape.
    """
    if not config.classifier:
        return TASK, config
    loaded, sha256 = classifier.load(config.classifier)
    if config.classifier_sha256 not in ("", sha256):
        raise ValueError(
            f"{config.classifier} is not the classifier of this run: its SHA-256 is {sha256}, not "
            f"{config.classifier_sha256}. Restore it, or give no --classifier-sha256 and another --workdir"
        )
    shape = config.data.image_shapes[0]
    if loaded.image_shape != shape:
        raise ValueError(
            f"{config.classifier} is for images of {loaded.image_shape} (height, width, channels), and the run's have "
            f"{shape}: train another, or change --data.image-size or --data.channels"
        )
    step = functools.partial(steps.train_step, classifier_params=loaded.params)
    return TASK._replace(train_step=step), dataclasses.replace(config, classifier_sha256=sha256)

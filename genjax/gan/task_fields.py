"""Fields of a Task that all families share whose generators translate."""

import functools
from collections.abc import Callable
from typing import Any, TypedDict

from jax.sharding import Mesh

from genjax.evaluation.per_image import per_image_means
from genjax.gan import diversity, evaluation, generation, monitor
from genjax.gan.networks import MakeNetworks
from genjax.task import Evaluator, Generate, Monitor


class Shared(TypedDict):
    """Fields of `task.Task`."""

    units: str
    evaluators: tuple[Evaluator[Any, Any], ...]
    generate: Callable[[Any, Mesh], Generate[Any]]
    monitor: Callable[[Any, Any], Monitor]


def shared(make_networks: MakeNetworks) -> Shared:
    """Returns the fields, for a family with these networks."""
    eval_step = functools.partial(evaluation.eval_step, make_networks=make_networks)
    return {
        "units": "pixels in [0, 1]",
        "evaluators": (
            per_image_means(eval_step, evaluation.summarize),
            functools.partial(diversity.diversity, make_networks=make_networks),
        ),
        "generate": functools.partial(generation.compile_generate, make_networks=make_networks),
        "monitor": monitor.make_monitor,
    }

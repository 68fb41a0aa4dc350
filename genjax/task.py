"""What the training loop knows of a family of models."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jax import Array

from genjax.data.splits import Splits

Health = Callable[[Sequence[dict[str, Any]]], dict[str, str]]
"""The rows of metrics that a run has written, the latest last -> what looks unwell: names, and sentences that say what
to do. Sentences of a row depend on that row and those before alone."""


class Task(NamedTuple):
    """A family as the loop sees it: pure functions, the two steps and `visualize` per device."""

    init: Callable[[Any, Array], Any]
    """(config, key) -> state, a NamedTuple with int32 scalars `step` and `skipped`"""
    train_step: Callable[..., tuple[Any, dict[str, Array]]]
    """(config, state, batch, key) -> (state, scalar metrics), among them `skipped`, the state's"""
    eval_step: Callable[..., tuple[dict[str, Array], ...]]
    """(config, state, batch, key) -> metrics [b], one for each image, of each domain; no name occurs in two domains"""
    visualize: Callable[..., dict[str, Array]]
    """(config, state, batch, key) -> pictures [b, h, w, c], about [0, 1], by name"""
    figures: Callable[[dict[str, float]], dict[str, float]]
    """means of the metrics over all images -> what is reported of them"""
    score: Callable[[dict[str, float]], float | None]
    """validation figures -> what the best checkpoint has least of; None if they cannot tell"""
    health: Callable[[Any, Splits], Health] | None
    """(config, images) -> what watches over a run; None where nothing does"""

"""Loss of generators: a sum of named terms [b], each times the weight of its name in the run's losses."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from genjax.checks import require
from genjax.evaluation import perceptual
from genjax.evaluation.perceptual import PerceptualConfig
from genjax.gan.adversarial import AdversarialConfig

Terms = Mapping[str, Callable[[Any], Array]]
"""Loss terms by name: functions of a family's `Inputs`, which hold `loss`, the weights."""

Lpips = Callable[[Array, Array], Array]
"""LPIPS [b] of images [b, h, w, c] in [-1, 1]."""


def generator_terms(inputs: Any, terms: Terms) -> dict[str, Array]:
    """Computes the terms [b] with a non-zero weight; the others cost nothing."""
    # Without their weights, so that logged values of runs with other weights can be compared.
    return {name: term(inputs) for name, term in terms.items() if getattr(inputs.loss, name) > 0}


def weighted_sum(weights: AdversarialConfig, values: Mapping[str, Array]) -> Array:
    """Sums the values of terms [b], each times its weight: [b]."""
    return sum((getattr(weights, name) * value for name, value in values.items()), jnp.zeros(()))


def total_loss(inputs: Any, terms: Terms) -> tuple[Array, dict[str, Array]]:
    """Returns the generators' loss [], the mean of the weighted sum, and the means of it and of its terms."""
    values = generator_terms(inputs, terms)
    metrics = jax.tree.map(jnp.mean, values | {"g_loss": weighted_sum(inputs.loss, values)})
    return metrics["g_loss"], metrics


def lpips_by(constants: Mapping[str, Any]) -> Lpips:
    """Returns LPIPS by the features "lpips" of a step's constants, a function that raises ValueError without them."""
    return lambda x, y: perceptual.distance(constants.get("lpips", {}), (x + 1) / 2, (y + 1) / 2)


def once(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Wraps a function so that several terms of the same array share its value, and the work of its gradient."""
    found: dict[int, tuple[Array, Array]] = {}

    @functools.wraps(fn)
    def remembered(x: Array) -> Array:
        if id(x) not in found:
            found[id(x)] = (x, fn(x))  # with the array itself, as the id of a forgotten one may be given again
        return found[id(x)][1]

    return remembered


def check_weights(loss: AdversarialConfig, settings: Collection[str]) -> None:
    """Raises ValueError if all weights of a family's losses are 0; `settings` are its fields that are no weights."""
    bases = AdversarialConfig, PerceptualConfig
    known = {*settings, *(field.name for base in bases for field in dataclasses.fields(base))}
    require(
        any(getattr(loss, field.name) for field in dataclasses.fields(loss) if field.name not in known),
        "all weights of the loss are 0, so nothing would be trained: give one of them a weight, for example "
        "--loss.adversarial-a2b 1",
    )


def check_names(weights: AdversarialConfig, terms: Terms, family: type[AdversarialConfig]) -> None:
    """Raises ValueError unless each term has a field in `weights`, and each field of a derived class a term.

    `family` is the family's own class of losses, whose fields also hold settings, and terms that a run leaves out.
    """
    own = {field.name for field in dataclasses.fields(weights)} - {field.name for field in dataclasses.fields(family)}
    if unweighted := [name for name in terms if not hasattr(weights, name)]:
        raise ValueError(f"loss term {unweighted[0]} has no weight: add a field {unweighted[0]} to the LossConfig")
    if unused := sorted(own - terms.keys()):
        raise ValueError(f"loss.{unused[0]} has no term of that name: give it to make_task(terms=...)")

"""Evaluation of translations by averaged generators: metrics of each image, and pictures; pixels in [0, 1]."""

import functools
from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.data import image_arrays
from genjax.data.batches import Batch
from genjax.evaluation import image_metrics
from genjax.evaluation.per_image import Values, errors, means
from genjax.gan import translation
from genjax.gan.config import GanRun
from genjax.gan.networks import BACK, DOMAINS, Direction, MakeNetworks
from genjax.task import State

WITH_ERRORS = ("l1_a2b", "l1_b2a", "cycle_a2b", "cycle_b2a")
"""Metrics that are reported with their standard errors over images."""

Metrics = dict[str, Array]  # metrics by name, each [b]: one number for each image


def eval_step(
    config: GanRun, state: State, batch: Batch, key: Array, *, make_networks: MakeNetworks
) -> tuple[Metrics, Metrics]:
    """Computes the metrics of each image of A and of its translation, and the same of B (genjax/gan/README.md).

    There are none of a direction without generator, and none of a way there and back if one is missing.
    """
    directions = make_networks(config).generators
    a, b = images = tuple(image_arrays.to_unit(of_domain) for of_domain in batch.images)
    example_keys = [keys.per_example(k, batch.position) for k in jax.random.split(key)]
    translate = functools.partial(translation.translate, config, state.ema, make_networks=make_networks)
    metrics_a, metrics_b = (
        _metrics(config, translate, direction, images[source], images[target], example_keys[source], directions)
        if direction in directions
        else {}
        for direction, (source, target) in DOMAINS.items()
    )
    # What a generator that changes nothing would reach.
    if config.data.paired and a.shape == b.shape:
        metrics_a |= {"l1_copy": image_metrics.l1(a, b)}
    if _has_masks(config):
        metrics_a |= _overlap("copy", a, b)
    return metrics_a, metrics_b


def summarize(values: Values) -> dict[str, float]:
    """Averages the metrics of all images, and replaces intersection and union by their ratio, the IoU over all."""
    found = means(values)
    reported = {name: value for name, value in found.items() if not name.startswith(("intersection_", "union_"))}
    # A mean of ratios would give an image with few dark pixels the same weight as one with many.
    for name, intersection in found.items():
        if name.startswith("intersection_"):
            of = name.removeprefix("intersection_")
            reported[f"iou_{of}"] = image_metrics.iou(intersection, found[f"union_{of}"])
    return reported | errors(values, WITH_ERRORS)


def visualize(
    config: GanRun, state: State, batch: Batch, key: Array, *, make_networks: MakeNetworks
) -> dict[str, Array]:
    """Returns rows of pictures [b, h, w, c]: image, translation, cycle if there is one, and the truth of pairs."""
    del key  # translations have no noise
    directions, rows = make_networks(config).generators, {}
    translate = functools.partial(translation.translate, config, state.ema, make_networks=make_networks)
    images = tuple(image_arrays.to_unit(of_domain) for of_domain in batch.images)
    for direction in directions:
        source, target = DOMAINS[direction]
        columns = {"input": images[source], "translation": translate(direction, images[source])}
        if BACK[direction] in directions:
            columns["cycle"] = translate(BACK[direction], columns["translation"])
        if config.data.paired:
            columns["truth"] = images[target]
        rows["_".join((direction, *columns))] = _side_by_side(list(columns.values()))
    return rows


def _metrics(
    config: GanRun, translate: Callable, direction: Direction, images: Array, truth: Array, probe_keys: Array,
    directions: Collection[Direction],
) -> Metrics:  # fmt: skip
    back, translated = BACK[direction], translate(direction, images)
    metrics: Metrics = {}
    if back in directions:
        # A generator may hide its input in invisible noise. One grey level of other noise then breaks the cycle (Chu et
        # al. 2017). Averaged over a set: cycle |F(G(x)) - x|, probe |F(G(x) + noise) - x|.
        cycled = translate(back, translated)
        probed = translate(back, translation.one_level_off(probe_keys, translated))
        metrics |= {"cycle": image_metrics.l1(cycled, images), "probe": image_metrics.l1(probed, images)}
    correlation = image_metrics.correlation(translated, images)
    metrics |= {"correlation": correlation, "inverted": (correlation < 0) + 0.0}  # light and dark are swapped
    if images.shape == translated.shape:
        metrics |= {"change": image_metrics.l1(translated, images)}
    if config.data.paired:
        metrics |= {"l1": image_metrics.l1(translated, truth)}
    named = {f"{name}_{direction}": values for name, values in metrics.items()}
    return named | (_overlap(direction, translated, truth) if _has_masks(config) else {})


def _has_masks(config: GanRun) -> bool:
    """True for grey pairs, whose dark pixels are compared as masks."""
    return config.data.paired and config.data.channels == (1, 1)


def _overlap(name: str, images: Array, truth: Array) -> Metrics:
    intersection, union = image_metrics.intersection_and_union(images, truth)
    return {f"intersection_{name}": intersection, f"union_{name}": union}


def _side_by_side(pictures: list[Array]) -> Array:
    """Joins pictures [b, h, w, c], as they are shown in grey or colour, in one row each."""
    pictures = [image_arrays.shown(picture) for picture in pictures]
    channels = max(picture.shape[-1] for picture in pictures)
    alike = [jnp.repeat(picture, channels // picture.shape[-1], axis=-1) for picture in pictures]  # grey beside colour
    return jnp.concatenate(alike, axis=2)

"""CycleGAN's state and its pure, per-device functions: one update of all four networks, metrics, pictures."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, optim, parallel
from genjax.cyclegan import losses, nets, step_metrics, translation
from genjax.cyclegan.config import CycleGanRun
from genjax.data import augment, image_arrays
from genjax.data.batches import Batch
from genjax.gan import diff_augment, image_pool
from genjax.gan.image_pool import Pool

GENERATORS, DISCRIMINATORS = ("g_a2b", "g_b2a"), ("d_a", "d_b")

USES = (
    "images_a", "images_b", "element", "pool_a", "pool_b", "fraction_a", "fraction_b",
    "fooled_a", "fooled_b", "real_a", "real_b", "fake_a", "fake_b", "classified_a", "classified_b",
)  # fmt: skip
"""What a step draws random numbers for, each by a key of its own: augmentation, dihedral transforms, pools, gradient
penalties; translations as discriminators see them in the generators' step, both images that either discriminator learns
from, translations as classifiers see them. The places are part of every result: append, never reorder."""


class CycleGanState(NamedTuple):
    """All that training carries from step to step: arrays only, nothing random."""

    step: Array
    """int32 []: steps taken, skipped ones included."""
    skipped: Array
    """int32 []: steps with a loss or gradient that was not finite."""
    g_a2b: optim.Net
    g_b2a: optim.Net
    d_a: optim.Net
    """Judges images of A."""
    d_b: optim.Net
    ema: dict[str, Any]
    """The generators' averaged parameters a2b and b2a, for evaluation and translation."""
    pool_a: Pool
    """Earlier translations into A."""
    pool_b: Pool
    spectral: dict[str, dict[str, Array]]
    """Singular vectors of d_a's and d_b's layers; empty without spectral normalisation."""


def init(config: CycleGanRun, key: Array) -> CycleGanState:
    """The state before the first step, each network from a key of its own."""
    net_keys = dict(zip((*GENERATORS, *DISCRIMINATORS, "s_a", "s_b"), jax.random.split(key, 6), strict=True))
    params = {
        "g_a2b": nets.init_generator(config, "a2b", net_keys["g_a2b"]),
        "g_b2a": nets.init_generator(config, "b2a", net_keys["g_b2a"]),
        "d_a": nets.init_discriminator(config, 0, net_keys["d_a"]),
        "d_b": nets.init_discriminator(config, 1, net_keys["d_b"]),
    }
    spectral = {d: nets.init_spectral(params[d], net_keys[s]) for d, s in (("d_a", "s_a"), ("d_b", "s_b"))}
    pool_a, pool_b = (image_pool.empty(config.cyclegan.pool_size, shape) for shape in config.data.image_shapes)
    # The average has buffers of its own: the state is donated, and none may be donated twice.
    average = jax.tree.map(jnp.copy, {"a2b": params["g_a2b"], "b2a": params["g_b2a"]})
    return CycleGanState(
        step=jnp.int32(0),
        skipped=jnp.int32(0),
        **{name: optim.init_net(config.optim, value) for name, value in params.items()},
        ema=average,
        pool_a=pool_a,
        pool_b=pool_b,
        spectral=spectral if config.cyclegan.spectral_norm else {},
    )


def train_step(
    config: CycleGanRun, state: CycleGanState, batch: Batch, key: Array, constants: dict[str, Any] | None = None
) -> tuple[CycleGanState, dict[str, Array]]:
    """One update on this device's part of the batch; means over the devices make the replicas agree.

    Both generators, then both discriminators, all from the parameters before the step; the discriminators judge the
    generators' translations from before the step, by way of the pools. `constants` are the classifiers of the semantic losses.
    """
    show = functools.partial(_shown, config, state.step, batch.position, key)
    classified = functools.partial(_classified, config, batch.position, key)
    a = _training_images(config, batch, 0, _key_of(key, "images_a"))
    b = _training_images(config, batch, 1, _key_of(key, "images_b"))
    params = {name: getattr(state, name).params for name in (*GENERATORS, *DISCRIMINATORS)}
    discriminators, _ = _normalised(config, params, state.spectral)
    element = _elements(config, keys.per_example(_key_of(key, "element"), batch.position))

    def generators_objective(generators: dict[str, Any]) -> tuple[Array, Any]:
        terms, fake = losses.generator_terms(config, generators, discriminators, a, b, element, show)
        semantic = losses.semantic_terms(config.loss, a, b, fake, constants, classified)
        means = jax.tree.map(jnp.mean, terms)._asdict() | jax.tree.map(jnp.mean, semantic)
        for name in semantic:
            means["total"] += getattr(config.loss, name) * means[name]
        return means["total"], (means, fake)

    generators = {name: params[name] for name in GENERATORS}
    grads, (terms, fake) = jax.grad(generators_objective, has_aux=True)(generators)

    pool_a, judged_a = image_pool.query(state.pool_a, fake.a, batch.position, _key_of(key, "pool_a"))
    pool_b, judged_b = image_pool.query(state.pool_b, fake.b, batch.position, _key_of(key, "pool_b"))
    fraction_a, fraction_b = (
        jax.vmap(jax.random.uniform)(keys.per_example(_key_of(key, use), batch.position))
        for use in ("fraction_a", "fraction_b")
    )
    shown_a, shown_b = (show("real_a", a), show("fake_a", judged_a)), (show("real_b", b), show("fake_b", judged_b))

    def discriminators_objective(params: dict[str, Any]) -> tuple[Array, Any]:
        normalised, spectral = _normalised(config, params, state.spectral)
        d_a, logits_a = losses.discriminator_loss(config, normalised["d_a"], *shown_a, fraction_a)
        d_b, logits_b = losses.discriminator_loss(config, normalised["d_b"], *shown_b, fraction_b)
        means = {"d_a": jnp.mean(d_a), "d_b": jnp.mean(d_b)}
        return means["d_a"] + means["d_b"], (means, {"d_a": logits_a, "d_b": logits_b}, spectral)

    trained = {name: params[name] for name in DISCRIMINATORS}
    d_grads, (d_losses, logits, spectral) = jax.grad(discriminators_objective, has_aux=True)(trained)

    metrics, grads = parallel.mean_over_devices((terms | d_losses, grads | d_grads))
    rate = optim.learning_rate(config.optim, config.train.num_steps, state.step)

    def update(state: CycleGanState) -> CycleGanState:
        trained = _updated(config, state, grads, rate)
        return trained._replace(pool_a=pool_a, pool_b=pool_b, spectral=spectral)

    finite = optim.all_finite(metrics, grads)
    skipped = state.skipped + jnp.where(finite, 0, 1)
    after = optim.update_if(finite, update, state)._replace(step=state.step + 1, skipped=skipped)
    measured = _vitals(config, state, a, b, fake, logits)
    return after, metrics | measured | {"learning_rate": rate, "skipped": skipped}


def eval_step(config: CycleGanRun, state: CycleGanState, batch: Batch, key: Array) -> tuple[dict[str, Array], ...]:
    """Metrics of the translation of each image [b] of A, and of each of B, by the averaged parameters.

    Pixels are in [0, 1]. cycle: L1 there and back again; probe: the same if the translation is changed on the way by
    one grey level, up or down, at each pixel, which is more where it hides what it cannot show (Chu et al. 2017).
    change and correlation: L1, and correlation of luminances, of an image and its translation; inverted: 1 where that
    is below 0. Where there are pairs, l1: of a translation and its truth, and of an image itself (copy) and that truth;
    ink_both and ink_either: shares of pixels, for `figures`.
    """
    a, b = (image_arrays.to_unit(images) for images in batch.images)
    probe_keys = [keys.per_example(k, batch.position) for k in jax.random.split(key)]
    copy: dict[str, Array] = {}
    if config.data.paired and a.shape == b.shape:
        copy |= {"l1_copy": losses.l1(a, b)}
    if config.data.paired and config.data.channels == (1, 1):
        copy |= _ink("copy", a, b)
    of_a = _translation_metrics(config, state, "a2b", a, b, probe_keys[0])
    return of_a | copy, _translation_metrics(config, state, "b2a", b, a, probe_keys[1])


def summarize(means: dict[str, float]) -> dict[str, float]:
    """What is reported: the means over the images, and the intersection over union of the ink of all together."""
    ratios = {}
    for name, both in means.items():
        if name.startswith("ink_both"):
            either = means[name.replace("both", "either")]
            ratios[name.replace("ink_both", "iou")] = both / either if either > 0 else 1.0
    return {name: value for name, value in means.items() if not name.startswith("ink_")} | ratios


def _translation_metrics(
    config: CycleGanRun, state: CycleGanState, direction: nets.Direction, images: Array, truth: Array,
    probe_keys: Array,
) -> dict[str, Array]:  # fmt: skip
    back: nets.Direction = "b2a" if direction == "a2b" else "a2b"
    translated = translation.translate(config, state.ema, direction, images)
    cycled = translation.translate(config, state.ema, back, translated)
    probed = translation.translate(config, state.ema, back, translation.one_level_off(probe_keys, translated))
    correlation = translation.correlation(translated, images)
    metrics = {"cycle": losses.l1(cycled, images), "probe": losses.l1(probed, images)}
    metrics |= {"correlation": correlation, "inverted": (correlation < 0) + 0.0}
    if images.shape == translated.shape:
        metrics |= {"change": losses.l1(translated, images)}
    if config.data.paired:
        metrics |= {"l1": losses.l1(translated, truth)}
    if config.data.paired and config.data.channels == (1, 1):
        return _named(direction, metrics) | _ink(direction, translated, truth)
    return _named(direction, metrics)


def _ink(name: str, images: Array, truth: Array) -> dict[str, Array]:
    both, either = translation.ink_overlap(images, truth)
    return {f"ink_both_{name}": both, f"ink_either_{name}": either}


def _named(direction: str, metrics: dict[str, Array]) -> dict[str, Array]:
    return {f"{name}_{direction}": values for name, values in metrics.items()}


def visualize(config: CycleGanRun, state: CycleGanState, batch: Batch, key: Array) -> dict[str, Array]:
    """Pictures [b, h, w, c] in [0, 1]: image, translation, there and back again, and the truth where there is one."""
    del key
    a, b = (image_arrays.to_unit(images) for images in batch.images)
    a2b = translation.translate(config, state.ema, "a2b", a)
    b2a = translation.translate(config, state.ema, "b2a", b)
    rows = {
        "a2b": [a, a2b, translation.translate(config, state.ema, "b2a", a2b), b],
        "b2a": [b, b2a, translation.translate(config, state.ema, "a2b", b2a), a],
    }
    columns = ("input", "translation", "cycle", "truth") if config.data.paired else ("input", "translation", "cycle")
    return {
        "_".join((direction, *columns)): _side_by_side(pictures[: len(columns)]) for direction, pictures in rows.items()
    }


def score(metrics: dict[str, float]) -> float | None:
    """Validation loss that selects the best checkpoint: the mean L1 to the truth, or None where there are no pairs."""
    return (metrics["l1_a2b"] + metrics["l1_b2a"]) / 2 if "l1_a2b" in metrics else None


def _training_images(config: CycleGanRun, batch: Batch, domain: int, key: Array) -> Array:
    """A domain's images, augmented, in [-1, 1]."""
    example_keys = keys.per_example(key, batch.position)
    return 2 * augment.training_images(config.data, example_keys, batch.images[domain]) - 1


def _shown(config: CycleGanRun, step: Array, position: Array, step_key: Array, use: str, images: Array) -> Array:
    """What a discriminator is shown of `images` [b, h, w, c] in a step; the images themselves without an option."""
    net = config.cyclegan
    if net.diff_augment == 0 and net.instance_noise == 0:
        return images
    augment_keys, noise_keys = (keys.per_example(k, position) for k in jax.random.split(_key_of(step_key, use)))
    images = diff_augment.augment(augment_keys, images, net.diff_augment)
    if net.instance_noise == 0:
        return images
    sigma = net.instance_noise * (1 - step / config.train.num_steps)
    return diff_augment.add_noise(noise_keys, images, sigma)


def _classified(config: CycleGanRun, position: Array, step_key: Array, use: str, images: Array) -> Array:
    """What a classifier is shown of translations [b, h, w, c] in a step; the images themselves without noise."""
    if config.loss.semantic_noise == 0:
        return images
    noise_keys = keys.per_example(_key_of(step_key, use), position)
    return diff_augment.add_noise(noise_keys, images, jnp.float32(config.loss.semantic_noise))


def _key_of(step_key: Array, use: str) -> Array:
    return jax.random.fold_in(step_key, USES.index(use))


def _updated(config: CycleGanRun, state: CycleGanState, grads: dict[str, Any], rate: Array) -> CycleGanState:
    """The four networks after their gradients, and the generators' averages."""
    updated: dict[str, Any] = {
        name: optim.update_net(config.optim, getattr(state, name), grads[name], _rate(config, name, rate))
        for name in (*GENERATORS, *DISCRIMINATORS)
    }
    current = {"a2b": updated["g_a2b"].params, "b2a": updated["g_b2a"].params}
    return state._replace(**updated, ema=optim.ema(config.optim, state.step, state.ema, current))


def _vitals(
    config: CycleGanRun, state: CycleGanState, a: Array, b: Array, fake: losses.Fakes, logits: dict[str, losses.Logits]
) -> dict[str, Array]:
    """The health of a step, by the state before it."""
    measured = step_metrics.of_translations("a2b", a, fake.b, state.pool_a, state.pool_b)
    measured |= step_metrics.of_translations("b2a", b, fake.a, state.pool_b, state.pool_a)
    for name in DISCRIMINATORS:
        measured |= step_metrics.of_discriminator(config.loss, name, logits[name])
    return measured


def _rate(config: CycleGanRun, name: str, rate: Array) -> Array:
    """The learning rate of a network, `rate` being that of the generators."""
    return rate * config.cyclegan.discriminator_lr_scale if name in DISCRIMINATORS else rate


def _elements(config: CycleGanRun, example_keys: Array) -> Array:
    """A dihedral transform other than the identity for each example [b], one that keeps the shape."""
    square = config.data.image_size[0] == config.data.image_size[1]
    choices = jnp.arange(1, 8) if square else jnp.array([2, 4, 6])
    return jax.vmap(lambda key: jax.random.choice(key, choices))(example_keys)


def _normalised(config: CycleGanRun, params: dict[str, Any], spectral: dict[str, Any]) -> tuple[dict, dict]:
    """The discriminators' parameters as they judge, and the singular vectors after this step."""
    if not config.cyclegan.spectral_norm:
        return {name: params[name] for name in DISCRIMINATORS}, {}
    normalised = {name: nets.spectral_normalise(params[name], spectral[name]) for name in DISCRIMINATORS}
    return {name: pair[0] for name, pair in normalised.items()}, {name: pair[1] for name, pair in normalised.items()}


def _side_by_side(pictures: list[Array]) -> Array:
    """Grey and colour pictures [b, h, w, 1 or 3] in one row each."""
    channels = max(picture.shape[-1] for picture in pictures)
    alike = [jnp.repeat(picture, channels // picture.shape[-1], axis=-1) for picture in pictures]
    return jnp.concatenate(alike, axis=2)

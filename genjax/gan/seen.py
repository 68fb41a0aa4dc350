"""Inputs of a training step: the images of both domains, and how discriminators see images."""

import jax
from jax import Array

from genjax import keys
from genjax.data import augment as augment_data
from genjax.data.batches import Batch
from genjax.gan import diff_augment
from genjax.gan.config import GanRun
from genjax.keys import Draw


def image_draws(config: GanRun) -> tuple[Draw, Draw]:
    """Returns the draws that augment the images of either domain; pairs are mirrored alike."""
    return Draw.IMAGES_A, Draw.IMAGES_A if config.data.train_pairs else Draw.IMAGES_B


def augmented(
    config: GanRun, batch: Batch, key: Array, draws: tuple[Draw, Draw], images: tuple[Array, ...]
) -> list[Array]:
    """Returns the images of each domain, augmented by its draw, in [-1, 1]."""
    found = []
    for draw, of_domain in zip(draws, images, strict=False):
        example_keys = keys.per_example(keys.for_draw(key, draw), batch.position)
        found.append(2 * augment_data.training_images(config.data, example_keys, of_domain) - 1)
    return found


def augment(config: GanRun, step: Array, position: Array, key: Array, draw: Draw, images: Array) -> Array:
    """Applies DiffAugment and instance noise, if they are on, to images [b, h, w, c] for a discriminator."""
    net = config.net
    if net.diff_augment == 0 and net.instance_noise == 0:
        return images
    # Both draws from keys of their own, so that switching one on leaves the other's as they were.
    augment_keys, noise_keys = (keys.per_example(k, position) for k in jax.random.split(keys.for_draw(key, draw)))
    images = diff_augment.augment(augment_keys, images, net.diff_augment)
    if net.instance_noise == 0:
        return images
    sigma = net.instance_noise * (1 - step / config.train.num_steps)
    return diff_augment.add_noise(noise_keys, images, sigma)


def fractions(batch: Batch, key: Array, draw: Draw) -> Array:
    """Draws places in [0, 1) between a real and a translated image, for the gradient penalty: [b]."""
    return jax.vmap(jax.random.uniform)(keys.per_example(keys.for_draw(key, draw), batch.position))

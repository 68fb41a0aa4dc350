"""The discriminators' half of a training step: losses on what each one sees, and their gradients."""

import functools
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import optim, parallel
from genjax.gan import adversarial, discriminators
from genjax.gan.adversarial import AdversarialConfig, Logits
from genjax.gan.config import GanRun
from genjax.gan.discriminators import SingularVectors
from genjax.gan.params import apply
from genjax.optim import Net, Params


class Seen(NamedTuple):
    """Images that a discriminator sees, [b, h, w, c] in [-1, 1]."""

    real: Array
    translated: Array  # as numbers: no gradient reaches a generator
    fraction: Array  # places in [0, 1) between the two, for the gradient penalty: [b]


class Judged(NamedTuple):
    """Results of the discriminators that a step needs, by their names."""

    metrics: dict[str, Array]  # NAME_loss, [] each
    logits: dict[str, Logits]
    spectral: dict[str, SingularVectors]  # singular vectors after the step


def gradients(
    loss: AdversarialConfig, networks: Any, params: Params, spectral: dict[str, SingularVectors],
    seen: Mapping[str, Seen], num_parts: int = 1,
) -> tuple[Params, Judged]:  # fmt: skip
    """Computes the gradients of each discriminator's loss; `networks` has a module of each name in `seen`.

    The images are seen in `num_parts` parts, one after another.
    """

    def total(params: Params, seen: Mapping[str, Seen]) -> tuple[Array, Judged]:
        normalised, after = discriminators.normalise_all(params, spectral)
        metrics, logits = dict[str, Array](), dict[str, Logits]()
        for name, images in seen.items():
            judge = functools.partial(apply, getattr(networks, name), normalised[name])
            each, logits[name] = adversarial.discriminator_loss(loss, judge, *images)
            metrics[f"{name}_loss"] = jnp.mean(each)
        # The sum of losses of several networks: each one's gradient is that of its own loss.
        return functools.reduce(operator.add, metrics.values()), Judged(metrics, logits, after)

    def of_part(seen: Mapping[str, Seen]) -> tuple[Any, dict[str, Logits]]:
        grads, judged = jax.grad(total, has_aux=True)(params, seen)
        return (grads, judged.metrics, judged.spectral), judged.logits  # vectors are the same in all parts

    (grads, metrics, after), logits = optim.in_parts(num_parts, of_part, seen)
    return grads, Judged(metrics, logits, after)


class Learned(NamedTuple):
    """Discriminators after their update, and what it came from."""

    nets: dict[str, Any]  # a Net by each name
    frozen: Params  # their parameters as generators face them
    grads: Params  # means over all devices
    judged: Judged  # its metrics are means over all devices


def learn_first(
    config: GanRun, networks: Any, nets: dict[str, Net], spectral: dict[str, SingularVectors],
    seen: Mapping[str, Seen], rate: Array,
) -> Learned:  # fmt: skip
    """Updates each discriminator at the learning rate `rate` [], for generators that learn after it."""
    params = {name: net.params for name, net in nets.items()}
    grads, judged = gradients(config.loss, networks, params, spectral, seen, config.train.accumulate)
    metrics, grads = parallel.mean_over_devices((judged.metrics, grads))
    rate = rate * config.net.discriminator_lr_scale
    nets = {name: optim.update_net(config.optim, net, grads[name], rate) for name, net in nets.items()}
    frozen, _ = discriminators.normalise_all({name: net.params for name, net in nets.items()}, judged.spectral)
    return Learned(nets, frozen, grads, judged._replace(metrics=metrics))

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.cyclegan import nets, steps
from genjax.data import batches
from genjax.gan import evaluation
from genjax.gan.networks import DISCRIMINATORS, DOMAINS, GENERATORS
from genjax.train import fingerprint
from tiny import tiny_cyclegan

pytestmark = pytest.mark.slow

NETWORKS = (*GENERATORS, *DISCRIMINATORS)
SMALL = {"base_channels": 2, "num_blocks": 0, "discriminator_channels": 2, "pool_size": 12}


def noise(num=4):
    """Two domains, one dark and one light."""
    rng = np.random.default_rng(0)
    return [rng.integers(low, low + 128, (num, 16, 16, 1), np.uint8) for low in (0, 128)]


@pytest.fixture(scope="module")
def identity():
    """A residual CycleGAN that has not moved yet: every translation is its input."""
    config = tiny_cyclegan("unused", cyclegan=SMALL | {"output": "residual"}, data={"paired": True})
    return config, jax.jit(lambda: steps.init(config, keys.root_key(0)))()


def scored(config, state, a, b):
    batch = batches.Batch((jnp.asarray(a), jnp.asarray(b)), jnp.arange(len(a)))
    return jax.jit(
        lambda state, batch: evaluation.eval_step(
            config, state, batch, keys.root_key(0), make_networks=nets.make_networks
        )
    )(state, batch)


def test_eval_step_of_the_identity_scores_copies(identity):
    config, state = identity
    a, b = noise()
    of_a, of_b = scored(config, state, a, b)
    difference = np.abs(a / 255 - b / 255).mean((1, 2, 3))
    for found in (of_a["l1_a2b"], of_a["l1_copy"], of_b["l1_b2a"]):
        np.testing.assert_allclose(found, difference, rtol=1e-5)
    for name in ("cycle_a2b", "change_a2b"):
        np.testing.assert_allclose(of_a[name], 0, atol=1e-6)
    np.testing.assert_allclose(of_b["correlation_b2a"], 1, rtol=1e-5)
    np.testing.assert_allclose(of_a["intersection_copy"], ((a < 128) & (b < 128))[..., 0].mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(of_a["union_copy"], ((a < 128) | (b < 128))[..., 0].mean((1, 2)), rtol=1e-6)


def test_summarize_takes_iou_of_all_images_together():
    values = {"l1_a2b": [0, 0.2], "intersection_a2b": [0.1, 0.3], "union_a2b": [0.1, 1.5]}
    assert evaluation.summarize({name: np.array([x]) for name, x in values.items()}) == pytest.approx(
        {"l1_a2b": 0.1, "l1_a2b_image_se": 0.1, "iou_a2b": 0.25}
    )
    blank = {"intersection_a2b": np.zeros((1, 2)), "union_a2b": np.zeros((1, 2))}
    assert evaluation.summarize(blank) == {"iou_a2b": 1.0}  # no ink in either


def test_eval_step_without_pairs_has_no_truth(identity):
    config, state = identity
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, paired=False))
    unpaired = scored(config, state, *noise())
    assert [set(scores) for scores in unpaired] == [
        {f"{name}_{direction}" for name in ("cycle", "probe", "correlation", "inverted", "change")}
        for direction in DOMAINS
    ]
    assert all((scores[f"inverted_{of}"] == 0).all() for scores, of in zip(unpaired, DOMAINS, strict=True))


def test_visualize_joins_input_translation_cycle_and_truth(identity):
    config, state = identity
    a, b = noise()
    batch = batches.Batch((jnp.asarray(a), jnp.asarray(b)), jnp.arange(4))
    pictures = jax.jit(
        lambda state, batch: evaluation.visualize(
            config, state, batch, keys.root_key(0), make_networks=nets.make_networks
        )
    )(state, batch)
    for name, (images, truth) in {"a2b": (a, b), "b2a": (b, a)}.items():
        found = pictures[f"{name}_input_translation_cycle_truth"]
        np.testing.assert_allclose(found, np.concatenate([images] * 3 + [truth], axis=2) / 255, atol=1e-6)


def test_eval_step_uses_the_averaged_generators(identity):
    config, state = identity
    a, b = noise()
    broken = state._replace(**{name: jax.tree.map(lambda x: x * jnp.nan, getattr(state, name)) for name in NETWORKS})
    assert fingerprint.tree_digest(scored(config, broken, a, b)) == fingerprint.tree_digest(scored(config, state, a, b))

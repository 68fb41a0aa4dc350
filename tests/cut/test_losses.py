import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.cut import losses
from genjax.cut.config import CutConfig, LossConfig
from tiny import tiny_cut

TAU = 0.07


def test_patch_nce_of_uniform_features_is_log_n():
    same = jnp.full((2, 5, 4), 0.5)
    np.testing.assert_allclose(losses.patch_nce(same, same, TAU), math.log(5), rtol=1e-6)


def test_patch_nce_of_orthogonal_features_has_a_closed_form():
    """Each patch is 1 from its own and 0 from the n - 1 others; in any order but theirs, 0 from its own."""
    own = jnp.eye(6)[None]
    np.testing.assert_allclose(losses.patch_nce(own, own, 0.5), math.log(1 + 5 / math.exp(2)), rtol=1e-6)
    wrong = losses.patch_nce(own, jnp.roll(own, 1, axis=1), TAU)
    np.testing.assert_allclose(wrong, math.log(5 + math.exp(1 / TAU)), rtol=1e-6)
    # Both moved alike are their own again.
    moved = jnp.roll(own, 1, axis=1)
    np.testing.assert_allclose(losses.patch_nce(moved, moved, 1.0), math.log(1 + 5 / math.e), rtol=1e-6)


def test_patch_nce_compares_within_an_image():
    """What other images of the batch hold changes nothing."""
    rng = np.random.default_rng(0)
    queries, keys = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in rng.normal(size=(2, 3, 7, 4)))
    together = losses.patch_nce(jnp.array(queries), jnp.array(keys), TAU)
    alone = [losses.patch_nce(jnp.array(queries[i : i + 1]), jnp.array(keys[i : i + 1]), TAU)[0] for i in range(3)]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-6)
    assert np.ptp(together) > 0.1


def test_named_weights_are_those_of_the_public_code():
    assert (losses.CUT.nce_a, losses.CUT.nce_b, losses.CUT.adversarial, losses.CUT.temperature) == (
        0.5,
        0.5,
        "lsgan",
        TAU,
    )
    assert (losses.FAST_CUT.nce_a, losses.FAST_CUT.nce_b) == (10, 0)
    assert set(losses.TERMS) <= set(vars(losses.CUT))


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (CutConfig, {"features": ()}, "--cut.features names none"),
        (CutConfig, {"features": ("pixels", "pixels")}, "--cut.features needs different ones"),
        (CutConfig, {"features": ("down_3",)}, "down_3 is nothing .*: .*down_1 to down_2, block_1"),
        (CutConfig, {"features": ("block_10",)}, "block_10 is nothing .* block_1 to block_9"),
        (CutConfig, {"generator": "unet", "features": ("block_1",)}, "block_1 is nothing .*down_8$"),
        (CutConfig, {"num_patches": 0}, "--cut.num-patches must be at least 1, got 0"),
        (CutConfig, {"base_channels": 0}, "--cut.base-channels must be at least 1, got 0"),
        (LossConfig, {"adversarial_a2b": 1.0, "nce_a": 1.0, "temperature": 0.0}, "--loss.temperature must be positive"),
        (LossConfig, {"adversarial_a2b": 0.0, "nce_a": 0.0}, "all weights of the loss are 0"),
    ],
)  # fmt: skip
def test_configurations_refuse_what_cannot_be(kind, fields, said):
    with pytest.raises(ValueError, match=said):
        kind(**fields)


def test_run_refuses_domains_of_other_channels():
    with pytest.raises(ValueError, match=r"PatchNCE passes translations.*\(1, 3\) channels: give both"):
        tiny_cut("unused", data={"channels": (1, 3)})


def test_patch_nce_teaches_queries_alone_to_find_their_keys():
    rng = np.random.default_rng(0)
    queries, keys = jnp.array(rng.normal(size=(2, 1, 5, 4)))
    unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    loss = lambda queries: losses.patch_nce(unit(queries), unit(keys), 0.5)[0]  # noqa: E731
    before, step = jax.value_and_grad(loss)(queries)
    assert loss(queries - 0.1 * step) < before

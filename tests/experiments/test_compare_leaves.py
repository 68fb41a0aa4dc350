"""compare_runs.py on checkpoints whose leaves differ in shape, in type or in some of their bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compare_runs
from genjax import cyclegan, keys
from untrained import write_checkpoint


def test_compare_takes_states_of_other_shapes(make_cyclegan, tmp_path, capsys):
    pair = make_cyclegan(), make_cyclegan(
        str(tmp_path / "other"), cyclegan={"spectral_norm": True, "discriminator_channels": 3}
    )  # fmt: skip
    for run in pair:
        shapes = jax.eval_shape(lambda run=run: cyclegan.TASK.init(run, keys.root_key(0)))
        state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        write_checkpoint(run, state, 1)
    found = compare_runs.compare(*(run.workdir for run in pair))
    assert {leaf.split(".")[0] for leaf in found["leaves"]} == {"d_a", "d_b", "spectral"}
    assert (found["first_difference"], found["steps_compared"], found["checkpoints_compared"]) == (1, 0, 1)
    shown = capsys.readouterr().err
    assert "d_a.params.Conv_0.kernel: float32 [4, 4, 1, 2] -> float32 [4, 4, 1, 3]\n" in shown
    assert "spectral.d_b.Conv_0: only in the second\n" in shown


@pytest.mark.parametrize(("old", "new", "said"), [
    (np.float32([1, 2, 3]), np.float32([1, 2 + 2**-22, 3]), "1 of 3 elements, by up to 2.38e-07"),
    (np.float32([0, 1]), np.float32([-0.0, 1]), "1 of 2 elements, by up to 0"),
    (np.float32([np.nan, np.inf]), np.float32([np.nan, np.inf]), ""),
    (np.uint32([0x7F800001]).view("f4"), np.float32([1]), "1 of 1 elements, by up to nan"),  # a signalling NaN
    (np.float32([np.inf, 0]), np.float32([-np.inf, 7]), "2 of 2 elements, by up to inf"),
    (jnp.bfloat16([1, 2]).__array__(), jnp.bfloat16([1, 4]).__array__(), "1 of 2 elements, by up to 2"),
    (np.uint8([0, 255]), np.uint8([255, 255]), "1 of 2 elements, by up to 255"),
    (np.bool_([True, False]), np.bool_([True, True]), "1 of 2 elements, by up to 1"),
    (np.asarray(np.int32(5)), np.asarray(np.int32(3)), "1 of 1 elements, by up to 2"),
    (np.zeros(2, np.int32), np.zeros(2, np.float32), "int32 [2] -> float32 [2]"),
    (np.zeros(2), None, "only in the first"),
])  # fmt: skip
def test_leaf_difference_compares_bits(old, new, said):
    assert compare_runs.leaf_difference(old, new) == said

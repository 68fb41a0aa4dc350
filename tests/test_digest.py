import hashlib

import jax.numpy as jnp
import numpy as np

from genjax import parallel
from genjax.digest import tree_digest


def test_digest_is_the_sha256_of_path_type_shape_and_bytes():
    expected = hashlib.sha256(b"['a'] <i4 (2,);" + np.int32([1, 2]).tobytes()).hexdigest()
    assert tree_digest({"a": np.int32([1, 2])}) == expected


def test_any_difference_changes_the_digest():
    tree = {"a": np.zeros((2, 3), np.float32), "b": np.int32(1)}
    others = [
        {**tree, "b": np.int32(2)},
        {**tree, "b": np.uint32(1)},
        {**tree, "a": np.zeros((3, 2), np.float32)},
        {**tree, "a": -tree["a"]},  # -0.0 == 0.0, but not its bytes
        {"a": tree["a"], "c": tree["b"]},
    ]
    assert len({tree_digest(t) for t in [tree, *others]}) == 6


def test_digest_does_not_depend_on_where_an_array_lives():
    value = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    replicated = parallel.replicate(parallel.make_mesh(), lambda: jnp.asarray(value))
    assert tree_digest({"x": replicated}) == tree_digest({"x": value}) == tree_digest({"x": np.asfortranarray(value)})

"""Files of weights: exact, equal bytes for equal weights, nothing executed, one clear error for any other file."""

import json
import pickle

import jax
import numpy as np
import pytest
import safetensors
from safetensors.numpy import load, save

from genjax.train import weights_file

CONFIG = {"genjax": "0.4", "family": "vae"}
PARAMS = {"b": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "a": np.full((), 1.5, np.float32)}


def write(path, params=PARAMS, config=CONFIG):
    weights_file.write(path, config, 7, {"digest": "d"}, params)
    return path


def test_read_returns_what_write_wrote(tmp_path):
    found = weights_file.read(write(tmp_path / "a.safetensors"))
    assert (found.config, found.step, found.provenance) == (CONFIG, 7, {"digest": "d"})
    again = weights_file.params(found, PARAMS, "a")
    assert jax.tree.structure(again) == jax.tree.structure(PARAMS)
    for leaf, other in zip(jax.tree.leaves(again), jax.tree.leaves(PARAMS), strict=True):
        assert leaf.tobytes() == np.asarray(other).tobytes() and leaf.shape == other.shape


def test_write_gives_equal_bytes_that_other_programs_read(tmp_path):
    a, b = (write(tmp_path / name).read_bytes() for name in ("a.safetensors", "b.safetensors"))
    assert a == b
    np.testing.assert_array_equal(load(a)["b/kernel"], PARAMS["b"]["kernel"])
    with safetensors.safe_open(tmp_path / "a.safetensors", "np") as file:
        assert json.loads(file.metadata()["genjax"])["config"] == CONFIG


def test_read_notices_any_changed_byte(tmp_path):
    """Also one of the configuration, or of a name or shape; but spaces at the end of the header say nothing."""
    whole = weights_file.read(write(tmp_path / "a.safetensors"))
    content, damaged = (tmp_path / "a.safetensors").read_bytes(), tmp_path / "damaged.safetensors"
    unnoticed = 0
    for place in range(0, len(content), 3):
        changed = bytearray(content)
        changed[place] ^= 1 + 32 * (place % 2)
        damaged.write_bytes(changed)
        try:
            found = weights_file.read(damaged)
        except ValueError as error:
            assert "damaged.safetensors" in str(error) and "give a whole file" in str(error)
        else:
            unnoticed += 1
            assert {**found._asdict(), "sha256": "", "leaves": str(found.leaves)} == {
                **whole._asdict(), "sha256": "", "leaves": str(whole.leaves)
            }, place  # fmt: skip
    assert unnoticed <= 3
    for length in (*range(0, len(content), 29), len(content) - 1):
        damaged.write_bytes(content[:length])
        with pytest.raises(ValueError, match="damaged.safetensors .*: give a whole file"):
            weights_file.read(damaged)


def test_write_refuses_other_types_than_float32(tmp_path):
    with pytest.raises(ValueError, match="w is float64, and files of weights hold float32"):
        write(tmp_path / "a.safetensors", {"w": np.zeros(2)})
    assert not (tmp_path / "a.safetensors").exists()


def record(**changes):
    return {"genjax": json.dumps({"config": CONFIG, "step": 7, "provenance": {}, "sha256": "0"} | changes)}


OTHERS = {
    "a file of another library": (lambda: save({"w": np.zeros(2)}, {"format": "pt"}), "not of genjax.*holds w"),
    "no tensors": (lambda: save({}, None), "not of genjax.*holds no tensor"),
    "other metadata": (lambda: save({}, {"genjax": "[1]"}), "damaged"),
    "a missing entry": (lambda: save({}, {"genjax": "{}"}), "damaged.*sha256"),
    "another digest": (lambda: save({}, record()), "not that whose SHA-256 it names, 0"),
    "another type": (lambda: save({"w": np.zeros(2, np.int32)}, record()), "damaged.*I32"),
    "a pickle": (lambda: pickle.dumps({"w": 1}), "no file of safetensors"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(40), "no file of safetensors"),
    "nothing": (lambda: b"", "no file of safetensors"),
    "a pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
        "Git LFS pointer.*git lfs pull",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_read_refuses_other_files(tmp_path, name):
    make, said = OTHERS[name]
    (tmp_path / "other.safetensors").write_bytes(make())
    with pytest.raises(ValueError, match=f"(?s)other.safetensors .*{said}"):
        weights_file.read(tmp_path / "other.safetensors")


def test_read_refuses_missing_files_and_directories(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*none.safetensors"):
        weights_file.read(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="is a directory"):
        weights_file.read(tmp_path)


def test_params_names_the_first_leaf_that_does_not_fit(tmp_path):
    found = weights_file.read(write(tmp_path / "a.safetensors"))
    other = {"a": np.zeros((3,), np.float32), "b": {"kernel": np.zeros((2, 3), np.float32)}, "c": np.zeros(1)}
    with pytest.raises(ValueError, match=r"FILE does not hold .*: a is \[\], not \[3\] \(and 1 more\)"):
        weights_file.params(found, other, "FILE")

"""Images from a function of one's own, named on the command line or in a notebook."""

import sys

import numpy as np
import pytest

from genjax.data import sources
from genjax.data.config import DataConfig
from genjax.data.splits import Splits

CONFIG = DataConfig(source="python:my_images.stripes", image_size=(8, 8), channels=(1,), batch_size=4)

MY_IMAGES = """
import numpy as np
from genjax.data.splits import Splits

def stripes(config):
    images = np.zeros((20, *config.image_size, 1), np.uint8)
    images[:, ::2] = np.arange(20)[:, None, None, None]
    return Splits(train=(images[:16],), validation=(images[16:18],), test=(images[18:],))

not_a_function = 3
"""


@pytest.fixture
def my_images(tmp_path, monkeypatch):
    (tmp_path / "my_images.py").write_text(MY_IMAGES)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_images", None)


def load(**changes):
    return sources.load(DataConfig(**{**vars(CONFIG), **changes}), seed=0)


def test_load_calls_the_named_function(my_images):
    (train,), (validation,), (test,) = load()
    assert [len(train), len(validation), len(test)] == [16, 2, 2]
    assert test[:, 0, 0, 0].tolist() == [18, 19] and not test[:, 1].any()


def test_load_takes_functions_of_main(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    splits = Splits((images, images[:4]), (images[:2], images[:1]), (images[2:], images[2:]))
    monkeypatch.setattr(sys.modules["__main__"], "my_source", lambda config: splits, raising=False)
    found = load(source="python:__main__.my_source", channels=(3, 3))
    for mine, loaded in zip(splits, found, strict=True):
        for array, other in zip(mine, loaded, strict=True):
            np.testing.assert_array_equal(array, other)


def test_load_resizes_what_the_function_returns(my_images):
    train = load(channels=(3,), load_scale=(9 / 8, 12 / 8), upscale=True)[0][0]
    assert train.shape == (16, 8, 8, 3) and train.picture(0).shape == (12, 12, 3)
    with pytest.raises(ValueError, match=r"has 1 domain\(s\), and --data.channels \(1, 1\) is for 2"):
        load(channels=(1, 1))


@pytest.mark.parametrize(
    "name, reason",
    [
        ("stripes", "names no function: give python:MODULE.FUNCTION"),
        ("no_such.stripes", "cannot import no_such .*; add its folder to PYTHONPATH, or install it"),
        ("my_images.no_such", "my_images has no function no_such"),
        ("my_images.not_a_function", "my_images has no function not_a_function"),
    ],
)
def test_load_names_what_cannot_be_imported(my_images, name, reason):
    with pytest.raises(ValueError, match=f"source python:{name}:? {reason}"):
        load(source=f"python:{name}")


GOOD = np.zeros((3, 8, 8, 1), np.uint8)


@pytest.mark.parametrize(
    "returned, described",
    [
        (None, "NoneType"),
        (GOOD, r"uint8 \[3, 8, 8, 1\]"),
        ((GOOD, GOOD, GOOD), r"\(uint8 \[3, 8, 8, 1\], .*\)"),
        (((GOOD,), (GOOD,)), ".*"),
        (((GOOD,), (GOOD,), (GOOD / 255,)), r".*\(float64 \[3, 8, 8, 1\]\)\)"),
        (((GOOD,), (GOOD,), (GOOD[..., 0],)), r".*\(uint8 \[3, 8, 8\]\)\)"),
        (((GOOD, GOOD), (GOOD, GOOD), (GOOD,)), ".*"),
    ],
)
def test_load_refuses_other_results(my_images, monkeypatch, returned, described):
    import my_images as module

    monkeypatch.setattr(module, "stripes", lambda config: returned)
    with pytest.raises(ValueError, match=f"my_images.stripes returned {described}, and must return .*Splits"):
        load()

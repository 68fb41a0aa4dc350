"""Pairs of images, by the same names in two folders or side by side in one picture."""

import dataclasses
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from genjax.data import sources
from image_folders import encode, flat, load_two, numbered
from refused import refusal
from tiny import write_noise


def load_in_order(root, config, **changes):
    """The grey levels of each domain's images in their order, split by split."""
    changed = dataclasses.replace(config, source=f"folder:{root}", channels=(3, 3), **changes)
    return [[array[:, 0, 0, 0].tolist() for array in source] for source in sources.load(changed, seed=0)]


@pytest.fixture
def paired(folder):
    """Files of two domains whose validation and test images are pairs, of other formats and in other folders."""
    files = numbered("trainA", 0, 5) | numbered("trainB", 100, 3)
    for split, first in (("val", 10), ("test", 20)):
        files |= numbered(f"{split}A", first, 3)
        files |= {f"{split}B/x/{i:02d}.bmp": encode(flat(100 + first + i), "BMP") for i in range(3)}
    return folder(files)


def test_load_pairs_files_by_name(config, paired):
    changed = dataclasses.replace(config, source=f"folder:{paired}", channels=(3, 3), paired=True)
    splits = sources.load(changed, seed=0)
    for source, first in ((splits.validation, 10), (splits.test, 20)):
        assert [array[:, 0, 0, 0].tolist() for array in source] == [
            list(range(first, first + 3)),
            list(range(100 + first, 103 + first)),
        ]
    assert [len(array) for array in splits.train] == [5, 3]  # training images are no pairs


def test_load_names_files_without_partner(config, paired, folder):
    (paired / "testA" / "01.png").rename(paired / "testA" / "1.png")
    said = refusal(ValueError, load_two, paired, config, paired=True)
    assert f"same names in both test folders of folder:{paired}, and 2 are in one of them only, such as 01" in said
    assert load_two(paired, config)[2] == [[20, 21, 22], [120, 121, 122]]
    (paired / "testA" / "1.png").unlink()
    assert "and 1 are in one of them only, such as 01" in refusal(ValueError, load_two, paired, config, paired=True)
    folder({"testA/01.png": 21, "valB/x/later.png": 9})
    said = refusal(ValueError, load_two, paired, config, paired=True)
    assert "in both validation folders" in said and "1 are in one of them only, such as later" in said


def test_load_refuses_pairs_in_another_order(config, paired, folder):
    """Image i goes with image i, so the same names are not enough."""
    shutil.rmtree(paired / "testA")
    folder({"testA/a/02.png": 22, "testA/b/01.png": 21, "testA/c/00.png": 20})
    said = refusal(ValueError, load_two, paired, config, paired=True)
    assert f"the same names in both test folders of folder:{paired}, and their order differs" in said
    shutil.rmtree(paired / "testA")
    folder(numbered("testA", 20, 3) | {"testA/x/00.png": 20})
    assert f"both test folders of folder:{paired}" in refusal(ValueError, load_two, paired, config, paired=True)


@pytest.mark.parametrize("missing", ["valA", "valB", "testA", "testB"])
def test_load_refuses_to_hold_out_pairs(config, paired, missing):
    shutil.rmtree(paired / missing)
    said = refusal(ValueError, load_two, paired, config, paired=True)
    held = {"val": "validation", "test": "test"}[missing[:-1]]
    assert f"same names in both train folders of folder:{paired}, as {held} images are held out of it, and 2" in said
    load_two(paired, config)


def test_load_holds_pairs_out_of_pairs(config, folder):
    root = folder(
        numbered("trainA", 0, 20) | numbered("trainB", 100, 20) | numbered("testA", 50, 1) | numbered("testB", 60, 1)
    )
    (a, b), (a_validation, b_validation), test = load_two(root, config, paired=True)
    assert [i + 100 for i in a] == b and [i + 100 for i in a_validation] == b_validation and len(a_validation) == 2
    assert load_two(root, config, paired=True, train_pairs=True) == [[a, b], [a_validation, b_validation], test]
    (root / "trainA" / "00.png").rename(root / "trainA" / "0.png")
    folder(numbered("valA", 70, 1) | numbered("valB", 80, 1))
    load_two(root, config, paired=True)
    said = refusal(ValueError, load_two, root, config, paired=True, train_pairs=True)
    assert "the same names in both train folders" in said and "2 are in one of them only, such as 0" in said


def test_load_refuses_crops_of_pairs_of_two_sizes(config, tmp_path):
    for letter, width in (("A", 12), ("B", 14)):
        write_noise(tmp_path / f"train{letter}", 8, (10, width))
    changed = dataclasses.replace(
        config, source=f"folder:{tmp_path}", channels=(3, 3), paired=True, train_pairs=True, resize="none"
    )
    assert "its images are 10x12 and 10x14 when they are scaled" in refusal(ValueError, sources.load, changed, 0)
    sources.load(dataclasses.replace(changed, train_pairs=False), 0)
    sources.load(dataclasses.replace(changed, resize="stretch", load_scale=(1.5,)), 0)


@pytest.mark.parametrize("resize", ["none", "cover", "width"])
def test_load_refuses_pairs_that_would_show_other_parts(config, tmp_path, resize):
    """Twice the size at its own scale, and other proportions where pictures are cropped."""
    for split in ("train", "val", "test"):
        write_noise(tmp_path / f"{split}A", 4, (12, 12))
        write_noise(tmp_path / f"{split}B", 4, (24, 24) if resize == "none" else (12, 12))
    Image.new("RGB", (12, 18)).save(tmp_path / "testB" / "2.png")
    changed = dataclasses.replace(
        config, source=f"folder:{tmp_path}", channels=(3, 3), paired=True, resize=resize, max_megapixels=1
    )
    said = refusal(ValueError, sources.load, changed, 0)
    size = "24x24" if resize == "none" else "18x12"
    assert f"--data.resize {resize} shows other parts of {tmp_path}/testA/" in said
    assert f"B/{'0' if resize == 'none' else '2'}.png ({size}): make them of one size" in said
    sources.load(dataclasses.replace(changed, paired=False), 0)
    sources.load(dataclasses.replace(changed, resize="stretch"), 0)
    (tmp_path / "testB" / "2.png").write_bytes(b"no picture")
    if resize != "none":
        assert "cannot be decoded" in refusal(ValueError, sources.load, changed, 0)


def test_load_pairs_names_of_either_unicode_form(config, folder):
    """macOS stores an umlaut as a letter and its dots, which sort elsewhere; others as one character."""
    files = numbered("trainA", 0, 5) | numbered("trainB", 100, 5)
    for split, first in (("val", 10), ("test", 20)):
        for letter, form, more in (("A", "NFC", 0), ("B", "NFD", 100)):
            names = [unicodedata.normalize(form, name) for name in ("a", "ä", "az", "z")]
            files |= {f"{split}{letter}/{name}.png": first + more + i for i, name in enumerate(names)}
    _, validation, test = load_in_order(folder(files), config, paired=True)
    assert [[i + 100 for i in a] == b for a, b in (validation, test)] == [True, True]


def test_load_splits_pictures_side_by_side(config, folder):
    def both(i):
        return encode(np.repeat(np.uint8([[i, i + 100]]), 8, axis=0).repeat(8, axis=1))

    root = folder({f"train/{i}.png": both(i) for i in range(6)} | {f"val/{i}.png": both(50 + i) for i in range(3)})
    changed = dataclasses.replace(config, source=f"pairs:{root}", channels=(3, 1), paired=True)
    for a, b in sources.load(changed, seed=0):
        assert a.shape[1:] == (8, 8, 3) and b.shape[1:] == (8, 8, 1)
        np.testing.assert_array_equal(a[..., :1] + 100, b)
    folder({"val/odd.png": encode(flat(9, 8, 17))})
    said = refusal(ValueError, sources.load, changed, seed=0)
    assert f"\n  {root}/val/odd.png (left half): its width of 17 pixels is odd" in said
    said = refusal(ValueError, sources.load, dataclasses.replace(changed, channels=(3,), paired=False), seed=0)
    assert "has 2 domain(s), and --data.channels (3,) is for 1" in said

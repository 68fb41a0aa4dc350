"""Folders of images of two domains, named after split and domain or given as two."""

import dataclasses
import shutil

import numpy as np
import pytest

from genjax.data import sources
from image_folders import encode, flat, load, load_two, numbered
from refused import refusal

NAMINGS = ["{}A {}B", "{}a {}b", "{}_A {}_B", "{}_a {}_b", "{}/A {}/B", "{}/a {}/b", "{}A {}_b"]


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("validation", ["validation", "val"])
def test_load_finds_two_domains_under_any_naming(config, folder, naming, validation):
    a, b = naming.split()
    files = numbered(a.format("train"), 0, 6) | numbered(b.format("train"), 50, 4)
    files |= numbered(a.format(validation), 100, 1) | numbered(b.format(validation), 110, 3)
    files |= numbered(a.format("test"), 200, 3) | numbered(b.format("test"), 210, 2)
    files |= {"stray.png": 77, "extra/stray.png": 78}
    assert load_two(folder(files), config) == [
        [[0, 1, 2, 3, 4, 5], [50, 51, 52, 53]],
        [[100], [110, 111, 112]],
        [[200, 201, 202], [210, 211]],
    ]


def test_load_converts_channels_by_domain(config, folder):
    colour = {f"trainB/{i}/x/photo.png": encode(flat((i, 60, 90), 8, 8, 3)) for i in range(4)}
    root = folder(numbered("trainA", 0, 4) | colour)
    changed = dataclasses.replace(config, source=f"folder:{root}", channels=(1, 3))
    for grey, coloured in sources.load(changed, seed=0):
        assert grey.shape[1:] == (8, 8, 1) and coloured.shape[1:] == (8, 8, 3)
        assert set(coloured[..., 1].ravel()) == {60} and set(coloured[..., 2].ravel()) == {90}


def test_load_holds_out_by_domain(config, folder):
    root = folder(numbered("trainA", 0, 20) | numbered("trainB", 100, 40) | numbered("testB", 200, 2))
    (a, b), (a_validation, b_validation), (a_test, b_test) = load_two(root, config)
    assert sorted(a + a_validation + a_test) == list(range(20)) and (len(a_validation), len(a_test)) == (2, 2)
    assert sorted(b + b_validation) == list(range(100, 140)) and len(b_validation) == 4
    assert b_test == [200, 201]


def test_load_needs_one_image_without_holdout(config, folder):
    root = folder(numbered("trainA", 3, 1) | numbered("trainB", 5, 2))
    assert load_two(root, config, holdout=0.0) == [[[3], [5, 6]]] * 3
    said = refusal(ValueError, load_two, root, config)
    assert f"{root}/trainA holds 1 images, and training needs at least 3" in said


@pytest.mark.parametrize("there", ["A", "B"])
def test_load_names_a_missing_domain(config, folder, there):
    root, missing = folder(numbered(f"train{there}", 0, 5) | numbered("test", 0, 3)), {"A": "B", "B": "A"}[there]
    said = refusal(FileNotFoundError, load_two, root, config)
    assert (
        f"{root} has no folder train{missing} (nor train_{missing}, nor train/{missing}) for domain {missing}" in said
    )
    assert f"its folders are: test, train{there}. Two folders of other names are given as folder:PATH_A,PATH_B" in said


def test_load_refuses_one_domain_as_two(config, folder):
    assert "its folders are: none." in refusal(FileNotFoundError, load_two, folder({"1.png": 1}), config)
    root = folder(numbered("train", 0, 5) | numbered("test", 0, 3))
    assert refusal(FileNotFoundError, load_two, root, config).count("its folders are: test, train. Two")
    assert refusal(FileNotFoundError, load_two, root / "none", config) == f"no such folder: {root}/none"


def test_load_refuses_an_empty_domain(config, folder):
    root = folder(numbered("trainA", 0, 5) | {"trainB/notes.txt": b""})
    for holdout, minimum in ((0.1, 3), (0.0, 1)):
        said = refusal(ValueError, load_two, root, config, holdout=holdout)
        assert f"{root}/trainB holds 0 images, and training needs at least {minimum}; looked in it and below" in said
    folder(numbered("trainB", 0, 5) | numbered("testA", 0, 2) | {"testB/notes.txt": b""})
    said = refusal(ValueError, load_two, root, config)
    assert f"{root}/testB holds no images" in said and "remove the folder, and test images are held out" in said
    shutil.rmtree(root / "testB")
    assert [len(images) for images in load_two(root, config)[2]] == [2, 1]


@pytest.mark.parametrize("where", ["trainA/cut.jpg", "trainB/cut.jpg", "testB/cut.jpg"])
def test_load_names_corrupt_files_of_either_domain(config, folder, where):
    noise = encode(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8), "JPEG")
    files = numbered("trainA", 0, 5) | numbered("trainB", 10, 5) | numbered("testA", 20, 2) | numbered("testB", 30, 2)
    root = folder(files | {where: noise[:-200]})
    assert f"cannot be decoded:\n  {root}/{where}: " in refusal(ValueError, load_two, root, config)
    (a, b), (a_validation, b_validation), test = load_two(root, config, skip_corrupt=True)
    assert sorted(a + a_validation) == list(range(5)) and sorted(b + b_validation) == list(range(10, 15))
    assert test == [[20, 21], [30, 31]]


def test_load_parts_two_folders_at_the_right_comma(config, folder):
    root = folder(numbered("cats, old", 0, 5) | numbered("dogs, new", 100, 5))
    parts = load_two(f"{root}/cats, old,{root}/dogs, new", config)
    assert load_two(f"{root}/cats, old, {root}/dogs, new", config) == parts  # a space, as in a list
    assert all(max(a) < 100 <= min(b) for a, b in parts)


def test_load_takes_two_folders_as_they_are(config, folder):
    root = folder(numbered("cats/x", 0, 10) | numbered("my dogs", 100, 20) | numbered("my dogs/deep", 120, 5))
    source = f"{root}/cats,{root}/my dogs"
    (a, b), (a_validation, b_validation), (a_test, b_test) = load_two(source, config)
    assert sorted(a + a_validation + a_test) == list(range(10))
    assert sorted(b + b_validation + b_test) == list(range(100, 125))
    said = refusal(ValueError, load_two, source, config, channels=(3,))
    assert "has 2 domain(s), and --data.channels (3,) is for 1" in said
    assert refusal(FileNotFoundError, load_two, f"{root}/cats,{root}/dogs", config) == f"no such folder: {root}/dogs"
    assert "the two domains share a folder" in refusal(ValueError, load_two, f"{root}/cats,{root}/cats/x", config)
    root.joinpath("my dogs").rename(root / "dogs, brown")
    assert load(root / "dogs, brown", config)[0].shape == (21, 8, 8, 3)  # a comma in a name

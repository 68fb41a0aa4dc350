"""Folders of images: one domain below a folder, or two in folders named after split and domain."""

import dataclasses
import io
import os
import pwd
import shutil
import unicodedata

import numpy as np
import pytest
from etils import epath
from PIL import Image

from genjax.data import decoding, folders, sources
from genjax.data.config import DataConfig
from tiny import write_noise


@pytest.fixture
def config(tmp_path):
    cache_dir = str(tmp_path / "cache")
    return DataConfig(source="unused", image_size=(8, 8), channels=(3,), batch_size=2, cache_dir=cache_dir)


def encode(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def flat(level, *shape, dtype=np.uint8):
    return np.full(shape or (8, 8), level, dtype)


def sized(height, width, channels, **changes):
    size = {"source": "unused", "image_size": (height, width), "channels": (channels,), "batch_size": 2}
    return DataConfig(**size | changes)


@pytest.fixture
def folder(tmp_path):
    def write(files):
        for name, content in files.items():
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else encode(flat(content)))
        return tmp_path / "images"

    return write


def load(root, config, **changes):
    splits = sources.load(dataclasses.replace(config, source=f"folder:{root}", **changes), seed=0)
    return [array for (array,) in splits]


def levels(arrays):
    return [sorted(array[:, 0, 0, 0].tolist()) for array in arrays]


def refusal(error, function, *args, **options):
    with pytest.raises(error) as caught:
        function(*args, **options)
    return str(caught.value)


# One domain.


def test_load_reads_every_format_at_any_depth(config, folder):
    halves = np.repeat(np.uint8([[10] * 4 + [250] * 4]), 24, axis=0)
    upside_down = Image.Exif()
    upside_down[0x0112] = 3
    expected = {
        "grey.png": (encode(flat(20)), 20),
        "a/colour.png": (encode(flat((30, 40, 50), 8, 8, 3)), (30, 40, 50)),
        "a/photo.jpg": (encode(flat(60, 8, 8, 3), "JPEG", quality=100), 60),
        "a/b/grey.JPEG": (encode(flat(70), "JPEG", quality=100), 70),
        "a/b/large.png": (encode(flat((80, 90, 100), 40, 23, 3)), (80, 90, 100)),
        "a/b/small.bmp": (encode(flat(110, 3, 5), "BMP"), 110),
        "deep.png": (encode(flat(120 * 257, 8, 8, dtype=np.uint16)), 120),
        "deep-large.tiff": (encode(flat(130 * 257, 30, 20, dtype=np.uint16), "TIFF"), 130),
        "turned.jpg": (encode(halves, "JPEG", quality=100, exif=upside_down), [[[250]] * 4 + [[10]] * 4]),
    }
    stray = {"notes.txt": b"no image", "a/list.json": b"{}", ".png": b"a name, not a suffix"}
    arrays = load(folder({name: content for name, (content, _) in expected.items()} | stray), config, upscale=True)
    found = sorted(image.tolist() for array in arrays for image in array)
    wanted = sorted(np.broadcast_to(value, (8, 8, 3)).tolist() for _, value in expected.values())
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1)  # JPEG may be off by one
    assert [len(array) for array in arrays] == [7, 1, 1]


def test_load_names_an_image_too_small(config, folder):
    root = folder({f"{i}.png": i for i in range(6)} | {"x/small.png": encode(flat(9, 7, 30))})
    said = refusal(ValueError, load, root, config)
    assert said == (
        "1 of 7 pictures are 7x30, smaller than --data.image-size 8x8: remove them, or give --data.image-size 7 8 "
        f"(or --data.upscale); one is {root}/x/small.png"
    )
    assert refusal(ValueError, load, root, config, skip_corrupt=True) == said  # it is not damaged
    assert sorted(sum(levels(load(root, config, upscale=True)), [])) == [*range(6), 9]


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_load_takes_folders_named_after_splits(config, folder, validation):
    files = {f"train/x/{i}.png": i for i in range(5)} | {f"{validation}/{i}.png": 100 + i for i in range(2)}
    files |= {f"test/{i}.png": 200 + i for i in range(3)} | {"stray.png": 77, "extra/stray.png": 78}
    assert levels(load(folder(files), config)) == [[0, 1, 2, 3, 4], [100, 101], [200, 201, 202]]


def test_load_holds_out_missing_splits(config, folder):
    root = folder({f"train/{i:02d}.png": i for i in range(20)} | {"test/0.png": 200})
    train, validation, test = levels(load(root, config))
    assert test == [200] and len(validation) == 2 and sorted(train + validation) == list(range(20))


def test_load_refuses_missing_and_empty_folders(config, folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no such folder: {tmp_path}/none"):
        load(tmp_path / "none", config)
    root = folder({"a.txt": b"", "x/b.md": b""})
    with pytest.raises(
        ValueError, match=f"{root} holds 0 images, and training needs at least 3; looked .* .jpeg .*.png"
    ):
        load(root, config)
    folder({"a.png": 1, "x/b.png": 2})
    with pytest.raises(ValueError, match=f"{root} holds 2 images"):
        load(root, config)
    folder({"c.png": 3})
    assert sorted(sum(levels(load(root, config)), [])) == [1, 2, 3]
    folder({"train/a.png": 1, "test/b.png": 2})
    with pytest.raises(ValueError, match=f"{root}/train holds 1 images"):
        load(root, config)


def test_load_skips_corrupt_files_only_if_asked(config, folder, caplog):
    noise = encode(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8), "JPEG")
    root = folder({f"train/{i}.png": i for i in range(6)} | {"train/cut.jpg": noise[:-200], "test/a.png": 200})
    with pytest.raises(ValueError, match=f"(?s)cannot be decoded:\n  {root}/train/cut.jpg: .*--data.skip-corrupt"):
        load(root, config)
    train, validation, _ = levels(load(root, config, skip_corrupt=True))
    assert sorted(train + validation) == list(range(6))
    load(root, config, skip_corrupt=True)  # from the cache
    first, second = (message for message in caplog.messages if "cannot be decoded" in message)
    assert first == second and f"1 of 8 images cannot be decoded:\n  {root}/train/cut.jpg: " in first


def test_load_treats_broken_links_as_corrupt(config, folder, caplog):
    root = folder({f"{i}.png": i for i in range(6)})
    (root / "gone.png").symlink_to(root / "nothing.png")
    with pytest.raises(ValueError, match=f"(?s)cannot be decoded:\n  {root}/gone.png: .*--data.skip-corrupt"):
        load(root, config)
    assert sorted(sum(levels(load(root, config, skip_corrupt=True)), [])) == list(range(6))


@pytest.mark.parametrize("names", ["trainA trainB testA", "train_a train_b test_a", "train_A testA"])
def test_load_refuses_two_domains_as_one(config, folder, names):
    root = folder({f"{name}/{i}.png": i for i in range(6) for name in names.split()})
    with pytest.raises(ValueError, match=f"{root} holds two domains: .* folder:{root}/{names.split()[0]}"):
        load(root, config)


def test_load_takes_class_folders_as_one_domain(config, folder):
    root = folder({f"train/{name}/{i}.png": i for name in "AB" for i in range(3)} | {"test/A/0.png": 9})
    train, validation, test = levels(load(root, config))
    assert sorted(train + validation) == [0, 0, 1, 1, 2, 2] and test == [9]


def test_load_decodes_again_after_a_change(config, folder, monkeypatch):
    root = folder({f"{i}.bmp": encode(flat(i), "BMP") for i in range(9)})
    first = load(root, config, decode_threads=1)
    for array, threaded in zip(first, load(root, config, cache_dir=config.cache_dir + "2"), strict=True):
        assert array.tobytes() == threaded.tobytes()
    with monkeypatch.context() as patch:
        patch.setattr(decoding.conversion, "to_samples", None)
        for array, again in zip(first, load(root, config), strict=True):
            assert array.tobytes() == again.tobytes()
    before = os.stat(root / "4.bmp")
    folder({"4.bmp": encode(flat(99), "BMP")})  # the same size, and within the same second
    os.utime(root / "4.bmp", ns=(before.st_atime_ns, before.st_mtime_ns - before.st_mtime_ns % 10**9 + 1))
    assert sorted(sum(levels(load(root, config)), [])) == [0, 1, 2, 3, 5, 6, 7, 8, 99]


def test_load_reads_folders_of_unknown_owners(config, folder, monkeypatch):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)  # as in a container that runs under a bare number
    assert sorted(sum(levels(load(folder({f"{i}.png": i for i in range(3)}), config)), [])) == [0, 1, 2]


def test_read_images_takes_files_and_folders(config, folder, tmp_path):
    root = folder({"b.png": 2, "a/x.png": 1, "c.txt": b""})
    assert folders.read_images([root], sized(8, 8, 1))[:, 0, 0, 0].tolist() == [1, 2]
    several = [root / "b.png", root / "a"]
    assert folders.read_images(several, sized(8, 8, 1))[:, 0, 0, 0].tolist() == [2, 1]
    assert {str(name) for name in folders.named_images(several).values()} == {"b.png", "x.png"}
    assert folders.read_images(several, sized(8, 8, 1), num=1)[:, 0, 0, 0].tolist() == [2]
    assert folders.read_images([root / "b.png"], sized(4, 6, 3)).tolist() == flat(2, 1, 4, 6, 3).tolist()
    with pytest.raises(FileNotFoundError, match=f"no such file or folder: {tmp_path}/none"):
        folders.read_images([tmp_path / "none"], sized(8, 8, 1))
    with pytest.raises(ValueError, match=f"cannot read {root}/c.txt: it is no PNG"):
        folders.read_images([root / "c.txt"], sized(8, 8, 1))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"{tmp_path}/empty holds no images .*.jpeg"):
        folders.read_images([tmp_path / "empty"], sized(8, 8, 1))
    with pytest.raises(ValueError, match="give --images at least one file or folder"):
        folders.named_images([])


@pytest.mark.parametrize(
    "changes",
    [{}, {"resize": "stretch"}, {"load_scale": (11 / 8, 12 / 8)}, {"resize": "width"}, {"resize": "none"}],
    ids=str,
)
def test_read_images_sees_what_a_run_evaluates(config, folder, changes):
    noise = np.random.default_rng(0).integers(0, 256, (4, 20, 31), dtype=np.uint8)
    config = dataclasses.replace(config, channels=(1,), **changes)
    root = folder({f"train/{i}.png": i for i in range(3)} | {f"test/{i}.png": encode(noise[i]) for i in range(4)})
    (test,) = folders.load(dataclasses.replace(config, source=f"folder:{root}")).test
    np.testing.assert_array_equal(folders.read_images([root / "test"], config), test)


def test_load_ignores_links_to_copies_and_hidden_files(config, tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    for i in range(5):
        Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(root / f"{i}.png")
    (root / "again").symlink_to(root)
    (root / "copy.png").symlink_to(root / "0.png")
    (root / "._0.png").write_bytes(b"not an image")
    assert sorted(sum(levels(load(root, config)), [])) == [0, 40, 80, 120, 160]
    # What is translated keeps every name.
    assert [path.name for path in folders.image_files(root)] == [f"{i}.png" for i in range(5)] + ["copy.png"]


# Two domains.


def load_two(root, config, channels=(3, 3), **changes):
    """The grey levels of each domain's images, split by split."""
    changed = dataclasses.replace(config, source=f"folder:{root}", channels=channels, **changes)
    return [levels(source) for source in sources.load(changed, seed=0)]


def load_in_order(root, config, **changes):
    """The grey levels of each domain's images in their order, split by split."""
    changed = dataclasses.replace(config, source=f"folder:{root}", channels=(3, 3), **changes)
    return [[array[:, 0, 0, 0].tolist() for array in source] for source in sources.load(changed, seed=0)]


def numbered(folder_name, first, num):
    return {f"{folder_name}/{i:02d}.png": first + i for i in range(num)}


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


# Pairs.


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


def test_reader_asks_for_the_kind_of_a_path(folder, tmp_path):
    root = folder({"1.png": 1})
    (tmp_path / "images.npz").write_bytes(b"")
    assert f"did you mean folder:{root}? Or give digits" in refusal(ValueError, sources.reader, str(root)).replace(
        "mnist5k, ", ""
    )
    assert f"did you mean folder:{root},{tmp_path}?" in refusal(ValueError, sources.reader, f"{root},{tmp_path}")
    assert f"did you mean npz:{tmp_path}/images.npz?" in refusal(ValueError, sources.reader, f"{tmp_path}/images.npz")
    assert "did you mean" not in refusal(ValueError, sources.reader, f"{tmp_path}/none")


def test_left_out_counts_other_files_by_suffix(folder, config, caplog):
    files = {f"{i}.png": i for i in range(8)} | {
        "a.jxl": b"",
        "b/b.JXL": b"",
        "notes.txt": b"",
        "README": b"",
        ".x": b"",
    }
    config = dataclasses.replace(config, source=f"folder:{folder(files)}")
    assert sources.left_out(config) == {"left_out": {".jxl": 2, ".txt": 1, "without suffix": 1}}
    assert caplog.messages == [
        f"left out 4 files of {config.source} that are no pictures of a known kind: 2 .jxl, 1 .txt, 1 without suffix"
    ]
    assert sources.left_out(dataclasses.replace(config, source="digits")) == {}


def paged(levels, kind):
    buffer = io.BytesIO()
    frames = [Image.fromarray(flat(level)) for level in levels]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize("suffix, kind", [(".tif", "TIFF"), (".gif", "GIF"), (".png", "PNG")])
def test_pages_are_images_when_asked(folder, config, suffix, kind):
    root = folder({"a.png": 1, f"b{suffix}": paged([10, 20, 30], kind), "c.png": 4})
    config = dataclasses.replace(config, holdout=0)
    with pytest.raises(ValueError, match=rf"b{suffix}: it holds 3 frames or pages, not one: .* --data.pages all takes"):
        load(root, config)
    with pytest.raises(ValueError, match=rf"cannot read .*b{suffix}: it holds 3 frames"):
        folders.read_images([root], sized(8, 8, 1))
    (train, *_) = load(root, dataclasses.replace(config, pages="all"))
    assert train[:, 0, 0, 0].tolist() == [1, 10, 20, 30, 4]
    assert folders.read_images([root], sized(8, 8, 1, pages="all"))[:, 0, 0, 0].tolist() == [1, 10, 20, 30, 4]


def test_natural_order_takes_numbers_as_numbers():
    names = ["a/frame2.png", "a/frame10.png", "a/frame010b.png", "a/frame11.png", "a10/1.png", "b.png"]
    pages = [folders.Page(epath.Path(name), None) for name in names]
    assert sorted(pages[::-1], key=folders.natural_order) == pages
    numbered = [folders.Page(epath.Path("film.gif"), number) for number in range(12)]
    assert sorted(numbered[::-1], key=folders.natural_order) == numbered

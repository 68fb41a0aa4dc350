"""Folders of images of one domain, and files of several pages."""

import dataclasses
import io
import os
import pwd

import numpy as np
import pytest
from etils import epath
from PIL import Image

from genjax.data import decoding, folders
from genjax.data.config import DataConfig
from image_folders import encode, flat, levels, load
from refused import refusal


def sized(height, width, channels, **changes):
    size = {"source": "unused", "image_size": (height, width), "channels": (channels,), "batch_size": 2}
    return DataConfig(**size | changes)


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

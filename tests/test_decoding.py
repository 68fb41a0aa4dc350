"""Decoding once, in threads, into a cache; and folders of images, which come that way."""

import dataclasses
import io
import logging
import os
import pwd
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genjax.config import DataConfig
from genjax.data import decoding, sources

NUM = 24
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM, 4, 5, 3), dtype=np.uint8)
NAMES = [f"image-{i:02d}" for i in range(NUM)]


@pytest.fixture
def config(tmp_path):
    return DataConfig(source="unused", image_shape=(4, 5, 3), batch_size=2, cache_dir=str(tmp_path / "cache" / "below"))


def read(i):
    time.sleep((NUM - i) * 2e-4)  # the first ones finish last
    return IMAGES[i]


def forbidden(i):
    raise AssertionError(f"image {i} was decoded again")


def corrupt(*bad):
    def read_or_fail(i):
        if i in bad:
            raise OSError(f"bytes {i} make no sense")
        return read(i)

    return read_or_fail


def cached(config):
    return sorted(path.name for path in Path(config.cache_dir).iterdir())


@pytest.mark.parametrize("threads", [1, 8])
def test_images_come_in_order_whatever_the_number_of_threads(config, threads):
    config = dataclasses.replace(config, decode_threads=threads)
    decoded = decoding.decode_all(NAMES, read, config, "these")
    assert decoded.dtype == np.uint8 and decoded.tobytes() == IMAGES.tobytes()


def test_a_second_load_decodes_nothing(config):
    first = decoding.decode_all(NAMES, read, config, ["these", 1])
    other = dataclasses.replace(config, batch_size=9, decode_threads=1, prefetch=1, holdout=0.2, flip=True)
    second = decoding.decode_all(NAMES, forbidden, other, ["these", 1])
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    "changes, identity",
    [({}, ["these", 2]), ({"image_shape": (5, 4, 3)}, ["these", 1]), ({"skip_corrupt": True}, ["these", 1])],
)
def test_other_images_shapes_and_treatments_are_decoded_for_themselves(config, changes, identity):
    decoding.decode_all(NAMES, read, config, ["these", 1])
    calls = []
    changed = dataclasses.replace(config, decode_threads=1, **changes)
    decoding.decode_all(NAMES, lambda i: calls.append(i) or 0, changed, identity)
    assert calls == list(range(NUM))


@pytest.mark.parametrize("threads", [1, 8])
def test_the_first_corrupt_image_is_named_with_the_remedy(config, threads):
    config = dataclasses.replace(config, decode_threads=threads)
    with pytest.raises(ValueError) as refusal:
        decoding.decode_all(NAMES, corrupt(5, 6, 20), config, "these")
    assert "cannot decode image-05: bytes 5 make no sense" in str(refusal.value)
    assert "--data.skip-corrupt" in str(refusal.value)
    assert cached(config) == []  # neither an array nor a partial one


def test_corrupt_images_are_left_out_and_logged_if_asked(config, caplog):
    config = dataclasses.replace(config, skip_corrupt=True)
    with caplog.at_level(logging.WARNING):
        decoded = decoding.decode_all(NAMES, corrupt(0, 7, NUM - 1), config, "these")
    np.testing.assert_array_equal(decoded, np.delete(IMAGES, [0, 7, NUM - 1], axis=0))
    for i in (0, 7, NUM - 1):
        assert f"left out {NAMES[i]}, which cannot be decoded: bytes {i} make no sense" in caplog.messages
    assert caplog.messages[-1] == f"left out 3 of {NUM} images" and len(caplog.messages) == 4
    np.testing.assert_array_equal(decoding.decode_all(NAMES, forbidden, config, "these"), decoded)
    with pytest.raises(ValueError, match="image-07"):  # a cache that lacks images is no use to a strict load
        decoding.decode_all(NAMES, corrupt(7), dataclasses.replace(config, skip_corrupt=False), "these")


def test_nothing_is_logged_when_all_is_well(config, caplog):
    with caplog.at_level(logging.WARNING):
        decoding.decode_all(NAMES, read, dataclasses.replace(config, skip_corrupt=True), "these")
    assert caplog.messages == []


def test_after_a_failure_the_mended_images_are_decoded(config):
    with pytest.raises(ValueError):
        decoding.decode_all(NAMES, corrupt(3), config, "these")
    assert decoding.decode_all(NAMES, read, config, "these").tobytes() == IMAGES.tobytes()
    assert len(cached(config)) == 1


def test_large_arrays_stay_on_the_disk(config, monkeypatch):
    small = decoding.decode_all(NAMES, read, config, "these")
    assert not isinstance(small, np.memmap)
    monkeypatch.setattr(decoding, "MEMORY_MAP_BYTES", IMAGES.nbytes - 1)
    large = decoding.decode_all(NAMES, forbidden, config, "these")
    assert isinstance(large, np.memmap) and not large.flags.writeable
    assert large.tobytes() == IMAGES.tobytes()


@pytest.mark.parametrize("below", ["", "cache"])
def test_a_cache_that_cannot_be_written_is_named(config, tmp_path, below):
    (tmp_path / "file").write_text("not a folder")
    config = dataclasses.replace(config, cache_dir=str(tmp_path / "file" / below))
    with pytest.raises(ValueError) as refusal:
        decoding.decode_all(NAMES, read, config, "these")
    assert f"cannot write the image cache in {tmp_path / 'file' / below}" in str(refusal.value)
    assert "--data.cache-dir" in str(refusal.value)
    assert (tmp_path / "file").read_text() == "not a folder"


# Folders.


def encode(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def flat(level, *shape, dtype=np.uint8):
    return np.full(shape or (8, 8), level, dtype)


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
    changes = {"source": f"folder:{root}", "image_shape": (8, 8, 3), **changes}
    return [array for (array,) in sources.load(dataclasses.replace(config, **changes), seed=0)]


def levels(arrays):
    return [sorted(array[:, 0, 0, 0].tolist()) for array in arrays]


def test_every_kind_of_image_at_any_depth_is_read(config, folder):
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
    arrays = load(folder({name: content for name, (content, _) in expected.items()} | stray), config)
    found = sorted(image.tolist() for array in arrays for image in array)
    wanted = sorted(np.broadcast_to(value, (8, 8, 3)).tolist() for _, value in expected.values())
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1)  # JPEG may be off by one
    assert [len(array) for array in arrays] == [7, 1, 1]


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_folders_named_after_splits_are_the_splits(config, folder, validation):
    files = {f"train/x/{i}.png": i for i in range(5)} | {f"{validation}/{i}.png": 100 + i for i in range(2)}
    files |= {f"test/{i}.png": 200 + i for i in range(3)} | {"stray.png": 77, "extra/stray.png": 78}
    assert levels(load(folder(files), config)) == [[0, 1, 2, 3, 4], [100, 101], [200, 201, 202]]


def test_what_the_folders_lack_is_held_out_of_train(config, folder):
    root = folder({f"train/{i:02d}.png": i for i in range(20)} | {"test/0.png": 200})
    train, validation, test = levels(load(root, config))
    assert test == [200] and len(validation) == 2 and sorted(train + validation) == list(range(20))


def test_folders_that_will_not_do_are_refused(config, folder, tmp_path):
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


def test_a_corrupt_file_is_named_and_left_out_only_if_asked(config, folder, caplog):
    noise = encode(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8), "JPEG")
    root = folder({f"train/{i}.png": i for i in range(6)} | {"train/cut.jpg": noise[:-200], "test/a.png": 200})
    with pytest.raises(ValueError, match=f"cannot decode {root}/train/cut.jpg: .*--data.skip-corrupt"):
        load(root, config)
    train, validation, _ = levels(load(root, config, skip_corrupt=True))
    assert sorted(train + validation) == list(range(6))
    assert any(f"left out {root}/train/cut.jpg, which cannot be decoded" in message for message in caplog.messages)


def test_folders_are_decoded_once_and_again_after_a_change(config, folder, monkeypatch):
    root = folder({f"{i}.bmp": encode(flat(i), "BMP") for i in range(9)})
    first = load(root, config, decode_threads=1)
    for array, threaded in zip(first, load(root, config, cache_dir=config.cache_dir + "2"), strict=True):
        assert array.tobytes() == threaded.tobytes()
    with monkeypatch.context() as patch:
        patch.setattr(sources.image_ops, "decode", forbidden)
        for array, again in zip(first, load(root, config), strict=True):
            assert array.tobytes() == again.tobytes()
    before = os.stat(root / "4.bmp")
    folder({"4.bmp": encode(flat(99), "BMP")})  # the same size, and within the same second
    os.utime(root / "4.bmp", ns=(before.st_atime_ns, before.st_mtime_ns - before.st_mtime_ns % 10**9 + 1))
    assert sorted(sum(levels(load(root, config)), [])) == [0, 1, 2, 3, 5, 6, 7, 8, 99]


def test_folders_of_an_owner_without_a_name_are_read(config, folder, monkeypatch):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)  # as in a container that runs under a bare number
    assert sorted(sum(levels(load(folder({f"{i}.png": i for i in range(3)}), config)), [])) == [0, 1, 2]


def test_read_images_takes_a_file_or_all_below_a_folder(folder, tmp_path):
    root = folder({"b.png": 2, "a/x.png": 1, "c.txt": b""})
    assert sources.read_images(root, (8, 8, 1))[:, 0, 0, 0].tolist() == [1, 2]
    assert sources.read_images(root / "b.png", (4, 6, 3)).tolist() == flat(2, 1, 4, 6, 3).tolist()
    with pytest.raises(FileNotFoundError, match=f"no such file or folder: {tmp_path}/none"):
        sources.read_images(tmp_path / "none", (8, 8, 1))
    with pytest.raises(ValueError, match=f"cannot decode {root}/c.txt: "):
        sources.read_images(root / "c.txt", (8, 8, 1))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"{tmp_path}/empty holds no images .*.jpeg"):
        sources.read_images(tmp_path / "empty", (8, 8, 1))


def test_a_damaged_cache_is_decoded_anew_and_that_is_said(tmp_path, caplog):
    config = DataConfig(source="x", image_shape=(2, 2, 1), batch_size=1, cache_dir=str(tmp_path))
    read = lambda i: np.full((2, 2, 1), i, np.uint8)  # noqa: E731
    whole = decoding.decode_all(["a", "b"], read, config, "id")
    (cached,) = tmp_path.glob("*.npy")
    for content in (b"", cached.read_bytes()[:-3], b"nonsense"):
        cached.write_bytes(content)
        with caplog.at_level(logging.WARNING):
            np.testing.assert_array_equal(decoding.decode_all(["a", "b"], read, config, "id"), whole)
        assert str(cached) in caplog.text
        caplog.clear()


def test_links_bring_no_image_twice_and_hidden_files_none(tmp_path):
    for i in range(5):
        Image.fromarray(np.full((4, 4), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "copy.png").symlink_to(tmp_path / "0.png")
    (tmp_path / "._0.png").write_bytes(b"not an image")
    assert sorted(sources.read_images(tmp_path, (4, 4, 1))[:, 0, 0, 0].tolist()) == [0, 40, 80, 120, 160]

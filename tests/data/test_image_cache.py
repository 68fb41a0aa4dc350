"""The cache of decoded images: written once by one process, pruned, and whole whatever is killed."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from genjax.data import image_cache

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
PLENTY = 2**30


@pytest.fixture
def path_of(tmp_path):
    """The path of an array, by a hexadecimal digit."""
    return lambda digit: tmp_path / "cache" / f"{digit * 64}.npy"


def write(file):
    for image in IMAGES:
        file.write(image.data)
    return IMAGES.dtype, {"sizes": [1, 2]}


def forbidden(file):
    raise AssertionError(f"{file} was written")


def load(path, write=write, limit=PLENTY, expected=0):
    return image_cache.load(path, write, limit, expected).pixels


def names(path):
    """The files in the cache but for those that tell what is in an array, of which each has one."""
    found = sorted(entry.name for entry in path.parent.iterdir())
    arrays, about = ([name for name in found if name.endswith(suffix)] for suffix in (".npy", ".json"))
    assert [name.removesuffix(".npy") for name in arrays if len(name) > 64] == [name[:64] for name in about]
    return [name for name in found if name not in about]


def test_load_lets_others_wait_for_the_one_that_writes(path_of):
    path, writing, go_on, found = path_of("a"), threading.Event(), threading.Event(), {}

    def write_slowly(file):
        writing.set()
        assert go_on.wait(60)
        return write(file)

    first = threading.Thread(target=lambda: found.update(first=load(path, write_slowly)))
    others = [threading.Thread(target=lambda i=i: found.update({i: load(path, forbidden)})) for i in range(3)]
    first.start()
    assert writing.wait(60)
    for thread in others:
        thread.start()
    time.sleep(0.2)
    assert not found
    go_on.set()
    for thread in (first, *others):
        thread.join(60)
    assert len(found) == 4 and all(array.tobytes() == IMAGES.tobytes() for array in found.values())
    assert names(path) == [path.name]


def test_load_leaves_nothing_of_a_failed_write(path_of):
    path = path_of("a")

    def fail(file):
        write(file)
        raise ValueError("a damaged picture")

    with pytest.raises(ValueError, match="a damaged picture"):
        load(path, fail)
    assert names(path) == []
    assert load(path).tobytes() == IMAGES.tobytes()


KILLED = """
import sys, time
from pathlib import Path
from genjax.data import image_cache

def write(file):
    file.write(bytes(10**6))
    print("half written", flush=True)
    time.sleep(60)

image_cache.load(Path(sys.argv[1]), write, 2**30, 0)
"""


@pytest.mark.process
@pytest.mark.parametrize("next_one", ["a", "b"])
def test_load_removes_what_a_killed_process_left(path_of, next_one):
    path = path_of("a")
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half written\n"
        waiting = names(path)
        load(path_of("c"))  # removes no partial file of a living process
        assert names(path) == sorted([*waiting, path_of("c").name]) and len(waiting) == 2
        process.send_signal(signal.SIGKILL)
    assert load(path_of(next_one)).tobytes() == IMAGES.tobytes()
    assert names(path) == sorted([path_of("c").name, path_of(next_one).name])


def make_entries(path_of, digits):
    """Arrays that nobody uses, each used last a second after the one before."""
    for i, digit in enumerate(digits):
        load(path_of(digit))
        os.utime(path_of(digit), (1000 + i, 1000 + i))
    return path_of(digits[0]).stat().st_size


def test_load_removes_the_least_recently_used_first(path_of):
    size = make_entries(path_of, "abcd")
    load(path_of("a"), forbidden)  # used just now
    load(path_of("e"), limit=3 * size)
    assert names(path_of("a")) == [path_of(digit).name for digit in "ade"]


def test_removed_arrays_live_on_while_used(path_of, monkeypatch):
    monkeypatch.setattr(image_cache, "MEMORY_MAP_BYTES", 0)
    make_entries(path_of, "abc")
    used = load(path_of("a"), forbidden)
    before = np.array(used)
    load(path_of("d"), limit=0)
    assert names(path_of("a")) == [path_of("d").name]
    np.testing.assert_array_equal(used, before)


def test_load_removes_no_files_of_others(path_of):
    make_entries(path_of, "a")
    mine = [path_of("a").parent / name for name in ("mine.npy", "mine.lock", "mine.partial")]
    for path in mine:
        path.write_text("precious")
        os.utime(path, (1, 1))
    load(path_of("b"), limit=0)
    assert names(path_of("a")) == sorted([path_of("b").name, *(path.name for path in mine)])


def test_load_makes_room_for_what_is_expected(path_of):
    size = make_entries(path_of, "abcd")

    def see(file):
        assert names(path_of("a"))[:2] == [f"{'c' * 64}.npy", f"{'d' * 64}.npy"]
        return write(file)

    load(path_of("e"), see, limit=4 * size, expected=2 * size)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("mapped", [False, True])
def test_load_reads_what_was_appended(path_of, monkeypatch, dtype, mapped):
    monkeypatch.setattr(image_cache, "MEMORY_MAP_BYTES", 0 if mapped else 2**30)
    values = np.random.default_rng(0).integers(0, 256, 12345).astype(dtype)

    def append(file):
        for part in np.split(values, [1, 500, 500, 9000]):
            file.write(part.data)
        return values.dtype, {"sizes": [[1, 2]]}

    for writer in (append, forbidden):
        pixels, about = image_cache.load(path_of("a"), writer, PLENTY, 0)
        assert isinstance(pixels, np.memmap) == mapped and pixels.dtype == dtype
        np.testing.assert_array_equal(pixels, values)
        assert about["sizes"] == [[1, 2]] and about["path"] == str(path_of("a").with_suffix(".json"))
    np.testing.assert_array_equal(np.load(path_of("a")), values)  # an ordinary .npy file


def test_load_writes_again_what_is_damaged(path_of, caplog):
    path = path_of("a")
    load(path)
    whole, about = path.read_bytes(), path.with_suffix(".json")
    other = about.read_text()
    damages = [(path, whole[:-3]), (path, b""), (path, b"nonsense"), (about, b"{}"), (about, b"[1]"), (about, b"{")]
    damages.append((about, other.replace("240", "239").encode()))
    for file, content in damages:
        assert file.read_bytes() != content
        file.write_bytes(content)
        np.testing.assert_array_equal(load(path), IMAGES.ravel())
        assert path.read_bytes() == whole and f"the cached {path} is damaged" in caplog.text
        caplog.clear()
    about.unlink()
    assert load(path).tobytes() == IMAGES.tobytes()

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

SHAPE = (4, 4, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)
PLENTY = 2**30


@pytest.fixture
def path_of(tmp_path):
    """The path of an array, by a hexadecimal digit."""
    return lambda digit: tmp_path / "cache" / f"{digit * 64}.npy"


def write(partial):
    with open(partial, "wb") as file:
        np.save(file, IMAGES)


def forbidden(partial):
    raise AssertionError(f"{partial} was written")


def load(path, write=write, room=PLENTY):
    return image_cache.load(path, SHAPE, np.dtype(np.uint8), write, room)


def names(path):
    return sorted(entry.name for entry in path.parent.iterdir())


def test_load_lets_others_wait_for_the_one_that_writes(path_of):
    path, writing, go_on, found = path_of("a"), threading.Event(), threading.Event(), {}

    def write_slowly(partial):
        writing.set()
        assert go_on.wait(60)
        write(partial)

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

    def fail(partial):
        write(partial)
        raise ValueError("a damaged picture")

    with pytest.raises(ValueError, match="a damaged picture"):
        load(path, fail)
    assert names(path) == []
    assert load(path).tobytes() == IMAGES.tobytes()


KILLED = """
import sys, time
import numpy as np
from pathlib import Path
from genjax.data import image_cache

def write(partial):
    partial.write_bytes(bytes(10**6))
    print("half written", flush=True)
    time.sleep(60)

image_cache.load(Path(sys.argv[1]), (4, 4, 3), np.dtype(np.uint8), write, 2**30)
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
    load(path_of("e"), room=2 * size)
    assert names(path_of("a")) == [path_of(digit).name for digit in "ade"]


def test_removed_arrays_live_on_while_used(path_of, monkeypatch):
    monkeypatch.setattr(image_cache, "MEMORY_MAP_BYTES", 0)
    make_entries(path_of, "abc")
    used = load(path_of("a"), forbidden)
    before = np.array(used)
    load(path_of("d"), room=0)
    assert names(path_of("a")) == [path_of("d").name]
    np.testing.assert_array_equal(used, before)


def test_load_removes_no_files_of_others(path_of):
    make_entries(path_of, "a")
    mine = [path_of("a").parent / name for name in ("mine.npy", "mine.lock", "mine.partial")]
    for path in mine:
        path.write_text("precious")
        os.utime(path, (1, 1))
    load(path_of("b"), room=0)
    assert names(path_of("a")) == sorted([path_of("b").name, *(path.name for path in mine)])

"""Images that are crops of scaled pictures, cached or decoded on demand, and that one indexes like an array."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Crops:
    """Images [n, h, w, c], each a crop of a picture that may be larger.

    `images[rows]` are the crops around the centre, as an array has them; `at` crops elsewhere.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype
    picture: Callable[[int], np.ndarray]
    """Returns the scaled picture of a row, from a cached array or decoded. It is at least [h, w, c]."""
    threads: Executor | None = None
    """Threads that call `picture`; None to call it in turn."""
    files: str | None = None
    """SHA-256 of the names and sizes of the files, where hashing the pixels would decode them all."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        chosen = np.arange(len(self))[rows]  # a number, a slice or an array, as NumPy takes them
        centre = np.full((chosen.size, 2), 2**63 - 1, np.uint64)  # the middle of all words
        return self.at(chosen.ravel(), centre).reshape(*chosen.shape, *self.shape[1:])

    def at(self, rows: Iterable[int], words: np.ndarray) -> np.ndarray:
        """Crops the pictures of `rows` at the places of `words`, uint64 [b, 2]: [b, h, w, c]."""
        return self.cut(self.pictures(rows), words)

    def pictures(self, rows: Iterable[int]) -> Iterable[np.ndarray]:
        """Returns the scaled pictures of `rows`, which threads decode ahead."""
        return map(self.picture, rows) if self.threads is None else self.threads.map(self.picture, rows)

    def cut(self, pictures: Iterable[np.ndarray], words: np.ndarray) -> np.ndarray:
        """Crops pictures at the places of `words`, uint64 [b, 2]: [b, h, w, c].

        A word is a number in [0, 2**64); as a share of 2**64 it chooses one of the places at which the crop fits.
        """
        out, (height, width) = np.empty((len(words), *self.shape[1:]), self.dtype), self.shape[1:3]
        for image, picture, (down, right) in zip(out, pictures, words >> np.uint64(32), strict=True):
            top, left = place(down, picture.shape[0] - height), place(right, picture.shape[1] - width)
            image[:] = picture[top : top + height, left : left + width]
        return out

    def describe(self) -> dict[str, str]:
        """Computes the SHA-256 of all pictures' shapes and pixels, or returns that of the files."""
        if self.files is not None:
            return {"files_sha256": self.files}
        sha = hashlib.sha256()
        for picture in map(self.picture, range(len(self))):
            sha.update(f"{picture.shape};".encode())  # pictures of other shapes may have the same bytes
            sha.update(np.ascontiguousarray(picture).data)
        return {"sha256": sha.hexdigest()}


def place(word: np.unsignedinteger, room: int) -> int:
    """Maps a word of 32 bits to one of the places 0 to `room`, each equally often to within 2**-32."""
    # Multiply and shift (Lemire 2019), without his rejection of a few words.
    return int(word) * (room + 1) >> 32


def check_pairs(first: Iterable[np.ndarray], second: Iterable[np.ndarray]) -> None:
    """Raises ValueError for scaled pairs of two sizes: no crop would show the same in both."""
    for a, b in zip(first, second, strict=True):
        if a.shape[:2] != b.shape[:2]:
            sizes = " and ".join(f"{height}x{width}" for height, width in (a.shape[:2], b.shape[:2]))
            raise ValueError(
                f"--data.train-pairs crops a pair at one place, and its images are {sizes} when they are scaled: "
                "give --data.resize stretch, or pairs of one size"
            )


def of_list(pictures: Sequence[np.ndarray], size: tuple[int, int]) -> Crops:
    """Makes crops of `size` of pictures [h, w, c] in memory."""
    shape = (len(pictures), *size, pictures[0].shape[-1])
    return Crops(shape, pictures[0].dtype, pictures.__getitem__)

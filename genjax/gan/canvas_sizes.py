"""Choice of canvases: few programs for pictures of many sizes, and little of them empty."""

from typing import NamedTuple

import numpy as np

MOST_PROGRAMS = 8
PROGRAM_PIXELS = 1.5e6  # pixels that take as long to translate as a program takes to compile; measured on a CPU
EMPTY_ROW_COST = 0.1  # time of a row below a picture, in which only zeros are written, relative to one of the picture
BATCH_PIXELS = 1 << 17  # in a batch of small pictures; larger ones keep the hardware busy one by one


class Group(NamedTuple):
    """Pictures that share a program."""

    rows: int
    columns: int
    batch: int  # pictures that the program takes at once
    batches: list[np.ndarray]  # positions of the pictures, those of a batch of equal size
    on_canvas: bool = True  # false if all pictures have exactly this size


def choose(sizes: np.ndarray, most: int = MOST_PROGRAMS) -> list[Group]:
    """Puts pictures of `sizes` [n, 2], heights and widths, into at most `most` groups."""
    # The split that saves most time, again and again, as in a decision tree.
    parts = [np.arange(len(sizes))] if len(sizes) else []
    while 0 < len(parts) < most:
        splits = [_best_split(sizes, part) for part in parts]
        best = max(range(len(parts)), key=lambda i: splits[i][0])
        saved, left, right = splits[best]
        if saved <= PROGRAM_PIXELS:
            break
        parts[best : best + 1] = [left, right]
    return [_group(sizes, part) for part in parts]


def one_for_each_size(sizes: np.ndarray) -> list[Group]:
    """Puts pictures of equal `sizes` [n, 2] into a group."""
    found, inverse = np.unique(sizes, axis=0, return_inverse=True)
    return [
        Group(int(rows), int(columns), 1, list(np.flatnonzero(inverse.reshape(-1) == i)[:, None]), on_canvas=False)
        for i, (rows, columns) in enumerate(found)
    ]


def among(groups: list[Group], chosen: np.ndarray) -> list[Group]:
    """Gives groups of the pictures that are `chosen`, bool [n], their positions among all n."""
    positions = np.flatnonzero(chosen)
    return [group._replace(batches=[positions[batch] for batch in group.batches]) for group in groups]


def _group(sizes: np.ndarray, part: np.ndarray) -> Group:
    rows, columns = (int(size) for size in sizes[part].max(axis=0))
    alike = (sizes[part] == sizes[part[0]]).all()
    # Other sizes one by one, as a batch that is not full would cost as much as a full one.
    batch = int(np.clip(BATCH_PIXELS // (rows * columns), 1, len(part))) if alike else 1
    batches = [part[start : start + batch] for start in range(0, len(part), batch)]
    return Group(rows, columns, batch, batches)


def _best_split(sizes: np.ndarray, part: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Returns the pixels that the best split of a group by height or width saves, and both halves."""
    candidates = []
    for axis in (0, 1):
        order = part[np.argsort(sizes[part, axis], kind="stable")]
        up_to, from_on = _costs(sizes[order]), _costs(sizes[order[::-1]])[::-1]
        saved = up_to[-1] - up_to[:-1] - from_on[1:]
        at = int(saved.argmax()) if len(saved) else 0
        candidates.append((float(saved[at]) if len(saved) else 0.0, order[: at + 1], order[at + 1 :]))
    return max(candidates, key=lambda candidate: candidate[0])


def _costs(sizes: np.ndarray) -> np.ndarray:
    """Returns the pixels to compute for the first 1, 2, ... pictures on one canvas."""
    rows, columns = np.maximum.accumulate(sizes.astype(float)).T
    heights, num = np.cumsum(sizes[:, 0], dtype=float), np.arange(1, len(sizes) + 1)
    return columns * (heights + EMPTY_ROW_COST * (num * rows - heights))

"""A folder of JPEGs through PyTorch's DataLoader, which decoding.py times against genjax."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler


class _Folder(Dataset):
    """Uint8 images [3, h, w], decoded and scaled by Pillow and cropped at random, as torchvision does."""

    def __init__(self, folder: str, load_size: int, size: int):
        self.paths = sorted(Path(folder).glob("*.jpg"))
        self.load_size, self.size = load_size, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        with Image.open(self.paths[i]) as file:
            image = file.convert("RGB")
        if image.size != (self.load_size, self.load_size):
            image = image.resize((self.load_size, self.load_size), Image.Resampling.BICUBIC)
        top, left = (int(place) for place in torch.randint(0, self.load_size - self.size + 1, (2,)))
        return torch.from_numpy(np.array(image.crop((left, top, left + self.size, top + self.size)))).permute(2, 0, 1)


def loader(folder: str, load_size: int, size: int, batch_size: int, workers: int) -> Iterator[torch.Tensor]:
    """Yields batches without end from `workers` processes, which are started once and load 2 batches ahead each."""
    data = _Folder(folder, load_size, size)
    endless = RandomSampler(data, replacement=True, num_samples=10**6)
    # Not forked, because JAX has threads.
    return iter(DataLoader(data, batch_size, sampler=endless, num_workers=workers, multiprocessing_context="spawn"))

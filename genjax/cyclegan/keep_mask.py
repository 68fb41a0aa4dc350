"""Loading of the picture of where translation may act, which a configuration names and training never changes."""

import dataclasses
import hashlib

import numpy as np

from genjax.cyclegan.config import CycleGanRun
from genjax.data import folders


def load(config: CycleGanRun) -> tuple[CycleGanRun, dict[str, np.ndarray]]:
    """Loads `keep_mask` as uint8 [h, w, 1], 255 where translation is free, after `config` with its SHA-256.

    Without one there is none. Raises FileNotFoundError or ValueError if the picture cannot be read, or if its pixels
    are not those that the SHA-256 says.
    """
    if not config.keep_mask:
        return config, {}
    data = dataclasses.replace(config.data, channels=(1, 1), bits=8, levels="full", upscale=True)
    (mask,) = folders.read_images([config.keep_mask], data)
    sha256 = hashlib.sha256(np.ascontiguousarray(mask).data).hexdigest()
    if config.keep_mask_sha256 not in ("", sha256):
        raise ValueError(
            f"{config.keep_mask} is not the mask of this run: the SHA-256 of its pixels is {sha256}, not "
            f"{config.keep_mask_sha256}. Restore it, or give no --keep-mask-sha256 and another --workdir"
        )
    return dataclasses.replace(config, keep_mask_sha256=sha256), {"keep_mask": mask}

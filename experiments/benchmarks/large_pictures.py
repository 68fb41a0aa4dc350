"""Measures memory and time of translating one large picture in strips, beside the whole picture at once.

$ python experiments/benchmark.py large_pictures --megapixels 3 12 --whole 3

Each picture is translated in a process of its own, without a cache of programs on the disk, by a generator with random
weights (the paper's, unless flags say otherwise). The picture is smooth noise, 4:3, of 8 bits. Peak memory is that of
the process, all imports, compilation, the picture and its translation included.
"""

import dataclasses
import json
import logging
import math
import multiprocessing
import resource
import time
from typing import Any

import numpy as np
import tyro

from genjax import flag_help


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The pictures and the generator."""

    megapixels: tuple[float, ...] = (3.0, 12.0)
    """Sizes of pictures that are translated in strips."""
    whole: tuple[float, ...] = (3.0,)
    """Sizes of those that are also translated at once; the first run of both compares the results."""
    blocks: int = 9
    """Residual blocks; memory does not depend on them."""
    base_channels: int = 64
    """Channels of the first convolution."""


def main() -> dict[str, Any]:
    """Returns peak memory in MiB and seconds for each size, and the largest distance of results in [0, 1]."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    results: dict[str, Any] = {}
    for megapixels in sorted({*options.megapixels, *options.whole}):
        outputs = {}
        for side, sizes in (("strips", options.megapixels), ("whole", options.whole)):
            if megapixels in sizes:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    outputs[side], found = pool.apply(_translate, (options, megapixels, side == "strips"))
                logging.info("%s MP, %s: %s", megapixels, side, json.dumps(found))
                results |= {f"{megapixels:g}.{side}.{name}": value for name, value in found.items()}
        if len(outputs) == 2:
            results[f"{megapixels:g}.distance"] = float(np.abs(outputs["strips"] - outputs["whole"]).max())
    return {name: float(f"{value:.4g}") for name, value in results.items()}


def _translate(options: Options, megapixels: float, in_strips: bool) -> tuple[np.ndarray, dict[str, float]]:
    """Translates one picture in this process."""
    import jax

    from configs import cyclegan as configs
    from genjax import cyclegan, keys, parallel
    from genjax.gan.translator import Translator

    jax.config.update("jax_enable_compilation_cache", False)
    config = configs.quickstart()
    net = dataclasses.replace(config.cyclegan, base_channels=options.base_channels, num_blocks=options.blocks)
    data = dataclasses.replace(config.data, channels=(3, 3))
    config = dataclasses.replace(config, workdir="unused", data=data, cyclegan=net)
    params = jax.jit(lambda: cyclegan.TASK.init(config, keys.root_key(0)).ema)()
    limit = 0 if in_strips else 1 << 62
    mesh = parallel.make_mesh(jax.devices()[:1])
    translator = Translator(config, params, 0, mesh, cyclegan.nets.make_networks, streamed_beyond=limit)
    picture = _picture(megapixels)
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    translated = translator.a2b(picture[None])[0]
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    return translated, {
        "seconds": seconds,
        "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_mib": after.ru_maxrss / 2**10,  # KiB on Linux
        "before_mib": before.ru_maxrss / 2**10,
    }


def _picture(megapixels: float) -> np.ndarray:
    """Makes smooth noise of 8 bits, whose levels differ from one part of the picture to another: [h, w, 3]."""
    height = 4 * round(math.sqrt(megapixels * 1e6 * 3 / 4) / 4)
    width = 4 * round(megapixels * 1e6 / height / 4)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
    levels = coarse.repeat(16, axis=0)[:height].repeat(16, axis=1)[:, :width]
    return (levels // 2 + rng.integers(0, 128, levels.shape, np.uint8)).astype(np.uint8)

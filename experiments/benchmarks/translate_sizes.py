"""Times translate.py on photographs of as many sizes, beside one program for each size and beside PyTorch eager.

$ python experiments/benchmark.py translate_sizes

Photographs are scaled cut-outs of scikit-learn's two, JPEG, with sides from 200 to 800 pixels and the usual ratios of
photographs. All sides read, translate and write the same files in a process of their own, without a cache on the disk;
they take turns. `sizes` is genjax before it had canvases: a program for each size, one picture after another. The
networks are those of the quickstart in colour, not trained. PyTorch (pip install -e '.[parity]') reads and writes by
the same code, one picture after another, in float32. Results are medians; a ratio is genjax / the other side.
"""

import dataclasses
import json
import logging
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from PIL import Image

from genjax import flag_help

Side = Literal["genjax", "sizes", "torch"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The photographs, and how often to translate them."""

    num: int = 200
    """Photographs, each of another size."""
    turns: int = 3
    """Times that each side translates all of them."""
    sides: tuple[Side, ...] = ("genjax", "torch", "sizes")
    """Sides to time."""


def main() -> dict[str, Any]:
    """Times all sides in turns."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    found: dict[str, list[dict[str, float]]] = {side: [] for side in options.sides}
    with tempfile.TemporaryDirectory() as folder:
        _write_photographs(Path(folder, "in"), options.num)
        for turn in range(options.turns):
            for side in options.sides if turn % 2 == 0 else options.sides[::-1]:
                out = Path(folder, f"{side}-{turn}")
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    found[side].append(pool.apply(_translate, (side, Path(folder, "in"), out)))
                logging.info("%s: %s", side, json.dumps(found[side][-1]))
    results = {
        f"{side}.{name}": statistics.median(turn[name] for turn in turns)
        for side, turns in found.items()
        for name in turns[0]
    }
    for side in options.sides:
        if side != "genjax" and "genjax" in options.sides:
            results[f"ratio.{side}"] = results["genjax.seconds"] / results[f"{side}.seconds"]
    return {name: float(f"{value:.4g}") for name, value in results.items()}


def _write_photographs(folder: Path, num: int) -> None:
    from sklearn.datasets import load_sample_images

    folder.mkdir()
    rng = np.random.default_rng(0)
    seen: set[tuple[int, int]] = set()
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    while len(seen) < num:
        ratio = rng.choice([1, 5 / 4, 4 / 3, 3 / 2, 16 / 9])
        long = int(rng.integers(int(200 * ratio), 801))
        size = (long, round(long / ratio)) if rng.random() < 0.6 else (round(long / ratio), long)
        if min(size) < 200 or size in seen:
            continue
        seen.add(size)
        photograph = photographs[len(seen) % 2]
        photograph.resize(size, Image.Resampling.BICUBIC).save(folder / f"{len(seen):03d}.jpg", quality=90)


def _translate(side: Side, folder: Path, out: Path) -> dict[str, float]:
    """Translates all files in a new process; returns seconds, peak memory (MiB) and the number of compilations."""
    return _torch(folder, out) if side == "torch" else _genjax(side, folder, out)


def _genjax(side: Side, folder: Path, out: Path) -> dict[str, float]:
    import jax
    from etils import epath

    import translate
    from configs import cyclegan as configs
    from genjax import cyclegan, keys, parallel
    from genjax.cyclegan.nets import make_networks
    from genjax.data import folders
    from genjax.gan.translated_files import translate_files
    from genjax.gan.translator import Translator

    config = configs.quickstart()
    config = dataclasses.replace(config, workdir="unused", data=dataclasses.replace(config.data, channels=(3, 3)))
    params = jax.jit(lambda: cyclegan.TASK.init(config, keys.root_key(0)).ema)()
    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    began = time.perf_counter()
    translator = Translator(config, params, 0, parallel.make_mesh(jax.devices()[:1]), make_networks)
    options = translate.Translate(workdir="unused", direction="a2b", images=(str(folder),), out=str(out))
    files = translate.files_of(config.data, options)
    targets = {page: epath.Path(out / name) for page, name in folders.named_pages(options.images, config.data).items()}
    if side == "genjax":
        translate_files(translator, "a2b", targets, files)
    else:
        for page, target in targets.items():
            picture, image = files.read(page)
            files.write(page, target, picture, translator.translate("a2b", image[None])[0])
    return {"compilations": len(compiled), **_used(began)}


def _torch(folder: Path, out: Path) -> dict[str, float]:
    import torch

    from benchmarks._torch_cyclegan import generator
    from configs import cyclegan as configs
    from genjax.data import conversion, pictures

    config = configs.quickstart()
    data, net = dataclasses.replace(config.data, channels=(3, 3)), config.cyclegan
    began = time.perf_counter()
    to_b = generator(net.base_channels, net.num_blocks).eval()
    for path in sorted(folder.iterdir()):
        picture = pictures.read(path)
        image = torch.from_numpy(2 * conversion.to_floats(picture, data, 0) - 1).permute(2, 0, 1)[None]
        with torch.inference_mode():
            translated = to_b(image)[0].permute(1, 2, 0)
        # Sizes that are no multiple of 4 come back larger.
        height, width = image.shape[2:]
        values = (translated.numpy()[:height, :width] + 1) / 2
        pictures.write(out / path.name, conversion.from_floats(values, picture, data, 1))
    return _used(began)


def _used(began: float) -> dict[str, float]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": time.perf_counter() - began,
        "processor_seconds": own.ru_utime + own.ru_stime,
        "peak_mib": own.ru_maxrss / 2**10,  # KiB on Linux
    }

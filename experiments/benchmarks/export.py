"""Times the exported programs of a CycleGAN beside genjax and beside PyTorch eager.

$ python experiments/benchmark.py export

All sides translate the same image, one at a time, in float32 and in one process, where they take turns; each runs once
before it is timed. `seconds` is the median and `least` the least by the clock, `processor` the least of the processor,
`difference` the largest from genjax, and `bytes` the size of a file. Beside other work, give all sides one core, and
compare the processor's times: OMP_NUM_THREADS=1 taskset -c 0 python experiments/benchmark.py export. The networks are
those of the quickstart in colour, not trained; PyTorch (pip install -e '.[parity]') has its own weights. Needs pip
install -e '.[export]' and onnxruntime.
"""

import dataclasses
import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tyro

from genjax import flag_help


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The images, and how often to translate them."""

    sizes: tuple[int, ...] = (64, 256, 1024)
    """Heights and widths in pixels."""
    turns: int = 5
    """Times that each side translates an image of each size."""


Side = Callable[[np.ndarray], np.ndarray]  # images [n, h, w, c] in [0, 1] to translated ones


def main() -> dict[str, Any]:
    """Times all sides in turns."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    results, sides = _sides()
    for size in options.sizes:
        image = np.random.default_rng(0).random((1, size, size, 3), np.float32)
        outputs = {name: side(image) for name, side in sides.items()}  # compiles
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        processor: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(options.turns):
            for name in list(sides) if turn % 2 == 0 else list(sides)[::-1]:
                began, began_processor = time.perf_counter(), time.process_time()
                sides[name](image)
                seconds[name].append(time.perf_counter() - began)
                processor[name].append(time.process_time() - began_processor)
        for name, each in seconds.items():
            results[f"{size}.seconds.{name}"] = statistics.median(each)
            results[f"{size}.least.{name}"] = min(each)
            results[f"{size}.processor.{name}"] = min(processor[name])
            if name in ("stablehlo", "onnxruntime"):
                results[f"{size}.difference.{name}"] = float(np.abs(outputs[name] - outputs["genjax"]).max())
        logging.info("%s", {name: f"{min(each):.4g} to {max(each):.4g} s" for name, each in seconds.items()})
    return {name: value if isinstance(value, int) else float(f"{value:.4g}") for name, value in results.items()}


def _sides() -> tuple[dict[str, float], dict[str, Side]]:
    """Returns sizes of files, and functions that translate."""
    import jax
    import onnxruntime
    import torch

    from benchmarks._torch_cyclegan import generator
    from configs import cyclegan as configs
    from genjax import cyclegan, keys, parallel
    from genjax.cyclegan.nets import make_networks
    from genjax.export import onnx_file, programs, stablehlo
    from genjax.gan.translator import Translator

    config = configs.quickstart()
    config = dataclasses.replace(config, workdir="unused", data=dataclasses.replace(config.data, channels=(3, 3)))
    params = jax.jit(lambda: cyclegan.TASK.init(config, keys.root_key(0)).ema)()
    translator = Translator(config, params, 0, parallel.make_mesh(jax.devices()[:1]), make_networks)
    program = programs.of_model(translator)["a2b"]
    files = {"stablehlo": stablehlo.serialized(program), "onnxruntime": onnx_file.serialized(program, {})}
    reloaded = jax.jit(jax.export.deserialize(bytearray(files["stablehlo"])).call)
    session = onnxruntime.InferenceSession(files["onnxruntime"])
    to_b = generator(config.cyclegan.base_channels, config.cyclegan.num_blocks).eval()

    def eager(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            translated = to_b(torch.from_numpy(2 * images - 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (translated.numpy() + 1) / 2

    return {f"bytes.{name}": len(content) for name, content in files.items()}, {
        "genjax": translator.a2b,
        "stablehlo": lambda images: np.asarray(reloaded(images)),
        "onnxruntime": lambda images: np.asarray(session.run(None, {"images": images})[0]),
        "torch": eager,
    }

"""Ways in for files from outside: each takes a damaged file and hands it to genjax as a command does."""

import dataclasses
import functools
import importlib
import io
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, features

from configs.cyclegan import quickstart as cyclegan_quickstart
from configs.vae import digits
from genjax import cyclegan, loading, report, vae
from genjax.cyclegan.config import CycleGanRun
from genjax.data import sources
from genjax.data.config import DataConfig
from genjax.train import loop, multi_seed
from genjax.train.loop import MakePrograms
from genjax.vae.config import VaeRun
from genjax.vae.steps import VaeState

SIZE = 16
"""Height and width of the pictures and of the models' images."""


class WayIn(NamedTuple):
    """A way in, and the share of the trials that it gets."""

    share: int
    seeds: Callable[[Path], list[Path]]  # (folder of prepared files) -> files to damage
    # (prepared files, the file that was damaged, its copy's content, folder of the trial, a name) -> None
    run: Callable[[Path, Path, bytes, Path, str], None]
    family: str | None = None  # the family of the finished run that it needs


def prepare(root: Path, ways: Sequence[str]) -> None:
    """Writes pictures, arrays, and a finished run of each family that `ways` need, all tiny, below `root`."""
    for name, content in _pictures().items():
        (root / "pictures").mkdir(parents=True, exist_ok=True)
        (root / "pictures" / name).write_bytes(content)
    rng = np.random.default_rng(0)
    (root / "npz").mkdir(exist_ok=True)
    images = rng.integers(0, 256, (12, SIZE, SIZE), np.uint8)
    labels = rng.integers(0, 10, 12)
    np.savez(root / "npz" / "plain.npz", x_train=images, y_train=labels)
    np.savez_compressed(root / "npz" / "splits.npz", x_train=images, x_validation=images[:2], x_test=images[:3])
    families = {WAYS_IN[way].family for way in ways}
    if "vae" in families:
        loop.fit(vae.TASK, _vae(root))
    if "cyclegan" in families:
        loop.fit(cyclegan.TASK, _cyclegan(root))


def _pictures() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    grey, colour, clear = (rng.integers(0, 256, (SIZE, SIZE, c), np.uint8) for c in (1, 3, 4))
    deep = rng.integers(0, 65536, (SIZE, SIZE), np.uint16)
    made: dict[str, tuple[np.ndarray, str, dict]] = {
        "grey.png": (grey[..., 0], "PNG", {}), "colour.png": (colour, "PNG", {}), "clear.png": (clear, "PNG", {}),
        "deep.png": (deep, "PNG", {}), "colour.jpg": (colour, "JPEG", {}), "grey.jpg": (grey[..., 0], "JPEG", {}),
        "colour.webp": (colour, "WEBP", {}), "clear.webp": (clear, "WEBP", {"lossless": True}),
        "colour.tif": (colour, "TIFF", {}), "packed.tif": (colour, "TIFF", {"compression": "tiff_lzw"}),
        "deep.tif": (deep, "TIFF", {}), "colour.bmp": (colour, "BMP", {}), "grey.gif": (grey[..., 0], "GIF", {}),
        "colour.ppm": (colour, "PPM", {}), "grey.pgm": (grey[..., 0], "PPM", {}),
    }  # fmt: skip
    if features.check("avif"):
        made["colour.avif"] = (colour, "AVIF", {})
    encoded = {}
    for name, (pixels, kind, options) in made.items():
        Image.fromarray(pixels).save(buffer := io.BytesIO(), kind, **options)
        encoded[name] = buffer.getvalue()
    return encoded


def _vae(root: Path) -> VaeRun:
    run = digits()
    return dataclasses.replace(
        run,
        workdir=str(root / "vae"),
        data=dataclasses.replace(run.data, image_size=(SIZE, SIZE), upscale=True, batch_size=16),
        train=dataclasses.replace(run.train, num_steps=4, log_every=1, eval_every=2, checkpoint_every=2),
        vae=dataclasses.replace(run.vae, hidden_sizes=(8,), latent_dim=2, validation_draws=2, test_draws=2),
    )


def _cyclegan(root: Path) -> CycleGanRun:
    run = cyclegan_quickstart()
    return dataclasses.replace(
        run,
        workdir=str(root / "cyclegan"),
        data=dataclasses.replace(run.data, image_size=(SIZE, SIZE), batch_size=8),
        train=dataclasses.replace(run.train, num_steps=2, log_every=1, eval_every=2, checkpoint_every=2),
        cyclegan=dataclasses.replace(
            run.cyclegan, base_channels=2, num_blocks=0, discriminator_channels=2, discriminator_layers=1
        ),
    )


def _command(name: str, *arguments: object) -> None:
    """Runs a command of experiments/ in this process; trained models are loaded once."""
    module = importlib.import_module(name)
    for loader in ("load_sampler", "load_translator"):
        if hasattr(module, loader):
            setattr(module, loader, _loaded(loader))
    sys.argv = [f"{name}.py", *map(str, arguments)]
    module.main()


@functools.cache
def _loaded(loader: str) -> Callable:
    return functools.cache(getattr(loading, loader))


def _train_on_folder(root: Path, seed: Path, content: bytes, place: Path, name: str) -> None:
    images = place / "images"
    images.mkdir()
    for i in range(4):
        shutil.copy(root / "pictures" / "colour.png", images / f"{i}.png")
    (images / f"{name}{seed.suffix}").write_bytes(content)
    data = DataConfig(
        source=f"folder:{images}", image_size=(SIZE, SIZE), channels=(3,), batch_size=2, cache_dir=str(place / "cache")
    )
    sources.load(data, seed=0)


def _train_on_npz(root: Path, seed: Path, content: bytes, place: Path, name: str) -> None:
    (place / f"{name}.npz").write_bytes(content)
    data = DataConfig(source=f"npz:{place / name}.npz", image_size=(SIZE, SIZE), channels=(1,), batch_size=2)
    sources.load(data, seed=0)
    if (labels := sources.READERS["npz:PATH"].labels) is not None:
        labels(data)


def _picture(command: Callable[[Path, Path, Path], Sequence[object]]) -> Callable:
    """Returns a way in for a command line made from the prepared files, the damaged picture and the trial's folder."""

    def attempt(root: Path, seed: Path, content: bytes, place: Path, name: str) -> None:
        path = place / f"{name}{seed.suffix}"
        path.write_bytes(content)
        _command(*map(str, command(root, path, place)))

    return attempt


def _damaged_run(use: Callable[[Path, str], None], family: str) -> Callable:
    """Returns a way in that copies a run with one damaged file."""

    def run(root: Path, seed: Path, content: bytes, place: Path, name: str) -> None:
        shutil.copytree(root / family, place / "run")
        (place / "run" / seed.relative_to(root / family)).write_bytes(content)
        use(place / "run", family)

    return run


def _load(workdir: Path, family: str) -> None:
    loading.load_sampler(workdir) if family == "vae" else loading.load_translator(workdir)


def _report(workdir: Path, family: str) -> None:
    report.write_report(workdir / "report.html", "A report", {"Training": str(workdir)})


def _resume(workdir: Path, family: str) -> None:
    loop.fit(vae.TASK, dataclasses.replace(_vae(workdir.parent), workdir=str(workdir)), _vae_programs())


@functools.cache
def _vae_programs() -> MakePrograms[VaeRun, VaeState]:
    return multi_seed.compile_once()


def _records(family: str) -> Callable[[Path], list[Path]]:
    return lambda root: sorted(path for path in (root / family).glob("*.json*"))


def _checkpoints(family: str) -> Callable[[Path], list[Path]]:
    return lambda root: sorted(path for path in (root / family / "checkpoints").rglob("*") if path.is_file())


def _all_pictures(root: Path) -> list[Path]:
    return sorted((root / "pictures").iterdir())


VAE, OUT = ("--workdir", "vae"), "--out"

WAYS_IN = {
    "train on a folder": WayIn(24, _all_pictures, _train_on_folder),
    "train on npz": WayIn(12, lambda root: sorted((root / "npz").iterdir()), _train_on_npz),
    "translate": WayIn(16, _all_pictures, _picture(lambda root, path, place: (
        "translate", "--workdir", root / "cyclegan", "--direction", "a2b", "--images", path, OUT, place / "out")),
        "cyclegan"),
    "reconstruct": WayIn(8, _all_pictures, _picture(lambda root, path, place: (
        "sample", "reconstruct", "--workdir", root / "vae", "--images", path, OUT, place / "out.png")), "vae"),
    "inpaint": WayIn(6, _all_pictures, _picture(lambda root, path, place: (
        "inpaint", "--workdir", root / "vae", "--images", path, "--mask", "half-left", "--method", "pseudo_gibbs",
        "--num-samples", 1, OUT, place / "out")), "vae"),
    "mask": WayIn(6, _all_pictures, _picture(lambda root, path, place: (
        "inpaint", "--workdir", root / "vae", "--images", root / "pictures" / "grey.png", "--mask", path, "--method",
        "pseudo_gibbs", "--num-samples", 1, OUT, place / "out")), "vae"),
    "load a VAE's records": WayIn(6, _records("vae"), _damaged_run(_load, "vae"), "vae"),
    "load a VAE's checkpoint": WayIn(4, _checkpoints("vae"), _damaged_run(_load, "vae"), "vae"),
    "load a CycleGAN's checkpoint": WayIn(4, _checkpoints("cyclegan"), _damaged_run(_load, "cyclegan"), "cyclegan"),
    "report on a VAE": WayIn(6, _records("vae"), _damaged_run(_report, "vae"), "vae"),
    "report on a CycleGAN": WayIn(4, _records("cyclegan"), _damaged_run(_report, "cyclegan"), "cyclegan"),
    "resume a VAE": WayIn(2, _records("vae"), _damaged_run(_resume, "vae"), "vae"),
    "resume a VAE from its checkpoint": WayIn(2, _checkpoints("vae"), _damaged_run(_resume, "vae"), "vae"),
}  # fmt: skip
"""All ways in by name; shares are of 100."""

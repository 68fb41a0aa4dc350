"""Compares a VAE's restorations of held-out images with the truth, and with baselines without a network.

$ python experiments/study.py restoration --workdir runs/mnist5k --out restoration

The tasks are test images without a half, without the middle, without a random half of the pixels, and scaled down by 2
and by 4. Metrics are means over the images: PSNR in dB, of the missing pixels only if pixels are missing; SSIM of whole
images of at least 11x11 pixels; for binarised images, nats per missing pixel, -log p(missing | observed) / number. The
latter takes the mean of p(missing | z) over the samples, which makes it too high rather than too low.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tyro
from PIL import Image

from genjax import files, flag_help, keys
from genjax.config import seed_of
from genjax.data import image_arrays, sources
from genjax.data.splits import Splits
from genjax.evaluation import image_metrics
from genjax.loading import Sampler, Which, load_sampler
from genjax.vae import masks, restored_files
from genjax.vae.inference import InferenceConfig, Method
from genjax.vae.operators import Downsample, Mask, Operator, downsampling_matrix
from genjax.vae.restoration import Restoration
from genjax.vae.sampler import DEFAULT_INFERENCE
from studies.restoration import baselines

TASKS = ("half-right", "square", "random-0.5", "x2", "x4")

Row = dict[str, Any]
"""A row of the table: task, method, metrics by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Options: the VAE, the tasks, and how many images."""

    workdir: str
    """Directory of the training run, or a file of its weights (.safetensors)."""
    out: str
    """Folder for table.md, results.json and a grid of each task; it must be empty or not exist yet."""
    num_images: int = 500
    """Number of evenly spaced test images; all if there are fewer."""
    num_samples: int = 64
    """Samples of each image."""
    tasks: tuple[str, ...] = TASKS
    """Tasks: masks by name, and x2, x4 or x8."""
    methods: tuple[Method, ...] = ("hmc",)
    """Methods of drawing latents; each is a row of the table."""
    which: Which = "last"
    """The last checkpoint, the best on validation, or that of a step."""
    seed: int = 0
    """Seed of the draws."""
    inference: InferenceConfig = DEFAULT_INFERENCE


@dataclasses.dataclass(frozen=True)
class Setting:
    """Options, model and images that all tasks share."""

    options: Study
    sampler: Sampler
    splits: Splits
    moments: baselines.Moments

    def spread(self, split: str) -> np.ndarray:
        """Returns `num_images` evenly spaced uint8 images of a split."""
        (images,) = getattr(self.splits, split)
        return image_arrays.evenly_spaced(images, self.options.num_images)

    def restore(self, operator: Operator, observed: np.ndarray, method: Method) -> Restoration:
        """Restores images with the VAE."""
        options = self.options
        key = keys.root_key(options.seed)
        return self.sampler.restore(operator, observed, key, method, options.num_samples, options.inference)


def main() -> dict[str, Any]:
    """Runs all tasks with all methods and baselines."""
    options = tyro.cli(Study, description=flag_help.description(__doc__))
    out = restored_files.check_out(options.out, options.num_samples)
    if options.num_images < 2:
        raise ValueError(f"--num-images must be at least 2, got {options.num_images}")
    sampler = load_sampler(options.workdir, options.which)
    size = sampler.config.data.image_size
    for task in options.tasks:
        if _is_enlargement(task):
            Downsample(int(task[1:])).small_size(size)
        else:
            masks.named(task, keys.root_key(0), np.arange(1), size)
    splits = sources.load(sampler.config.data, seed_of(sampler.config, "data"))
    splits = splits._replace(train=(splits.train[0][:],))  # an array: baselines see the centre of training images
    train = baselines.as_trained(image_arrays.unit_floats(splits.train[0]), sampler.config.data)
    moments = baselines.image_moments(train)
    setting = Setting(options, sampler, splits, moments)
    rows: list[Row] = []
    for task in options.tasks:
        solve = _enlarge if _is_enlargement(task) else _fill
        for row in solve(setting, task):
            grid = row.pop("grid", None)
            if grid is not None:
                restored_files.write_grid(out / f"{task}-{row['method']}.png", *grid)
            rows.append({"task": task} | row)
            logging.info("%s", json.dumps(rows[-1]))
    files.write_json(out / "results.json", {"options": dataclasses.asdict(options), "rows": rows})
    files.write_atomically(out / "table.md", _table(rows))
    flat = {f"{row['task']}.{row['method']}": row["psnr_mean"] for row in rows}
    num = min(options.num_images, len(splits.test[0]))
    return {**flat, "images": num, "step": sampler.step, "out": options.out}


def _is_enlargement(task: str) -> bool:
    return task.startswith("x") and task[1:].isdigit()


def _fill(setting: Setting, task: str) -> list[Row]:
    """Returns the rows of a task with missing pixels."""
    options, data, unit = setting.options, setting.sampler.config.data, image_arrays.unit_floats
    test, validation, train = setting.spread("test"), setting.spread("validation"), unit(setting.splits.train[0])
    key, num = keys.for_step(keys.root_key(options.seed), keys.Stream.MASK, 0), len(test)
    drawn = masks.named(task, key, np.arange(num + len(validation)), data.image_size)
    mask, validation_mask = drawn[:num], drawn[num:, ..., None]
    missing, truth, known = mask[..., None], unit(test), unit(validation)
    binary = baselines.binarized(test, options.seed) if data.binarize != "none" else None

    def ridge(images: np.ndarray, missing: np.ndarray, strength: float) -> np.ndarray:
        return baselines.ridge_fill(setting.moments, images, missing, strength)

    error = {s: np.square(ridge(known, validation_mask, s) - known).sum() for s in baselines.STRENGTHS}
    best = min(error, key=error.__getitem__)
    fills: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "mean fill": lambda images, missing: baselines.mean_fill(train, images, missing),
        "ridge": lambda images, missing: ridge(images, missing, best),
        "10 neighbours": lambda images, missing: baselines.neighbours(train, images, missing),
    }
    rows = []
    for name, fill in fills.items():
        row: Row = {"method": name} | _metrics(fill(truth, missing)[:, None], truth, mask)
        if binary is not None:
            row["nats_per_pixel"] = _nats(fill(unit(binary), missing)[:, None], binary, missing)
        rows.append(row)
    for method in options.methods:
        began = time.perf_counter()
        restored = setting.restore(Mask(mask), test, method)
        seconds = time.perf_counter() - began
        row = {"method": method, **_metrics(restored.images, truth, mask)}
        if binary is not None:
            row["nats_per_pixel"] = _nats(setting.restore(Mask(mask), binary, method).images, binary, missing)
        rows.append({**row, **_how(restored, seconds, np.where(missing, 0.5, truth), truth)})
    return rows


def _enlarge(setting: Setting, task: str) -> list[Row]:
    """Returns the rows of a task with smaller images, means over blocks."""
    operator, data = Downsample(int(task[1:])), setting.sampler.config.data
    test, validation = (image_arrays.unit_floats(setting.spread(split)) for split in ("test", "validation"))
    small, small_validation = operator.apply(test), operator.apply(validation)
    sides = [downsampling_matrix(size, operator.factor, "box") for size in data.image_size]
    measure = np.kron(np.kron(*sides), np.eye(data.channels[0]))

    def ridge(small: np.ndarray, strength: float) -> np.ndarray:
        found = baselines.ridge_enlarge(setting.moments, small.reshape(len(small), -1), measure, strength)
        return found.reshape(-1, *test.shape[1:])

    strengths = [strength / 10 for strength in baselines.STRENGTHS]  # blocks' means vary less than pixels
    error = {s: np.square(ridge(small_validation, s) - validation).sum() for s in strengths}
    rows: list[Row] = []
    bicubic = baselines.enlarged(small, operator.factor, Image.Resampling.BICUBIC)
    for name, guess in {
        "nearest": baselines.enlarged(small, operator.factor, Image.Resampling.NEAREST),
        "bicubic": bicubic,
        "bicubic made to agree": baselines.agreeing(bicubic, small, operator),
        "ridge": ridge(small, min(error, key=error.__getitem__)),
    }.items():
        consistency = _least_consistency(guess[:, None], small, operator)
        rows.append({"method": name} | _metrics(guess[:, None], test) | {"least_consistency_db": consistency})
    for method in setting.options.methods:
        if method in ("pseudo_gibbs", "metropolis") and setting.sampler.config.vae.likelihood == "bernoulli":
            continue  # Gibbs sampling cannot impute binary pixels here
        began = time.perf_counter()
        restored = setting.restore(operator, small, method)
        seconds = time.perf_counter() - began
        row: Row = {"method": method} | _metrics(restored.images, test)
        row["least_consistency_db"] = _least_consistency(restored.images[:, :8], small, operator)
        blocks = small.repeat(operator.factor, axis=1).repeat(operator.factor, axis=2)
        rows.append(row | _how(restored, seconds, blocks, test))
    return rows


def _how(restored: Restoration, seconds: float, observed: np.ndarray, truth: np.ndarray) -> Row:
    """Returns the last fields of a VAE's row, and the arrays for `restored_files.write_grid`."""
    grid = (observed, restored.images, truth, 8)
    return {"health": float(np.median(restored.health)), "seconds": seconds, "grid": grid}


def _least_consistency(restored: np.ndarray, small: np.ndarray, operator: Downsample) -> float:
    """Returns the least PSNR of any sample [n, num, ...], scaled down again, to `small`; at most 200 dB."""
    again = operator.apply(restored)
    return float(min(200.0, *(image_metrics.psnr(sample, small).min() for sample in again.swapaxes(0, 1))))


def _metrics(restored: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> Row:
    """Scores samples [n, num, h, w, c]: their mean, one, the best of the first 8, and their spread."""
    each = np.array([image_metrics.psnr(sample, truth, mask) for sample in restored.swapaxes(0, 1)])
    mean = image_metrics.psnr(restored.mean(axis=1), truth, mask)
    row = {
        "psnr_mean": float(mean.mean()),
        "standard_error": float(mean.std(ddof=1) / np.sqrt(len(mean))),
        "psnr_sample": float(each.mean()),
        "psnr_best_of_8": float(each[:8].max(axis=0).mean()),
    }
    if min(truth.shape[1:3]) >= image_metrics.SSIM_SIZE:
        row["ssim_mean"] = float(image_metrics.ssim(restored.mean(axis=1), truth).mean())
        row["ssim_sample"] = float(image_metrics.ssim(restored[:, 0], truth).mean())
    if restored.shape[1] > 1:
        spread = restored.std(axis=1)
        counted = np.ones(spread.shape, bool) if mask is None else np.broadcast_to(mask[..., None], spread.shape)
        row["diversity"] = float(spread[counted].mean())
    return row


def _nats(means: np.ndarray, binary: np.ndarray, missing: np.ndarray) -> float:
    """Returns -log of the mean over samples [n, num, h, w, 1] of p(missing pixels), per missing pixel."""
    p = means.astype(np.float64).clip(0.01, 0.99)  # a baseline's 0 or 1 would have an infinite loss
    each = np.where(binary[:, None] > 0, np.log(p), np.log1p(-p)) * missing[:, None]
    log_prob = np.logaddexp.reduce(each.sum(axis=(2, 3, 4)), axis=1) - np.log(means.shape[1])
    return float(np.mean(-log_prob / missing.sum(axis=(1, 2, 3))))


COLUMNS = {
    "psnr_mean": ("PSNR of the mean", ".2f"), "standard_error": ("+-", ".2f"), "psnr_sample": ("of a sample", ".2f"),
    "psnr_best_of_8": ("best of 8", ".2f"), "ssim_mean": ("SSIM of the mean", ".3f"),
    "ssim_sample": ("of a sample", ".3f"), "nats_per_pixel": ("nats per missing pixel", ".3f"),
    "least_consistency_db": ("least consistency, dB", ".0f"), "diversity": ("diversity", ".3f"),
    "health": ("health", ".3f"), "seconds": ("seconds", ".0f"),
}  # fmt: skip


def _table(rows: Sequence[Row]) -> str:
    """Formats the rows as Markdown, with the best PSNR of each task in bold."""
    best = {task: max(row["psnr_mean"] for row in rows if row["task"] == task) for task in {r["task"] for r in rows}}
    lines = [
        f"| task | method | {' | '.join(title for title, _ in COLUMNS.values())} |",
        "|---" * (2 + len(COLUMNS)) + "|",
    ]
    for row in rows:
        cells = {name: format(row[name], how) if name in row else "" for name, (_, how) in COLUMNS.items()}
        if row["psnr_mean"] == best[row["task"]]:
            cells["psnr_mean"] = f"**{cells['psnr_mean']}**"
        lines.append(f"| {row['task']} | {row['method']} | {' | '.join(cells.values())} |")
    return "\n".join(lines) + "\n"

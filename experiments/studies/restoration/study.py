"""How near a VAE's restorations come to the truth, beside rules without a network, on held-out images.

$ python experiments/restoration_benchmark.py --workdir runs/mnist5k --out restoration

Hides a half, the middle, and half of the pixels at random of test images, and scales them down by 2 and by 4. Figures
are means over the images: PSNR in dB, of the missing pixels alone where pixels are missing; SSIM of whole images,
if they have 11x11 pixels; of binarised images the nats per missing pixel, -log p(missing | observed) / number, by the
mean of p(missing | z) over the samples, which is too high rather than too low.
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

import restored_pictures
from genjax import cli, files, keys
from genjax.config import seed_of
from genjax.data import image_arrays, sources
from genjax.data.splits import Splits
from genjax.evaluation import image_metrics
from genjax.loading import Sampler, load_sampler
from genjax.vae import inference, masks, restoration
from studies.restoration import rules

TASKS = ("half-right", "square", "random-0.5", "x2", "x4")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Which VAE, and how many images."""

    workdir: str
    """Directory of the VAE's training run."""
    out: str
    """Folder for table.md, results.json and a grid of each task, which must not exist yet, or be empty."""
    num_images: int = 500
    """Test images, spread over all of them; all where there are fewer."""
    num_samples: int = 64
    """Samples of each image."""
    tasks: tuple[str, ...] = TASKS
    """Masks by name, and x2, x4 or x8."""
    methods: tuple[restoration.Choice, ...] = ("auto",)
    """How latents are drawn: a row of the table each."""
    which: restored_pictures.Which = "last"
    seed: restored_pictures.Seed = 0
    effort: inference.Effort = restoration.DEFAULT_EFFORT


def main() -> dict[str, Any]:
    """All tasks, each by each method and rule."""
    options = tyro.cli(Benchmark, description=__doc__)
    out = restored_pictures.check_out(options.out, options.num_samples)
    if options.num_images < 2:
        raise ValueError(f"--num-images must be at least 2, got {options.num_images}")
    sampler = load_sampler(options.workdir, options.which)
    for task in options.tasks:
        if task.startswith("x") and task[1:].isdigit():
            restoration.check_factor(sampler.config, int(task[1:]))
        else:
            masks.named(task, keys.root_key(0), np.arange(1), sampler.config.data.image_size)
    data = dataclasses.replace(sampler.config.data, load_size=())  # the rules learn from images of the test's size
    splits = sources.load(data, seed_of(sampler.config, "data"))
    moments = rules.moments(_unit(splits.train[0]))
    rows: list[dict[str, Any]] = []
    for task in options.tasks:
        solve = _enlarge if task.startswith("x") else _fill
        for row in solve(options, sampler, splits, moments, task):
            grid = row.pop("grid", None)
            if grid is not None:
                restored_pictures.write_grid(out / f"{task}-{row['method']}.png", grid)
            rows.append({"task": task} | row)
            logging.info("%s", json.dumps(rows[-1]))
    files.write_json(out / "results.json", {"options": dataclasses.asdict(options), "rows": rows})
    files.write_atomically(out / "table.md", _table(rows))
    flat = {f"{row['task']}.{row['method']}": row["psnr_mean"] for row in rows}
    num = min(options.num_images, len(splits.test[0]))
    return {**flat, "images": num, "step": sampler.step, "out": options.out}


def _unit(images: np.ndarray) -> np.ndarray:
    return image_arrays.unit_floats(images)


def _spread(images: np.ndarray, num: int) -> np.ndarray:
    return images[np.linspace(0, len(images) - 1, min(num, len(images))).astype(int)]


def _fill(
    options: Benchmark, sampler: Sampler, splits: Splits, moments: rules.Moments, task: str
) -> list[dict[str, Any]]:
    """Rows of a task with missing pixels."""
    config, key = sampler.config, keys.root_key(options.seed)
    test, validation = (_spread(source[0], options.num_images) for source in (splits.test, splits.validation))
    size, num = config.data.image_size, len(test)
    drawn = masks.named(task, keys.for_step(key, keys.Stream.MASK, 0), np.arange(num + len(validation)), size)
    mask, other = drawn[:num], drawn[num:]
    missing, train = mask[..., None], _unit(splits.train[0])
    binary = rules.binarized(test, options.seed) if config.data.binarize != "none" else None

    def chosen(images: np.ndarray, missing: np.ndarray) -> np.ndarray:
        return rules.ridge_fill(moments, images, missing, strength)

    known, hidden = _unit(validation), other[..., None]
    error = {s: np.square(rules.ridge_fill(moments, known, hidden, s) - known).sum() for s in rules.STRENGTHS}
    strength = min(error, key=error.__getitem__)
    by_rule: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "mean fill": lambda images, missing: rules.mean_fill(train, images, missing),
        "ridge": chosen,
        "10 neighbours": lambda images, missing: rules.neighbours(train, images, missing),
    }
    rows = []
    for name, rule in by_rule.items():
        guess = rule(_unit(test), missing)
        row = {"method": name} | _figures(guess[:, None], _unit(test), mask)
        if binary is not None:
            row["nats_per_pixel"] = _nats(rule(_unit(binary), missing)[:, None], binary, missing)
        rows.append(row)
    for method in options.methods:
        began = time.perf_counter()
        restored = _inpaint(options, sampler, test, mask, method)
        seconds = time.perf_counter() - began
        row = {"method": restored.method} | _figures(restored.images, _unit(test), mask)
        if binary is not None:
            row["nats_per_pixel"] = _nats(_inpaint(options, sampler, binary, mask, method).images, binary, missing)
        shown = restored.images[:, :8].swapaxes(0, 1)
        grid = [np.where(missing, 0.5, _unit(test)), *shown, restored.images.mean(axis=1), _unit(test)]
        rows.append(row | {"health": float(np.median(restored.health)), "seconds": seconds, "grid": grid})
    return rows


def _inpaint(
    options: Benchmark, sampler: Sampler, images: np.ndarray, mask: np.ndarray, method: restoration.Choice
) -> restoration.Restoration:
    return restoration.inpaint(
        sampler.config, sampler.params, keys.root_key(options.seed), images, mask, method, options.num_samples,
        options.effort,
    )  # fmt: skip


def _enlarge(
    options: Benchmark, sampler: Sampler, splits: Splits, moments: rules.Moments, task: str
) -> list[dict[str, Any]]:
    """Rows of a task with smaller images, means over blocks."""
    config, factor = sampler.config, int(task[1:])
    test, validation = (_unit(_spread(source[0], options.num_images)) for source in (splits.test, splits.validation))
    small, small_validation = (restoration.downsample(images, factor, "box") for images in (test, validation))
    sides = [restoration.downsampling(size, factor, "box") for size in config.data.image_size]
    measure = np.kron(np.kron(*sides), np.eye(config.data.channels[0]))

    def ridge(small: np.ndarray, strength: float) -> np.ndarray:
        found = rules.ridge_enlarge(moments, small.reshape(len(small), -1), measure, strength)
        return found.reshape(-1, *test.shape[1:])

    strengths = [strength / 10 for strength in rules.STRENGTHS]  # blocks' means vary less than pixels
    error = {s: np.square(ridge(small_validation, s) - validation).sum() for s in strengths}
    rows = []
    for name, guess in {
        "nearest": rules.enlarged(small, factor, Image.Resampling.NEAREST),
        "bicubic": rules.enlarged(small, factor, Image.Resampling.BICUBIC),
        "ridge": ridge(small, min(error, key=error.__getitem__)),
    }.items():
        consistency = _least_consistency(guess[:, None], small, factor)
        rows.append({"method": name} | _figures(guess[:, None], test) | {"least_consistency_db": consistency})
    for method in options.methods:
        if method in ("pseudo_gibbs", "metropolis") and config.vae.likelihood == "bernoulli":
            continue  # they cannot: see restoration.super_resolve
        began = time.perf_counter()
        restored = restoration.super_resolve(
            config, sampler.params, keys.root_key(options.seed), small, factor, "box", method, options.num_samples,
            options.effort,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        row = {"method": restored.method} | _figures(restored.images, test)
        row["least_consistency_db"] = _least_consistency(restored.images[:, :8], small, factor)
        blocks = small.repeat(factor, axis=1).repeat(factor, axis=2)
        grid = [blocks, *restored.images[:, :8].swapaxes(0, 1), restored.images.mean(axis=1), test]
        rows.append(row | {"health": float(np.median(restored.health)), "seconds": seconds, "grid": grid})
    return rows


def _least_consistency(restored: np.ndarray, small: np.ndarray, factor: int) -> float:
    """The least PSNR of any sample [n, num, ...], scaled down again, to what was given; at most 200 dB."""
    again = restoration.downsample(restored, factor, "box")
    return float(min(200.0, *(image_metrics.psnr(sample, small).min() for sample in again.swapaxes(0, 1))))


def _figures(restored: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> dict[str, Any]:
    """Of samples [n, num, h, w, c]: of their mean, of one, of the best of the first 8, and how far they are apart."""
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
    """-log of the mean over samples [n, num, h, w, 1] of p(missing pixels), per missing pixel."""
    p = means.astype(np.float64).clip(0.01, 0.99)  # a rule's 0 or 1 would cost it everything
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


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown; in bold the best PSNR of a task."""
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


if __name__ == "__main__":
    cli.run(main)

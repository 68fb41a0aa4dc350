"""Reconstructs digits from random measurements, by a VAE and by scikit-learn's Lasso.

$ python experiments/study.py measurements --workdir runs/mnist5k --out measurements

As in Bora, Jalal, Price and Dimakis 2017 (section 6.1.1), y = A x + noise with entries of A from N(0, 1/m), and noise
whose length is about 0.1. The VAE takes the best of several searches for the mode of p(e|y), and the mean of x given z,
or given z and y. Lasso finds few coefficients that explain y: pixels, which are not negative, or those of a cosine
transform; its penalty is the best on validation images for each m. The error is the squared one per pixel, with the
standard error over the test images. It writes OUT/table.md, OUT/results.json, OUT/measurements.png and, for each m, a
grid: truth, methods, their mean.
"""

import dataclasses
import json
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.fft
import tyro
from etils import epath
from matplotlib.figure import Figure
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso

from genjax import cli, files, flag_help, keys
from genjax.config import seed_of
from genjax.data import image_arrays, sources
from genjax.loading import Sampler, Which, load_sampler
from genjax.vae import linear, restored_files
from genjax.vae.inference import InferenceConfig
from studies import figures, markdown

NOISE_LENGTH = 0.1
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2)
"""Lasso's penalties (scikit-learn's alpha, of the mean over y), from which validation chooses."""

Estimates = dict[str, np.ndarray]
"""Reconstructions [n, h, w, c] by name of the method."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Options: the VAE, how many images and measurements."""

    workdir: str
    """Directory of the VAE's training run."""
    out: str
    """Folder for the results; it must be empty or not exist yet."""
    num_images: int = 24
    """Number of evenly spaced test images, and of validation images."""
    num_measurements: tuple[int, ...] = (10, 25, 50, 100, 200, 500)
    """Numbers m of measurements."""
    which: Which = "last"
    """The last checkpoint, the best on validation, or that of a step."""
    seed: int = 0
    """Seed of matrices, noise and restarts."""
    inference: InferenceConfig = InferenceConfig(num_restarts=10)


def main() -> dict[str, Any]:
    """Reconstructs all images for each number of measurements; returns the errors per pixel."""
    options = tyro.cli(Study, description=flag_help.description(__doc__))
    out = restored_files.check_out(options.out, 1)
    cli.check_different(num_measurements=options.num_measurements)
    if options.num_images < 2 or min(options.num_measurements) < 1:
        raise ValueError(
            "--num-images must be at least 2, and --num-measurements at least 1: "
            f"got {options.num_images} and {min(options.num_measurements)}"
        )
    sampler = load_sampler(options.workdir, options.which)
    splits = sources.load(sampler.config.data, seed_of(sampler.config, "data"))
    test, known = (
        image_arrays.unit_floats(image_arrays.evenly_spaced(images, options.num_images))
        for (images,) in (splits.test, splits.validation)
    )
    rows: list[dict[str, Any]] = []
    for num in options.num_measurements:
        estimates = _reconstruct(options, sampler, test, known, num)
        for method, found in estimates.items():
            error = np.mean((found - test) ** 2, axis=(1, 2, 3))
            spread = error.std(ddof=1) / np.sqrt(len(error))
            rows.append({"m": num, "method": method, "error": float(error.mean()), "standard_error": float(spread)})
            logging.info("%s", json.dumps(rows[-1]))
        shown = np.stack(list(estimates.values()), axis=1)
        restored_files.write_grid(out / f"{num}.png", test, shown)
    files.write_json(out / "results.json", {"options": dataclasses.asdict(options), "rows": rows})
    files.write_atomically(out / "table.md", _table(rows))
    _plot(out / "measurements.png", rows)
    flat = {f"{row['m']}.{row['method'].replace(' ', '_')}": row["error"] for row in rows}
    return {**flat, "images": len(test), "step": sampler.step, "out": options.out}


def _reconstruct(options: Study, sampler: Sampler, test: np.ndarray, known: np.ndarray, num: int) -> Estimates:
    """Measures images [n, h, w, c] by `num` numbers each, and reconstructs them."""
    root, shape = keys.root_key(options.seed), test.shape[1:]
    matrix = linear.random_matrix(keys.for_step(root, keys.Stream.OBSERVE, num), num, shape)
    operator = linear.measurements(matrix, NOISE_LENGTH / np.sqrt(num))
    noise_key = keys.for_step(root, keys.Stream.OBSERVE, 0)
    y, known_y = np.split(operator.observe(np.concatenate([test, known]), noise_key, np.arange(2 * len(test))), 2)
    estimates = {}
    for name, to_pixels in {"Lasso, pixels": None, "Lasso, cosines": cosines(shape)}.items():
        error = {p: np.square(lasso(matrix, known_y, p, to_pixels).reshape(known.shape) - known) for p in PENALTIES}
        best = min(PENALTIES, key=lambda penalty: error[penalty].mean())
        estimates[name] = lasso(matrix, y, best, to_pixels).reshape(test.shape)
    restored = sampler.restore(operator, y, root, "map", 1, options.inference)
    estimates["VAE, given z"] = sampler.decode(restored.e[:, 0])
    estimates["VAE, given z and y"] = restored.images[:, 0]
    return estimates


def lasso(matrix: np.ndarray, y: np.ndarray, penalty: float, to_pixels: np.ndarray | None) -> np.ndarray:
    """Reconstructs flat images [n, d] in [0, 1] from y [n, m] = matrix @ x, with few coefficients.

    `to_pixels` [d, d] maps coefficients to pixels; None: they are the pixels, which are not negative.
    """
    features = matrix if to_pixels is None else matrix @ to_pixels
    model = Lasso(alpha=penalty, fit_intercept=False, positive=to_pixels is None, max_iter=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # with small penalties; validation chooses by the error
        found = np.stack([model.fit(features, row).coef_ for row in y])
    return np.clip(found if to_pixels is None else found @ to_pixels.T, 0, 1)


def cosines(shape: Sequence[int]) -> np.ndarray:
    """Returns the map from coefficients of an orthonormal cosine transform to flat images [h, w, c]: [d, d]."""
    size = int(np.prod(shape))
    each = scipy.fft.idctn(np.eye(size).reshape(size, *shape), axes=(1, 2), norm="ortho")
    return each.reshape(size, size).T


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """Formats errors as Markdown, a line for each method."""
    nums = sorted({row["m"] for row in rows})
    cell = {(row["method"], row["m"]): f"{row['error']:.5f} +- {row['standard_error']:.5f}" for row in rows}
    methods = list(dict.fromkeys(row["method"] for row in rows))
    return markdown.table(["method", *map(str, nums)], [[of, *(cell[of, m] for m in nums)] for of in methods]) + "\n"


def _plot(path: epath.Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes a figure of the error against the number of measurements."""
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for method in dict.fromkeys(row["method"] for row in rows):
        of = [row for row in rows if row["method"] == method]
        num, error, spread = ([row[name] for row in of] for name in ("m", "error", "standard_error"))
        axes.errorbar(num, error, spread, marker="o", markersize=4, capsize=2, label=method)
    axes.set(xscale="log", yscale="log", xlabel="number of measurements", ylabel="squared error per pixel")
    axes.set_xticks(sorted({row["m"] for row in rows}), [str(m) for m in sorted({row["m"] for row in rows})])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    figures.write_png(path, figure)

"""Trained VAE for use from Python: `Sampler`, whose methods compile once and take any number of images."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from genjax import keys
from genjax.compiled import compile_rows
from genjax.data import image_arrays
from genjax.keys import Key, Position, Stream
from genjax.optim import Params
from genjax.parallel import PyTree
from genjax.vae import calibration, likelihood, restoration, sampling, sandwich
from genjax.vae.calibration import Calibration
from genjax.vae.config import VaeRun
from genjax.vae.inference import InferenceConfig, Method
from genjax.vae.mixture import Mixture
from genjax.vae.model import Model, Posterior
from genjax.vae.operators import Operator
from genjax.vae.restoration import Restoration, Settings
from genjax.vae.sampling import Encodings
from genjax.vae.sandwich import AnnealingConfig

DEFAULT_INFERENCE = InferenceConfig()
DEFAULT_ANNEALING = AnnealingConfig()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sampler:
    """Draws, encodes, decodes and restores images with a trained VAE.

    Inputs are uint8 or uint16 [n, h, w, c]; outputs are floats, in [0, 1] for a Bernoulli likelihood and near it for a
    Gaussian one. Each method compiles once, on the devices of `mesh`. The result for an image has the same bits for any
    other images in the call and any number of devices. A key is a seed or its root key (`keys.root_key(seed)`);
    `position` is the positions of images, or their number. Image i depends only on the key and position[i], and never
    shares noise with a training of the same seed.
    """

    config: VaeRun
    model: Model
    params: Params  # averaged parameters
    step: int  # training step of the parameters
    mesh: Mesh

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.config.data.image_shapes[0]))
        number = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        kind = f"{self.config.vae.architecture} VAE of {shape} images"
        return f"Sampler({self.config.workdir!r}, step {self.step}: {kind}, {number:,} parameters)"

    def prior(
        self, key: Key, position: Position, temperature: float | Sequence[float] = 1.0, mixture: Mixture | None = None
    ) -> np.ndarray:
        """Draws new images, e ~ N(0, temperature^2), at `position` [n]: [n, h, w, c].

        With a `mixture`, which `aggregated.fit` returns, e comes from it, and temperature scales the noise within its
        components. Raises ValueError unless there is one temperature, or one for each group of latents, finite and not
        negative.
        """
        spread = np.asarray(temperature, np.float32)
        if spread.ndim > 1 or not (np.isfinite(spread) & (spread >= 0)).all():
            raise ValueError(f"a temperature must be finite and not negative, got {temperature}")
        if spread.ndim:
            sizes = likelihood.group_sizes(self.model, self.params)
            if len(spread) != len(sizes):
                raise ValueError(f"{len(sizes)} groups of latents need as many temperatures, got {len(spread)}")
            spread = np.repeat(spread, sizes)[None]  # [1, d]
        key, rows = keys.as_root(key), (keys.positions(position),)
        if mixture is not None:
            return self._compiled(sampling.from_mixture, stream=Stream.PRIOR)((self.params, key, spread, mixture), rows)
        return self._compiled(sampling.prior, stream=Stream.PRIOR)((self.params, key, spread), rows)

    def reconstruct(self, key: Key, position: Position, images: np.ndarray) -> np.ndarray:
        """Draws z from q(z|x) and decodes it, binarising or dequantising the images as training does."""
        run = self._compiled(sampling.reconstruct, self.config.data, stream=Stream.RECONSTRUCT)
        return run((self.params, keys.as_root(key)), (keys.positions(position), self._checked(images)))

    def encode(self, images: np.ndarray) -> Posterior:
        """Returns mean and log standard deviation of q(e|x), [n, d] each; with one group of latents, z is e."""
        posterior: Posterior = self._compiled(sampling.encode)((self.params,), (self._checked(images),))
        return posterior

    def draw_encodings(
        self, images: np.ndarray, seed: int = keys.SCORING_SEED, position: np.ndarray | None = None,
        augmented: bool = False,
    ) -> Encodings:  # fmt: skip
        """Draws e from q(e|x) of each image, binarised or dequantised; `augmented` flips and turns as in training.

        The draw of image i depends on `seed` and position[i] (by default i).
        """
        images = self._checked(images)
        position = np.arange(len(images)) if position is None else position
        data = self.config.data if augmented else dataclasses.replace(self.config.data, flip=False, turns=False)
        run = self._compiled(sampling.draw_encodings, data, stream=Stream.ENCODE)
        found: Encodings = run((self.params, keys.root_key(seed)), (np.asarray(position, np.int32), images))
        return found

    def decode(self, e: np.ndarray) -> np.ndarray:
        """Returns the images E[x|z] of noise e [n, d]; raises ValueError for another d."""
        e = np.asarray(e, np.float32)
        if e.ndim != 2 or e.shape[1] != self.model.latent_dim:
            raise ValueError(f"expected latents [n, {self.model.latent_dim}], got {list(e.shape)}")
        return self._compiled(sampling.decode)((self.params,), (e,))

    def interpolate(self, start: np.ndarray, end: np.ndarray, num: int) -> np.ndarray:
        """Returns `num` images on the line between the posterior means of two images [h, w, c], ends included."""
        starts, ends = (np.repeat(self._checked(image_arrays.one(image)), num, axis=0) for image in (start, end))
        rows = (starts, ends, np.linspace(0, 1, num, dtype=np.float32))
        return self._compiled(sampling.interpolate)((self.params,), rows)

    def traverse(self, image: np.ndarray, dimension: int, values: np.ndarray) -> np.ndarray:
        """Returns an image [h, w, c] with one latent dimension set to each of `values` [n]: [n, h, w, c]."""
        if not 0 <= dimension < self.model.latent_dim:
            raise ValueError(
                f"dimension {dimension} does not exist: latent dimensions are 0 to {self.model.latent_dim - 1}"
            )
        values = np.asarray(values, np.float32)
        rows = np.repeat(self._checked(image_arrays.one(image)), len(values), axis=0)
        dimensions = np.full(len(values), dimension, np.int32)
        return self._compiled(sampling.traverse)((self.params,), (rows, dimensions, values))

    def estimate_likelihood(
        self, images: np.ndarray, num_samples: int = 5000, seed: int = keys.SCORING_SEED, at_once: int = 128,
        position: np.ndarray | None = None,
    ) -> likelihood.Estimate:  # fmt: skip
        """Estimates log p(x) of each image by `num_samples` importance-weighted draws, in nats: see likelihood.py.

        Images are binarised or dequantised as in training. The noise of image i depends on `seed` and position[i] (by
        default i). Devices decode `at_once` draws of each of 8 images at a time, which changes results by rounding.
        """
        images = self._checked(images)
        position = np.arange(len(images)) if position is None else position
        settings = (self.config.data, num_samples, min(at_once, num_samples))
        run = self._compiled(likelihood.estimate_rows, *settings, stream=Stream.LIKELIHOOD, chunk=8)
        found: likelihood.Estimate = run((self.params, keys.root_key(seed)), (keys.positions(position), images))
        _finite(found.log_prob)
        return found

    def bound_likelihood(
        self, images: np.ndarray, annealing: AnnealingConfig = DEFAULT_ANNEALING, seed: int = keys.SCORING_SEED,
        position: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Bounds log p(x) of each image from below by annealed importance sampling, in nats: see sandwich.py.

        Images see the same binarisation or dequantisation as in `estimate_likelihood`.
        """
        images = self._checked(images)
        position = np.arange(len(images)) if position is None else position
        run = self._compiled(sandwich.lower_rows, self.config.data, annealing, stream=Stream.LIKELIHOOD, chunk=8)
        return _finite(run((self.params, keys.root_key(seed)), (keys.positions(position), images)))

    def sandwich_likelihood(
        self, position: Position, annealing: AnnealingConfig = DEFAULT_ANNEALING, seed: int = keys.SCORING_SEED
    ) -> sandwich.Bounds:
        """Draws an image for each `position` [n], and bounds its log p(x) from both sides, in nats."""
        run = self._compiled(sandwich.simulated_rows, annealing, stream=Stream.LIKELIHOOD, chunk=8)
        bounds = run((self.params, keys.root_key(seed)), (keys.positions(position),))
        return sandwich.Bounds(*map(_finite, bounds))

    def restore(
        self, operator: Operator, observed: np.ndarray, key: Key, method: Method = "hmc", num_samples: int = 8,
        inference: InferenceConfig = DEFAULT_INFERENCE, position: np.ndarray | None = None,
    ) -> Restoration:  # fmt: skip
        """Draws images that `operator` may have shown as `observed`: Mask completes, Downsample enlarges.

        Those of linear.py denoise, deblur, colour and reconstruct from measurements. `observed` is uint8 or floats in
        [0, 1]: images for a Mask, small ones for Downsample; operators with noise take any floats. Image i depends on
        the key, position[i] (by default i) and its observation. hmc is the best method in
        experiments/results/restoration.md; ancestral is exact for the means of blocks and a VAE of wavelets. Raises
        ValueError for inputs that the operator or the method refuses, and if an image has no finite restoration.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        operator, y = operator.check(observed, self.config.data.image_shapes[0])
        restoration.check_method(method, self.config.vae, operator)
        position = np.arange(len(y)) if position is None else position
        settings = Settings(method, num_samples, inference)
        # Few images at a time, as each has many chains.
        run = self._compiled(restoration.restore_rows, settings, stream=Stream.RESTORE, chunk=8)
        restored = Restoration(*run((self.params, keys.as_root(key)), (keys.positions(position), y, operator)))
        finite = np.isfinite(restored.images).all(axis=(1, 2, 3, 4)) & np.isfinite(restored.health)
        lost = np.flatnonzero(~finite)
        if len(lost):
            raise ValueError(
                f"{method} found no finite restoration of image {lost[0]} ({len(lost)} of {len(y)} images): "
                "check the model's parameters, or choose another method"
            )
        return restored

    def calibrate(
        self, operator: Operator, key: Key, position: Position, method: Method = "hmc", num_samples: int = 8,
        inference: InferenceConfig = DEFAULT_INFERENCE,
    ) -> Calibration:  # fmt: skip
        """Draws a truth for each `position` [n], observes it, and restores it, to compare both: see calibration.py."""
        restoration.check_method(method, self.config.vae, operator)
        key, position = keys.as_root(key), keys.positions(position)
        e, x = self._compiled(calibration.simulate_rows, stream=Stream.OBSERVE)((self.params, key), (position,))
        y = operator.observe(x, keys.for_step(key, Stream.OBSERVE, 1), position)  # the truths have step 0
        # Gaussian pixels, which no picture bounds, may leave [0, 1]: what the operator checks is not what is restored.
        operator, _ = operator.check(np.clip(y, 0, 1), self.config.data.image_shapes[0])
        run = self._compiled(
            calibration.calibrate_rows, Settings(method, num_samples, inference), stream=Stream.RESTORE, chunk=8
        )
        return Calibration(*run((self.params, key), (position, y, operator, e)))

    def _checked(self, images: np.ndarray) -> np.ndarray:
        return image_arrays.check(images, self.config.data.image_shapes[0])

    @functools.cached_property
    def _compiled(self) -> Callable[..., Callable[[tuple, tuple], PyTree]]:
        """Compiles fn(model, *settings, params, key, ...), once for each function and settings."""

        # A cache of this sampler alone, so that its programs go when it goes.
        @functools.lru_cache(maxsize=32)
        def compiled(
            fn: Callable[..., PyTree], *settings: Hashable, stream: Stream | None = None, chunk: int = 64
        ) -> Callable[[tuple, tuple], PyTree]:
            def with_model(config: VaeRun, params: Params, *arguments: PyTree) -> PyTree:
                # Inside the graph, as JAX's check for reused keys would reject a folded key passed to two calls.
                if stream is not None:
                    key, *others = arguments
                    arguments = (keys.for_step(key, stream, 0), *others)
                return fn(self.model, *settings, params, *arguments)

            return compile_rows(with_model, self.config, self.mesh, chunk)

        return compiled


def _finite(log_prob: np.ndarray) -> np.ndarray:
    """Returns `log_prob` [n], or raises ValueError for one that is not finite."""
    lost = np.flatnonzero(~np.isfinite(log_prob))
    if len(lost):
        raise ValueError(
            f"image {lost[0]} has no finite likelihood ({len(lost)} of {len(log_prob)} images): "
            "check the model's parameters"
        )
    return log_prob

"""Times training steps of a small VAE against plain PyTorch (pip install -e '.[parity]').

$ python experiments/benchmark.py vae_throughput

The network of Burda, Grosse and Salakhutdinov (2016) with one layer of latents: 784-200-200-50, tanh, Bernoulli pixels,
one sample of z, Adam. genjax takes `steps_per_dispatch` steps in one program, batches included; PyTorch takes them one
after another, with its default Adam and with its fused one. Both use two threads in one process and take turns; results
are medians. In a turn only the second half of a side's steps is timed, because the other side's threads still spin
during the first. `speedup` is PyTorch's milliseconds over genjax's.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import nn

from genjax import flag_help, keys, parallel, vae
from genjax.compiled import compile_train_step
from genjax.config import OptimConfig, TrainConfig
from genjax.data import batches
from genjax.data.config import DataConfig
from genjax.train import preemption
from genjax.vae.config import VaeConfig, VaeRun

LATENTS, HIDDEN, PIXELS = 50, 200, 784


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The steps to time."""

    batch_sizes: tuple[int, ...] = (20, 128)
    """Images in a step."""
    steps_per_dispatch: int = 50
    """Steps in a program of genjax, and in each half of a turn."""
    turns: int = 15
    """Turns of each side; the first is not timed."""


def main() -> dict[str, Any]:
    """Returns milliseconds per step, and how much faster genjax is."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    results: dict[str, Any] = {"device": jax.devices()[0].device_kind, **vars(options)}
    for size in options.batch_sizes:
        images = np.random.default_rng(0).integers(0, 256, (20 * size, 28, 28, 1), np.uint8)
        sides = {
            "genjax": _genjax(images, size, options.steps_per_dispatch),
            "genjax_singly": _genjax(images, size, 1),
            "torch": _torch(images, size, fused=False),
            "torch_fused": _torch(images, size, fused=True),
        }
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.turns):
            for name, run in sides.items():
                run(options.steps_per_dispatch)
                began = time.perf_counter()
                run(options.steps_per_dispatch)
                taken[name].append(1e3 * (time.perf_counter() - began) / options.steps_per_dispatch)
        milliseconds = {name: statistics.median(values[1:]) for name, values in taken.items()}
        results |= {f"batch_{size}.{name}_ms": round(value, 3) for name, value in milliseconds.items()}
        for name in ("torch", "torch_fused"):
            results[f"batch_{size}.speedup_over_{name}"] = round(milliseconds[name] / milliseconds["genjax"], 2)
    return results


def _genjax(images: np.ndarray, size: int, several: int) -> Callable[[int], None]:
    """Trains for a number of steps, a multiple of `several`, loading batches as training does."""
    config = VaeRun(
        workdir="unused",
        data=DataConfig(
            source="unused", image_size=(28, 28), channels=(1,), batch_size=size, binarize="stochastic", prefetch=2
        ),
        optim=OptimConfig(learning_rate=1e-3),
        train=TrainConfig(
            num_steps=several, log_every=several, eval_every=several, checkpoint_every=several,
            steps_per_dispatch=several,
        ),
        vae=VaeConfig(hidden_sizes=(HIDDEN, HIDDEN), latent_dim=LATENTS, activation="tanh"),
    )  # fmt: skip
    mesh = parallel.make_mesh(jax.devices()[:1])
    state = parallel.replicate(mesh, lambda: vae.TASK.init(config, keys.root_key(0)))
    seed, no_signal = parallel.replicate_scalar(mesh, 0), preemption.per_device(mesh)[0]
    step_fn = compile_train_step(vae.TASK, config, mesh)
    done, load = 0, batches.loader((images,), size, 0, several)

    def take(num: int) -> None:
        nonlocal state, done
        loaded = batches.prefetch(
            lambda step: parallel.shard_batch(mesh, load(step)), range(done, done + num, several), config.data.prefetch
        )
        for batch in loaded:
            state, *_ = step_fn(state, batch, seed, no_signal)
        jax.block_until_ready(state)
        done += num

    return take


def _torch(images: np.ndarray, size: int, fused: bool) -> Callable[[int], None]:
    """Trains the same network and loss, as usually written in PyTorch."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh()).to(device)
    mean, log_variance = nn.Linear(HIDDEN, LATENTS).to(device), nn.Linear(HIDDEN, LATENTS).to(device)
    decoder = nn.Sequential(
        nn.Linear(LATENTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, PIXELS)
    ).to(device)
    parameters = [p for module in (encoder, mean, log_variance, decoder) for p in module.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, fused=fused)
    pixels = torch.from_numpy(images).to(device).reshape(-1, PIXELS)

    def take(num: int) -> None:
        for _ in range(num):
            rows = torch.randint(len(pixels), (size,), device=device)
            x = torch.bernoulli(pixels[rows].float() / 255)
            hidden = encoder(x)
            mu, log_var = mean(hidden), log_variance(hidden)
            logits = decoder(mu + torch.exp(0.5 * log_var) * torch.randn_like(mu))
            reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            loss = (reconstruction - 0.5 * torch.sum(1 + log_var - mu**2 - log_var.exp())) / size
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return take

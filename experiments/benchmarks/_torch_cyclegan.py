"""CycleGAN's networks and training step in plain PyTorch, which cyclegan_step.py times against genjax."""

import itertools
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

VARIANTS = {
    "torch": {"channels_last": False, "autocast": False, "compiled": False},
    "torch-tf32": {"channels_last": False, "autocast": False, "compiled": False},
    "torch-channels-last": {"channels_last": True, "autocast": False, "compiled": False},
    "torch-channels-last-autocast": {"channels_last": True, "autocast": True, "compiled": False},
    "torch-compile": {"channels_last": False, "autocast": False, "compiled": True},
    "torch-compile-autocast": {"channels_last": True, "autocast": True, "compiled": True},
}
"""Settings of PyTorch: all float32; TF32, the default of convolutions on a GPU; and common options for speed."""


class _Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width), nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Maps [b, c, h, w] to the same shape."""
        return x + self.body(x)


def generator(width: int, blocks: int) -> nn.Module:
    """Makes the ResNet generator, from [b, 3, h, w] to [b, 3, h, w]."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7)]
    layers += [nn.InstanceNorm2d(width), nn.ReLU(inplace=True)]
    for channels in (width, 2 * width):
        layers += [nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)]
        layers += [nn.InstanceNorm2d(2 * channels), nn.ReLU(inplace=True)]
    layers += [_Block(4 * width) for _ in range(blocks)]
    for channels in (4 * width, 2 * width):
        layers += [nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)]
        layers += [nn.InstanceNorm2d(channels // 2), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())


def discriminator(width: int) -> nn.Module:
    """Makes the 70x70 PatchGAN, from [b, 3, h, w] to logits."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
    for before, after, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
        layers += [nn.Conv2d(before * width, after * width, 4, stride=stride, padding=1)]
        layers += [nn.InstanceNorm2d(after * width), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, padding=1))


class _Pool:
    """Pool of 50 earlier translations, which replace half of the new ones."""

    def __init__(self) -> None:
        self.images: list[Tensor] = []

    def query(self, images: Tensor) -> Tensor:
        """Returns as many images [b, c, h, w], some of them from the pool."""
        chosen = []
        for image in images.detach():
            if len(self.images) < 50:
                self.images.append(image.clone())
            elif random.random() < 0.5:
                i = random.randrange(50)
                image, self.images[i] = self.images[i], image.clone()
            chosen.append(image)
        return torch.stack(chosen)


class Training:
    """Four networks and two Adams, with the paper's losses and weights."""

    def __init__(self, blocks: int, device: str, channels_last: bool, autocast: bool, compiled: bool):
        torch.manual_seed(0)
        order = torch.channels_last if channels_last else torch.contiguous_format
        where: Any = {"device": device, "memory_format": order}
        g_a2b, g_b2a, d_a, d_b = (
            net.to(**where)
            for net in (generator(64, blocks), generator(64, blocks), discriminator(64), discriminator(64))
        )
        self.generators, self.discriminators = (g_a2b, g_b2a), (d_a, d_b)
        self.g_optimiser, self.d_optimiser = (
            torch.optim.Adam(itertools.chain(*(net.parameters() for net in nets)), lr=2e-4, betas=(0.5, 0.999))
            for nets in (self.generators, self.discriminators)
        )
        self.pools, self.device, self.order = (_Pool(), _Pool()), device, order
        self.mixed = torch.autocast(device, torch.bfloat16, enabled=autocast)
        compile_: Any = torch.compile if compiled else lambda fn: fn
        self._g_loss, self._d_loss, self._to_b = (compile_(fn) for fn in (self.g_loss, self.d_loss, g_a2b))

    def images(self, array: Any) -> Tensor:
        """Moves float32 [b, h, w, 3] in [-1, 1] to this training's device and memory format."""
        return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous().to(self.device, memory_format=self.order)

    def g_loss(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Computes the loss of the generators; returns it with their translations."""
        (to_b, to_a), (d_a, d_b) = self.generators, self.discriminators
        fake_b, fake_a = to_b(a), to_a(b)
        logits_a, logits_b = d_a(fake_a), d_b(fake_b)
        loss = F.mse_loss(logits_a, torch.ones_like(logits_a)) + F.mse_loss(logits_b, torch.ones_like(logits_b))
        loss = loss + 10 * (F.l1_loss(to_a(fake_b), a) + F.l1_loss(to_b(fake_a), b))
        return loss + 5 * (F.l1_loss(to_a(a), a) + F.l1_loss(to_b(b), b)), fake_a, fake_b

    def d_loss(self, net: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """Computes the loss of a discriminator."""
        on_real, on_fake = net(real), net(fake)
        return 0.5 * (F.mse_loss(on_real, torch.ones_like(on_real)) + F.mse_loss(on_fake, torch.zeros_like(on_fake)))

    def step(self, a: Tensor, b: Tensor) -> None:
        """Updates all four networks once."""
        d_a, d_b = self.discriminators
        for net in self.discriminators:
            net.requires_grad_(False)
        self.g_optimiser.zero_grad()
        with self.mixed:
            loss, fake_a, fake_b = self._g_loss(a, b)
        loss.backward()
        self.g_optimiser.step()
        for net in self.discriminators:
            net.requires_grad_(True)
        self.d_optimiser.zero_grad()
        for net, real, fake, pool in ((d_a, a, fake_a, self.pools[0]), (d_b, b, fake_b, self.pools[1])):
            with self.mixed:
                loss = self._d_loss(net, real, pool.query(fake.float()))
            loss.backward()
        self.d_optimiser.step()

    def translate(self, a: Tensor) -> Tensor:
        """Translates [b, 3, h, w] from A to B."""
        with torch.inference_mode(), self.mixed:
            translated: Tensor = self._to_b(a)
        return translated


class Prepared(NamedTuple):
    """Functions to time, already called once; each waits for the device."""

    actions: dict[str, Callable[[], None]]
    before: dict[str, float]
    """Measurements made before anything is timed: floating-point operations of a step and a translation."""
    peak_mib: Callable[[], float | None]
    """Returns the peak memory of the device so far; None if only the memory of the process is known."""
    matmul_tflops: Callable[[], float]
    """Measures the rate of a large matrix product of the same precision."""


def prepare(size: int, blocks: int, batch: int, variant: str, cache: str) -> Prepared:
    """Makes the step of all four networks and the translation; PyTorch ignores `cache`."""
    del cache
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = variant == "torch-tf32"
    torch.backends.cudnn.benchmark = True  # choose kernels by timing, as the paper's code and XLA do
    training = Training(blocks, device, **VARIANTS[variant])
    noise = np.random.default_rng(0).integers(0, 256, (2, batch, size, size, 3), np.uint8)
    a, b = (training.images(images.astype(np.float32) / 127.5 - 1) for images in noise)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def step() -> None:
        training.step(a, b)
        wait()

    def translate() -> None:
        training.translate(a)
        wait()

    actions, before = {"step": step, "translate": translate}, {}
    if not VARIANTS[variant]["compiled"]:  # FLOPs of a compiled model are not counted, but they are the same
        for name, action in actions.items():
            with FlopCounterMode(display=False) as counter:
                action()
            before[f"{name}_tflop"] = counter.get_total_flops() / 1e12

    def peak_mib() -> float | None:
        return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None

    def matmul_tflops() -> float:
        return _matmul_rate(device, torch.bfloat16 if "autocast" in variant else torch.float32, wait)

    return Prepared(actions, before, peak_mib, matmul_tflops)


def _matmul_rate(device: str, dtype: torch.dtype, wait: Callable[[], None]) -> float:
    """Measures TFLOP/s of a square product, the best of 10."""
    side = 2048 if device == "cpu" else 8192
    matrix = torch.randn((side, side), dtype=dtype, device=device)
    taken = []
    for _ in range(11):
        began = time.perf_counter()
        torch.mm(matrix, matrix)
        wait()
        taken.append(time.perf_counter() - began)
    return 2 * side**3 / min(taken[1:]) / 1e12

"""Networks of CycleGAN in plain PyTorch, written separately from the JAX code, for parity tests.

Images are NCHW. Every network registers its layers in the order in which data flows through them, which `convolutions`
relies on.
"""

import torch
import torch.nn.functional as F
from torch import nn


def _norm(channels):
    """Instance norm as CycleGAN uses it: no scale or shift, statistics of the image itself, eps 1e-5."""
    return nn.InstanceNorm2d(channels, eps=1e-5, affine=False, track_running_stats=False)


def _finish(output, x, y):
    """What follows the last convolution of a generator: tanh(y), or the unbounded residual form x + y."""
    return x + y if output == "residual" else torch.tanh(y)


def _check_output(output, in_channels, out_channels):
    assert output in ("tanh", "residual"), output
    assert output == "tanh" or in_channels == out_channels, "residual output needs as many channels out as in"


class ResnetBlock(nn.Module):
    """x + [pad, conv, norm, ReLU, pad, conv, norm](x), with no ReLU after the sum and no dropout."""

    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), _norm(channels), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), _norm(channels),
        )  # fmt: skip

    def forward(self, x):
        return x + self.body(x)


class ResnetGenerator(nn.Module):
    """c7s1-w, d2w, d4w, `blocks` residual blocks, u2w, uw, c7s1-out; all convolutions have biases.

    output="tanh" ends in a tanh, output="residual" returns x + last_convolution (no tanh).
    """

    def __init__(self, in_channels, out_channels, width=64, blocks=9, output="tanh"):
        super().__init__()
        _check_output(output, in_channels, out_channels)
        self.output = output
        w = width
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, w, 7), _norm(w), nn.ReLU()]
        for c in (w, 2 * w):
            layers += [nn.Conv2d(c, 2 * c, 3, stride=2, padding=1), _norm(2 * c), nn.ReLU()]
        layers += [ResnetBlock(4 * w) for _ in range(blocks)]
        for c in (4 * w, 2 * w):
            up = nn.ConvTranspose2d(c, c // 2, 3, stride=2, padding=1, output_padding=1)
            layers += [up, _norm(c // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(w, out_channels, 7)]
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return _finish(self.output, x, self.body(x))


class UnetBlock(nn.Module):
    """One level inside the U-Net: `outer` channels come in, 2 * `outer` go out (the skip first, then the new ones).

    The original's LeakyReLU works in place, so that what it concatenates is LeakyReLU(x) and not x. The same is done
    here openly. Results do not depend on it: a ReLU always follows, and ReLU(LeakyReLU(x)) = ReLU(x).
    """

    def __init__(self, outer, inner, submodule=None):
        super().__init__()
        self.down = nn.Conv2d(outer, inner, 4, stride=2, padding=1)
        self.down_norm = _norm(inner) if submodule is not None else nn.Identity()  # none on the innermost level
        self.submodule = submodule if submodule is not None else nn.Identity()
        from_below = 2 * inner if submodule is not None else inner
        self.up = nn.ConvTranspose2d(from_below, outer, 4, stride=2, padding=1)
        self.up_norm = _norm(outer)

    def forward(self, x):
        skip = F.leaky_relu(x, 0.2)
        below = self.submodule(self.down_norm(self.down(skip)))
        return torch.cat([skip, self.up_norm(self.up(F.relu(below)))], dim=1)


class UnetGenerator(nn.Module):
    """U-Net with `num_downs` >= 5 halvings (unet_128: 7, unet_256: 8), channels w, 2w, 4w, 8w, ..., 8w; no dropout.

    The outermost level has a bare down convolution, and ReLU, transposed convolution and tanh on the way up
    (output="residual": x + transposed convolution). Height and width must be multiples of 2**num_downs.
    """

    def __init__(self, in_channels, out_channels, num_downs=8, width=64, output="tanh"):
        super().__init__()
        _check_output(output, in_channels, out_channels)
        self.output = output
        w = width
        block = UnetBlock(8 * w, 8 * w)
        for _ in range(num_downs - 5):
            block = UnetBlock(8 * w, 8 * w, block)
        for outer in (4 * w, 2 * w, w):
            block = UnetBlock(outer, 2 * outer, block)
        self.down = nn.Conv2d(in_channels, w, 4, stride=2, padding=1)
        self.submodule = block
        self.up = nn.ConvTranspose2d(2 * w, out_channels, 4, stride=2, padding=1)

    def forward(self, x):
        return _finish(self.output, x, self.up(F.relu(self.submodule(self.down(x)))))


class PatchDiscriminator(nn.Sequential):
    """PatchGAN: n_layers + 2 convolutions 4x4, padding 1, stride 2 except the last two; a map of logits comes out.

    Channels are w, 2w, 4w, 8w, 8w, ..., 1. LeakyReLU(0.2) between convolutions, instance norm on all but the first
    and the last. All convolutions have biases.
    """

    def __init__(self, in_channels, width=64, n_layers=3):
        layers = [nn.Conv2d(in_channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        c = width
        for i in range(1, n_layers + 1):
            wider = width * min(2**i, 8)
            stride = 1 if i == n_layers else 2
            layers += [nn.Conv2d(c, wider, 4, stride=stride, padding=1), _norm(wider), nn.LeakyReLU(0.2)]
            c = wider
        super().__init__(*layers, nn.Conv2d(c, 1, 4, stride=1, padding=1))


class PixelDiscriminator(nn.Sequential):
    """1x1 convolutions in -> w -> 2w -> 1 with LeakyReLU(0.2), instance norm on the middle one; one logit a pixel.

    All three convolutions have biases: 3 channels and width 64 give 256 + 8,320 + 129 = 8,705 parameters.
    """

    def __init__(self, in_channels, width=64):
        super().__init__(
            nn.Conv2d(in_channels, width, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 1), _norm(2 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 1),
        )  # fmt: skip


def convolutions(module):
    """All Conv2d and ConvTranspose2d, in the order in which the forward pass reaches them.

    For the U-Net these are the down convolutions from the outermost to the innermost, then the up convolutions from
    the innermost to the outermost.
    """
    return [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]


def cyclegan_of(config):
    """The four networks of a configuration by name, in float64, with weights large enough for every layer to matter."""
    net, (a, b) = config.cyclegan, config.data.channels

    def generator(source, target):
        if net.generator == "unet":
            return UnetGenerator(source, target, net.num_downs, net.base_channels, net.output)
        return ResnetGenerator(source, target, net.base_channels, net.num_blocks, net.output)

    def discriminator(channels):
        if net.discriminator == "pixel":
            return PixelDiscriminator(channels, net.discriminator_channels)
        return PatchDiscriminator(channels, net.discriminator_channels, net.discriminator_layers)

    seen_a, seen_b = (a + b, a + b) if net.conditional else (a, b)
    made = {"g_a2b": generator(a, b), "g_b2a": generator(b, a)}
    made |= {"d_a": discriminator(seen_a), "d_b": discriminator(seen_b)}
    torch.manual_seed(0)
    for module in made.values():
        module.double()
        for parameter in module.parameters():
            nn.init.normal_(parameter, 0, 0.3)
    return made

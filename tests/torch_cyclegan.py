"""CycleGAN in plain PyTorch, written separately from the JAX code, as the other side of the parity tests.

Images are NCHW. Every random choice (pool, penalty mixture, dihedral element) comes in as an argument. Every network
registers its layers in the order in which data flows through them, which `convolutions` relies on.
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


def init_(module, generator):
    """Weights from N(0, 0.02), biases 0, in place and in the order of `convolutions`; returns the module."""
    for conv in convolutions(module):
        nn.init.normal_(conv.weight, 0.0, 0.02, generator=generator)
        nn.init.zeros_(conv.bias)
    return module


def gan_loss(kind, logits, real, for_discriminator):
    """Loss for having `logits` judged real or not; a generator asks for real=True on its fakes."""
    target = torch.full_like(logits, 1.0 if real else 0.0)
    if kind == "lsgan":
        return F.mse_loss(logits, target)
    if kind == "vanilla":
        return F.binary_cross_entropy_with_logits(logits, target)
    if kind not in ("hinge", "wgan"):
        raise ValueError(f"unknown GAN loss {kind!r}")
    signed = logits if real else -logits
    if kind == "hinge" and for_discriminator:
        return F.relu(1 - signed).mean()
    return -signed.mean()


def gradient_penalty(discriminator, real, fake, alpha):
    """mean (||grad_x sum D(x)||_2 - 1)^2 at x = alpha * real + (1 - alpha) * fake, the norm over all of an image.

    alpha: [n, 1, 1, 1]. Differentiable in the parameters of the discriminator, not in the images.
    """
    mixed = (alpha * real + (1 - alpha) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(mixed).sum(), mixed, create_graph=True)
    return (gradient.flatten(1).norm(2, dim=1) - 1).square().mean()


def l1(x, y):
    """The mean absolute difference, of the cycle, the identity and the dihedral terms."""
    return (x - y).abs().mean()


def dihedral(image, element):
    """One of the 8 symmetries of the square on NCHW: bit 1 transposes, then bit 2 flips rows, then bit 4 columns."""
    if element & 1:
        image = image.transpose(2, 3)
    if element & 2:
        image = image.flip(2)  # upside down
    if element & 4:
        image = image.flip(3)  # left-right
    return image


def dihedral_each(images, elements):
    """`dihedral` with an element for each example; mixed elements need square images."""
    return torch.cat([dihedral(images[i : i + 1], int(e)) for i, e in enumerate(elements)])


class ImagePool:
    """The history of fakes: up to `size` images, updated one image after the other."""

    def __init__(self, size):
        self.size = size
        self.images = []

    def query(self, images, uniforms=None):
        """The images for the discriminator. uniforms[i] = (u_swap, u_slot) in [0, 1) for image i of the batch.

        While the pool fills, new images are stored and returned. After that u_swap > 0.5 returns the image stored at
        int(u_slot * size) and stores the new one there; otherwise the new image is returned and not stored.
        """
        images = images.detach()
        if self.size == 0:
            return images
        returned = []
        for i, image in enumerate(images):
            if len(self.images) < self.size:
                self.images.append(image.clone())
            elif float(uniforms[i][0]) > 0.5:
                slot = int(float(uniforms[i][1]) * self.size)
                self.images[slot], image = image.clone(), self.images[slot]
            returned.append(image)
        return torch.stack(returned)


def _linear(steps, n_epochs, n_decay):
    """The factor after `steps` scheduler steps, epochs counted from 1."""
    return 1.0 - max(0, steps + 1 - n_epochs) / (n_decay + 1)


def lr_factor(variant, epoch, n_epochs, n_decay):
    """Closed form of the share of the learning rate in `epoch` (from 1): constant, then linear decay.

    With 100 + 100 epochs, "epoch_end" (older PyTorch code, CUT): 100 -> 1, 101 -> 100/101, 200 -> 1/101;
    "epoch_start" (newer PyTorch code): the same one epoch earlier, 200 -> 0; "lua": 101 -> 1, 102 -> .99, 200 -> .01.
    """
    if variant == "epoch_end":
        return _linear(epoch - 1, n_epochs, n_decay)
    if variant == "epoch_start":
        return _linear(epoch, n_epochs, n_decay)
    if variant == "lua":
        return 1.0 - max(0, epoch - 1 - n_epochs) / max(n_decay, 1)
    raise ValueError(f"unknown schedule {variant!r}")


def lr_sequence(variant, n_epochs, n_decay, lr):
    """The learning rates in use in epochs 1 to n_epochs + n_decay, found by running the schedule as in training."""
    used = []
    if variant == "lua":
        rate = lr
        for epoch in range(1, n_epochs + n_decay + 1):
            used.append(rate)
            if epoch > n_epochs:
                rate -= lr / n_decay
        return used
    assert variant in ("epoch_end", "epoch_start"), variant
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda steps: _linear(steps, n_epochs, n_decay))
    optimizer.step()  # moves nothing; LambdaLR warns when it is stepped before the optimizer ever was
    for _ in range(n_epochs + n_decay):
        if variant == "epoch_start":
            scheduler.step()
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if variant == "epoch_end":
            scheduler.step()
    return used


def make_optimizers(nets, lr=2e-4, betas=(0.5, 0.999), eps=1e-8):
    """One Adam over both generators ("g") and one over both discriminators ("d")."""
    g = [*nets["g_a2b"].parameters(), *nets["g_b2a"].parameters()]
    d = [*nets["d_a"].parameters(), *nets["d_b"].parameters()]
    return {key: torch.optim.Adam(chained, lr=lr, betas=betas, eps=eps) for key, chained in (("g", g), ("d", d))}


def training_step(
    nets, optimizers, pools, a, b, weights, kind, uniforms, alphas=None, elements=None, pairs=None, conditional=False
):
    """One step as in the original: both generators jointly, then both discriminators on the fakes made before it.

    nets: g_a2b, g_b2a, d_a (judges domain A), d_b (judges domain B). optimizers: g, d (see `make_optimizers`).
    pools, uniforms (for `ImagePool.query`), alphas (for `gradient_penalty`): by the domain of the fake, a, b.
    elements: by direction, a2b, b2a, one dihedral element for each example.
    pairs: images of A and of B that show the same, for the weight paired. conditional: each discriminator judges the
    input of a translation and the translation, joined along the channels, as pix2pix does; a and b are pairs then.
    weights: the factor in the objective of each of cycle_a (A->B->A), cycle_b, identity_a (G_b2a on A), identity_b,
    affine_a2b, affine_b2a, adversarial_a2b, adversarial_b2a, paired, gradient_penalty. A missing one is 0, and a term
    with weight 0 is skipped. The discriminators are trained whatever the weights.

    Returns floats: the generator terms under the names above and, for x in a, b, d_x_real, d_x_fake and
    gradient_penalty_x, all before weighting; and the objectives g, d_a, d_b. Gradients stay in place: those of the
    objective g in the generators, those of d_a and d_b in the discriminators.
    """
    g_a2b, g_b2a, d_a, d_b = (nets[name] for name in ("g_a2b", "g_b2a", "d_a", "d_b"))
    fake_b = g_a2b(a)
    rec_a = g_b2a(fake_b)
    fake_a = g_b2a(b)
    rec_b = g_a2b(fake_a)

    def judged(image, translation):
        return torch.cat([image, translation], 1) if conditional else translation

    d_a.requires_grad_(False), d_b.requires_grad_(False)
    candidates = {
        "adversarial_a2b": lambda: gan_loss(kind, d_b(judged(a, fake_b)), True, False),
        "adversarial_b2a": lambda: gan_loss(kind, d_a(judged(b, fake_a)), True, False),
        "cycle_a": lambda: l1(rec_a, a),
        "cycle_b": lambda: l1(rec_b, b),
        "identity_a": lambda: l1(g_b2a(a), a),
        "identity_b": lambda: l1(g_a2b(b), b),
        "affine_a2b": lambda: l1(dihedral_each(fake_b, elements["a2b"]), g_a2b(dihedral_each(a, elements["a2b"]))),
        "affine_b2a": lambda: l1(dihedral_each(fake_a, elements["b2a"]), g_b2a(dihedral_each(b, elements["b2a"]))),
        "paired": lambda: l1(g_a2b(pairs[0]), pairs[1]) + l1(g_b2a(pairs[1]), pairs[0]),
    }
    assert set(weights) <= {*candidates, "gradient_penalty"}, f"unknown weights among {sorted(weights)}"
    terms = {name: term() for name, term in candidates.items() if weights.get(name, 0) != 0}
    loss_g = sum(weights[name] * term for name, term in terms.items())
    optimizers["g"].zero_grad()
    loss_g.backward()
    optimizers["g"].step()

    d_a.requires_grad_(True), d_b.requires_grad_(True)
    optimizers["d"].zero_grad()
    totals = {"g": loss_g}
    seen_a, seen_b = (judged(b, a), judged(b, fake_a)), (judged(a, b), judged(a, fake_b))
    for x, discriminator, (real, fake) in (("a", d_a, seen_a), ("b", d_b, seen_b)):
        pooled = pools[x].query(fake, uniforms[x])
        terms[f"d_{x}_real"] = gan_loss(kind, discriminator(real), True, True)
        terms[f"d_{x}_fake"] = gan_loss(kind, discriminator(pooled), False, True)
        loss_d = 0.5 * (terms[f"d_{x}_real"] + terms[f"d_{x}_fake"])
        if weights.get("gradient_penalty", 0) != 0:
            terms[f"gradient_penalty_{x}"] = gradient_penalty(discriminator, real, pooled, alphas[x])
            loss_d = loss_d + weights["gradient_penalty"] * terms[f"gradient_penalty_{x}"]
        loss_d.backward()
        totals[f"d_{x}"] = loss_d
    optimizers["d"].step()
    return {name: value.item() for name, value in {**terms, **totals}.items()}

"""Losses, pool, schedule and step of CycleGAN in plain PyTorch, written separately from the JAX code, for parity tests.

Images are NCHW. Every random choice (pool, penalty mixture, dihedral element) comes in as an argument. Networks are
those of torch_networks.py.
"""

import torch
import torch.nn.functional as F
from torch import nn


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


def lr_sequence(variant, n_epochs, n_decay, lr):
    """The learning rates in use in epochs 1 to n_epochs + n_decay, found by running the schedule as in training.

    Shares with 100 + 100 epochs, "epoch_end" (older PyTorch code, CUT): 100 -> 1, 101 -> 100/101, 200 -> 1/101;
    "epoch_start" (newer PyTorch code): the same one epoch earlier, 200 -> 0; "lua": 101 -> 1, 102 -> .99, 200 -> .01.
    """
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

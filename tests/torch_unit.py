"""UNIT in plain PyTorch, written separately from the JAX code, as the other side of the parity tests.

Images are NCHW. The noise of the latents comes in as an argument. Blocks are those of torch_networks.py.
"""

import torch
from torch import nn

from torch_cyclegan import gan_loss
from torch_networks import ResnetBlock, _norm


def encoder(in_channels, width, blocks):
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, width, 7), _norm(width), nn.ReLU()]
    for c in (width, 2 * width):
        layers += [nn.Conv2d(c, 2 * c, 3, stride=2, padding=1), _norm(2 * c), nn.ReLU()]
    return nn.Sequential(*layers, *(ResnetBlock(4 * width) for _ in range(blocks)))


def decoder(out_channels, width, blocks):
    layers = [ResnetBlock(4 * width) for _ in range(blocks)]
    for c in (4 * width, 2 * width):
        layers += [nn.ConvTranspose2d(c, c // 2, 3, stride=2, padding=1, output_padding=1), _norm(c // 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7), nn.Tanh())


def shared(width, blocks):
    return nn.Sequential(*(ResnetBlock(4 * width) for _ in range(blocks)))


def kl_from_standard_normal(mean):
    """By PyTorch's own distributions, for each number of the latent."""
    of = torch.distributions
    return of.kl_divergence(of.Normal(mean, torch.ones_like(mean)), of.Normal(0.0, 1.0)).mean()


def training_step(nets, optimizers, a, b, weights, noise):
    """One step: both discriminators on detached translations, then encoders and decoders against the updated ones.

    nets: encoder_a, ..., shared_encoder, shared_decoder, d_a, d_b. optimizers: coders, d. noise: [n, 4, c, h, w], of
    the encodings of a, of b, of a's and of b's translation. Returns floats: the terms and the objectives.
    """
    images = {"a": a, "b": b}

    def encode(domain, x):
        return nets["shared_encoder"](nets[f"encoder_{domain}"](x))

    def decode(domain, z):
        return nets[f"decoder_{domain}"](nets["shared_decoder"](z))

    means = {domain: encode(domain, x) for domain, x in images.items()}
    latents = {domain: means[domain] + noise[:, i] for i, domain in enumerate("ab")}
    other = {"a": "b", "b": "a"}
    fakes = {domain: decode(domain, latents[other[domain]]) for domain in "ab"}

    values = {}
    optimizers["d"].zero_grad()
    for domain in "ab":
        d = nets[f"d_{domain}"]
        on_real = gan_loss("lsgan", d(images[domain]), True, True)
        values[f"d_{domain}_loss"] = (on_real + gan_loss("lsgan", d(fakes[domain].detach()), False, True)) / 2
    (values["d_a_loss"] + values["d_b_loss"]).backward()
    optimizers["d"].step()

    terms = {}
    for i, domain in enumerate("ab"):
        way = f"{other[domain]}2{domain}"
        terms[f"adversarial_{way}"] = gan_loss("lsgan", nets[f"d_{domain}"](fakes[domain]), True, False)
        terms[f"reconstruction_{domain}"] = (decode(domain, latents[domain]) - images[domain]).abs().mean()
        terms[f"kl_{domain}"] = kl_from_standard_normal(means[domain])
        again = encode(other[domain], fakes[other[domain]])
        terms[f"cycle_kl_{domain}"] = kl_from_standard_normal(again)
        terms[f"cycle_{domain}"] = (decode(domain, again + noise[:, 2 + i]) - images[domain]).abs().mean()
    g_loss = sum(weights[name] * term for name, term in terms.items())
    optimizers["coders"].zero_grad()
    g_loss.backward()
    optimizers["coders"].step()
    return {name: value.item() for name, value in {**values, **terms, "g_loss": g_loss}.items()}

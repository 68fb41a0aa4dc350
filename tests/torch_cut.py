"""CUT and FastCUT in plain PyTorch, written separately from the JAX code, as the other side of the parity tests.

Images are NCHW. Places of patches and mirrored images come in as arguments. Networks are those of torch_networks.py.
"""

import torch
import torch.nn.functional as F
from torch import nn

from torch_cyclegan import gan_loss
from torch_networks import ResnetBlock


def encoded(generator, x, wanted):
    """Features by name, of a forward pass through the generator's layers: pixels, down_i and block_i, from 1."""
    found, downs, blocks = {"pixels": x}, 0, 0
    for layer in generator.body:
        x = layer(x)
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            downs += 1
            found[f"down_{downs}"] = x
        if isinstance(layer, ResnetBlock):
            blocks += 1
            found[f"block_{blocks}"] = x
    return {name: found[name] for name in wanted}


class Head(nn.Module):
    """Two linear layers with a ReLU between them, and vectors of length 1."""

    def __init__(self, channels, units):
        super().__init__()
        self.hidden, self.output = nn.Linear(channels, units), nn.Linear(units, units)

    def forward(self, x):
        x = self.output(torch.relu(self.hidden(x)))
        return x / (x.pow(2).sum(-1, keepdim=True).sqrt() + 1e-7)


def patch_nce(queries, keys, temperature):
    """Loss of queries [n, c] of one image against its keys [n, c], in the public code's form.

    The positive comes first, and its own place among the negatives is filled with -10.
    """
    positive = (queries * keys).sum(1, keepdim=True)
    negative = queries @ keys.T
    negative = negative.masked_fill(torch.eye(len(queries), dtype=torch.bool), -10.0)
    logits = torch.cat([positive, negative], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(queries), dtype=torch.long))


def nce(generator, heads, source, translated, places, mirrored, temperature):
    """Mean over images and features; `mirrored` lists the images whose translation is of the mirror image."""
    with torch.no_grad():
        keys = encoded(generator, source, heads)
    queries = encoded(generator, translated, heads)
    losses = []
    for name, head in heads.items():
        chosen = torch.as_tensor(places[name]).long()
        for i in range(len(source)):
            query = queries[name][i].flip(-1) if i in mirrored else queries[name][i]
            take = lambda feature, chosen=chosen: feature.flatten(1)[:, chosen].T  # noqa: E731
            losses.append(patch_nce(head(take(query)), head(take(keys[name][i])).detach(), temperature))
    return sum(losses) / len(losses)


def training_step(nets, heads, optimizers, a, b, weights, places, mirrored, temperature):
    """One step as in the original: first the discriminator, then generator and heads against the updated one.

    nets: g_a2b, d_b. optimizers: g, d, heads. places: by feature. Returns floats: the terms, and the objectives.
    """
    g, d = nets["g_a2b"], nets["d_b"]

    def translated(images):
        return g(torch.stack([x.flip(-1) if i in mirrored else x for i, x in enumerate(images)]))

    fake = translated(a)
    optimizers["d"].zero_grad()
    d_loss = (gan_loss("lsgan", d(b), True, True) + gan_loss("lsgan", d(fake.detach()), False, True)) / 2
    d_loss.backward()
    optimizers["d"].step()

    d.requires_grad_(False)
    terms = {"adversarial_a2b": gan_loss("lsgan", d(fake), True, False)}
    terms["nce_a"] = nce(g, heads, a, fake, places, mirrored, temperature)
    if weights["nce_b"]:
        terms["nce_b"] = nce(g, heads, b, translated(b), places, mirrored, temperature)
    g_loss = sum(weights[name] * term for name, term in terms.items())
    optimizers["g"].zero_grad(), optimizers["heads"].zero_grad()
    g_loss.backward()
    optimizers["g"].step(), optimizers["heads"].step()
    d.requires_grad_(True)
    return {name: value.item() for name, value in {**terms, "g_loss": g_loss, "d_b_loss": d_loss}.items()}

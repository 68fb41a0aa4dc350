"""Generators of CycleGAN's PyTorch implementation: the layers of torch_networks.py, under the original's names."""

from collections import OrderedDict

import jax
import numpy as np
import torch
from torch import nn

import torch_networks as reference
from genjax import parallel
from genjax.loading import load_translator

torch.set_num_threads(1)
SIZE = (16, 32)


class Block(nn.Module):
    def __init__(self, block, dropout):
        super().__init__()
        layers = list(block.body)
        self.conv_block = nn.Sequential(*layers[:4], *([nn.Dropout(0.5)] if dropout else []), *layers[4:])

    def forward(self, x):
        return x + self.conv_block(x)


class Resnet(nn.Module):
    def __init__(self, source, target, width=4, blocks=2, dropout=False):
        super().__init__()
        layers = list(reference.ResnetGenerator(source, target, width, blocks).body)
        layers = [Block(layer, dropout) if isinstance(layer, reference.ResnetBlock) else layer for layer in layers]
        self.model = nn.Sequential(*layers, nn.Tanh())

    def forward(self, x):
        return self.model(x)


class Level(nn.Module):
    """One level of the original's U-Net around what is below; the skip is what LeakyReLU, in place, makes of it."""

    def __init__(self, block):
        super().__init__()
        inner = [] if isinstance(block.submodule, nn.Identity) else [block.down_norm, Level(block.submodule)]
        self.model = nn.Sequential(
            nn.LeakyReLU(0.2, inplace=True), block.down, *inner, nn.ReLU(), block.up, block.up_norm
        )

    def forward(self, x):
        x = x.clone()
        below = self.model(x)
        return torch.cat([x, below], dim=1)


class Outermost(nn.Module):
    def __init__(self, unet):
        super().__init__()
        self.model = nn.Sequential(unet.down, Level(unet.submodule), nn.ReLU(), unet.up, nn.Tanh())

    def forward(self, x):
        return self.model(x)


class Unet(nn.Module):
    def __init__(self, source, target, depth=5, width=2):
        super().__init__()
        self.model = Outermost(reference.UnetGenerator(source, target, depth, width))

    def forward(self, x):
        return self.model(x)


def made(network, seed=0):
    """With weights large enough for every layer to matter."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.3, generator=generator)
    return network.eval()


def saved(network, path, prefix="", buffers=False, dtype=torch.float32, **options):
    """The path of a file as the original writes it."""
    state = OrderedDict((prefix + name, value.to(dtype)) for name, value in network.state_dict().items())
    if buffers:
        for name, module in network.named_modules():
            if isinstance(module, nn.InstanceNorm2d):
                state[f"{prefix}{name}.running_mean"] = torch.full((module.num_features,), 7.0)
                state[f"{prefix}{name}.running_var"] = torch.full((module.num_features,), 9.0)
                state[f"{prefix}{name}.num_batches_tracked"] = torch.tensor(266800)
    torch.save(state, path, **options)
    return str(path)


def pictures(network, images):
    """What the network makes of images [n, h, w, c] in [0, 1]."""
    with torch.no_grad():
        x = torch.tensor(np.moveaxis(2 * images - 1, -1, 1).copy())
        return (np.moveaxis(network(x).numpy(), 1, -1) + 1) / 2


def images_of(channels, size=SIZE, num=2):
    return np.random.default_rng(0).uniform(0, 1, (num, *size, channels)).astype(np.float32)


def translator_of(workdir):
    return load_translator(workdir, mesh=parallel.make_mesh(jax.devices()[:1]))


def assert_same_pictures(found, network, images, atol=1e-4):
    expected = pictures(network, images)
    assert expected.std() > 0.1 and np.abs(expected - images.mean(-1, keepdims=True)).max() > 0.3
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)

"""Numbers of PyTorch networks and images in our layouts, for parity tests."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from torch_networks import convolutions


def numbered(params, kind):
    return [params[f"{kind}_{i}"] for i in range(sum(name.startswith(f"{kind}_") for name in params))]


def layers_of(params):
    """A network's layers in the order in which data flows through them."""
    if "encoder" not in params:
        return numbered(params, "Conv")
    encoder, decoder = params["encoder"], params["decoder"]
    stem, *blocks = [*numbered(encoder, "ReflectConv"), None]
    last = numbered(decoder, "ReflectConv")
    first = [] if stem is None else [stem]
    return [*first, *numbered(encoder, "Conv"), *blocks[:-1], *numbered(decoder, "ConvTranspose"), *last]


def kernel(conv, value):
    """A PyTorch kernel as ours: HWIO, and that of a transposed convolution flipped."""
    value = value.detach().numpy()
    return (
        value[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)
        if isinstance(conv, torch.nn.ConvTranspose2d)
        else value.transpose(2, 3, 1, 0)
    )


def with_weights_of(params, module, of=lambda parameter: parameter):
    """`params` with the numbers of a PyTorch network: its weights, or what `of` finds for each."""
    params = jax.tree.map(lambda x: x, params)
    layers, theirs = layers_of(params), convolutions(module)
    assert len(layers) == len(theirs)
    for layer, conv in zip(layers, theirs, strict=True):
        new = {"kernel": jnp.array(kernel(conv, of(conv.weight))), "bias": jnp.array(of(conv.bias).detach().numpy())}
        assert {name: value.shape for name, value in new.items()} == {n: layer[n].shape for n in layer}
        layer.update(new)
    return params


def to_torch(images):
    return torch.tensor(np.moveaxis(np.asarray(images), -1, 1).copy())


def from_torch(images):
    return np.moveaxis(images.detach().numpy(), 1, -1)

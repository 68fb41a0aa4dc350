import math

import jax

from genjax import keys
from genjax.cyclegan import nets, steps
from genjax.gan import discriminators, generators
from genjax.gan.networks import DISCRIMINATORS, GENERATORS, TwoWay


def test_make_networks_takes_sizes_from_the_config(make_cyclegan):
    sizes = {"base_channels": 3, "discriminator_channels": 5}
    data, loss = {"channels": (1, 3)}, {"identity_a": 0.0, "identity_b": 0.0}
    made = nets.make_networks(make_cyclegan(cyclegan=sizes | {"num_blocks": 4}, data=data, loss=loss))
    patch = discriminators.PatchDiscriminator(5, 1)
    assert made == TwoWay(generators.resnet(3, 3, 4), generators.resnet(1, 3, 4), patch, patch)
    fields = {"generator": "unet", "num_downs": 4, "output": "residual", "discriminator": "pixel"}
    made = nets.make_networks(make_cyclegan(cyclegan=sizes | fields))
    unet, pixel = generators.unet(1, 3, 4, residual=True), discriminators.PixelDiscriminator(5)
    assert made == TwoWay(unet, unet, pixel, pixel)
    fields = {"generator_norm": "layer", "discriminator_norm": "none", "norm_affine": True}
    made = nets.make_networks(make_cyclegan(cyclegan=sizes | fields | {"num_blocks": 4}))
    resnet = generators.resnet(1, 3, 4, norm="layer", affine=True)
    patch = discriminators.PatchDiscriminator(5, 1, "none", True)
    assert made == TwoWay(resnet, resnet, patch, patch)


def test_make_networks_has_the_papers_28_million_parameters(make_cyclegan):
    sizes = {"base_channels": 64, "num_blocks": 9, "discriminator_channels": 64, "discriminator_layers": 3}
    config = make_cyclegan(data={"image_size": (256, 256), "channels": (3, 3)}, cyclegan=sizes)
    state = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    params = [getattr(state, name).params for name in (*GENERATORS, *DISCRIMINATORS)]
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == 28_285_832

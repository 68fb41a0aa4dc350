import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.cyclegan import losses
from genjax.cyclegan.config import LossConfig
from genjax.cyclegan.losses import Inputs
from genjax.gan import generators, params
from genjax.gan.terms import check_names, generator_terms, weighted_sum

ALL_TERMS = LossConfig(
    adversarial_a2b=0.7, adversarial_b2a=1.3, cycle_a=3.0, cycle_b=5.0,
    identity_a=0.5, identity_b=0.25, affine_a2b=1.5, affine_b2a=2.5,
)  # fmt: skip


def alone(name, weight):
    return dataclasses.replace(ALL_TERMS, **dict.fromkeys(losses.TERMS, 0.0) | {name: weight})


def images(shape, num=2, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, *shape))


ELEMENTS = list(range(8))


def by_definition(image, element):
    """The transform of one image [h, w, c], in NumPy."""
    image = image.transpose(1, 0, 2) if element & 1 else image
    image = np.flipud(image) if element & 2 else image
    return np.fliplr(image) if element & 4 else image


def transformed(batch, elements):
    return np.asarray(losses.dihedral(jnp.asarray(batch), jnp.asarray(elements)))


def test_dihedral_is_the_group_of_the_square():
    image = images((5, 5, 2))[0].astype(np.float32)
    eight = transformed(np.stack([image] * 8), ELEMENTS)
    for element in ELEMENTS:
        np.testing.assert_array_equal(eight[element], by_definition(image, element))
    assert len({one.tobytes() for one in eight}) == 8
    np.testing.assert_array_equal(eight[0], image)
    # They are the quarter turns of the image and of its mirror image, so a group.
    turns = {np.rot90(mirrored, turn).tobytes() for mirrored in (image, image[:, ::-1]) for turn in range(4)}
    assert {one.tobytes() for one in eight} == turns
    # Each transform of each transform is one of them again, and each is undone by exactly one.
    table = transformed(np.repeat(eight, 8, axis=0), ELEMENTS * 8)
    numbers = {one.tobytes(): element for element, one in enumerate(eight)}
    table = np.array([numbers[one.tobytes()] for one in table]).reshape(8, 8)
    assert all(sorted(line) == ELEMENTS for line in (*table.tolist(), *table.T.tolist()))


def test_dihedral_keeps_the_shape_of_other_images():
    batch = images((3, 5, 2), 8).astype(np.float32)
    found = transformed(batch, ELEMENTS)
    for element in ELEMENTS:
        np.testing.assert_array_equal(found[element], by_definition(batch[element], element & ~1))


class Recorded:
    """Simple functions in place of the networks, and what was asked of them."""

    def __init__(self, size):
        self.ramp = np.arange(np.prod(size), dtype=float).reshape(1, *size, 1) / np.prod(size)
        self.calls = []

    def to_b(self, x):
        self.calls.append("to_b")
        return 0.8 * (x + self.ramp)

    def to_a(self, x):
        self.calls.append("to_a")
        return -0.4 * (x + self.ramp)

    def d_a(self, x):
        self.calls.append("d_a")
        return 3 * x

    def d_b(self, x):
        self.calls.append("d_b")
        return 2 * x


def inputs(weights, nets, a, b, element):
    a, b = jnp.array(a), jnp.array(b)
    n = Inputs(weights, a, b, nets.to_a(b), nets.to_b(a), nets.to_a, nets.to_b, nets.d_a, nets.d_b, jnp.array(element))
    nets.calls.clear()
    return n


@pytest.mark.parametrize("size", [(4, 4), (2, 6)], ids=str)
def test_g_loss_is_the_weighted_sum_of_terms(x64, size):
    nets = Recorded(size)
    a, b = images((*size, 1), seed=1), images((*size, 1), seed=2)
    elements = [6, 5] if size == (4, 4) else [6, 4]
    to_a, to_b = nets.to_a, nets.to_b

    def mean(x):
        return x.mean(axis=(1, 2, 3))

    def turned(batch):
        return np.stack([by_definition(image, element) for image, element in zip(batch, elements, strict=True)])

    expected = {
        "adversarial_a2b": mean((2 * to_b(a) - 1) ** 2),  # d_b sees translations into B
        "adversarial_b2a": mean((3 * to_a(b) - 1) ** 2),
        "cycle_a": mean(np.abs(to_a(to_b(a)) - a)),
        "cycle_b": mean(np.abs(to_b(to_a(b)) - b)),
        "identity_a": mean(np.abs(to_a(a) - a)),
        "identity_b": mean(np.abs(to_b(b) - b)),
        "affine_a2b": mean(np.abs(turned(to_b(a)) - to_b(turned(a)))),
        "affine_b2a": mean(np.abs(turned(to_a(b)) - to_a(turned(b)))),
    }
    terms = generator_terms(inputs(ALL_TERMS, nets, a, b, elements), losses.TERMS)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert value.shape == (2,) and value.min() > 0.05  # otherwise the weights below would not show
        np.testing.assert_allclose(terms[name], value, rtol=1e-12, err_msg=name)
    total = sum(getattr(ALL_TERMS, name) * value for name, value in expected.items())
    np.testing.assert_allclose(weighted_sum(ALL_TERMS, terms), total, rtol=1e-12)
    for name in expected:  # each alone, by its weight
        weights = alone(name, 3.0)
        terms = generator_terms(inputs(weights, nets, a, b, elements), losses.TERMS)
        assert list(terms) == [name]
        np.testing.assert_allclose(weighted_sum(weights, terms), 3 * expected[name], rtol=1e-12, err_msg=name)


def test_generator_terms_skips_terms_of_weight_0():
    asked = {
        "adversarial_a2b": ["d_b"], "adversarial_b2a": ["d_a"], "cycle_a": ["to_a"], "cycle_b": ["to_b"],
        "identity_a": ["to_a"], "identity_b": ["to_b"], "affine_a2b": ["to_b"], "affine_b2a": ["to_a"],
    }  # fmt: skip
    nets, ones = Recorded((4, 4)), jnp.ones((2, 4, 4, 1))
    for name, calls in asked.items():
        generator_terms(inputs(alone(name, 1.0), nets, ones, ones, [1, 2]), losses.TERMS)
        assert nets.calls == calls, name
    for weights in (losses.CLASSIC, losses.MISSION):
        terms = generator_terms(inputs(weights, nets, ones, ones, [1, 2]), losses.TERMS)
        assert len(nets.calls) == len(terms) == 6


def test_every_term_has_a_weight():
    weights = {field.name for field in dataclasses.fields(LossConfig)}
    assert losses.TERMS.keys() <= weights
    assert weights - losses.TERMS.keys() == {
        "adversarial", "gradient_penalty", "r1", "label_smoothing", "semantic_noise", "perceptual_features",
        "perceptual_sha256",
    }  # fmt: skip


def test_named_weights_are_those_of_the_papers():
    classic, mission = (
        {name: weight for name in losses.TERMS if (weight := getattr(weights, name))}
        for weights in (losses.CLASSIC, losses.MISSION)
    )
    adversarial, cycle = ("adversarial_a2b", "adversarial_b2a"), ("cycle_a", "cycle_b")
    identity, affine = ("identity_a", "identity_b"), ("affine_a2b", "affine_b2a")
    assert classic == dict.fromkeys(adversarial, 1) | dict.fromkeys(cycle, 10) | dict.fromkeys(identity, 5)
    assert mission == dict.fromkeys(adversarial, 0.1) | dict.fromkeys(cycle, 1) | dict.fromkeys(affine, 1)
    assert losses.CLASSIC.adversarial == losses.MISSION.adversarial == "lsgan"
    pix2pix = {name: weight for name in losses.TERMS if (weight := getattr(losses.PIX2PIX, name))}
    assert pix2pix == dict.fromkeys(adversarial, 1) | {"paired": 100} and losses.PIX2PIX.adversarial == "vanilla"


def test_generator_terms_refuse_names_that_do_not_match():
    with pytest.raises(ValueError, match="loss term tv has no weight: add a field tv to the LossConfig"):
        check_names(losses.CLASSIC, {**losses.TERMS, "tv": lambda n: n.a}, LossConfig)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class MyLoss(LossConfig):
        tv: float = 0.0

    with pytest.raises(ValueError, match=r"loss.tv has no term of that name: give it to make_task"):
        check_names(MyLoss(**vars(losses.CLASSIC)), losses.TERMS, LossConfig)


def test_residual_identity_has_no_loss_but_adversarial():
    weights = dataclasses.replace(ALL_TERMS, adversarial_a2b=0.0, adversarial_b2a=0.0)
    generator = generators.resnet(1, 1, 0, residual=True)
    rng = np.random.default_rng(0)
    shapes = params.shapes(generator, (8, 8, 1))
    moving = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)
    still = jax.tree.map(lambda leaf: leaf, moving)
    still["decoder"]["ReflectConv_0"] = jax.tree.map(np.zeros_like, moving["decoder"]["ReflectConv_0"])
    a, b = (images((8, 8, 1), seed=seed).astype(np.float32) for seed in (1, 2))

    def terms(given, a, b, element):
        def translate(x):
            return params.apply(generator, given, x)

        n = Inputs(weights, a, b, translate(b), translate(a), translate, translate, None, None, element)
        return generator_terms(n, losses.TERMS)

    terms = jax.jit(terms, compiler_options={"xla_backend_optimization_level": 0})
    for value in terms(still, a, b, np.array([3, 6])).values():
        np.testing.assert_array_equal(value, np.zeros(2))
    # Other weights change images, and do it differently to an image that is turned.
    moved = terms(moving, a, b, np.array([3, 6]))
    assert len(moved) == 6
    for name, value in moved.items():
        assert np.all(value > 0.01), name
    unturned = terms(moving, a, b, np.array([0, 6]))
    np.testing.assert_allclose(unturned["affine_a2b"][0], 0, atol=1e-6)
    np.testing.assert_allclose(unturned["affine_a2b"][1], moved["affine_a2b"][1], rtol=1e-4)


def test_paired_is_the_l1_of_both_translations():
    a, b, fake_a, fake_b = (images((4, 4, 1), seed=seed) for seed in range(4))
    found = losses.paired(losses.Pairs(a, b, fake_a, fake_b))
    np.testing.assert_allclose(found, (np.abs(fake_b - b) + np.abs(fake_a - a)).mean(axis=(1, 2, 3)), rtol=1e-6)
    with pytest.raises(ValueError, match="the loss paired needs known pairs"):
        losses.paired(None)


def test_keep_costs_change_outside_the_mask():
    a, b, fake_a, fake_b = (images((4, 4, 2), seed=seed) for seed in range(4))
    nets, weights = Recorded((4, 4)), alone("keep", 1.0)
    n = inputs(weights, nets, a, b, [1, 2])._replace(fake_a=jnp.array(fake_a), fake_b=jnp.array(fake_b))
    change_a, change_b = np.abs(fake_b - a), np.abs(fake_a - b)
    (found,) = generator_terms(n, losses.TERMS).values()
    np.testing.assert_allclose(found, (change_a + change_b).mean(axis=(1, 2, 3)), rtol=1e-6)
    kept = np.ones((2, 4, 4, 1))
    kept[:, 1:3] = 0
    (found,) = generator_terms(n._replace(kept_a=kept, kept_b=1 - kept), losses.TERMS).values()
    expected = (change_a[:, [0, 3]].sum((1, 2, 3)) + change_b[:, 1:3].sum((1, 2, 3))) / 32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    grad = jax.grad(lambda fake: losses.keep(jnp.array(kept), n.a, fake).sum())(n.fake_b)
    assert not np.asarray(grad)[:, 1:3].any() and np.abs(np.asarray(grad)[:, [0, 3]]).min() > 0


def test_conditional_discriminators_see_image_and_translation():
    """Each gets what is translated first, so d_b sees a and G(a)."""
    nets, (a, b) = Recorded((4, 4)), (images((4, 4, 1), seed=seed) for seed in (1, 2))
    seen = []
    n = inputs(alone("adversarial_a2b", 1.0), nets, a, b, [1, 2])
    n = n._replace(judge=losses.beside, d_b=lambda pair: seen.append(pair) or pair)
    generator_terms(n, losses.TERMS)
    np.testing.assert_array_equal(seen[0][..., :1], n.a)
    np.testing.assert_array_equal(seen[0][..., 1:], n.fake_b)

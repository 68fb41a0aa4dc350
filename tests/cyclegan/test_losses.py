import dataclasses
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.cyclegan import losses, nets
from genjax.cyclegan.config import LossConfig

LOG2 = math.log(2)
ALL_TERMS = LossConfig(
    adversarial_a2b=0.7, adversarial_b2a=1.3, cycle_a=3.0, cycle_b=5.0,
    identity_a=0.5, identity_b=0.25, affine_a2b=1.5, affine_b2a=2.5,
)  # fmt: skip
NO_TERMS = dataclasses.replace(ALL_TERMS, **{name: 0.0 for name in losses.GeneratorTerms._fields if name != "total"})


def of_kind(kind, weights=ALL_TERMS):
    return dataclasses.replace(weights, adversarial=kind)


# For two examples with logits 1, -3 and 0, 2.
FOOLING = {
    "lsgan": [8, 1],
    "vanilla": [(math.log1p(math.exp(-1)) + math.log1p(math.exp(3))) / 2, (LOG2 + math.log1p(math.exp(-2))) / 2],
    "hinge": [1, -1],
    "wgan_gp": [1, -1],
}
# For two examples with logits 2, 0 and -1, 1 on real, and 1, -3 and 0, 2 on translated images.
JUDGING = {
    "lsgan": [(1 + 5) / 2, (2 + 2) / 2],
    "vanilla": [
        (math.log1p(math.exp(-2)) + LOG2 + math.log1p(math.exp(1)) + math.log1p(math.exp(-3))) / 4,
        (math.log1p(math.exp(1)) + math.log1p(math.exp(-1)) + LOG2 + math.log1p(math.exp(2))) / 4,
    ],
    "hinge": [(0.5 + 1) / 2, (1 + 2) / 2],
    "wgan_gp": [(-1 - 1) / 2, (1 - 0) / 2],
}
REAL = np.array([[2.0, 0.0], [-1.0, 1.0]]).reshape(2, 2, 1, 1)
FAKE = np.array([[1.0, -3.0], [0.0, 2.0]]).reshape(2, 2, 1, 1)


@pytest.mark.parametrize("kind", FOOLING)
def test_adversarial_losses_by_hand(x64, kind):
    config = of_kind(kind)
    found = losses.adversarial_generator(config, jnp.array(FAKE))
    np.testing.assert_allclose(found, FOOLING[kind], rtol=1e-12)
    found = losses.adversarial_discriminator(config, jnp.array(REAL), jnp.array(FAKE))
    np.testing.assert_allclose(found, JUDGING[kind], rtol=1e-12)


SMOOTHED = {  # by 0.2, for the same logits on real images; those on translated ones and the generators' loss stay
    "lsgan": [(1.2**2 + 0.8**2) / 2, (1.8**2 + 0.2**2) / 2],
    "vanilla": [
        (0.8 * (math.log1p(math.exp(-2)) + LOG2) + 0.2 * (math.log1p(math.exp(2)) + LOG2)) / 2,
        (0.8 * math.log1p(math.exp(1)) + 0.8 * math.log1p(math.exp(-1))
         + 0.2 * math.log1p(math.exp(-1)) + 0.2 * math.log1p(math.exp(1))) / 2,
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", SMOOTHED)
def test_label_smoothing_lowers_the_target_of_real_images_alone(x64, kind):
    plain, config = of_kind(kind), dataclasses.replace(of_kind(kind), label_smoothing=0.2)
    real, fake = jnp.array(REAL), jnp.array(FAKE)
    found = losses.adversarial_discriminator(config, real, fake)
    none = {"lsgan": jnp.zeros_like(fake), "vanilla": jnp.full_like(fake, -1e4)}[kind]  # costs nothing
    np.testing.assert_allclose(2 * losses.adversarial_discriminator(config, real, none), SMOOTHED[kind], rtol=1e-12)
    rest = losses.adversarial_discriminator(plain, real, fake) - losses.adversarial_discriminator(plain, real, none)
    np.testing.assert_allclose(found - np.array(SMOOTHED[kind]) / 2, rest, rtol=1e-12)
    np.testing.assert_array_equal(losses.adversarial_generator(config, fake), losses.adversarial_generator(plain, fake))


@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_the_logistic_loss_does_not_saturate_and_is_finite(logit):
    logits = jnp.full((1, 2, 2, 1), logit)

    def fooling(x):
        return jnp.sum(losses.adversarial_generator(of_kind("vanilla"), x))

    def judging(x):
        return jnp.sum(losses.adversarial_discriminator(of_kind("vanilla"), x, -x))

    assert float(fooling(logits)) == float(judging(logits)) == max(0, -logit)
    np.testing.assert_allclose(jnp.sum(jax.grad(fooling)(logits)), -1.0 if logit < 0 else 0.0)
    np.testing.assert_allclose(jnp.sum(jax.grad(judging)(logits)), -1.0 if logit < 0 else 0.0)


def test_l1_is_the_mean_over_an_example():
    x, y = np.zeros((2, 2, 3, 1)), np.zeros((2, 2, 3, 1))
    x[0, 0, 0], y[0, 1, 1], y[1] = 6, -3, 0.5
    assert losses.l1(jnp.array(x), jnp.array(y)).tolist() == [1.5, 0.5]


def images(shape, num=2, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, *shape))


def test_gradient_penalty_of_a_linear_critic_is_its_norms_distance_from_1(x64):
    weights = images((4, 5, 3), 1)
    critics = (lambda x: x * weights, lambda x: jnp.sum(x * weights, (1, 2, 3)) + 7)  # a map of logits, and one logit
    real, fake, fraction = images((4, 5, 3), seed=1), images((4, 5, 3), seed=2), jnp.array([0.0, 0.3])
    for logits in critics:
        found = losses.gradient_penalty(logits, jnp.array(real), jnp.array(fake), fraction)
        np.testing.assert_allclose(found, [(np.linalg.norm(weights) - 1) ** 2] * 2, rtol=1e-12)


def test_gradient_penalty_is_taken_between_the_images(x64):
    """A quadratic critic, whose slope is the image itself."""
    real, fake, fraction = images((2, 3, 1), 3, 1), images((2, 3, 1), 3, 2), np.array([0.0, 0.25, 1.0])
    between = np.stack([f * r + (1 - f) * g for f, r, g in zip(fraction, real, fake, strict=True)])
    expected = (np.sqrt((between**2).sum((1, 2, 3))) - 1) ** 2
    found = losses.gradient_penalty(lambda x: x**2 / 2, jnp.array(real), jnp.array(fake), jnp.array(fraction))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_gradient_penalty_of_a_constant_critic_is_1_with_a_finite_gradient():
    real, fake, fraction = jnp.zeros((2, 3, 3, 1)), jnp.ones((2, 3, 3, 1)), jnp.full(2, 0.5)

    def penalty(weights):
        return jnp.sum(losses.gradient_penalty(lambda x: x * weights, real, fake, fraction))

    value, grads = jax.value_and_grad(penalty)(jnp.zeros((1, 3, 3, 1)))
    assert float(value) == 2 and np.isfinite(grads).all()


def test_only_wgan_gp_has_a_penalty_and_by_its_weight(monkeypatch, x64):
    def discriminate(config, params, x):
        assert config.cyclegan == "networks"
        return x * params

    monkeypatch.setattr(nets, "discriminate", discriminate)
    real, fake, weights = images((2, 2, 1), 3, 1), images((2, 2, 1), 3, 2), np.full((1, 2, 2, 1), 3.0)
    for kind in FOOLING:
        loss = dataclasses.replace(of_kind(kind), gradient_penalty=7.0)
        config = SimpleNamespace(loss=loss, cyclegan="networks")
        given = jnp.array(weights), jnp.array(real), jnp.array(fake), jnp.zeros(3)
        found, logits = losses.discriminator_loss(config, *given)
        np.testing.assert_allclose(logits, (3 * real, 3 * fake), rtol=1e-12)
        expected = losses.adversarial_discriminator(loss, jnp.array(3 * real), jnp.array(3 * fake))
        penalty = 0.5 * 7 * (6 - 1) ** 2 if kind == "wgan_gp" else 0  # four weights of 3 are a vector of norm 6
        np.testing.assert_allclose(found, expected + penalty, rtol=1e-12)


def test_r1_of_a_linear_critic_is_half_gamma_times_its_squared_norm(monkeypatch, x64):
    """Whatever the images, at real ones alone; and half of it, as of all that a discriminator minimises."""
    weights = images((2, 3, 1), 1)
    monkeypatch.setattr(nets, "judge", lambda config, params, x: x * params)
    real, fake = jnp.array(images((2, 3, 1), 3, 1)), jnp.array(images((2, 3, 1), 3, 2))

    def loss(gamma, kind, params):
        config = SimpleNamespace(loss=dataclasses.replace(of_kind(kind), r1=gamma))
        return losses.discriminator_loss(config, params, real, fake, jnp.zeros(3))[0]

    for kind in FOOLING:
        found = loss(3.0, kind, jnp.array(weights)) - loss(0.0, kind, jnp.array(weights))
        np.testing.assert_allclose(found, [0.5 * 3 / 2 * (weights**2).sum()] * 3, rtol=1e-9)


def test_r1_is_taken_at_real_images_and_trains_the_discriminator(x64):
    """The slope of a cubic critic, and the derivative of its square by the critic's weight."""
    real = images((2, 3, 1), 3, 1)

    def penalty(weight):
        return losses.r1_penalty(lambda x: weight * x**3, jnp.array(real))

    slope = 3 * real**2
    np.testing.assert_allclose(penalty(2.0), 4 * (slope**2).sum((1, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(jax.jacobian(penalty)(2.0), 4 * (slope**2).sum((1, 2, 3)), rtol=1e-12)
    constant = jax.grad(lambda weight: jnp.sum(penalty(weight)))(0.0)
    assert float(constant) == 0  # finite where the critic is flat


ELEMENTS = list(range(8))


def by_definition(image, element):
    """The transform of one image [h, w, c], in NumPy."""
    image = image.transpose(1, 0, 2) if element & 1 else image
    image = np.flipud(image) if element & 2 else image
    return np.fliplr(image) if element & 4 else image


def transformed(batch, elements):
    return np.asarray(losses.dihedral(jnp.asarray(batch), jnp.asarray(elements)))


def test_dihedral_transforms_are_the_group_of_the_square():
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


def test_dihedral_transforms_of_other_images_keep_their_shape():
    batch = images((3, 5, 2), 8).astype(np.float32)
    found = transformed(batch, ELEMENTS)
    for element in ELEMENTS:
        np.testing.assert_array_equal(found[element], by_definition(batch[element], element & ~1))


class Recorded:
    """Stand-ins for the networks: p * x plus a picture for p, and logits q * x; and what was asked of them."""

    def __init__(self, monkeypatch, size):
        height, width = size
        self.ramp = np.arange(height * width, dtype=float).reshape(1, height, width, 1) / (height * width)
        self.translated, self.judged = [], []
        monkeypatch.setattr(nets, "generate", self.generate)
        monkeypatch.setattr(nets, "judge", self.judge)

    def generate(self, config, direction, params, x):
        self.translated.append(direction)
        return params * x + params * self.ramp

    def discriminate(self, config, params, x):
        self.judged.append(float(params))
        return params * x


GENERATORS, DISCRIMINATORS = {"g_a2b": 0.8, "g_b2a": -0.4}, {"d_a": 3.0, "d_b": 2.0}


@pytest.mark.parametrize("size", [(4, 4), (2, 6)], ids=str)
def test_the_objective_is_the_weighted_sum_of_its_terms(make_cyclegan, monkeypatch, x64, size):
    recorded = Recorded(monkeypatch, size)
    a, b = images((*size, 1), seed=1), images((*size, 1), seed=2)
    elements = [6, 5] if size == (4, 4) else [6, 4]

    def to_b(x):
        return 0.8 * (x + recorded.ramp)

    def to_a(x):
        return -0.4 * (x + recorded.ramp)

    def mean(x):
        return x.mean(axis=(1, 2, 3))

    def turned(batch):
        return np.stack([by_definition(image, element) for image, element in zip(batch, elements, strict=True)])

    expected = {
        "adversarial_a2b": mean((2 * to_b(a) - 1) ** 2),  # d_b judges translations into B
        "adversarial_b2a": mean((3 * to_a(b) - 1) ** 2),
        "cycle_a": mean(np.abs(to_a(to_b(a)) - a)),
        "cycle_b": mean(np.abs(to_b(to_a(b)) - b)),
        "identity_a": mean(np.abs(to_a(a) - a)),
        "identity_b": mean(np.abs(to_b(b) - b)),
        "affine_a2b": mean(np.abs(turned(to_b(a)) - to_b(turned(a)))),
        "affine_b2a": mean(np.abs(turned(to_a(b)) - to_a(turned(b)))),
    }
    config = make_cyclegan(loss=ALL_TERMS)
    given = GENERATORS, DISCRIMINATORS, jnp.array(a), jnp.array(b), jnp.array(elements)
    terms, fake = losses.generator_terms(config, *given)
    np.testing.assert_allclose(fake.a, to_a(b), rtol=1e-12)
    np.testing.assert_allclose(fake.b, to_b(a), rtol=1e-12)
    for name, value in expected.items():
        assert value.shape == (2,) and value.min() > 0.05  # otherwise the weights below would not show
        np.testing.assert_allclose(getattr(terms, name), value, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(terms.total, sum(getattr(ALL_TERMS, n) * v for n, v in expected.items()), rtol=1e-12)

    for name in expected:  # each alone, by its weight
        config = make_cyclegan(loss=dataclasses.replace(NO_TERMS, **{name: 3.0}))
        terms, _ = losses.generator_terms(config, *given)
        np.testing.assert_allclose(terms.total, 3 * expected[name], rtol=1e-12, err_msg=name)
        assert [n for n in expected if np.any(getattr(terms, n))] == [name]


def test_terms_of_weight_0_are_not_computed(make_cyclegan, monkeypatch):
    """Two translations always; then one for each cycle, identity and affine term, and a judgement for each other."""
    given = GENERATORS, DISCRIMINATORS, jnp.ones((2, 4, 4, 1)), jnp.ones((2, 4, 4, 1)), jnp.array([1, 2])
    asked = {  # beyond both translations: which translations, and by which discriminator
        "adversarial_a2b": ([], [2.0]), "adversarial_b2a": ([], [3.0]),
        "cycle_a": (["b2a"], []), "cycle_b": (["a2b"], []), "identity_a": (["b2a"], []), "identity_b": (["a2b"], []),
        "affine_a2b": (["a2b"], []), "affine_b2a": (["b2a"], []),
    }  # fmt: skip
    for name, (translations, judgements) in asked.items():
        recorded = Recorded(monkeypatch, (4, 4))
        losses.generator_terms(make_cyclegan(loss=dataclasses.replace(NO_TERMS, **{name: 1.0})), *given)
        assert sorted(recorded.translated) == sorted(["a2b", "b2a", *translations]), name
        assert recorded.judged == judgements, name
    for weights, translations, judgements in ((NO_TERMS, 2, 0), (losses.CLASSIC, 6, 2), (losses.MISSION, 6, 2)):
        recorded = Recorded(monkeypatch, (4, 4))
        losses.generator_terms(make_cyclegan(loss=weights), *given)
        assert (len(recorded.translated), len(recorded.judged)) == (translations, judgements)


def test_named_weights():
    classic, mission = (dataclasses.asdict(weights) for weights in (losses.CLASSIC, losses.MISSION))
    reference = {
        "adversarial_a2b": 1, "adversarial_b2a": 1, "cycle_a": 10, "cycle_b": 10, "identity_a": 5, "identity_b": 5,
        "affine_a2b": 0, "affine_b2a": 0, "semantic_a2b": 0, "semantic_b2a": 0, "semantic_noise": 0,
        "r1": 0, "label_smoothing": 0,
    }  # fmt: skip
    assert classic == {"adversarial": "lsgan", "gradient_penalty": 10, **reference}
    rest = {"identity_a": 0, "identity_b": 0, "affine_a2b": 1, "affine_b2a": 1}
    balance = {name: value / 10 for name, value in reference.items() if name not in rest}
    assert mission == {"adversarial": "lsgan", "gradient_penalty": 10, **balance, **rest}


def test_a_residual_generator_that_begins_as_the_identity_has_only_adversarial_losses(make_cyclegan):
    weights = dataclasses.replace(ALL_TERMS, adversarial_a2b=0.0, adversarial_b2a=0.0)
    fields = {"output": "residual", "base_channels": 1, "num_blocks": 0}
    config = make_cyclegan(loss=weights, data={"image_size": (8, 8)}, cyclegan=fields)
    shapes = jax.eval_shape(lambda: nets.init_generator(config, "a2b", keys.root_key(0)))
    rng = np.random.default_rng(0)
    moving = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)
    still = jax.tree.map(lambda leaf: leaf, moving)
    still["decoder"]["ReflectConv_0"] = jax.tree.map(np.zeros_like, moving["decoder"]["ReflectConv_0"])
    a, b = (images((8, 8, 1), seed=seed).astype(np.float32) for seed in (1, 2))

    def terms(generator, a, b, element):
        generators = {"g_a2b": generator, "g_b2a": generator}
        return losses.generator_terms(config, generators, {"d_a": None, "d_b": None}, a, b, element)[0]

    terms = jax.jit(terms, compiler_options={"xla_backend_optimization_level": 0})
    for value in terms(still, a, b, np.array([3, 6])):
        np.testing.assert_array_equal(value, np.zeros(2))
    # Other weights change images, and do it differently to an image that is turned.
    moved = terms(moving, a, b, np.array([3, 6]))
    for name in ("cycle_a", "cycle_b", "identity_a", "identity_b", "affine_a2b", "affine_b2a"):
        assert np.all(getattr(moved, name) > 0.01), name
    unturned = terms(moving, a, b, np.array([0, 6]))
    np.testing.assert_allclose(unturned.affine_a2b[0], 0, atol=1e-6)
    np.testing.assert_allclose(unturned.affine_a2b[1], moved.affine_a2b[1], rtol=1e-4)

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.gan import adversarial
from genjax.gan.adversarial import AdversarialConfig, Logits

LOG2 = math.log(2)


def of_kind(kind, **fields):
    return AdversarialConfig(adversarial=kind, **fields)


# For two examples with logits 1, -3 and 0, 2.
FOOLING = {
    "lsgan": [8, 1],
    "vanilla": [(math.log1p(math.exp(-1)) + math.log1p(math.exp(3))) / 2, (LOG2 + math.log1p(math.exp(-2))) / 2],
    "hinge": [1, -1],
    "wgan_gp": [1, -1],
}
# For two examples with logits 2, 0 and -1, 1 on real, and 1, -3 and 0, 2 on translated images.
DISCRIMINATING = {
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
def test_losses_equal_values_by_hand(x64, kind):
    config = of_kind(kind)
    found = adversarial.generator_loss(config, jnp.array(FAKE))
    np.testing.assert_allclose(found, FOOLING[kind], rtol=1e-12)
    found = adversarial.real_fake_loss(config, jnp.array(REAL), jnp.array(FAKE))
    np.testing.assert_allclose(found, DISCRIMINATING[kind], rtol=1e-12)


SMOOTHED = {  # by 0.2, for the same logits on real images; those on translated ones and the generators' loss stay
    "lsgan": [(1.2**2 + 0.8**2) / 2, (1.8**2 + 0.2**2) / 2],
    "vanilla": [
        (0.8 * (math.log1p(math.exp(-2)) + LOG2) + 0.2 * (math.log1p(math.exp(2)) + LOG2)) / 2,
        (0.8 * math.log1p(math.exp(1)) + 0.8 * math.log1p(math.exp(-1))
         + 0.2 * math.log1p(math.exp(-1)) + 0.2 * math.log1p(math.exp(1))) / 2,
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", SMOOTHED)
def test_real_fake_loss_smooths_real_targets_alone(x64, kind):
    plain, config = of_kind(kind), of_kind(kind, label_smoothing=0.2)
    real, fake = jnp.array(REAL), jnp.array(FAKE)
    found = adversarial.real_fake_loss(config, real, fake)
    none = {"lsgan": jnp.zeros_like(fake), "vanilla": jnp.full_like(fake, -1e4)}[kind]  # costs nothing
    np.testing.assert_allclose(2 * adversarial.real_fake_loss(config, real, none), SMOOTHED[kind], rtol=1e-12)
    rest = adversarial.real_fake_loss(plain, real, fake) - adversarial.real_fake_loss(plain, real, none)
    np.testing.assert_allclose(found - np.array(SMOOTHED[kind]) / 2, rest, rtol=1e-12)
    np.testing.assert_array_equal(adversarial.generator_loss(config, fake), adversarial.generator_loss(plain, fake))


@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_vanilla_losses_are_finite_and_do_not_saturate(logit):
    logits = jnp.full((1, 2, 2, 1), logit)

    def fooling(x):
        return jnp.sum(adversarial.generator_loss(of_kind("vanilla"), x))

    def discriminating(x):
        return jnp.sum(adversarial.real_fake_loss(of_kind("vanilla"), x, -x))

    assert float(fooling(logits)) == float(discriminating(logits)) == max(0, -logit)
    np.testing.assert_allclose(jnp.sum(jax.grad(fooling)(logits)), -1.0 if logit < 0 else 0.0)
    np.testing.assert_allclose(jnp.sum(jax.grad(discriminating)(logits)), -1.0 if logit < 0 else 0.0)


def images(shape, num=2, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, *shape))


def test_gradient_penalty_of_a_linear_discriminator(x64):
    weights = images((4, 5, 3), 1)
    discriminators = (
        lambda x: x * weights,
        lambda x: jnp.sum(x * weights, (1, 2, 3)) + 7,
    )  # a map of logits, and one logit
    real, fake, fraction = images((4, 5, 3), seed=1), images((4, 5, 3), seed=2), jnp.array([0.0, 0.3])
    for logits in discriminators:
        found = adversarial.gradient_penalty(logits, jnp.array(real), jnp.array(fake), fraction)
        np.testing.assert_allclose(found, [(np.linalg.norm(weights) - 1) ** 2] * 2, rtol=1e-12)


def test_gradient_penalty_is_taken_between_images(x64):
    """For a quadratic discriminator, whose gradient is the image itself."""
    real, fake, fraction = images((2, 3, 1), 3, 1), images((2, 3, 1), 3, 2), np.array([0.0, 0.25, 1.0])
    between = np.stack([f * r + (1 - f) * g for f, r, g in zip(fraction, real, fake, strict=True)])
    expected = (np.sqrt((between**2).sum((1, 2, 3))) - 1) ** 2
    found = adversarial.gradient_penalty(lambda x: x**2 / 2, jnp.array(real), jnp.array(fake), jnp.array(fraction))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_gradient_penalty_of_a_constant_has_finite_gradient():
    real, fake, fraction = jnp.zeros((2, 3, 3, 1)), jnp.ones((2, 3, 3, 1)), jnp.full(2, 0.5)

    def penalty(weights):
        return jnp.sum(adversarial.gradient_penalty(lambda x: x * weights, real, fake, fraction))

    value, grads = jax.value_and_grad(penalty)(jnp.zeros((1, 3, 3, 1)))
    assert float(value) == 2 and np.isfinite(grads).all()


@pytest.mark.parametrize("kind", FOOLING)
def test_discriminator_loss_adds_gradient_penalty_for_wgan_gp(x64, kind):
    weight = 7.0 if kind == "wgan_gp" else 10.0  # others refuse the weight that has no effect
    real, fake = (jnp.array(images((2, 2, 1), 3, seed)) for seed in (1, 2))
    config = of_kind(kind, gradient_penalty=weight)
    found, logits = adversarial.discriminator_loss(config, lambda x: 3 * x, real, fake, jnp.zeros(3))
    np.testing.assert_allclose(logits, (3 * real, 3 * fake), rtol=1e-12)
    expected = adversarial.real_fake_loss(config, 3 * real, 3 * fake)
    penalty = 0.5 * 7 * (6 - 1) ** 2 if kind == "wgan_gp" else 0  # four weights of 3 are a vector of norm 6
    np.testing.assert_allclose(found, expected + penalty, rtol=1e-12)


@pytest.mark.parametrize("kind", FOOLING)
def test_discriminator_loss_adds_r1_at_real_images(x64, kind):
    """Half of gamma / 2 times the squared norm of a linear discriminator, as half of all that it minimises."""
    weights = images((2, 3, 1), 1)
    real, fake = jnp.array(images((2, 3, 1), 3, 1)), jnp.array(images((2, 3, 1), 3, 2))

    def loss(gamma):
        config = of_kind(kind, r1=gamma)
        return adversarial.discriminator_loss(config, lambda x: x * weights, real, fake, jnp.zeros(3))[0]

    np.testing.assert_allclose(loss(3.0) - loss(0.0), [0.5 * 3 / 2 * (weights**2).sum()] * 3, rtol=1e-9)


def test_r1_penalty_is_squared_gradient_at_images(x64):
    """For a cubic discriminator; and the derivative of the penalty with respect to its weight."""
    real = images((2, 3, 1), 3, 1)

    def penalty(weight):
        return adversarial.r1_penalty(lambda x: weight * x**3, jnp.array(real))

    grad = 3 * real**2
    np.testing.assert_allclose(penalty(2.0), 4 * (grad**2).sum((1, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(jax.jacobian(penalty)(2.0), 4 * (grad**2).sum((1, 2, 3)), rtol=1e-12)
    constant = jax.grad(lambda weight: jnp.sum(penalty(weight)))(0.0)
    assert float(constant) == 0  # finite where the critic is flat


@pytest.mark.parametrize(
    ("kind", "smoothing", "real", "fake"),
    [
        ("lsgan", 0.0, 0.5, 0.5),
        ("lsgan", 0.2, 0.4, 0.4),
        ("vanilla", 0.0, 0.0, 0.0),
        ("vanilla", 0.2, math.log(0.4 / 0.6), math.log(0.4 / 0.6)),
        ("hinge", 0.0, 0.0, 0.0),
    ],
)
def test_accuracy_uses_threshold_between_targets(kind, smoothing, real, fake):
    config = of_kind(kind, label_smoothing=smoothing)
    around = np.array([-0.01, 0.01, 0.02, 5.0]).reshape(1, 2, 2, 1)
    found = adversarial.accuracy(config, Logits(jnp.asarray(real + around), jnp.asarray(fake - 9 * around)))
    assert found == 0.75  # three of four each
    assert adversarial.accuracy(config, Logits(jnp.asarray(real - around), jnp.asarray(fake - around))) == 0.5


def test_accuracy_of_wgan_gp_ranks_real_above_fake():
    config = of_kind("wgan_gp")
    real, fake = (jnp.array(values).reshape(4, 1, 1, 1) for values in ([7.0, 8.0, 9.0, 1.0], [6.0, 9.0, 8.0, -5.0]))
    assert adversarial.accuracy(config, Logits(real, fake)) == 0.75

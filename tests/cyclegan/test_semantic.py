"""Semantic losses: classifiers agree about an image and its translation."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import keys, parallel
from genjax.cyclegan import classifiers, losses, make_task, steps
from genjax.cyclegan.config import LossConfig
from genjax.data import batches
from genjax.evaluation import classifier
from genjax.gan.terms import generator_terms
from genjax.keys import Draw
from genjax.train import fingerprint, run_directory
from studies.reproducibility.stepping import mesh_of
from tiny import tiny_cyclegan
from two_domains import small_networks

pytestmark = pytest.mark.slow

SHAPE = (16, 16, 1)
WEIGHTS = dataclasses.replace(losses.CLASSIC, semantic_a2b=0.5)
ALONE = LossConfig(adversarial_a2b=0.0, adversarial_b2a=0.0, cycle_a=0.0, cycle_b=0.0, semantic_a2b=1.0)


@functools.cache
def fresh(shape, num_classes):
    """Makes a classifier's first parameters from a seed; compiled once for all tests."""
    return jax.jit(lambda seed: classifier.init(shape, num_classes, keys.root_key(seed)))


@pytest.fixture(scope="module")
def two_classifiers():
    """Two of three classes, with wide logits."""
    a, b = (jax.tree.map(lambda leaf: 1.5 * leaf, jax.device_get(fresh(SHAPE, 3)(seed))) for seed in (7, 8))
    return {"a": a, "b": b}


def images(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (6, *SHAPE)).astype(np.float32)


def terms(weights, a, b, fake_a, fake_b, classifiers, add_noise=losses.identity):
    """The semantic terms alone, which need no networks."""
    nothing = [None] * 5
    n = losses.Inputs(weights, a, b, fake_a, fake_b, *nothing, add_noise=add_noise, constants=classifiers)
    semantic = {name: term for name, term in losses.TERMS.items() if name.startswith("semantic")}
    return generator_terms(n, semantic)


def test_semantic_terms_are_cross_entropies_between_classifiers(two_classifiers):
    a, b, fake_a, fake_b = map(images, range(4))
    weights = dataclasses.replace(WEIGHTS, semantic_b2a=2.0)
    found = terms(weights, a, b, fake_a, fake_b, two_classifiers)
    assert list(found) == ["semantic_a2b", "semantic_b2a"]
    sides = {"semantic_a2b": ("a", a, "b", fake_b), "semantic_b2a": ("b", b, "a", fake_a)}
    for name, (domain, source, other, translated) in sides.items():
        label = np.asarray(classifier.logits(two_classifiers[domain], (source + 1) / 2), np.float64).argmax(axis=1)
        logits = np.asarray(classifier.logits(two_classifiers[other], (translated + 1) / 2), np.float64)
        expected = [np.log(np.exp(row - row[label]).sum()) for row, label in zip(logits, label, strict=True)]
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)
        assert 0.05 < np.mean(expected)
    assert list(terms(WEIGHTS, a, b, fake_a, fake_b, two_classifiers)) == ["semantic_a2b"]
    assert terms(losses.CLASSIC, a, b, fake_a, fake_b, two_classifiers) == {}
    with pytest.raises(ValueError, match="semantic losses need classifiers: give train_step"):
        terms(WEIGHTS, a, b, fake_a, fake_b, {})


def test_semantic_loss_has_no_gradient_for_the_image(two_classifiers):
    """With one classifier for both domains, as in CyCADA; an unchanged image costs least."""
    a, changed = images(0), images(2)
    one = {"a": two_classifiers["a"], "b": two_classifiers["a"]}

    def cost(image, translated):
        return jnp.sum(losses.semantic(one, "a", image, "b", translated))

    assert cost(a, a) < cost(a, changed)
    of_image, of_translation = jax.grad(cost, argnums=(0, 1))(a, changed)
    assert not of_image.any() and of_translation.any()


@pytest.fixture(scope="module")
def step(two_classifiers):
    """One step on 16x16 noise with given losses: the state before and after, and the metrics."""
    rng = np.random.default_rng(0)
    source = tuple(rng.integers(0, 256, (8, *SHAPE), np.uint8) for _ in range(2))

    def take(loss):
        files = {"classifier_a": "a.npz", "classifier_b": "b.npz"}
        config = tiny_cyclegan("unused", loss=dataclasses.asdict(loss), **files)
        task = make_task(small_networks)

        def update(state, batch):
            return task.train_step(config, state, batch, keys.root_key(1), two_classifiers)

        before = jax.device_get(jax.jit(lambda: task.init(config, keys.root_key(0)))())
        specs = (parallel.REPLICATED, parallel.SPLIT)
        after, metrics = parallel.pmap(update, mesh_of(1), specs, parallel.REPLICATED)(
            before, batches.load(source, 0, 0, 8, slice(None))
        )
        return before, jax.device_get(after), jax.device_get(metrics)

    return take


def test_semantic_loss_trains_its_generator_alone(step):
    before, after, metrics = step(ALONE)
    digests = {
        name: [fingerprint.tree_digest(getattr(state, name).params) for state in (before, after)]
        for name in ("g_a2b", "g_b2a")
    }
    assert {name: len(set(pair)) for name, pair in digests.items()} == {"g_a2b": 2, "g_b2a": 1}
    assert metrics["semantic_a2b"] > 0 and "semantic_b2a" not in metrics
    np.testing.assert_allclose(metrics["g_loss"], metrics["semantic_a2b"], rtol=1e-6)


def test_semantic_terms_add_noise_to_translations(two_classifiers):
    a, b, fake_a, fake_b = map(images, range(4))
    weights = dataclasses.replace(WEIGHTS, semantic_b2a=2.0, semantic_noise=0.4)
    config = tiny_cyclegan("unused", loss=dataclasses.asdict(weights), classifier_a="a.npz", classifier_b="b.npz")
    position = np.arange(6)

    def add_noise(draw, images, rows=slice(None)):
        return np.asarray(steps._add_noise(config, position[rows], keys.root_key(1), draw, images[rows]))

    noisy_a, noisy_b = add_noise(Draw.CLASSIFIED_A, fake_a), add_noise(Draw.CLASSIFIED_B, fake_b)
    of_a, of_b = noisy_a - fake_a, noisy_b - fake_b
    for noise in (of_a, of_b):
        assert abs(noise.std() / 0.4 - 1) < 4 / np.sqrt(2 * noise.size)
        assert abs(noise.mean()) < 4 * 0.4 / np.sqrt(noise.size)
    assert abs(np.corrcoef(of_a.ravel(), of_b.ravel())[0, 1]) < 4 / np.sqrt(of_a.size)
    halves = [add_noise(Draw.CLASSIFIED_A, fake_a, rows) for rows in (slice(3), slice(3, 6))]
    np.testing.assert_array_equal(np.concatenate(halves), noisy_a)  # by the place in the global batch
    found = terms(weights, a, b, fake_a, fake_b, two_classifiers, add_noise)
    for name, expected in terms(weights, a, b, noisy_a, noisy_b, two_classifiers).items():
        np.testing.assert_array_equal(found[name], expected)


def test_semantic_noise_leaves_discriminators_alone(step):
    """Other gradients for the generator, and the same discriminators after the step."""
    (_, plain, _), (_, noisy, _) = (step(dataclasses.replace(WEIGHTS, semantic_noise=sigma)) for sigma in (0.0, 0.4))

    def change(net):
        """Of the gradient, as a share of it; Adam's first moment is a multiple of it, parameters follow its sign."""
        of_plain, of_noisy = (getattr(state, net).opt_state.mu for state in (plain, noisy))
        return optax.tree.norm(jax.tree.map(np.subtract, of_plain, of_noisy)) / optax.tree.norm(of_plain)

    assert change("d_a") < 1e-5 and change("d_b") < 1e-5 and change("g_a2b") > 1e-2


def test_train_step_ignores_classifiers_without_weights(make_cyclegan, two_classifiers):
    """The traced program is the same, to the letter, whether there are classifiers or none."""
    config, task = make_cyclegan(), make_task(small_networks)
    state = jax.eval_shape(lambda: task.init(config, keys.root_key(0)))
    batch = batches.Batch(tuple(np.zeros((8, *SHAPE), np.uint8) for _ in range(2)), np.arange(8, dtype=np.int32))

    def program(*more):
        def update(state, batch):
            return task.train_step(config, state, batch, keys.root_key(1), *more)

        return str(jax.make_jaxpr(update, axis_env=[("data", 1)])(state, batch))

    assert program(two_classifiers) == program()


@pytest.fixture
def saved(tmp_path):
    """Writes a classifier, and returns its path and SHA-256."""

    def save(seed=0, shape=SHAPE, num_classes=3):
        path = tmp_path / f"classifier-{seed}.npz"
        params = jax.device_get(fresh(shape, num_classes)(seed))
        return str(path), classifier.save(path, classifier.Classifier(shape, params))

    return save


@pytest.fixture
def semantic_run(make_cyclegan):
    """A tiny CycleGAN with a semantic loss by two given files."""
    return lambda a, b, **changes: make_cyclegan(loss=WEIGHTS, classifier_a=a, classifier_b=b, **changes)


def test_load_records_classifiers_and_refuses_others(semantic_run, saved, tmp_path):
    (a, sha_a), (b, sha_b), (other, sha_other) = (saved(seed) for seed in range(3))
    config, _ = classifiers.load(semantic_run(a, b))
    assert (config.classifier_a_sha256, config.classifier_b_sha256) == (sha_a, sha_b)
    assert classifiers.load(config)[0] == config
    run_directory.write(run_directory.Run(config, run_directory.check_workdir(config), None, {}, {}), unfinished=False)
    moved = Path(b).rename(tmp_path / "moved.npz")
    run_directory.check_workdir(classifiers.load(semantic_run(a, str(moved)))[0])
    changed, _ = classifiers.load(semantic_run(a, other))
    with pytest.raises(ValueError, match=f"classifier_b_sha256: {sha_b} -> {sha_other}"):
        run_directory.check_workdir(changed)
    for name, sha in (("classifier_a", sha_a), ("classifier_b", sha_b)):
        found = f"is not the classifier of this run: its SHA-256 is {sha_other}, not {sha}"
        with pytest.raises(ValueError, match=f"{found}. Restore it, or give no --{name.replace('_', '-')}-sha256"):
            classifiers.load(dataclasses.replace(config, **{"classifier_b": str(moved), name: other}))


def test_load_gives_each_domain_its_classifier(semantic_run, saved):
    (a, _), (b, _) = saved(0), saved(1)
    _, held = classifiers.load(semantic_run(a, b))
    assert {name: fingerprint.tree_digest(params) for name, params in held.items()} == {
        name: fingerprint.tree_digest(classifier.load(path)[0].params) for name, path in (("a", a), ("b", b))
    }


def test_load_finds_nothing_without_semantic_losses(make_cyclegan):
    config = make_cyclegan()
    assert classifiers.load(config) == (config, {})


def test_load_refuses_other_images_and_classes(semantic_run, saved):
    (good, _), (small, _), (more, _) = saved(0), saved(1, shape=(8, 8, 1)), saved(2, num_classes=4)
    for a, b, letter in ((small, good, "A"), (good, small, "B")):
        with pytest.raises(
            ValueError, match=rf"is for images of \(8, 8, 1\) .*, and those of {letter} have \(16, 16, 1\)"
        ):
            classifiers.load(semantic_run(a, b))
    with pytest.raises(ValueError, match=f"{good} has 3 classes, {more} 4: give classifiers of the same"):
        classifiers.load(semantic_run(good, more))


def test_load_takes_domains_of_other_channels(semantic_run, saved):
    (grey, sha), (colour, _) = saved(0), saved(1, shape=(16, 16, 3))
    run, free = semantic_run(grey, colour), dataclasses.replace(WEIGHTS, identity_a=0.0, identity_b=0.0)
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, channels=(1, 3)), loss=free)
    assert classifiers.load(run)[0].classifier_a_sha256 == sha

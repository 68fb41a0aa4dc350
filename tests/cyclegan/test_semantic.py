"""Semantic consistency: one domain's classifier sees in a translation what the other's sees in the image."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import cyclegan, keys
from genjax.cyclegan import losses, steps
from genjax.cyclegan.config import LossConfig
from genjax.data import batches
from genjax.evaluation import classifier
from genjax.train import fingerprint, run_directory
from tiny import cheaply_compiled, tiny_cyclegan

SHAPE = (16, 16, 1)
WEIGHTS = dataclasses.replace(losses.CLASSIC, semantic_a2b=0.5)
ALONE = LossConfig(adversarial_a2b=0.0, adversarial_b2a=0.0, cycle_a=0.0, cycle_b=0.0, semantic_a2b=1.0)


@pytest.fixture(scope="module")
def classifiers():
    """Two of three classes, with wide logits."""
    fresh = jax.jit(lambda: [classifier.init(SHAPE, 3, keys.root_key(seed)) for seed in (7, 8)])()
    a, b = jax.device_get(jax.tree.map(lambda leaf: 1.5 * leaf, fresh))
    return {"a": a, "b": b}


def images(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (6, *SHAPE)).astype(np.float32)


def test_terms_are_the_cross_entropy_against_the_class_seen_in_the_image(classifiers):
    a, b, fake = images(0), images(1), losses.Fakes(images(2), images(3))
    weights = dataclasses.replace(WEIGHTS, semantic_b2a=2.0)
    found = losses.semantic_terms(weights, a, b, fake, classifiers)
    assert list(found) == ["semantic_a2b", "semantic_b2a"]
    sides = {"semantic_a2b": ("a", a, "b", fake.b), "semantic_b2a": ("b", b, "a", fake.a)}
    for name, (domain, source, other, translated) in sides.items():
        seen = np.asarray(classifier.logits(classifiers[domain], (source + 1) / 2), np.float64).argmax(axis=1)
        logits = np.asarray(classifier.logits(classifiers[other], (translated + 1) / 2), np.float64)
        expected = [np.log(np.exp(row - row[label]).sum()) for row, label in zip(logits, seen, strict=True)]
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)
        assert 0.05 < np.mean(expected)
    assert list(losses.semantic_terms(WEIGHTS, a, b, fake, classifiers)) == ["semantic_a2b"]
    assert losses.semantic_terms(losses.CLASSIC, a, b, fake, classifiers) == {}


def test_an_unchanged_image_costs_least_and_the_image_gets_no_gradient(classifiers):
    """With one classifier for both domains, as in CyCADA."""
    a, changed = images(0), images(2)
    one = {"a": classifiers["a"], "b": classifiers["a"]}

    def cost(image, translated):
        return jnp.sum(losses.semantic_terms(ALONE, image, image, losses.Fakes(a, translated), one)["semantic_a2b"])

    assert cost(a, a) < cost(a, changed)
    of_image, of_translation = jax.grad(cost, argnums=(0, 1))(a, changed)
    assert not of_image.any() and of_translation.any()


@pytest.fixture(scope="module")
def step(classifiers):
    """One step on 16x16 noise with given losses: the state before and after, and the metrics."""
    from genjax import parallel
    from studies.reproducibility.stepping import mesh_of

    rng = np.random.default_rng(0)
    source = tuple(rng.integers(0, 256, (8, *SHAPE), np.uint8) for _ in range(2))

    def take(loss):
        files = {"classifier_a": "a.npz", "classifier_b": "b.npz"}
        config = tiny_cyclegan("unused", loss=dataclasses.asdict(loss), cyclegan={"num_blocks": 0}, **files)

        def update(state, batch):
            return steps.train_step(config, state, batch, keys.root_key(1), classifiers)

        with cheaply_compiled():
            before = jax.device_get(jax.jit(lambda: steps.init(config, keys.root_key(0)))())
            specs = (parallel.REPLICATED, parallel.SPLIT)
            after, metrics = parallel.pmap(update, mesh_of(1), specs, parallel.REPLICATED)(
                before, batches.load(source, 0, 0, 8, slice(None))
            )
        return before, jax.device_get(after), jax.device_get(metrics)

    return take


def test_the_gradient_reaches_the_generator_of_the_translation_alone_and_the_metrics_tell(step):
    before, after, metrics = step(ALONE)
    moved = {name: fingerprint.tree_digest(getattr(before, name).params) != fingerprint.tree_digest(getattr(after, name).params)
             for name in ("g_a2b", "g_b2a")}  # fmt: skip
    assert moved == {"g_a2b": True, "g_b2a": False}
    assert metrics["semantic_a2b"] > 0 and "semantic_b2a" not in metrics
    np.testing.assert_allclose(metrics["total"], metrics["semantic_a2b"], rtol=1e-6)


def test_a_classifier_is_shown_the_translation_with_noise_of_its_own(classifiers):
    a, b, fake = images(0), images(1), losses.Fakes(images(2), images(3))
    weights = dataclasses.replace(WEIGHTS, semantic_b2a=2.0, semantic_noise=0.4)
    config = tiny_cyclegan("unused", loss=dataclasses.asdict(weights), classifier_a="a.npz", classifier_b="b.npz")
    position = np.arange(6)

    def show(what, images, rows=slice(None)):
        return np.asarray(steps._classified(config, position[rows], keys.root_key(1), what, images[rows]))

    shown = losses.Fakes(show("classified_a", fake.a), show("classified_b", fake.b))
    of_a, of_b = (noisy - plain for noisy, plain in zip(shown, fake, strict=True))
    for noise in (of_a, of_b):
        assert abs(noise.std() / 0.4 - 1) < 4 / np.sqrt(2 * noise.size)
        assert abs(noise.mean()) < 4 * 0.4 / np.sqrt(noise.size)
    assert abs(np.corrcoef(of_a.ravel(), of_b.ravel())[0, 1]) < 4 / np.sqrt(of_a.size)
    halves = [show("classified_a", fake.a, rows) for rows in (slice(3), slice(3, 6))]
    np.testing.assert_array_equal(np.concatenate(halves), shown.a)  # by the place in the global batch
    found = losses.semantic_terms(weights, a, b, fake, classifiers, show)
    for name, expected in losses.semantic_terms(weights, a, b, shown, classifiers).items():
        np.testing.assert_array_equal(found[name], expected)


def test_all_that_is_shown_in_a_step_has_a_key_of_its_own():
    found = {jax.random.key_data(steps._key_of(keys.root_key(0), what)).tobytes() for what in steps.USES}
    assert len(found) == len(steps.USES) == 15


def test_noise_for_classifiers_changes_nothing_that_discriminators_see(step):
    """Other gradients for the generator, and the same discriminators after the step."""
    (_, plain, _), (_, noisy, _) = (step(dataclasses.replace(WEIGHTS, semantic_noise=sigma)) for sigma in (0.0, 0.4))

    def change(net):
        """Of the gradient, as a share of it; Adam's first moment is a multiple of it, parameters follow its sign."""
        of_plain, of_noisy = (getattr(state, net).opt_state.mu for state in (plain, noisy))
        return optax.tree.norm(jax.tree.map(np.subtract, of_plain, of_noisy)) / optax.tree.norm(of_plain)

    assert change("d_a") < 1e-5 and change("d_b") < 1e-5 and change("g_a2b") > 1e-2


def test_weights_of_0_leave_the_step_as_it_is(make_cyclegan, classifiers):
    """The traced program is the same, to the letter, whether there are classifiers or none."""
    config = make_cyclegan(cyclegan={"num_blocks": 0})
    state = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    batch = batches.Batch(tuple(np.zeros((8, *SHAPE), np.uint8) for _ in range(2)), np.arange(8, dtype=np.int32))

    def program(*more):
        def update(state, batch):
            return steps.train_step(config, state, batch, keys.root_key(1), *more)

        return str(jax.make_jaxpr(update, axis_env=[("data", 1)])(state, batch))

    assert program(classifiers) == program()


@pytest.fixture
def saved(tmp_path):
    """Writes a classifier, and returns its path and SHA-256."""

    def save(seed=0, shape=SHAPE, num_classes=3):
        path = tmp_path / f"classifier-{seed}.npz"
        fresh = jax.jit(lambda: classifier.init(shape, num_classes, keys.root_key(seed)))()
        return str(path), classifier.save(path, classifier.Classifier(shape, jax.device_get(fresh)))

    return save


@pytest.fixture
def semantic_run(make_cyclegan):
    """A tiny CycleGAN with a semantic loss by two given files."""
    return lambda a, b, **changes: make_cyclegan(loss=WEIGHTS, classifier_a=a, classifier_b=b, **changes)


def test_a_run_records_its_classifiers_and_refuses_others(semantic_run, saved, tmp_path):
    (a, sha_a), (b, sha_b), (other, _) = (saved(seed) for seed in range(3))
    task, config = cyclegan.with_classifiers(semantic_run(a, b))
    assert (config.classifier_a_sha256, config.classifier_b_sha256) == (sha_a, sha_b)
    assert task.train_step is not cyclegan.TASK.train_step
    assert cyclegan.with_classifiers(config)[1] == config
    run_directory.write(run_directory.check_workdir(config), config, {}, {})
    moved = Path(b).rename(tmp_path / "moved.npz")
    run_directory.check_workdir(cyclegan.with_classifiers(semantic_run(a, str(moved)))[1])
    _, changed = cyclegan.with_classifiers(semantic_run(a, other))
    with pytest.raises(ValueError, match=f"classifier_b_sha256: {sha_b} -> {changed.classifier_b_sha256}"):
        run_directory.check_workdir(changed)
    for name, sha in (("classifier_a", sha_a), ("classifier_b", sha_b)):
        found = f"is not the classifier of this run: its SHA-256 is {changed.classifier_b_sha256}, not {sha}"
        with pytest.raises(ValueError, match=f"{found}. Restore it, or give no --{name.replace('_', '-')}-sha256"):
            cyclegan.with_classifiers(dataclasses.replace(config, **{"classifier_b": str(moved), name: other}))


def test_each_domain_has_the_classifier_that_is_named_for_it(semantic_run, saved):
    (a, _), (b, _) = saved(0), saved(1)
    task, _ = cyclegan.with_classifiers(semantic_run(a, b))
    held = task.train_step.keywords["classifiers"]
    assert {name: fingerprint.tree_digest(params) for name, params in held.items()} == {
        name: fingerprint.tree_digest(classifier.load(path)[0].params) for name, path in (("a", a), ("b", b))
    }


def test_without_classifiers_there_is_nothing_to_load_and_with_weights_something_to_ask_for(make_cyclegan):
    config = make_cyclegan()
    assert cyclegan.with_classifiers(config) == (cyclegan.TASK, config)
    with pytest.raises(ValueError, match="semantic_a2b need classifiers: train with the task of cyclegan.with"):
        losses.semantic_terms(WEIGHTS, images(0), images(1), losses.Fakes(images(2), images(3)), None)


def test_classifiers_of_other_images_or_classes_are_refused(semantic_run, saved):
    (good, _), (small, _), (more, _) = saved(0), saved(1, shape=(8, 8, 1)), saved(2, num_classes=4)
    for a, b, letter in ((small, good, "A"), (good, small, "B")):
        with pytest.raises(
            ValueError, match=rf"is for images of \(8, 8, 1\) .*, and those of {letter} have \(16, 16, 1\)"
        ):
            cyclegan.with_classifiers(semantic_run(a, b))
    with pytest.raises(ValueError, match=f"{good} tells 3 classes apart, {more} 4: give classifiers of the same"):
        cyclegan.with_classifiers(semantic_run(good, more))


def test_domains_of_other_channels_have_classifiers_of_their_own(semantic_run, saved):
    (grey, sha), (colour, _) = saved(0), saved(1, shape=(16, 16, 3))
    run, free = semantic_run(grey, colour), dataclasses.replace(WEIGHTS, identity_a=0.0, identity_b=0.0)
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, channels=(1, 3)), loss=free)
    assert cyclegan.with_classifiers(run)[1].classifier_a_sha256 == sha

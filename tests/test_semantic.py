"""CyCADA's semantic consistency: a fixed classifier sees in a translation what it sees in the image."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import classifier, cyclegan, digest, keys, records
from genjax.config import LossConfig
from genjax.cyclegan import losses, steps
from genjax.data import batches

SHAPE = (16, 16, 1)
WEIGHTS = dataclasses.replace(losses.CLASSIC, semantic_a2b=0.5)
ALONE = LossConfig(adversarial_a2b=0.0, adversarial_b2a=0.0, cycle_a=0.0, cycle_b=0.0, semantic_a2b=1.0)


@pytest.fixture(scope="module")
def params():
    """A classifier of three classes, with wide logits."""
    fresh = jax.jit(lambda: classifier.init(SHAPE, 3, keys.root_key(7)))()
    return jax.device_get(jax.tree.map(lambda leaf: 1.5 * leaf, fresh))


def images(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (6, *SHAPE)).astype(np.float32)


def test_terms_are_the_cross_entropy_against_the_class_seen_in_the_image(params):
    a, b, fake = images(0), images(1), losses.Fakes(images(2), images(3))
    weights = dataclasses.replace(WEIGHTS, semantic_b2a=2.0)
    found = losses.semantic_terms(weights, a, b, fake, params)
    assert list(found) == ["semantic_a2b", "semantic_b2a"]
    for name, (source, translated) in {"semantic_a2b": (a, fake.b), "semantic_b2a": (b, fake.a)}.items():
        seen = np.asarray(classifier.logits(params, (source + 1) / 2), np.float64).argmax(axis=1)
        logits = np.asarray(classifier.logits(params, (translated + 1) / 2), np.float64)
        expected = [np.log(np.exp(row - row[label]).sum()) for row, label in zip(logits, seen, strict=True)]
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)
        assert 0.05 < np.mean(expected)
    assert list(losses.semantic_terms(WEIGHTS, a, b, fake, params)) == ["semantic_a2b"]
    assert losses.semantic_terms(losses.CLASSIC, a, b, fake, params) == {}


def test_an_unchanged_image_costs_least_and_the_image_gets_no_gradient(params):
    a, changed = images(0), images(2)

    def cost(image, translated):
        return jnp.sum(losses.semantic_terms(ALONE, image, image, losses.Fakes(a, translated), params)["semantic_a2b"])

    assert cost(a, a) < cost(a, changed)
    of_image, of_translation = jax.grad(cost, argnums=(0, 1))(a, changed)
    assert not of_image.any() and of_translation.any()


@pytest.fixture(scope="module")
def step(params):
    """One step on 16x16 noise with given losses: the state before and after, and the metrics."""
    from _walking import mesh_of
    from conftest import cheaply_compiled, tiny_cyclegan

    from genjax import parallel

    rng = np.random.default_rng(0)
    source = tuple(rng.integers(0, 256, (8, *SHAPE), np.uint8) for _ in range(2))

    def take(loss):
        config = tiny_cyclegan("unused", loss=dataclasses.asdict(loss), classifier="c.npz", cyclegan={"blocks": 0})

        def update(state, batch):
            return steps.train_step(config, state, batch, keys.root_key(1), params)

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
    moved = {name: digest.tree_digest(getattr(before, name).params) != digest.tree_digest(getattr(after, name).params)
             for name in ("g_a2b", "g_b2a")}  # fmt: skip
    assert moved == {"g_a2b": True, "g_b2a": False}
    assert metrics["semantic_a2b"] > 0 and "semantic_b2a" not in metrics
    np.testing.assert_allclose(metrics["total"], metrics["semantic_a2b"], rtol=1e-6)


def test_weights_of_0_leave_the_step_as_it_is(make_cyclegan, params):
    """The traced program is the same, to the letter, whether there is a classifier or none."""
    config = make_cyclegan(cyclegan={"blocks": 0})
    state = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    batch = batches.Batch(tuple(np.zeros((8, *SHAPE), np.uint8) for _ in range(2)), np.arange(8, dtype=np.int32))

    def program(*more):
        def update(state, batch):
            return steps.train_step(config, state, batch, keys.root_key(1), *more)

        return str(jax.make_jaxpr(update, axis_env=[("data", 1)])(state, batch))

    assert program(params) == program()


def saved(tmp_path, shape=SHAPE, seed=0):
    path = tmp_path / f"classifier-{seed}.npz"
    fresh = jax.jit(lambda: classifier.init(shape, 3, keys.root_key(seed)))()
    return str(path), classifier.save(path, classifier.Classifier(shape, jax.device_get(fresh)))


def test_a_run_records_its_classifier_and_refuses_another(make_cyclegan, tmp_path):
    (path, sha), (other, _) = saved(tmp_path), saved(tmp_path, seed=1)
    task, config = cyclegan.with_classifier(make_cyclegan(loss=WEIGHTS, classifier=path))
    assert config.classifier_sha256 == sha and task.train_step is not cyclegan.TASK.train_step
    assert cyclegan.with_classifier(config)[1] == config
    records.write(records.check_workdir(config), config, {}, {})
    moved = tmp_path / "moved.npz"
    (tmp_path / "classifier-0.npz").rename(moved)
    records.check_workdir(cyclegan.with_classifier(make_cyclegan(loss=WEIGHTS, classifier=str(moved)))[1])
    _, changed = cyclegan.with_classifier(make_cyclegan(loss=WEIGHTS, classifier=other))
    with pytest.raises(ValueError, match=f"classifier_sha256: {sha} -> {changed.classifier_sha256}"):
        records.check_workdir(changed)
    with pytest.raises(
        ValueError, match=f"is not the classifier of this run: its SHA-256 is {changed.classifier_sha256}"
    ):
        cyclegan.with_classifier(dataclasses.replace(config, classifier=other))


def test_without_a_classifier_there_is_nothing_to_load_and_with_weights_something_to_ask_for(make_cyclegan, tmp_path):
    config = make_cyclegan()
    assert cyclegan.with_classifier(config) == (cyclegan.TASK, config)
    with pytest.raises(ValueError, match="semantic_a2b need a classifier: train with the task of cyclegan.with"):
        losses.semantic_terms(WEIGHTS, images(0), images(1), losses.Fakes(images(2), images(3)), None)
    path, _ = saved(tmp_path, (8, 8, 1))
    with pytest.raises(ValueError, match=r"is for images of \(8, 8, 1\) .*, and the run's have \(16, 16, 1\)"):
        cyclegan.with_classifier(make_cyclegan(loss=WEIGHTS, classifier=path))

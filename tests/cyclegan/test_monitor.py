"""What a step measures of its health, by hand; and which flags rows raise, of trainings with a fault in them too."""

import dataclasses
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys, parallel
from genjax.cyclegan import losses, monitor, step_metrics, steps
from genjax.data import batches
from genjax.data.demo import icons, satellite
from genjax.data.splits import Splits
from genjax.gan.image_pool import Pool
from studies.collapse.faults import FAULTS, injected
from studies.reproducibility.stepping import mesh_of

WEIGHTS = losses.CLASSIC


def on_devices(num, function, *arrays):
    """`function` of arrays that are split over so many devices."""
    mesh = mesh_of(num)
    specs = (parallel.SPLIT,) * len(arrays)
    return jax.device_get(parallel.pmap(function, mesh, specs, parallel.REPLICATED)(*arrays))


# What a step measures.


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
def test_accuracy_counts_logits_on_the_right_side_of_the_middle_between_targets(kind, smoothing, real, fake):
    config = dataclasses.replace(WEIGHTS, adversarial=kind, label_smoothing=smoothing)
    around = np.array([-0.01, 0.01, 0.02, 5.0]).reshape(1, 2, 2, 1)
    found = step_metrics.accuracy(config, losses.Logits(jnp.asarray(real + around), jnp.asarray(fake - 9 * around)))
    assert found == 0.75  # three of four each
    assert step_metrics.accuracy(config, losses.Logits(jnp.asarray(real - around), jnp.asarray(fake - around))) == 0.5


def test_a_critic_without_targets_is_right_where_it_ranks_the_real_image_higher():
    config = dataclasses.replace(WEIGHTS, adversarial="wgan_gp")
    real, fake = (jnp.array(values).reshape(4, 1, 1, 1) for values in ([7.0, 8.0, 9.0, 1.0], [6.0, 9.0, 8.0, -5.0]))
    assert step_metrics.accuracy(config, losses.Logits(real, fake)) == 0.75


def measured(images, translated, inputs=None, outputs=None, devices=1):
    none = Pool(None, jnp.int32(0))

    def measure(images, translated):
        return step_metrics.of_translations("a2b", images, translated, inputs or none, outputs or none)

    return on_devices(devices, measure, images, translated)


def noise(num, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, 8, 8, channels)).astype(np.float32)


@pytest.mark.parametrize("devices", [1, 8])
def test_diversity_is_the_ratio_of_pairwise_distances_in_the_global_batch(devices):
    images, translated = noise(8), noise(8, seed=1) * np.linspace(0.1, 1, 8, dtype=np.float32).reshape(8, 1, 1, 1)

    def distance(x):
        return np.sqrt(np.mean([np.mean((p - q) ** 2) for i, p in enumerate(x) for q in x[:i]]))

    found = measured(images, translated, devices=devices)
    np.testing.assert_allclose(found["diversity_a2b"], distance(translated) / distance(images), rtol=1e-5)
    if devices == 1:
        np.testing.assert_allclose(measured(images, 0.3 - 0.5 * images)["diversity_a2b"], 0.5, rtol=1e-5)
        assert measured(images, np.ones_like(images))["diversity_a2b"] == 0
        assert np.isfinite(measured(np.ones_like(images), translated)["diversity_a2b"])


def test_correlation_is_that_of_luminances_whatever_the_channels():
    colour = noise(4, 3)
    grey = np.tensordot(colour, np.array([0.299, 0.587, 0.114], np.float32), 1)[..., None]
    for translated, expected in ((grey, 1), (-0.1 * grey, -1), (np.zeros_like(grey), 0)):
        np.testing.assert_allclose(measured(colour, translated)["correlation_a2b"], expected, atol=1e-5)


def test_a_batch_of_one_is_compared_with_earlier_translations():
    image, stored = noise(1), np.concatenate([noise(3, seed=1), 99 * np.ones((2, 8, 8, 1), np.float32)])
    pool = Pool(jnp.asarray(stored), jnp.int32(3))  # what lies beyond is no image
    assert measured(image, image, pool, pool)["diversity_a2b"] == pytest.approx(1)
    same = Pool(jnp.broadcast_to(image / 2, (5, 8, 8, 1)), jnp.int32(5))
    assert measured(image, image / 2, pool, same)["diversity_a2b"] == 0
    apart = np.sqrt(np.mean((stored[:3] - image / 2) ** 2) / np.mean((stored[:3] - image) ** 2))
    assert measured(image, image / 2, pool, pool)["diversity_a2b"] == pytest.approx(apart, rel=1e-5)
    double = Pool(2 * pool.images, pool.num)
    assert measured(image, 2 * image, pool, double)["diversity_a2b"] == pytest.approx(2)
    assert set(measured(image, image)) == {"correlation_a2b"}  # nothing to compare with
    first = Pool(jnp.zeros((5, 8, 8, 1)), jnp.int32(0))
    assert np.isfinite(measured(image, image, first, first)["diversity_a2b"])


def test_each_direction_is_measured_on_its_own_images_and_pools(make_cyclegan):
    """With a batch of one; translations into B are twice the images, those into A the negatives of half of them."""
    a, b = noise(1), noise(1, seed=1)
    stored = jnp.asarray(noise(5, seed=2))
    pools = SimpleNamespace(pool_a=Pool(stored, jnp.int32(5)), pool_b=Pool(2 * stored, jnp.int32(5)))
    logits = {name: losses.Logits(*jnp.array([[gap], [0.0]])) for name, gap in (("d_a", 0.7), ("d_b", 0.2))}

    def measure(a, b):
        return steps._vitals(make_cyclegan(), pools, a, b, losses.Fakes(-b / 2, 2 * a), logits)

    found = on_devices(1, measure, a, b)
    half = np.sqrt(np.mean((stored + b / 2) ** 2) / np.mean((2 * stored - b) ** 2))
    expected = {"diversity_a2b": 2, "diversity_b2a": half, "correlation_a2b": 1, "correlation_b2a": -1,
                "accuracy_d_a": 1, "accuracy_d_b": 0.5, "gap_d_a": 0.7, "gap_d_b": 0.2}  # fmt: skip
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


# What the data say.


def splits(train, validation=None):
    validation = validation or tuple(images[:4] for images in train)
    return Splits(*(tuple((127.5 * (x + 1)).astype(np.uint8) for x in split) for split in (train, validation, train)))


def test_the_reference_is_that_of_the_pairs_where_there_are_any_else_of_the_mean_images(make_cyclegan):
    light, dark = noise(1) / 2, noise(40, seed=1) / 4
    a, b = light + dark, light + noise(30, seed=2) / 4
    pairs = noise(4, seed=3), -noise(4, seed=3)
    unpaired, paired = make_cyclegan(), make_cyclegan(data={"paired": True})
    assert monitor.reference(unpaired, splits((a, b), pairs)).luminance > 0.95
    assert monitor.reference(unpaired, splits((a, -b), pairs)).luminance < -0.95
    assert abs(monitor.reference(unpaired, splits((dark, noise(30, seed=2)), pairs)).luminance) < 0.3
    assert monitor.reference(paired, splits((a, b), pairs)).luminance == pytest.approx(-1, abs=1e-4)


def test_the_reference_tells_how_far_images_of_either_domain_lie_apart(make_cyclegan):
    a = noise(40)
    found = monitor.reference(make_cyclegan(), splits((a, np.repeat(a[:20] / 2, 3, axis=-1))))
    spread = np.sqrt(a[:20].var(axis=0).mean() / a.var(axis=0).mean()) / 2
    assert found.diversity["a2b"] == pytest.approx(spread, rel=0.02)
    assert found.diversity["a2b"] * found.diversity["b2a"] == pytest.approx(1)
    flat = splits((np.ones_like(a), a))
    assert monitor.reference(make_cyclegan(), flat).diversity == {"a2b": 1, "b2a": 1}


@pytest.mark.parametrize(
    ("make", "sign"), [(icons.icons, 1), (satellite.gray_colour, 1), (satellite.satellite_relief, 0)]
)
def test_embedded_pairs_keep_light_and_dark_but_reliefs_tell_nothing_of_it(make_cyclegan, make, sign):
    luminance = monitor.reference(make_cyclegan(data={"paired": True}), make(32)).luminance
    assert (abs(luminance) > monitor.RELATED) * np.sign(luminance) == sign


# Flags of rows.

KNOWN = monitor.Reference(luminance=0.6, diversity={"a2b": 0.5, "b2a": 2.0})
WELL = {"accuracy_d_a": 0.8, "accuracy_d_b": 0.9, "gap_d_a": 0.5, "gap_d_b": 0.6, "diversity_a2b": 0.45,
        "diversity_b2a": 1.5, "correlation_a2b": 0.7, "correlation_b2a": 0.5}  # fmt: skip
VALIDATED = {"validation/cycle_a2b": 0.05, "validation/probe_a2b": 0.06, "validation/cycle_b2a": 0.05}


def rows(num=10, first=100, every=10, **changes):
    return [{"step": first + every * i, **WELL, **changes} for i in range(num)] + [{"step": 200, **VALIDATED}]


UNWELL = {
    "collapsed_a2b": {"diversity_a2b": 0.12},
    "collapsed_b2a": {"diversity_b2a": 0.45},
    "inverted_a2b": {"correlation_a2b": -0.2},
    "inverted_b2a": {"correlation_b2a": -0.9},
    "outplayed_by_d_a": {"accuracy_d_a": 0.98},
    "outplayed_by_d_b": {"accuracy_d_b": 1.0},
}


@pytest.mark.parametrize("name", UNWELL)
def test_a_flag_is_about_the_mean_of_recent_rows(make_cyclegan, name):
    config, changes = make_cyclegan(), UNWELL[name]
    assert monitor.flags(config, KNOWN, rows()) == {}
    found = monitor.flags(config, KNOWN, rows(**changes))
    assert list(found) == [name] and "--" in found[name]
    assert monitor.flags(config, KNOWN, rows(9) + rows(1, 190, **changes)) == {}  # a single step
    assert monitor.flags(config, KNOWN, rows(2, **changes)) == {}  # too few
    assert monitor.flags(config, KNOWN, rows(9, 0, **changes)) == {}  # the first steps
    assert monitor.flags(config, KNOWN, rows(10, **changes) + rows(10, 200)) == {}  # over again
    gaps = rows(10, **changes)
    gaps[3:5] = [row | dict.fromkeys(changes) for row in gaps[3:5]]  # numbers that were not finite
    assert list(monitor.flags(config, KNOWN, gaps)) == [name]
    assert monitor.flags(config, KNOWN, rows(10, **dict.fromkeys(changes))) == {}
    assert monitor.flags(config, KNOWN, [{"step": step, "total": 1.0} for step in range(100, 200)]) == {}  # older runs


def test_flags_depend_on_what_the_data_and_the_losses_are_like(make_cyclegan):
    config = make_cyclegan()
    upright, inverted, won = rows(), rows(**UNWELL["inverted_a2b"]), rows(**UNWELL["outplayed_by_d_b"])
    opposite, unrelated = (KNOWN._replace(luminance=value) for value in (-0.6, 0.2))
    assert list(monitor.flags(config, opposite, upright)) == ["inverted_a2b", "inverted_b2a"]
    assert list(monitor.flags(config, opposite, inverted)) == ["inverted_b2a"]
    assert monitor.flags(config, unrelated, inverted) == {}
    for loss in ({"adversarial": "wgan_gp"}, {"adversarial_a2b": 0.0}):
        assert monitor.flags(make_cyclegan(loss=loss), KNOWN, won) == {}


def test_a_translation_that_hides_its_image_is_found_by_one_grey_level_of_noise(make_cyclegan, monkeypatch):
    """B is a hundredth of A around mid-grey, and back again exactly what was there."""
    config = make_cyclegan(cyclegan={"num_blocks": 0})
    hide = {"a2b": lambda x: x / 100, "b2a": lambda x: jnp.clip(100 * x, -1, 1)}
    monkeypatch.setattr(steps.translation.nets, "generate", lambda config, direction, params, x: hide[direction](x))
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, 1), np.uint8)
    state = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))._replace(ema={"a2b": 0, "b2a": 0})
    batch = batches.Batch(tuple(images), np.arange(4))
    of_a, _ = steps.eval_step(config, state, batch, keys.root_key(0))
    np.testing.assert_allclose(of_a["cycle_a2b"], 0, atol=1e-5)
    assert np.all(of_a["probe_a2b"] > 0.2)
    validated = {f"validation/{name}": float(np.mean(value)) for name, value in of_a.items()}
    found = monitor.flags(config, KNOWN, rows()[:-1] + [{"step": 200, **validated}])
    assert list(found) == ["hidden_a2b"] and "0.000 to 0.3" in found["hidden_a2b"]


# Trainings.


def discs(filled, num, seed):
    """Black rings or discs on white, of different places and sizes: uint8 [num, 16, 16, 1]."""
    rng, grid = np.random.default_rng(seed), np.mgrid[:16, :16].reshape(2, 1, 16, 16)
    centre, radius = rng.uniform(6, 10, (2, num, 1, 1)), rng.uniform(3, 6, (num, 1, 1))
    far = np.sqrt(((grid - centre) ** 2).sum(axis=0))
    ink = (far < radius) & (filled | (far > radius - 1.5))
    return np.where(ink, 0, 255).astype(np.uint8)[..., None]


@pytest.fixture(scope="module")
def trainings():
    """The flags of each row of a training with each fault, all of one program."""
    from tiny import cheaply_compiled, tiny_cyclegan

    net = {"base_channels": 8, "num_blocks": 0, "discriminator_channels": 4, "pool_size": 8}
    config = tiny_cyclegan("unused", data={"batch_size": 4}, cyclegan=net, optim={"learning_rate": 2e-3})
    source = discs(False, 200, 0), discs(True, 200, 1)
    watch = monitor.watch(config, Splits(source, source, source))

    def step(state, batch, fault):
        with injected(fault):
            return steps.train_step(config, state, batch, keys.for_step(keys.root_key(0), 1, state.step))

    found = {}
    with cheaply_compiled():
        init = jax.jit(lambda: steps.init(config, keys.root_key(0)))
        specs = (parallel.REPLICATED, parallel.SPLIT, parallel.REPLICATED)
        step_fn = parallel.pmap(step, mesh_of(1), specs, parallel.REPLICATED, donate=(0,))
        for fault, name in enumerate(FAULTS):
            state, written, found[name] = init(), [], []
            for i in range(150 if name == "none" else 120):
                batch = batches.load(source, 0, i, 4, slice(None))
                state, metrics = jax.block_until_ready(step_fn(state, batch, np.int32(fault)))
                if (i + 1) % 10 == 0:
                    written.append({"step": i + 1} | {name: float(value) for name, value in metrics.items()})
                    found[name].append(set(watch(written)))
    return found


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("collapsed", {"collapsed_a2b", "collapsed_b2a"}), ("inverted", {"inverted_a2b", "inverted_b2a"}),
     ("outplayed", {"outplayed_by_d_a", "outplayed_by_d_b"})],
)  # fmt: skip
def test_an_injected_fault_is_flagged_as_soon_as_there_are_rows_to_judge(trainings, fault, expected):
    assert expected <= trainings[fault][-1] and not any(trainings[fault][:-1])


def test_a_healthy_training_raises_no_flag(trainings):
    assert len(trainings["none"]) == 15 and not any(trainings["none"])

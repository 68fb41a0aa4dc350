import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys, parallel
from genjax.compiled import seeded_step
from genjax.cut import losses as cut_losses
from genjax.cut.config import CutConfig, CutRun
from genjax.cyclegan import make_task
from genjax.data import batches
from genjax.data.demo import icons, satellite
from genjax.data.splits import Splits
from genjax.evaluation import thresholds
from genjax.gan import diversity, evaluation, monitor
from genjax.gan.networks import TwoWay
from genjax.task import RECENT_ROWS
from studies.collapse.faults import FAULTS, faulty_networks
from studies.reproducibility.stepping import mesh_of
from tiny import tiny_cyclegan


def noise(num, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, 8, 8, channels)).astype(np.float32)


def splits(train, validation=None):
    validation = validation or tuple(images[:4] for images in train)
    return Splits(*(tuple((127.5 * (x + 1)).astype(np.uint8) for x in split) for split in (train, validation, train)))


def test_measure_relation_prefers_pairs_to_mean_images(make_cyclegan):
    light, dark = noise(1) / 2, noise(40, seed=1) / 4
    a, b = light + dark, light + noise(30, seed=2) / 4
    pairs = noise(4, seed=3), -noise(4, seed=3)
    unpaired, paired = make_cyclegan(), make_cyclegan(data={"paired": True})
    assert monitor.measure_relation(unpaired, splits((a, b), pairs)) > 0.95
    assert monitor.measure_relation(unpaired, splits((a, -b), pairs)) < -0.95
    assert monitor.measure_relation(unpaired, splits((a, np.repeat(b, 3, axis=-1)), pairs)) > 0.95
    assert abs(monitor.measure_relation(unpaired, splits((dark, noise(30, seed=2)), pairs))) < 0.3
    assert monitor.measure_relation(paired, splits((a, b), pairs)) == pytest.approx(-1, abs=1e-4)


@pytest.mark.parametrize(
    ("make", "sign"), [(icons.icons, 1), (satellite.gray_colour, 1), (satellite.satellite_relief, 0)]
)
def test_measure_relation_of_the_embedded_pairs(make_cyclegan, make, sign):
    related = monitor.measure_relation(make_cyclegan(data={"paired": True}), make(32))
    assert (abs(related) > thresholds.RELATED) * np.sign(related) == sign


RELATED = 0.6
WELL = {"accuracy_d_a": 0.8, "accuracy_d_b": 0.9, "gap_d_a": 0.5, "gap_d_b": 0.6, "correlation_a2b": 0.7,
        "correlation_b2a": 0.5}  # fmt: skip
VALIDATED = {"step": 100, "validation/cycle_a2b": 0.05, "validation/probe_a2b": 0.06, "validation/cycle_b2a": 0.05,
             "validation/diversity_a2b": 0.9, "validation/diversity_b2a": 0.3}  # fmt: skip


def rows(num=10, first=100, every=10, **changes):
    return [{"step": first + every * i, **WELL, **changes} for i in range(num)]


def find(config, related, written, validated=VALIDATED):
    """Warnings at the last of the rows of a training."""
    return monitor.find_warnings(config, related, written[-RECENT_ROWS:], validated)


UNHEALTHY = {
    "inverted_a2b": {"correlation_a2b": -0.2},
    "inverted_b2a": {"correlation_b2a": -0.9},
    "outplayed_by_d_a": {"accuracy_d_a": 0.98},
    "outplayed_by_d_b": {"accuracy_d_b": 1.0},
}


@pytest.mark.parametrize("name", UNHEALTHY)
def test_find_warnings_uses_the_mean_of_recent_rows(make_cyclegan, name):
    config, changes = make_cyclegan(), UNHEALTHY[name]
    assert find(config, RELATED, rows()) == {}
    found = find(config, RELATED, rows(**changes))
    assert list(found) == [name] and "--" in found[name]
    assert find(config, RELATED, rows(9) + rows(1, 190, **changes)) == {}  # a single step
    assert find(config, RELATED, rows(2, **changes)) == {}  # too few
    assert find(config, RELATED, rows(9, 0, **changes)) == {}  # the first steps
    assert find(config, RELATED, rows(10, **changes) + rows(10, 200)) == {}  # over again
    gaps = rows(10, **changes)
    gaps[3:5] = [row | dict.fromkeys(changes) for row in gaps[3:5]]  # numbers that were not finite
    assert list(find(config, RELATED, gaps)) == [name]
    assert find(config, RELATED, rows(10, **dict.fromkeys(changes))) == {}
    assert find(config, RELATED, [{"step": step, "g_loss": 1.0} for step in range(100, 200)]) == {}  # older runs


@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_find_warnings_detects_collapse_at_the_latest_evaluation(make_cyclegan, direction):
    config, name = make_cyclegan(), f"validation/diversity_{direction}"
    found = find(config, RELATED, rows(), VALIDATED | {name: 0.2})
    assert list(found) == [f"collapsed_{direction}"] and "0.20 times that of images of the target" in found.popitem()[1]
    assert find(config, RELATED, rows(), VALIDATED | {name: 0.2, "step": 99}) == {}  # the first steps
    assert find(config, RELATED, rows(2), VALIDATED | {name: 0.2}) == {}  # too few rows
    assert find(config, RELATED, rows(), VALIDATED | {name: None}) == {}  # not finite
    assert find(config, RELATED, rows(), {}) == {}  # not evaluated yet


def test_find_warnings_depends_on_data_and_losses(make_cyclegan):
    config = make_cyclegan()
    upright, inverted, won = rows(), rows(**UNHEALTHY["inverted_a2b"]), rows(**UNHEALTHY["outplayed_by_d_b"])
    opposite, unrelated = -RELATED, 0.2
    assert list(find(config, opposite, upright)) == ["inverted_a2b", "inverted_b2a"]
    assert list(find(config, opposite, inverted)) == ["inverted_b2a"]
    assert find(config, unrelated, inverted) == {}
    for loss in ({"adversarial": "wgan_gp"}, {"adversarial_a2b": 0.0}):
        assert find(make_cyclegan(loss=loss), RELATED, won) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("family", "flags"), [("cyclegan", ["identity_a", "identity_b"]), ("cut", ["nce_b"])])
def test_remedies_are_flags_of_the_family(make_cyclegan, family, flags):
    config = make_cyclegan()
    if family == "cut":
        config = CutRun(workdir="unused", data=config.data, optim=config.optim, train=config.train, loss=cut_losses.CUT,
                        cut=CutConfig(discriminator="pixel"))  # fmt: skip
    (sentence,) = find(config, RELATED, rows(**UNHEALTHY["inverted_a2b"])).values()
    assert re.findall(r"--loss\.([\w-]+)", sentence) == [name.replace("_", "-") for name in flags]
    assert all(hasattr(config.loss, name) for name in flags) and f"--{family}.output residual" in sentence


def test_find_warnings_detects_hidden_images(make_cyclegan):
    """B is a hundredth of A around mid-grey, and back again exactly what was there."""

    class Scale:
        def apply(self, variables, x):
            return jnp.clip(variables["params"] * x, -1, 1)

    networks = TwoWay(Scale(), Scale(), None, None)
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, 1), np.uint8)
    state, batch = SimpleNamespace(ema={"a2b": 0.01, "b2a": 100.0}), batches.Batch(tuple(images), np.arange(4))
    config = make_cyclegan()
    of_a, _ = evaluation.eval_step(config, state, batch, keys.root_key(0), make_networks=lambda config: networks)
    np.testing.assert_allclose(of_a["cycle_a2b"], 0, atol=1e-5)
    assert np.all(of_a["probe_a2b"] > 0.2)
    validated = {"step": 100} | {f"validation/{name}": float(np.mean(value)) for name, value in of_a.items()}
    found = find(config, RELATED, rows(), validated)
    assert list(found) == ["hidden_a2b"] and "0.000 to 0.3" in found["hidden_a2b"]


def discs(filled, num, seed):
    """Black rings or discs on white, of different places and sizes: uint8 [num, 16, 16, 1]."""
    rng, grid = np.random.default_rng(seed), np.mgrid[:16, :16].reshape(2, 1, 16, 16)
    centre, radius = rng.uniform(6, 10, (2, num, 1, 1)), rng.uniform(3, 6, (num, 1, 1))
    far = np.sqrt(((grid - centre) ** 2).sum(axis=0))
    ink = (far < radius) & (filled | (far > radius - 1.5))
    return np.where(ink, 0, 255).astype(np.uint8)[..., None]


@pytest.fixture(scope="module")
def trainings():
    """The warnings at each row of a training with each fault, all of one program.

    The one without a fault begins at the identity, between two sets of discs, which is its goal: on any processor it
    stays healthy. The others are from rings to discs.
    """
    net = {"base_channels": 8, "num_blocks": 0, "discriminator_channels": 4, "pool_size": 8, "output": "residual"}
    alone = {"identity_a": 0.0, "identity_b": 0.0}  # fewer passes through the generators
    config = tiny_cyclegan("unused", data={"batch_size": 4}, cyclegan=net, loss=alone, optim={"learning_rate": 2e-3})

    def step(state, batch, fault):
        return seeded_step(make_task(faulty_networks(fault)), config)(state, batch, np.int32(0))

    found = {}
    init = jax.jit(lambda: make_task().init(config, keys.root_key(0)))
    specs = (parallel.REPLICATED, parallel.SPLIT, parallel.REPLICATED)
    step_fn = parallel.pmap(step, mesh_of(1), specs, parallel.REPLICATED, donate=(0,))
    for fault, name in enumerate(FAULTS):
        source = discs(name == "none", 200, 0), discs(True, 200, 1)
        images = Splits(source, source, source)
        watch = monitor.make_monitor(config, images)
        evaluate = diversity.diversity(config, mesh_of(1), make_networks=faulty_networks(fault))
        state, written, validated, found[name] = init(), [], {}, []
        for i in range(150 if name == "none" else 120):
            batch = batches.load(source, 0, i, 4, slice(None))
            state, metrics = jax.block_until_ready(step_fn(state, batch, np.int32(fault)))
            if (i + 1) % 10 == 0:
                written.append({"step": i + 1} | {name: float(value) for name, value in metrics.items()})
                if (i + 1) % 50 == 0:
                    scores = evaluate(state, images, "validation")
                    validated = {"step": i + 1} | {f"validation/{name}": score for name, score in scores.items()}
                found[name].append(set(watch(written[-RECENT_ROWS:], validated)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "expected"),
    [("collapsed", {"collapsed_a2b", "collapsed_b2a"}), ("inverted", {"inverted_a2b", "inverted_b2a"}),
     ("outplayed", {"outplayed_by_d_a", "outplayed_by_d_b"})],
)  # fmt: skip
def test_monitor_warns_of_an_injected_fault(trainings, fault, expected):
    assert expected <= trainings[fault][-1] and not any(trainings[fault][:-1])


@pytest.mark.slow
def test_monitor_is_silent_about_a_healthy_training(trainings):
    assert len(trainings["none"]) == 15 and not any(trainings["none"])

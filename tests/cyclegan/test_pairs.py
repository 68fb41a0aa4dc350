"""Training with known pairs beside unpaired images, with conditional discriminators, and with a mask."""

import dataclasses

import jax
import numpy as np
import pytest

from genjax import cyclegan, keys, parallel
from genjax.cyclegan import losses, nets, steps
from genjax.cyclegan.config import LossConfig
from genjax.data import batches
from genjax.gan.networks import GENERATORS
from genjax.train import loop
from genjax.train.rows import read_rows
from studies.reproducibility.stepping import mesh_of, walk
from tiny import write_noise
from two_domains import small_networks

pytestmark = pytest.mark.slow

ALONE = LossConfig(adversarial_a2b=0.0, adversarial_b2a=0.0, cycle_a=0.0, cycle_b=0.0, paired=1.0)
SMALL = {"base_channels": 2, "num_blocks": 0, "discriminator_channels": 2, "pool_size": 12}


def noise(seed=0, num=(10, 12), shape=(16, 16, 1)):
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, 256, (n, *shape), np.uint8) for n in num)


TASK = cyclegan.make_task(small_networks)


def moments(state):
    """The first moments of all four optimisers: after one step, the gradients times a constant."""
    return {name: jax.tree.leaves(getattr(state, name).opt_state.mu) for name in ("g_a2b", "g_b2a", "d_a", "d_b")}


def first(config, num=1, known=(), source=None):
    return next(walk(TASK, config, source or noise(), mesh_of(num), 1, known=known))


def test_paired_loss_trains_both_generators_by_known_pairs_alone(make_cyclegan):
    config = make_cyclegan(data={"pairs": "pairs:unused"}, loss=dataclasses.replace(ALONE, paired=2.0), cyclegan=SMALL)
    (one, metrics), (other, _) = (first(config, known=noise(seed, (5, 5))) for seed in (1, 2))
    elsewhere, _ = first(config, known=noise(1, (5, 5)), source=noise(3))
    for name in GENERATORS:
        values = [np.concatenate([leaf.ravel() for leaf in moments(state)[name]]) for state in (one, other, elsewhere)]
        assert np.abs(values[0]).max() > 0 and np.abs(values[0] - values[1]).max() > 0
        np.testing.assert_array_equal(values[0], values[2])  # the unpaired images have no say
    np.testing.assert_allclose(metrics["g_loss"], 2 * metrics["paired"], rtol=1e-6)


def test_known_pairs_are_mirrored_alike(make_cyclegan):
    """Of images that are mirrored together, the translations that copy have no error."""
    same = noise(1, (5, 5))[0]
    config = make_cyclegan(
        data={"pairs": "pairs:unused", "flip": True}, loss=dataclasses.replace(ALONE, paired=1.0),
        cyclegan=SMALL | {"output": "residual"},
    )  # fmt: skip
    task = cyclegan.make_task(lambda config: nets.make_networks(config))
    _, metrics = next(walk(task, config, noise(), mesh_of(1), 1, known=(same, same)))
    assert float(metrics["paired"]) == pytest.approx(0, abs=1e-6)


def test_train_step_with_pairs_agrees_on_devices(make_cyclegan):
    loss, data = dataclasses.replace(losses.CLASSIC, paired=5.0), {"pairs": "pairs:unused", "flip": True}
    config = make_cyclegan(data=data, loss=loss, cyclegan=SMALL)
    (one, on_one), (four, on_four) = (first(config, num, noise(1, (5, 5))) for num in (1, 4))
    np.testing.assert_allclose(on_one["paired"], on_four["paired"], rtol=1e-5)
    for name, leaves in moments(one).items():
        for a, b in zip(leaves, moments(four)[name], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


def test_conditional_discriminators_learn_of_the_image(make_cyclegan):
    """Their first layer sees both images of a pair; the pool keeps both."""
    data = {"paired": True, "train_pairs": True}
    config = make_cyclegan(data=data, loss=losses.PIX2PIX, cyclegan=SMALL | {"conditional": True})
    state, _ = first(config, source=noise(0, (10, 10)))
    for name, pool in (("d_a", state.pool_a), ("d_b", state.pool_b)):
        kernel = getattr(state, name).opt_state.mu["Conv_0"]["kernel"]
        assert kernel.shape[2] == 2 and np.abs(kernel[:, :, 0]).max() > 0 and np.abs(kernel[:, :, 1]).max() > 0
        assert pool.images.shape[-1] == 2
    a, b = (2 * (images / 255) - 1 for images in batches.load(noise(0, (10, 10)), 0, 0, 8, slice(None), True).images)
    np.testing.assert_allclose(state.pool_b.images[:8, ..., :1], a, atol=1e-6)
    np.testing.assert_allclose(state.pool_a.images[:8, ..., :1], b, atol=1e-6)


def test_keep_leaves_free_what_the_mask_says(make_cyclegan):
    config = make_cyclegan(loss=dataclasses.replace(ALONE, paired=0.0, keep=1.0), cyclegan=SMALL)
    specs = (parallel.REPLICATED, parallel.SPLIT)
    batch = batches.load(noise(), 0, 0, 8, slice(None))
    found = {}
    state = jax.device_get(jax.jit(lambda: TASK.init(config, keys.root_key(0)))())
    for name, level in (("none", None), ("black", 0), ("white", 255)):
        held = {} if level is None else {"keep_mask": np.full((16, 16, 1), level, np.uint8)}

        def step(state, batch, held=held):
            return steps.train_step(config, state, batch, keys.root_key(1), held, make_networks=small_networks)

        after, metrics = parallel.pmap(step, mesh_of(1), specs, parallel.REPLICATED)(state, batch)
        found[name] = float(metrics["keep"]), max(np.abs(leaf).max() for leaf in moments(after)["g_a2b"])
    assert found["none"] == pytest.approx(found["black"]) and found["none"][0] > 0 and found["none"][1] > 0
    assert found["white"] == (0, 0)


@pytest.mark.parametrize("cache", ["disk", "none"])
def test_fit_with_pairs_resumes_with_the_same_bytes(make_cyclegan, tmp_path, cache):
    for name, number in (("trainA", 6), ("trainB", 7), ("testA", 2), ("testB", 3)):
        write_noise(tmp_path / "images" / name, number, (20, 20))
    for name in ("trainA", "trainB"):
        write_noise(tmp_path / "known" / name, 3, (20, 20))

    def run(workdir, num_steps, cache=cache):
        data = {"source": f"folder:{tmp_path / 'images'}", "pairs": f"folder:{tmp_path / 'known'}", "flip": True}
        return make_cyclegan(
            str(tmp_path / workdir), cyclegan=SMALL, loss={"paired": 4.0},
            data=data | {"load_scale": (1.25,), "cache": cache, "cache_dir": str(tmp_path / "cache")},
            train={"num_steps": num_steps, "eval_every": 2, "checkpoint_every": 2, "log_every": 1},
        )  # fmt: skip

    programs = loop.compile_programs(TASK, run("whole", 4), parallel.make_mesh())
    fit = lambda *which: loop.fit(TASK, run(*which), lambda *_: programs)  # noqa: E731
    whole = fit("whole", 4)
    fit("parts", 2)
    resumed = fit("parts", 4)
    decoded = fit("other", 4, "none" if cache == "disk" else "disk")
    assert resumed.resumed_from == 2 and resumed.digest == whole.digest == decoded.digest
    rows = [row for row in read_rows(tmp_path / "whole" / "metrics.jsonl") if "fingerprint" in row]
    assert len({row["fingerprint"]["batch.pairs"] for row in rows}) == 4 and all(row["paired"] > 0 for row in rows)
    if cache == "none":  # pictures are known by names and sizes then
        return
    write_noise(tmp_path / "known" / "more", 1, (20, 20))
    (tmp_path / "known" / "more" / "0.png").replace(tmp_path / "known" / "trainB" / "0.png")
    with pytest.raises(ValueError, match="the images have changed since the run"):
        fit("whole", 4)
